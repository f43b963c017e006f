//! A walk that a peer drives, on this side: comparing, taking or giving runs, checkpoints, the promise
//! of a membership.

use crate::change::Then;
use crate::chunk::{cover, data_runs, pick};
use crate::event::{Buffer, DiskError, Effect};
use crate::node::Node;
use crate::operation::{Cause, CompareWork, Content, IoTarget, OperationId, Work};
use crate::peer::Relation;
use crate::progress::Goal;
use format::frame::{Digest, Fault, Frame, Walk};
use format::types::{BLOCK_BYTES, Configuration, Slot};

impl Node {
    /// A frame of a walk.
    pub(crate) fn walk_frame(&mut self, peer: Slot, frame: Frame) {
        let bytes = frame.wire_bytes();
        if let Some(walk) = self.walk_mut(peer) {
            walk.receipt.bytes_on_wire += bytes;
        }
        match frame {
            Frame::ChunkHashes {
                chunk,
                mask,
                walk,
                digests,
            } => {
                self.compare(peer, chunk, mask, walk, digests);
            }
            Frame::ChunkVerdict {
                chunk,
                differing,
                fault,
            } => {
                self.chunk_verdict(peer, chunk, differing, fault);
            }
            Frame::ChunkZero { chunk, mask } => {
                self.chunk_run(peer, chunk, mask, Content::Zero { unmap: true });
            }
            Frame::ChunkWritten { chunk, fault, .. } => self.chunk_written(peer, chunk, fault),
            Frame::ChunkEqual { chunk, mask } => self.marks_mut(peer).clear(chunk, mask),
            Frame::Checkpoint { number } => self.peer_checkpoint(peer, number),
            Frame::CheckpointDone { number, fault } => {
                self.checkpoint_remote_done(peer, number, fault);
            }
            Frame::Settled { .. } => {
                self.marks_mut(peer).settle();
                self.persistence.pages_wanted = true;
            }
            Frame::WalkEnd => self.walk_ended(peer),
            _ => self.disconnect(peer, "it sent a frame that makes no sense now", true),
        }
    }

    fn compare(&mut self, peer: Slot, chunk: u32, mask: u32, walk: Walk, digests: Box<[Digest]>) {
        let inside = mask != 0 && self.whole().mask_in(chunk) & mask == mask;
        if !inside || digests.len() != mask.count_ones() as usize || self.is_driver_of(peer) {
            return self.disconnect(peer, "it wants to compare what cannot be", true);
        }
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        if walk == Walk::Compare && session.relation == Relation::Mirror {
            session.relation = Relation::Follower(Goal::Verify { repair: false });
        }
        let session = session.id;
        let buffer = None;
        let work = CompareWork {
            peer,
            session,
            walk,
            chunk,
            mask,
            digests,
            buffer,
        };
        let span = cover(chunk, mask);
        let id = self.operations.insert(span, Work::Compare(work), self.now);
        self.enter_order(id, span);
    }

    fn compare_work(&mut self, id: OperationId) -> &mut CompareWork {
        match &mut self.operations.get_mut(id).work {
            Work::Compare(work) => work,
            _ => unreachable!("the operation is a comparison"),
        }
    }

    pub(crate) fn compare_proceed(&mut self, id: OperationId) {
        self.operations.get_mut(id).started = true;
        let span = self.operations.get(id).span;
        if self.disk_usable() {
            self.read_local(id, span);
        } else {
            self.compare_end(id, 0, Some(Fault::Disk));
        }
    }

    pub(crate) fn compare_read(&mut self, id: OperationId, result: Result<Buffer, DiskError>) {
        let span = self.operations.get(id).span;
        let work = self.compare_work(id);
        match (result, work.walk) {
            (Ok(buffer), _) => {
                work.buffer = Some(buffer);
                self.hash(id, buffer, span);
            }
            // What cannot be read is written anew.
            (Err(_), Walk::Push) => {
                let mask = work.mask;
                self.compare_end(id, mask, None);
            }
            (Err(_), Walk::Pull | Walk::Compare) => self.compare_end(id, 0, Some(Fault::Disk)),
        }
    }

    pub(crate) fn compare_hashed(&mut self, id: OperationId, covered: &[Digest]) {
        let work = self.compare_work(id);
        let ours = pick(work.mask, covered);
        let blocks = (0..u32::BITS).filter(|bit| work.mask & (1 << bit) != 0);
        let differing = blocks
            .zip(ours.iter().zip(&work.digests))
            .filter(|(_, (ours, theirs))| ours != theirs)
            .fold(0, |differing, (bit, _)| differing | 1 << bit);
        let (peer, session, chunk, mask) = (work.peer, work.session, work.chunk, work.mask);
        let (walk, buffer) = (work.walk, work.buffer);
        if walk == Walk::Pull && self.session_matches(peer, session) {
            for (run, zero) in data_runs(mask, differing, &ours) {
                self.send_run(peer, chunk, mask, run, zero, buffer);
            }
        }
        self.compare_end(id, differing, None);
    }

