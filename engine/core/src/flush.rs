//! Flush barriers: what makes writes durable on every member.
//!
//! One barrier is under way at a time; flushes that arrive meanwhile share the next. A barrier covers
//! every write that all members had acknowledged when it began, so that no member has to wait for
//! writes in flight before it flushes. When all members have flushed, those writes are stable: their
//! extents may leave the activity logs.

use crate::barrier::Active;
use crate::event::{DiskError, Effect, Nanos, Token};
use crate::limits::{STABLE_NOTICE_NANOS, UNSTABLE_AGE_NANOS, UNSTABLE_EXTENTS_MAX};
use crate::node::Node;
use crate::operation::{IoTarget, Work};
use format::frame::{Fault, Frame};
use format::types::{NodeSet, Slot};

impl Node {
    pub(crate) fn flush_requested(&mut self, token: Token) {
        self.barrier.waiting.push(token);
    }

    /// Begins a barrier if one is wanted and none is under way.
    pub(crate) fn start_barrier(&mut self) {
        if !self.is_primary() || self.barrier.active.is_some() {
            return;
        }
        let unstable = self.sequences.last() >= crate::limits::FIRST_SEQUENCE
            && self.log.stable_through() < self.sequences.last();
        if unstable && self.barrier.unstable_since.is_none() {
            self.barrier.unstable_since = Some(self.now);
        }
        let old = self
            .barrier
            .unstable_since
            .is_some_and(|since| self.now.saturating_sub(since) >= UNSTABLE_AGE_NANOS);
        let large = self.log.unstable_extents() > UNSTABLE_EXTENTS_MAX;
        let wanted = self.barrier.wanted || old || large || !self.barrier.waiting.is_empty();
        if wanted {
            self.begin_barrier();
        }
    }

    fn begin_barrier(&mut self) {
        let local = self.is_member() && self.disk_usable();
        let barrier = &mut self.barrier;
        barrier.wanted = false;
        barrier.unstable_since = None;
        barrier.next_token = barrier.next_token.wrapping_add(1);
        std::mem::swap(&mut barrier.clients, &mut barrier.waiting);
        let covers = self.sequences.completed_through();
        let pending = self.configuration.in_sync.union(self.joining);
        let token = barrier.next_token;
        let since = self.now;
        let sent = self.sequences.last();
        barrier.active = Some(Active {
            token,
            covers,
            sent,
            pending,
            local,
            result: Ok(()),
            since,
        });
        self.log.begin_barrier();
        if local {
            self.out.push(Effect::FlushLocal {
                io: IoTarget::Barrier { token }.id(),
            });
        }
        for peer in pending.without(self.slot).iter() {
            self.send_flush(peer);
        }
        self.give_up_own_legs();
        self.barrier_settle();
    }

    /// The barrier under way will not be done by the local disk, nor by anybody in its place.
    pub(crate) fn barrier_fails_here(&mut self) {
        let me = self.slot;
        let active = self.barrier.active.as_mut();
        if let Some(active) = active.filter(|active| active.pending.contains(me) && !active.local) {
            active.pending = active.pending.without(me);
            active.result = Err(crate::event::RequestError::Io);
            self.barrier_settle();
        }
    }

    /// Sends the barrier under way to a member that has not done it.
    pub(crate) fn send_flush(&mut self, peer: Slot) {
        let Some(active) = self.barrier.active else {
            return;
        };
        if active.pending.contains(peer) && self.is_at_work(peer) {
            let stable_through = self.log.stable_through();
            let (token, covers) = (u64::from(active.token), active.covers);
            self.send(
                peer,
                Frame::Flush {
                    token,
                    covers,
                    stable_through,
                },
                None,
            );
        }
    }

