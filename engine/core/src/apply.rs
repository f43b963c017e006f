//! What a peer has sent to be done here: the primary's writes, a walk's runs, reads and flushes.
//!
//! Applied writes take their places among each other as requests do, and are in this replica's own
//! activity log before they are issued (R6). They are acknowledged in batches, at the end of a turn.

use crate::event::{Buffer, DiskError, Effect, Payload, SessionId};
use crate::node::Node;
use crate::operation::{ApplyWork, Cause, Content, IoTarget, OperationId, Work};
use crate::write::local_effect;
use format::frame::{Acks, Fault, Frame, PAYLOAD_BYTES_MAX};
use format::types::{CHUNK_BYTES, NodeSet, Slot, Span};

impl Node {
    /// A write or zero of the primary's.
    pub(crate) fn mirror_write(
        &mut self,
        peer: Slot,
        span: Span,
        content: Content,
        cause: Cause,
        stable_through: u64,
    ) {
        self.log.set_stable_through(stable_through);
        self.apply(peer, span, content, cause);
    }

    /// Puts a write of a peer's into the order.
    pub(crate) fn apply(&mut self, peer: Slot, span: Span, content: Content, cause: Cause) {
        let Some(session) = self.session_id(peer) else {
            return;
        };
        let work = Work::Apply(ApplyWork {
            peer,
            session,
            content,
            cause,
        });
        let id = self.operations.insert(span, work, self.now);
        self.peer_mut(peer).applying += 1;
        if matches!(cause, Cause::Pulled { .. }) {
            // The chunk operation that waits for it holds the lock.
            return self.apply_proceed(id);
        }
        self.enter_order(id, span);
    }

    pub(crate) fn apply_proceed(&mut self, id: OperationId) {
        self.operations.get_mut(id).started = true;
        if self.disk_usable() {
            self.enter_log(id);
        } else {
            self.apply_ended(id, Some(Fault::Disk));
        }
    }

    pub(crate) fn apply_logged(&mut self, id: OperationId) {
        if !self.disk_usable() {
            return self.apply_ended(id, Some(Fault::Disk));
        }
        let operation = self.operations.get(id);
        let Work::Apply(apply) = &operation.work else {
            unreachable!("only applied writes")
        };
        let (span, content, cause, peer) = (operation.span, apply.content, apply.cause, apply.peer);
        let copied = !matches!(cause, Cause::Mirror { .. });
        let have_it = match copied && self.is_member() {
            // What one member copies to another to be equal the third has not been given.
            true => NodeSet::only(peer),
            false => self.configuration.in_sync,
        };
        self.mark_absent(span, have_it);
        let fua = match cause {
            Cause::Mirror { sequence, fua } => {
                self.log.mark(span, sequence);
                fua
            }
            Cause::Pushed { .. } | Cause::Pulled { .. } => false,
        };
        let io = self.operations.io(id);
        let operation = self.operations.get_mut(id);
        operation.pending += 1;
        operation.since = self.now;
        self.out.push(local_effect(io, span, content, fua));
    }

    pub(crate) fn apply_done(&mut self, id: OperationId, result: Result<(), DiskError>) {
        let fault = result.err().map(fault_of);
        // The sender hears of the write, and why, before it hears of the disk.
        self.apply_ended(id, fault);
        if fault.is_some() {
            self.fail_disk();
        }
    }

    /// The activity log has no place for an applied write, and will have none.
    pub(crate) fn apply_unlogged(&mut self, id: OperationId, error: DiskError) {
        self.apply_ended(id, Some(fault_of(error)));
        self.fail_disk();
    }

    /// What a peer had sent and the local disk has not been given will never be: its session is over, and by
    /// the time that its turn comes it may be of a configuration that has been left.
    pub(crate) fn drop_unissued(&mut self, peer: Slot) {
        let unissued: Vec<OperationId> = self
            .operations
            .iter()
            .filter(|(_, operation)| match &operation.work {
                Work::Apply(apply) => apply.peer == peer && operation.pending == 0,
                _ => false,
            })
            .map(|(id, _)| id)
            .collect();
        for id in unissued {
            self.apply_ended(id, Some(Fault::Disk));
        }
    }

    fn apply_ended(&mut self, id: OperationId, fault: Option<Fault>) {
        let Work::Apply(apply) = &self.operations.get(id).work else {
            unreachable!("only applied writes")
        };
        let (peer, session, cause) = (apply.peer, apply.session, apply.cause);
        let current = self.peer(peer).is_in(session);
        self.peer_mut(peer).applying -= 1;
        self.retire(id);
        match (cause, fault) {
            (Cause::Pulled { parent }, fault) => self.run_pulled(parent, fault.is_some()),
            _ if !current => {}
            (Cause::Mirror { sequence, .. }, None) => self.gather_ack(peer, sequence),
            (Cause::Mirror { sequence, .. }, Some(fault)) => {
                self.send(peer, Frame::WriteFailed { sequence, fault }, None);
            }
            (Cause::Pushed { chunk, mask }, fault) => {
                self.send_walk(peer, Frame::ChunkWritten { chunk, mask, fault }, None);
            }
        }
    }

    fn gather_ack(&mut self, peer: Slot, sequence: u64) {
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        if session.acks.push(sequence) {
            return;
        }
        let full = std::mem::take(&mut session.acks);
        let fits = session.acks.push(sequence);
        assert!(fits, "an empty batch takes an acknowledgement");
        self.send(peer, Frame::Acks(full), None);
    }