    fn compare_end(&mut self, id: OperationId, differing: u32, fault: Option<Fault>) {
        let work = self.compare_work(id);
        let (peer, session, chunk) = (work.peer, work.session, work.chunk);
        self.retire(id);
        if self.session_matches(peer, session) {
            self.send_walk(
                peer,
                Frame::ChunkVerdict {
                    chunk,
                    differing,
                    fault,
                },
                None,
            );
        }
    }

    /// A run of a chunk has come: pulled by us, or pushed by the driver.
    pub(crate) fn chunk_run(&mut self, peer: Slot, chunk: u32, mask: u32, content: Content) {
        if self.is_driver_of(peer) {
            if let Content::Data(_) = content {
                let frame = Frame::ChunkData { chunk, mask };
                let bytes = frame.wire_bytes() + u64::from(mask.count_ones()) * BLOCK_BYTES;
                if let Some(walk) = self.walk_mut(peer) {
                    walk.receipt.bytes_on_wire += bytes;
                }
            }
            return self.pulled_run(peer, chunk, mask, content);
        }
        let follows = self.peer(peer).up().is_some_and(|session| {
            matches!(session.relation, Relation::Follower(_) | Relation::Mirror)
        });
        let span = self.run_span(chunk, mask).filter(|_| follows);
        let Some(span) = span else {
            if let Content::Data(buffer) = content {
                self.release(Some(buffer));
            }
            return self.disconnect(peer, "it sent a run that cannot be", true);
        };
        self.apply(peer, span, content, Cause::Pushed { chunk, mask });
    }

    fn peer_checkpoint(&mut self, peer: Slot, number: u64) {
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        let open = session.checkpoint.replace(number).is_some();
        if open || self.marks_of(peer).has_checkpoint() {
            return self.disconnect(peer, "it asked for two checkpoints at once", true);
        }
        self.marks_mut(peer).begin_checkpoint();
        if !self.disk_usable() {
            return self.answer_checkpoint(peer, Some(Fault::Disk));
        }
        self.peer_mut(peer).applying += 1;
        self.out.push(Effect::FlushLocal {
            io: IoTarget::PeerCheckpoint { peer }.id(),
        });
    }

    pub(crate) fn peer_checkpoint_done(&mut self, peer: Slot, result: Result<(), DiskError>) {
        self.peer_mut(peer).applying -= 1;
        let fault = result.err().map(crate::apply::fault_of);
        if fault.is_some() {
            self.fail_disk();
        }
        self.answer_checkpoint(peer, fault);
    }

    fn answer_checkpoint(&mut self, peer: Slot, fault: Option<Fault>) {
        let session = self.peer_mut(peer).session.as_mut();
        let Some(number) = session.and_then(|session| session.checkpoint.take()) else {
            return;
        };
        self.send(peer, Frame::CheckpointDone { number, fault }, None);
    }

    fn walk_ended(&mut self, peer: Slot) {
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        let Relation::Follower(goal) = session.relation else {
            return;
        };
        session.relation = Relation::Mirror;
        if matches!(goal, Goal::Equalise { .. }) {
            self.clear_suspicion();
        }
    }

    /// The driver wants to make us a member: promise it durably.
    pub(crate) fn admission_asked(&mut self, peer: Slot, next: Configuration) {
        let Some(session) = self.peer(peer).up() else {
            return;
        };
        let (id, lineage) = (session.id, session.lineage.clone());
        let follows = session.relation == Relation::Follower(Goal::Resync);
        let ours = next.in_sync.contains(self.slot) && next.epoch > self.configuration.epoch;
        if !follows || !ours || !self.disk_usable() || !self.knows_all_of(next) {
            return self.disconnect(peer, "it wants to admit whom it cannot", true);
        }
        self.superblock.pending_admission = Some((next.epoch, next.generation));
        // What we hold now is the source's, whether we come to be a member or not; where its commit is told by
        // the arbiter alone nothing else would say so.
        self.superblock.data_generation = lineage.generation;
        self.superblock.history = lineage.history;
        self.superblock.history_complete = lineage.complete;
        // All that it may have lost in a power cut it has been given again; another cut makes it suspect anew.
        self.superblock.suspect = false;
        // Whoever is being told otherwise would draw conclusions from it.
        self.restart_handshakes();
        let epoch = next.epoch;
        self.persist(Then::Promised {
            peer,
            session: id,
            epoch,
        });
    }
}
