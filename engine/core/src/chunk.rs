//! One chunk of a walk, on the driver's side.
//!
//! ```text
//!  lock -> read -> hash -> send digests -> verdict --(push)--> send what differs --> all written --+
//!                                             |                                                   v
//!                                             +--(pull)--> write what came before the verdict --> end
//! ```
//! The chunk's place in the order is held throughout, so that no write of a client's comes between;
//! for a request that waits for its blocks to be equal, the request holds it.

use crate::event::{Buffer, DiskError, Effect, Payload};
use crate::limits::DIRECT_BLOCKS_MAX;
use crate::node::Node;
use crate::operation::{Cause, ChunkWork, Content, OperationId, Work};
use crate::peer::Relation;
use crate::progress::Goal;
use format::frame::{Digest, Fault, Frame, Walk as WalkKind, ZERO_BLOCK_DIGEST};
use format::types::{BLOCK_BYTES, CHUNK_BLOCKS, CHUNK_BYTES, Slot, Span};

/// A digest and its block's bit.
fn bits(mask: u32) -> impl Iterator<Item = u32> {
    (0..CHUNK_BLOCKS).filter(move |bit| mask & (1 << bit) != 0)
}

/// The runs of a mask: contiguous bits for which `same` answers alike.
fn runs(mask: u32, same: impl Fn(u32) -> bool) -> Vec<(u32, bool)> {
    let mut runs: Vec<(u32, bool)> = Vec::new();
    for bit in bits(mask) {
        let kind = same(bit);
        match runs.last_mut() {
            Some((run, last)) if *last == kind && *run & (1 << bit >> 1) != 0 && bit > 0 => {
                *run |= 1 << bit;
            }
            _ => runs.push((1 << bit, kind)),
        }
    }
    runs
}

/// The span from the first block of a mask to its last.
pub(crate) fn cover(chunk: u32, mask: u32) -> Span {
    let first = mask.trailing_zeros();
    let last = u32::BITS - mask.leading_zeros();
    let offset = u64::from(chunk) * CHUNK_BYTES + u64::from(first) * BLOCK_BYTES;
    Span::new(offset, u64::from(last - first) * BLOCK_BYTES)
}

/// Picks the digests of a mask's blocks out of those of its cover.
pub(crate) fn pick(mask: u32, covered: &[Digest]) -> Box<[Digest]> {
    let first = mask.trailing_zeros();
    bits(mask)
        .filter_map(|bit| covered.get((bit - first) as usize).copied())
        .collect()
}

/// The runs of differing blocks of a chunk as they are sent: the run, and whether it is all zero.
pub(crate) fn data_runs(mask: u32, differing: u32, digests: &[Digest]) -> Vec<(u32, bool)> {
    let place = |bit: u32| (mask & ((1u32 << bit) - 1)).count_ones() as usize;
    runs(differing, |bit| {
        digests.get(place(bit)) == Some(&ZERO_BLOCK_DIGEST)
    })
}

impl Node {
    /// Makes a chunk equal for a request that holds its lock.
    pub(crate) fn equalise_for(&mut self, client: OperationId, member: Slot, chunk: u32) {
        self.operations.get_mut(client).pending += 1;
        self.spawn_chunk(member, chunk, Some(client));
    }

    /// Begins with a chunk.
    pub(crate) fn spawn_chunk(&mut self, peer: Slot, chunk: u32, client: Option<OperationId>) {
        let Some(session) = self.peer(peer).up() else {
            return;
        };
        let (walk, repair) = match session.relation {
            Relation::Driver(Goal::Equalise { pull: true }) => (WalkKind::Pull, true),
            Relation::Driver(Goal::Verify { repair }) if client.is_none() => {
                (WalkKind::Compare, repair)
            }
            _ => (WalkKind::Push, true),
        };
        let whole = Span::chunk(chunk);
        let end = whole.end().min(self.superblock.size_bytes);
        let span = Span::new(whole.offset, end - whole.offset);
        let work = Work::Chunk(ChunkWork {
            peer,
            session: session.id,
            walk,
            repair,
            chunk,
            mask: 0,
            client,
            buffer: None,
            digests: Box::default(),
            runs: 0,
            differing: None,
            failed: false,
        });
        let id = self.operations.insert(span, work, self.now);
        match client {
            Some(_) => self.ready.push(id),
            None => {
                if let Some(walk) = self.walk_mut(peer) {
                    walk.chunks.push((chunk, id));
                }
                self.enter_order(id, span);
            }
        }
    }

    fn chunk_work(&mut self, id: OperationId) -> &mut ChunkWork {
        match &mut self.operations.get_mut(id).work {
            Work::Chunk(work) => work,
            _ => unreachable!("the operation is a chunk's"),
        }
    }