    /// The acknowledgements of a turn leave.
    pub(crate) fn send_acks(&mut self) {
        for peer in self.others.iter() {
            let Some(session) = self.peer_mut(peer).session.as_mut() else {
                continue;
            };
            if session.acks != Acks::default() {
                let acks = std::mem::take(&mut session.acks);
                self.send(peer, Frame::Acks(acks), None);
            }
        }
    }

    /// The primary wants everything so far to be durable.
    pub(crate) fn peer_flush(&mut self, peer: Slot, token: u64, stable_through: u64) {
        self.log.set_stable_through(stable_through);
        self.log.begin_barrier();
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        let earlier = session.flush.replace(token);
        if earlier.is_some() {
            return self.disconnect(peer, "it asked for two flushes at once", true);
        }
        if !self.disk_usable() {
            return self.answer_flush(peer, Some(Fault::Disk));
        }
        self.peer_mut(peer).applying += 1;
        self.out.push(Effect::FlushLocal {
            io: IoTarget::PeerFlush { peer }.id(),
        });
    }

    pub(crate) fn peer_flush_done(&mut self, peer: Slot, result: Result<(), DiskError>) {
        self.peer_mut(peer).applying -= 1;
        let fault = result.err().map(fault_of);
        if fault.is_some() {
            self.fail_disk();
        }
        self.answer_flush(peer, fault);
    }

    fn answer_flush(&mut self, peer: Slot, fault: Option<Fault>) {
        // A session that has begun since does not know the flush.
        let session = self.peer_mut(peer).session.as_mut();
        let Some(token) = session.and_then(|session| session.flush.take()) else {
            return;
        };
        self.send(peer, Frame::FlushDone { token, fault }, None);
    }

    /// A peer wants to read, because its own disk cannot.
    pub(crate) fn fetch(&mut self, peer: Slot, token: u64, span: Span) {
        let Some(session) = self.session_id(peer) else {
            return;
        };
        let work = Work::Fetch {
            peer,
            session,
            token,
        };
        let id = self.operations.insert(span, work, self.now);
        self.enter_order(id, span);
    }

    pub(crate) fn fetch_proceed(&mut self, id: OperationId) {
        self.operations.get_mut(id).started = true;
        let span = self.operations.get(id).span;
        if self.disk_usable() {
            self.read_local(id, span);
        } else {
            self.fetch_read(id, Err(DiskError::Io));
        }
    }

    pub(crate) fn fetch_read(&mut self, id: OperationId, result: Result<Buffer, DiskError>) {
        let operation = self.operations.get(id);
        let Work::Fetch {
            peer,
            session,
            token,
        } = operation.work
        else {
            unreachable!("only fetches read for a peer")
        };
        let length = u32::try_from(operation.span.length).expect("checked when it came");
        self.retire(id);
        if self.peer(peer).is_in(session) {
            let fault = result.err().map(fault_of);
            let payload = result.ok().map(|buffer| Payload {
                buffer,
                start: 0,
                length,
            });
            let length = if fault.is_some() { 0 } else { length };
            self.send(
                peer,
                Frame::ReadDone {
                    token,
                    length,
                    fault,
                },
                payload,
            );
        }
        self.release(result.ok());
    }

    /// Whether a span that a peer names is one that this volume has.
    pub(crate) fn is_sound(&self, span: Span, length_max: u64) -> bool {
        let size = self.superblock.size_bytes;
        span.is_aligned()
            && span.length > 0
            && span.length <= length_max
            && span.offset <= size
            && span.length <= size - span.offset
    }

    /// Whether a data span that a peer names is one.
    pub(crate) fn is_sound_data(&self, span: Span) -> bool {
        self.is_sound(span, PAYLOAD_BYTES_MAX as u64)
    }

    /// The span of a run of a chunk that a peer names, if the run is contiguous and in the volume.
    pub(crate) fn run_span(&self, chunk: u32, mask: u32) -> Option<Span> {
        let low = mask.trailing_zeros();
        let contiguous = mask != 0 && (mask >> low).trailing_ones() == mask.count_ones();
        let block = format::types::BLOCK_BYTES;
        let offset = u64::from(chunk) * CHUNK_BYTES + u64::from(low) * block;
        let span = Span::new(offset, u64::from(mask.count_ones()) * block);
        (contiguous && self.is_sound(span, CHUNK_BYTES)).then_some(span)
    }

    /// The members of a set whose sessions are up.
    pub(crate) fn up_among(&self, set: NodeSet) -> NodeSet {
        set.iter().filter(|slot| self.is_up(*slot)).collect()
    }

    /// Whether nothing that a peer has sent is in the local disk's hands.
    pub(crate) fn nothing_applying(&self) -> bool {
        self.peers.iter().flatten().all(|peer| peer.applying == 0)
    }

    pub(crate) fn session_matches(&self, peer: Slot, session: SessionId) -> bool {
        self.peer(peer).is_in(session)
    }
}

/// What a peer is told of a disk's error.
pub(crate) fn fault_of(error: DiskError) -> Fault {
    match error {
        DiskError::Io => Fault::Disk,
        DiskError::Full => Fault::Full,
    }
}
