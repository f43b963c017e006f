//! A client's write on its way: to the local disk and to every peer at once, and back.
//!
//! A write is answered when every member of the in-sync set has done it (R1). Resync targets get it too;
//! the answer does not wait for them, but the write's place in the order is kept until they have it,
//! so that their blocks' marks clear only for the newest write.

use crate::event::{DiskError, Effect, Payload, RequestError};
use crate::node::Node;
use crate::operation::{Content, Legs, OperationId, Work, WriteStage, WriteWork};
use crate::role::Role;
use format::frame::{Fault, Frame};
use format::types::{NodeSet, Slot, Span};

impl Node {
    /// Sends a write out to everyone who has to do it.
    pub(crate) fn submit(&mut self, id: OperationId) {
        if !self.disk_usable() && self.other_members().is_empty() {
            return self.request_failed(id, RequestError::Io);
        }
        let sequence = self.sequences.next();
        self.by_sequence.push_back(Some(id));
        let span = self.operations.get(id).span;
        let local = self.disk_usable() && self.is_member();
        if self.operations.get(id).logged {
            self.log.mark(span, sequence);
        }
        let awaiting = self.configuration.in_sync.union(self.joining);
        let trailing = self.trailing_targets();
        self.mark_absent(span, awaiting);
        let Work::Write(write) = &mut self.operations.get_mut(id).work else {
            unreachable!("only writes are submitted")
        };
        write.stage = WriteStage::Running(Legs {
            sequence,
            awaiting,
            sent_to: NodeSet::EMPTY,
            trailing,
            local,
            answered: false,
            result: Ok(()),
        });
        if local {
            self.write_locally(id);
        }
        for peer in awaiting.union(trailing).without(self.slot).iter() {
            self.send_write(id, peer);
        }
        self.write_settle(id);
    }

    /// Marks the span for every replica that does not get it, or whose doing it nothing waits for.
    pub(crate) fn mark_absent(&mut self, span: Span, present: NodeSet) {
        for absent in self.others.difference(present).iter() {
            self.marks_mut(absent).set(span);
        }
    }

    fn write_locally(&mut self, id: OperationId) {
        let io = self.operations.io(id);
        let operation = self.operations.get_mut(id);
        operation.pending += 1;
        operation.since = self.now;
        let span = operation.span;
        let Work::Write(write) = &operation.work else {
            unreachable!("only writes are submitted")
        };
        self.out
            .push(local_effect(io, span, write.content, write.fua));
    }

    /// Sends a running write to a peer, if it is at work.
    pub(crate) fn send_write(&mut self, id: OperationId, peer: Slot) {
        if !self.is_at_work(peer) {
            return;
        }
        let operation = self.operations.get_mut(id);
        let Work::Write(WriteWork {
            content,
            fua,
            stage: WriteStage::Running(legs),
            ..
        }) = &mut operation.work
        else {
            unreachable!("only running writes are sent")
        };
        legs.sent_to = legs.sent_to.with(peer);
        let (sequence, fua, span) = (legs.sequence, *fua, operation.span);
        let stable_through = self.log.stable_through();
        let offset = span.offset;
        let (frame, payload) = match *content {
            Content::Data(buffer) => {
                let length = u32::try_from(span.length).expect("a data request fits a frame");
                (
                    Frame::Write {
                        sequence,
                        offset,
                        length,
                        fua,
                        stable_through,
                    },
                    Some(Payload {
                        buffer,
                        start: 0,
                        length,
                    }),
                )
            }
            Content::Zero { unmap } => {
                let length = span.length;
                (
                    Frame::Zero {
                        sequence,
                        offset,
                        length,
                        unmap,
                        fua,
                        stable_through,
                    },
                    None,
                )
            }
        };
        self.send(peer, frame, payload);
    }