    /// The chunk is locked.
    pub(crate) fn chunk_proceed(&mut self, id: OperationId) {
        self.operations.get_mut(id).started = true;
        let work = self.chunk_work(id);
        let (peer, session, chunk, walk) = (work.peer, work.session, work.chunk, work.walk);
        if work.failed || !self.session_matches(peer, session) {
            return self.chunk_end(id);
        }
        if !self.disk_usable() || !self.is_member() {
            // What lies here counts no more.
            return self.chunk_failed(id);
        }
        let mask = match walk {
            WalkKind::Compare => self.operations.get(id).span.mask_in(chunk),
            WalkKind::Push | WalkKind::Pull => self.marks_of(peer).mask(chunk),
        };
        self.chunk_work(id).mask = mask;
        if mask == 0 {
            return self.chunk_end(id);
        }
        let span = cover(chunk, mask);
        self.operations.get_mut(id).span = span;
        self.read_local(id, span);
    }

    pub(crate) fn chunk_read(&mut self, id: OperationId, result: Result<Buffer, DiskError>) {
        match result {
            Ok(buffer) => {
                let span = self.operations.get(id).span;
                self.chunk_work(id).buffer = Some(buffer);
                self.hash(id, buffer, span);
            }
            Err(_) => {
                if !self.other_members().is_empty() {
                    self.fail_disk();
                }
                self.chunk_failed(id);
            }
        }
    }

    pub(crate) fn hash(&mut self, id: OperationId, buffer: Buffer, span: Span) {
        self.operations.get_mut(id).pending += 1;
        let io = self.operations.io(id);
        let blocks = u32::try_from(span.length / BLOCK_BYTES).expect("at most a chunk's");
        self.out.push(Effect::Hash { io, buffer, blocks });
    }

    pub(crate) fn chunk_hashed(&mut self, id: OperationId, covered: &[Digest]) {
        let work = self.chunk_work(id);
        let (peer, session, chunk, mask, walk) =
            (work.peer, work.session, work.chunk, work.mask, work.walk);
        work.digests = pick(mask, covered);
        let digests = work.digests.clone();
        if work.failed || !self.session_matches(peer, session) {
            return self.chunk_end(id);
        }
        let certain = walk == WalkKind::Push && !self.peer(peer).suspects(chunk);
        if certain && mask.count_ones() <= DIRECT_BLOCKS_MAX {
            self.chunk_work(id).differing = Some(mask);
            return self.push_runs(id);
        }
        self.send_walk(
            peer,
            Frame::ChunkHashes {
                chunk,
                mask,
                walk,
                digests,
            },
            None,
        );
    }

    fn chunk_under_way(&self, peer: Slot, chunk: u32) -> Option<OperationId> {
        let found = self
            .operations
            .iter()
            .find(|(_, operation)| match &operation.work {
                Work::Chunk(work) => {
                    work.peer == peer
                        && work.chunk == chunk
                        && !work.failed
                        && !work.digests.is_empty()
                        && operation.pending == 0
                }
                _ => false,
            });
        found.map(|(id, _)| id)
    }

    /// The other side says which of the hashed blocks differ.
    pub(crate) fn chunk_verdict(
        &mut self,
        peer: Slot,
        chunk: u32,
        differing: u32,
        fault: Option<Fault>,
    ) {
        let Some(id) = self.chunk_under_way(peer, chunk) else {
            return self.disconnect(peer, "it answered what nobody asked", true);
        };
        let work = self.chunk_work(id);
        if differing & !work.mask != 0 || work.differing.is_some() {
            return self.disconnect(peer, "it answered what nobody asked", true);
        }
        if fault.is_some() {
            return self.chunk_failed(id);
        }
        work.differing = Some(differing);
        let (walk, repair, mask) = (work.walk, work.repair, work.mask);
        let equal = u64::from((mask & !differing).count_ones());
        if let Some(walk) = self.walk_mut(peer) {
            walk.receipt.bytes_saved_by_hash += equal * BLOCK_BYTES;
            walk.differing += u64::from(differing.count_ones());
        }
        if walk == WalkKind::Compare && differing != 0 {
            self.marks_mut(peer).set_mask(chunk, differing);
        }
        let pushes = walk != WalkKind::Pull && repair;
        if pushes {
            self.push_runs(id);
        }
        self.chunk_settle(id);
    }

    fn push_runs(&mut self, id: OperationId) {
        let work = self.chunk_work(id);
        let (peer, chunk, mask) = (work.peer, work.chunk, work.mask);
        let differing = work.differing.unwrap_or(0);
        let runs = data_runs(mask, differing, &work.digests);
        let buffer = work.buffer;
        work.runs = u32::try_from(runs.len()).expect("at most one a block");
        for (run, zero) in runs {
            self.send_run(peer, chunk, mask, run, zero, buffer);
        }
    }

    /// Sends one run of a chunk, out of the buffer that holds the mask's cover.
    pub(crate) fn send_run(
        &mut self,
        peer: Slot,
        chunk: u32,
        mask: u32,
        run: u32,
        zero: bool,
        buffer: Option<Buffer>,
    ) {
        let (Some(buffer), false) = (buffer, zero) else {
            return self.send_walk(peer, Frame::ChunkZero { chunk, mask: run }, None);
        };
        let block = u32::try_from(BLOCK_BYTES).expect("a block is small");
        let start = (run.trailing_zeros() - mask.trailing_zeros()) * block;
        let length = run.count_ones() * block;
        if let Some(walk) = self.walk_mut(peer) {
            walk.receipt.bytes_moved += u64::from(length);
        }
        let payload = Payload {
            buffer,
            start,
            length,
        };
        self.send_walk(peer, Frame::ChunkData { chunk, mask: run }, Some(payload));
    }