    pub(crate) fn barrier_local_done(&mut self, token: u32, result: Result<(), DiskError>) {
        let alone = self.other_members().is_empty();
        let me = self.slot;
        // The disk may have been given up, and the barrier with it, before this answer came.
        let active = self.barrier.active.as_mut();
        let Some(active) = active.filter(|active| active.token == token && active.local) else {
            return;
        };
        active.local = false;
        match result {
            Ok(()) => active.pending = active.pending.without(me),
            // No answer leaves until a configuration without this disk is committed; alone, the flush
            // has failed, and it is never tried again.
            Err(error) => {
                if alone {
                    active.pending = active.pending.without(me);
                    active.result = Err(crate::write::request_error(error));
                }
                self.fail_disk();
            }
        }
        self.barrier_settle();
    }

    pub(crate) fn peer_flushed(&mut self, peer: Slot, token: u64, fault: Option<Fault>) {
        let Some(active) = self.barrier.active.as_mut() else {
            return;
        };
        if u64::from(active.token) != token {
            return;
        }
        if let Some(fault) = fault {
            return self.peer_write_failed(peer, fault);
        }
        active.pending = active.pending.without(peer);
        self.barrier_settle();
    }

    /// The barrier no longer waits for replicas outside this set.
    pub(crate) fn barrier_await_only(&mut self, present: NodeSet) {
        let me = self.slot;
        if let Some(active) = self.barrier.active.as_mut() {
            active.pending = active.pending.intersection(present);
            active.local &= present.contains(me);
            self.barrier_settle();
        }
    }

    fn barrier_settle(&mut self) {
        let Some(active) = self.barrier.active else {
            return;
        };
        if !active.pending.is_empty() || active.local {
            return;
        }
        self.barrier.active = None;
        if active.result.is_ok() {
            self.log.set_stable_through(active.covers);
        }
        if active.sent > active.covers {
            self.barrier.unstable_since.get_or_insert(self.now);
        }
        // Members forget what is stable when they hear of it: soon, and not with a frame for each flush.
        let soon = self.now + STABLE_NOTICE_NANOS;
        for session in self
            .peers
            .iter_mut()
            .flatten()
            .filter_map(|peer| peer.session.as_mut())
        {
            session.next_ping = session.next_ping.min(soon);
        }
        let mut clients = self.barrier.take_clients();
        for token in clients.drain(..) {
            self.complete(token, active.result.map(|()| None));
        }
        self.barrier.clients = clients;
    }

    /// When a barrier of the engine's own falls due.
    pub(crate) fn barrier_deadline(&self) -> Option<Nanos> {
        let due = |since: Nanos| since + UNSTABLE_AGE_NANOS;
        self.barrier
            .unstable_since
            .filter(|_| self.barrier.active.is_none())
            .map(due)
    }

    /// When to look for local I/O that hangs.
    pub(crate) fn io_deadline(&self) -> Option<Nanos> {
        let busy = self.operations.len() > 0
            || self.barrier.active.is_some()
            || self.pages_failing.is_some();
        busy.then_some(self.next_check)
    }

    /// A disk that does not answer in time has failed, a member's as well as ours if another can take over.
    pub(crate) fn check_hung_io(&mut self) {
        let limit = self.settings.io_timeout;
        let now = self.now;
        let hung = |since: Nanos| now.saturating_sub(since) >= limit;
        let mut local = self
            .barrier
            .active
            .is_some_and(|active| active.local && hung(active.since));
        let mut late = self
            .barrier
            .active
            .filter(|active| hung(active.since))
            .map_or(NodeSet::EMPTY, |active| active.pending);
        for (id, operation) in self.operations.iter() {
            if !hung(operation.since) {
                continue;
            }
            local |=
                operation.pending > 0 && matches!(operation.work, Work::Write(_) | Work::Apply(_));
            late = late.union(self.legs(id).map_or(NodeSet::EMPTY, |legs| legs.awaiting));
        }
        // Where nobody could go on in our place, as while all storage stands still, the disk is waited for.
        let goes_on = |member| self.is_at_work(member) && !late.contains(member);
        if local && self.is_primary() && self.other_members().iter().any(goes_on) {
            self.fail_disk();
        }
        for member in late.without(self.slot).iter() {
            if self.is_at_work(member) && self.configuration.in_sync.contains(member) {
                self.disconnect(member, "its disk does not answer", true);
                self.drop_member(member);
            }
        }
    }
}