    /// Sends again, in order, what a returning member has not acknowledged.
    pub(crate) fn resend_writes(&mut self, peer: Slot) {
        let unacknowledged: Vec<OperationId> = self
            .by_sequence
            .iter()
            .flatten()
            .copied()
            .filter(|id| {
                self.legs(*id)
                    .is_some_and(|legs| legs.awaiting.contains(peer))
            })
            .collect();
        for id in unacknowledged {
            self.send_write(id, peer);
        }
    }

    pub(crate) fn legs(&self, id: OperationId) -> Option<&Legs> {
        match &self.operations.find(id)?.work {
            Work::Write(WriteWork {
                stage: WriteStage::Running(legs),
                ..
            }) => Some(legs),
            _ => None,
        }
    }

    fn legs_mut(&mut self, id: OperationId) -> &mut Legs {
        match &mut self.operations.get_mut(id).work {
            Work::Write(WriteWork {
                stage: WriteStage::Running(legs),
                ..
            }) => legs,
            _ => unreachable!("the write is running"),
        }
    }

    /// The local disk has done its part of a write.
    pub(crate) fn local_leg_done(&mut self, id: OperationId, result: Result<(), DiskError>) {
        let others = !self.other_members().is_empty() || self.is_admitting_any();
        let me = self.slot;
        let legs = self.legs_mut(id);
        legs.local = false;
        match result {
            Ok(()) => legs.awaiting = legs.awaiting.without(me),
            // The leg stays open: no answer leaves until a configuration without this disk is
            // committed, or one without the others.
            Err(error) if others && legs.awaiting.contains(me) => match error {
                DiskError::Full => self.ask_who_is_there(),
                DiskError::Io => self.fail_disk(),
            },
            Err(error) => self.own_leg_failed(id, request_error(error)),
        }
        self.write_settle(id);
    }

    /// A peer has done writes.
    pub(crate) fn acknowledged(&mut self, peer: Slot, sequences: &[u64]) {
        for sequence in sequences {
            let Some(id) = self.running(*sequence) else {
                continue;
            };
            let span = self.operations.get(id).span;
            let legs = self.legs_mut(id);
            let trailed = legs.trailing.contains(peer);
            legs.awaiting = legs.awaiting.without(peer);
            legs.trailing = legs.trailing.without(peer);
            if trailed && legs.result.is_ok() {
                for chunk in span.chunks() {
                    self.marks_mut(peer).clear(chunk, span.mask_in(chunk));
                }
            }
            self.write_settle(id);
        }
    }

    /// A peer could not do a write: its leg stays open until it is a member no more.
    pub(crate) fn peer_write_failed(&mut self, peer: Slot, fault: Fault) {
        self.disconnect(peer, &format!("its disk failed: {fault:?}"), true);
        self.drop_member(peer);
    }

    fn running(&self, sequence: u64) -> Option<OperationId> {
        let place = usize::try_from(sequence.checked_sub(self.first_sequence)?).ok()?;
        self.by_sequence.get(place).copied().flatten()
    }

    /// Answers a write that nothing awaits any more, and retires it once nobody has it in hand.
    pub(crate) fn write_settle(&mut self, id: OperationId) {
        let Some(legs) = self.legs(id) else { return };
        if !legs.awaiting.is_empty() {
            return;
        }
        let (sequence, answered, result) = (legs.sequence, legs.answered, legs.result);
        let (trailing, local) = (!legs.trailing.is_empty(), legs.local);
        if !answered {
            self.legs_mut(id).answered = true;
            let Work::Write(write) = &self.operations.get(id).work else {
                return;
            };
            let token = write.token;
            let arrived = self.operations.get(id).arrived;
            self.request_ended(arrived);
            self.complete(token, result.map(|()| None));
            self.sequences.complete(sequence);
        }
        if trailing || local {
            if !answered {
                self.inflight.downgrade(id, &mut self.ready);
            }
            return;
        }
        self.forget_sequence(sequence);
        self.retire(id);
    }

    fn forget_sequence(&mut self, sequence: u64) {
        let place = usize::try_from(sequence - self.first_sequence).expect("a write in hand");
        self.by_sequence[place] = None;
        while let Some(None) = self.by_sequence.front() {
            self.by_sequence.pop_front();
            self.first_sequence += 1;
        }
    }