    /// A pushed run has been written by the other side.
    pub(crate) fn chunk_written(&mut self, peer: Slot, chunk: u32, fault: Option<Fault>) {
        let Some(id) = self.chunk_under_way(peer, chunk) else {
            return self.disconnect(peer, "it wrote what nobody sent", true);
        };
        let work = self.chunk_work(id);
        work.failed |= fault.is_some();
        work.runs = work.runs.saturating_sub(1);
        self.chunk_settle(id);
    }

    /// A run that we pull has come: it is written under the chunk's lock.
    pub(crate) fn pulled_run(&mut self, peer: Slot, chunk: u32, mask: u32, content: Content) {
        let parent = self.chunk_under_way(peer, chunk).filter(|id| {
            let Work::Chunk(work) = &self.operations.get(*id).work else {
                return false;
            };
            work.walk == WalkKind::Pull && mask & !work.mask == 0 && work.differing.is_none()
        });
        let (Some(parent), Some(span)) = (parent, self.run_span(chunk, mask)) else {
            if let Content::Data(buffer) = content {
                self.release(Some(buffer));
            }
            return self.disconnect(peer, "it sent what nobody asked for", true);
        };
        if let (Content::Data(_), Some(walk)) = (content, self.walk_mut(peer)) {
            walk.receipt.bytes_moved += span.length;
        }
        self.chunk_work(parent).runs += 1;
        self.apply(peer, span, content, Cause::Pulled { parent });
    }

    /// A pulled run is on our disk, or is not.
    pub(crate) fn run_pulled(&mut self, parent: OperationId, failed: bool) {
        let work = self.chunk_work(parent);
        work.failed |= failed;
        work.runs -= 1;
        self.chunk_settle(parent);
    }

    /// Ends a chunk for which nothing is outstanding any more.
    fn chunk_settle(&mut self, id: OperationId) {
        let work = self.chunk_work(id);
        let answered = work.differing.is_some() || work.failed;
        if answered && work.runs == 0 && self.operations.get(id).pending == 0 {
            self.chunk_end(id);
        }
    }

    fn chunk_failed(&mut self, id: OperationId) {
        let work = self.chunk_work(id);
        work.failed = true;
        let (peer, session) = (work.peer, work.session);
        let current = self.session_matches(peer, session);
        if let Some(walk) = self.walk_mut(peer).filter(|_| current) {
            walk.failed = true;
        }
        self.chunk_settle(id);
    }

    /// The session with the peer has broken: its chunks end.
    pub(crate) fn orphan_chunks(&mut self, peer: Slot) {
        let chunks: Vec<OperationId> = self
            .operations
            .iter()
            .filter(|(_, other)| matches!(&other.work, Work::Chunk(work) if work.peer == peer))
            .map(|(id, _)| id)
            .collect();
        for id in chunks {
            self.chunk_orphaned(id);
        }
    }

    /// The chunk's session has broken: it ends once its own I/O has.
    fn chunk_orphaned(&mut self, id: OperationId) {
        let operation = self.operations.get_mut(id);
        let idle = operation.pending == 0;
        let Work::Chunk(work) = &mut operation.work else {
            unreachable!("the operation is a chunk's")
        };
        work.failed = true;
        // Pushed runs will not be answered any more; pulled ones end with their local writes.
        if work.walk != WalkKind::Pull {
            work.runs = 0;
        }
        if idle && work.runs == 0 {
            self.chunk_end(id);
        }
    }

    fn chunk_end(&mut self, id: OperationId) {
        let work = self.chunk_work(id);
        let (peer, session, chunk) = (work.peer, work.session, work.chunk);
        let (failed, client) = (work.failed, work.client);
        let copied = work.repair || work.walk != WalkKind::Compare;
        let equal = match work.differing {
            _ if failed => 0,
            None => 0,
            Some(_) if copied => work.mask,
            Some(differing) => work.mask & !differing,
        };
        self.retire(id);
        if self.session_matches(peer, session) {
            if let Some(walk) = self.walk_mut(peer) {
                walk.chunks.retain(|(_, other)| *other != id);
            }
            if equal != 0 {
                self.marks_mut(peer).clear(chunk, equal);
                if self
                    .peer(peer)
                    .up()
                    .is_some_and(|session| session.peer_marks)
                {
                    self.send_walk(peer, Frame::ChunkEqual { chunk, mask: equal }, None);
                }
            }
        }
        let Some(client) = client else { return };
        self.operations.get_mut(client).pending -= 1;
        if self.abandoned(client) {
            self.retire(client);
        } else if failed {
            self.blocked.push(client);
        } else {
            self.ready.push(client);
        }
    }
}