    /// Whether the members that stay have logged every write under way that the dropped ones may have done: a
    /// member logs a write before it does it (R2). What this replica has done is in its own log.
    pub(crate) fn is_logged_by(&self, staying: NodeSet, dropped: NodeSet) -> bool {
        let staying = staying.without(self.slot);
        let legs = self
            .by_sequence
            .iter()
            .flatten()
            .filter_map(|id| self.legs(*id));
        legs.filter(|legs| !legs.sent_to.intersection(dropped).is_empty())
            .all(|legs| legs.awaiting.intersection(staying).is_empty())
    }

    /// Writes no longer wait for replicas outside this set.
    pub(crate) fn await_only(&mut self, present: NodeSet) {
        self.for_each_running(|legs| legs.awaiting = legs.awaiting.intersection(present));
    }

    /// The local disk has no room for a write. All that was answered before is on it, so that it is given up only
    /// for a member that lives; one that has died a moment ago is dropped first.
    fn ask_who_is_there(&mut self) {
        for member in self.up_among(self.other_members()).iter() {
            self.ping(member);
        }
    }

    /// A member lives: it does what there is no room for here.
    pub(crate) fn give_up_full_disk(&mut self, member: Slot) {
        let served = self.is_primary() && self.configuration.in_sync.contains(member);
        if served && !self.failed_here().is_empty() {
            self.fail_disk();
        }
    }

    /// The writes under way that the local disk should have done, and has not.
    fn failed_here(&self) -> Vec<OperationId> {
        let running = self.by_sequence.iter().flatten().copied();
        let failed = |legs: &Legs| legs.awaiting.contains(self.slot) && !legs.local;
        running
            .filter(|id| self.legs(*id).is_some_and(failed))
            .collect()
    }

    /// With no other member left, what the local disk has not done will never be: the client is told so.
    pub(crate) fn give_up_own_legs(&mut self) {
        let others = !self.other_members().is_empty() || self.is_admitting_any();
        if !self.is_member() || others {
            return;
        }
        let (usable, error) = match self.disk_usable() {
            true => (true, RequestError::NoSpace),
            false => (false, RequestError::Io),
        };
        for id in self.failed_here() {
            self.own_leg_failed(id, error);
            self.write_settle(id);
        }
        if !usable {
            self.barrier_fails_here();
        }
    }

    /// The local disk has not done its part, and nothing can be done about it.
    fn own_leg_failed(&mut self, id: OperationId, error: RequestError) {
        let (me, span) = (self.slot, self.operations.get(id).span);
        let legs = self.legs_mut(id);
        legs.awaiting = legs.awaiting.without(me);
        legs.result = Err(error);
        // Those who have done it, targets of a resync, differ from us now.
        self.mark_absent(span, NodeSet::EMPTY);
    }

    /// Writes no longer trail to a target.
    pub(crate) fn stop_trailing(&mut self, target: Slot) {
        self.for_each_running(|legs| legs.trailing = legs.trailing.without(target));
    }

    fn for_each_running(&mut self, change: impl Fn(&mut Legs)) {
        let running: Vec<OperationId> = self.by_sequence.iter().flatten().copied().collect();
        for id in running {
            change(self.legs_mut(id));
            self.write_settle(id);
        }
    }

    /// The spans of all writes that are on their way, here or from a primary.
    pub(crate) fn spans_in_flight(&self) -> impl Iterator<Item = Span> {
        self.operations.iter().filter_map(|(_, operation)| {
            let moving = match &operation.work {
                Work::Write(write) => matches!(write.stage, WriteStage::Running(_)),
                Work::Apply(_) => true,
                _ => false,
            };
            moving.then_some(operation.span)
        })
    }

    /// Marks for a replica all that it may lack without anybody having been told: what has been written
    /// since its last confirmed flush, and what is in flight (R2).
    pub(crate) fn mark_uncertain(&mut self, slot: Slot) {
        let (marks, peer) = (&mut self.marks[slot.index()], &mut self.peers[slot.index()]);
        let (Some(marks), Some(peer)) = (marks, peer) else {
            unreachable!("every other replica has marks and a peer")
        };
        for (chunk, mask) in self.log.unstable() {
            marks.set_mask(chunk, mask);
            peer.suspected.insert(chunk);
        }
        let spans: Vec<Span> = self.spans_in_flight().collect();
        for span in spans {
            self.marks_mut(slot).set(span);
            self.peer_mut(slot).suspected.extend(span.chunks());
        }
    }

    /// Gives up all requests: this node serves no more.
    pub(crate) fn abandon_requests(&mut self, error: RequestError) {
        let requests: Vec<OperationId> = self
            .operations
            .iter()
            .filter(|(_, operation)| matches!(operation.work, Work::Read(_) | Work::Write(_)))
            .map(|(id, _)| id)
            .collect();
        for id in requests {
            self.abandon(id, error);
        }
        self.blocked.clear();
        let waiting = std::mem::take(&mut self.barrier.waiting);
        for token in waiting.into_iter().chain(self.barrier.take_clients()) {
            self.complete(token, Err(error));
        }
        for request in std::mem::take(&mut self.postponed) {
            self.refuse(request, error);
        }
        self.fail_withheld(error);
    }

    fn abandon(&mut self, id: OperationId, error: RequestError) {
        let operation = self.operations.get_mut(id);
        if std::mem::replace(&mut operation.abandoned, true) {
            return;
        }
        let (token, open, sequence) = match &mut operation.work {
            Work::Read(read) => (read.token, read.repairing.is_none(), None),
            Work::Write(WriteWork {
                token,
                stage: WriteStage::Running(legs),
                ..
            }) => {
                let open = !legs.answered;
                legs.answered = true;
                legs.awaiting = NodeSet::EMPTY;
                legs.trailing = NodeSet::EMPTY;
                (*token, open, Some(legs.sequence))
            }
            Work::Write(write) => (write.token, true, None),
            _ => unreachable!("only requests are abandoned"),
        };
        let pending = operation.pending > 0;
        if open {
            self.complete(token, Err(error));
        }
        match sequence {
            Some(sequence) => {
                if open {
                    self.sequences.complete(sequence);
                }
                self.write_settle(id);
            }
            None if !pending => self.retire(id),
            None => {}
        }
    }

    /// Whether the request was given up while its I/O went on.
    pub(crate) fn abandoned(&self, id: OperationId) -> bool {
        self.operations.get(id).abandoned
    }

    /// Requests in hand.
    pub(crate) fn requests_in_hand(&self) -> usize {
        let is_request = |work: &Work| matches!(work, Work::Read(_) | Work::Write(_));
        self.operations
            .iter()
            .filter(|(_, operation)| is_request(&operation.work))
            .count()
    }

    /// Whether this node takes part in writes as their primary.
    pub(crate) fn is_primary(&self) -> bool {
        let serving = match &self.role {
            Role::Primary | Role::HandingOver(_) => true,
            Role::Stopping(stop) => stop.serving,
            _ => false,
        };
        serving && self.configuration.primary == Some(self.slot)
    }
}

/// The local write of a content.
pub(crate) fn local_effect(
    io: crate::event::IoId,
    span: Span,
    content: Content,
    fua: bool,
) -> Effect {
    match content {
        Content::Data(buffer) => Effect::WriteLocal {
            io,
            span,
            buffer,
            start: 0,
            fua,
        },
        Content::Zero { unmap } => Effect::ZeroLocal {
            io,
            span,
            unmap,
            fua,
        },
    }
}

/// What a client is told of a disk's error.
pub(crate) fn request_error(error: DiskError) -> RequestError {
    match error {
        DiskError::Io => RequestError::Io,
        DiskError::Full => RequestError::NoSpace,
    }
}
