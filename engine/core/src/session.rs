//! A session with a peer: its beginning and end, its pings, and the dispatch of its frames.

use crate::event::{Buffer, Effect, Nanos, SessionId};
use crate::node::Node;
use crate::notice::Notice;
use crate::operation::{Cause, Content, Work};
use crate::peer::{Held, Peer, Relation, Session, Stage};
use crate::progress::Goal;
use crate::role::Role;
use format::frame::Frame;
use format::types::{DiskState, NodeSet, Slot, Span};

impl Node {
    pub(crate) fn peer_connected(&mut self, peer: Slot, session: SessionId) {
        if !self.others.contains(peer) || matches!(self.role, Role::Stopping(_) | Role::Stopped) {
            self.out.push(Effect::Disconnect {
                peer,
                session,
                retry: false,
            });
            return;
        }
        if self.peer(peer).session.is_some() {
            self.session_ended(peer, "a new link has taken its place");
        }
        let now = self.now;
        let state = self.peer_mut(peer);
        state.stand_alone = false;
        state.session = Some(Box::new(Session::new(session, now)));
    }

    pub(crate) fn peer_lost(&mut self, peer: Slot, session: SessionId) {
        if self.peers[peer.index()]
            .as_ref()
            .is_some_and(|state| state.is_in(session))
        {
            self.session_ended(peer, "the link has broken");
        }
    }

    /// Takes a session apart. What it had promised is undone; what it had sent to the local disk goes on.
    pub(crate) fn session_ended(&mut self, peer: Slot, reason: &str) {
        let now = self.now;
        let state = self.peer_mut(peer);
        let Some(session) = state.session.take() else {
            return;
        };
        state.lost_at.get_or_insert(now);
        for held in session.held {
            self.release(held.payload);
        }
        if session.stage == Stage::Up {
            self.notice(Notice::Disconnected {
                peer,
                reason: reason.to_owned(),
            });
        }
        self.marks_mut(peer).revert();
        self.drop_unissued(peer);
        self.orphan_chunks(peer);
        if let Some(walk) = session.walk {
            self.walk_broken(peer, &walk);
        }
        if self.joining.contains(peer) && !self.is_admitting(peer) {
            self.joining = self.joining.without(peer);
            self.mark_uncertain(peer);
            let present = self.configuration.in_sync.union(self.joining);
            self.await_only(present);
            self.barrier_await_only(present);
        }
        self.cancel_admission(peer);
        self.stop_trailing(peer);
        self.restart_member_reads();
        self.handover_peer_lost(peer);
    }

    /// Reads that a member was to answer are asked for again.
    fn restart_member_reads(&mut self) {
        let reading: Vec<u32> = self
            .operations
            .iter()
            .filter(|(_, operation)| matches!(operation.work, Work::Read(_) | Work::Write(_)))
            .map(|(id, _)| id)
            .filter(|id| self.reads_from_member(*id) && !self.blocked.contains(id))
            .collect();
        self.ready.extend(reading);
    }

    /// Sessions whose predecessors' I/O has ended say who we are.
    pub(crate) fn greet_drained(&mut self) {
        let busy = matches!(
            self.role,
            Role::Opening | Role::Promoting(_) | Role::HandingOver(_)
        ) || !self.persistence.is_idle()
            || self.change.open().is_some();
        if busy {
            return;
        }
        // Who is to leave the set comes back once it has.
        let decides = self.is_primary() && self.is_member() && !self.has_arbiter();
        let leaving = match decides {
            true => self.doomed,
            false => NodeSet::EMPTY,
        };
        for peer in self.others.difference(leaving).iter() {
            let state = self.peer(peer);
            let draining = state
                .session
                .as_ref()
                .is_some_and(|session| session.stage == Stage::Draining);
            if draining && state.applying == 0 && !self.comparing_for(peer) {
                self.greet(peer);
            }
        }
    }

    fn comparing_for(&self, peer: Slot) -> bool {
        self.operations
            .iter()
            .any(|(_, operation)| match &operation.work {
                Work::Compare(compare) => compare.peer == peer,
                Work::Chunk(chunk) => chunk.peer == peer,
                Work::Fetch { peer: whose, .. } => *whose == peer,
                _ => false,
            })
    }

    fn greet(&mut self, peer: Slot) {
        let identity = Box::new(self.identity_for(peer));
        self.send(peer, Frame::Identity(identity.clone()), None);
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        session.stage = Stage::Greeting;
        session.sent = Some(identity);
        if session.heard.is_some() {
            self.handshake(peer);
        }
    }

    pub(crate) fn frame_received(
        &mut self,
        peer: Slot,
        session: SessionId,
        frame: Frame,
        epoch: u64,
        payload: Option<Buffer>,
    ) {
        let known = self.peers[peer.index()].as_mut();
        let current = known.and_then(|state| state.session.as_mut());
        let Some(current) = current.filter(|current| current.id == session) else {
            return self.release(payload);
        };
        if let Frame::Pong { echo } = frame {
            return self.ping_answered(peer, echo);
        }
        let holding = current.holding || current.stage == Stage::Settling;
        let ping = matches!(frame, Frame::Ping { .. });
        if holding && !ping {
            current.held.push_back(Held {
                frame,
                epoch,
                payload,
            });
            return;
        }
        if let Frame::Ping { sent_at, .. } = frame
            && self.ping_received(peer)
        {
            self.send(peer, Frame::Pong { echo: sent_at }, None);
            self.ping_along(peer);
        }
        if !holding {
            self.frame(peer, frame, epoch, payload);
        }
    }

    /// Sessions in which nothing goes on begin anew: what stood in the way may have changed. So do those in which
    /// a replica walks, or is to walk, whose place that is no more.
    pub(crate) fn renew_sessions(&mut self) {
        for peer in self.others.iter() {
            if self
                .peer(peer)
                .up()
                .is_some_and(|session| self.is_outdated(peer, session))
            {
                self.disconnect(peer, "what we are to each other may have changed", true);
            }
        }
    }

    fn is_outdated(&self, peer: Slot, session: &Session) -> bool {
        let (goal, driver, follower) = match session.relation {
            Relation::Idle => return true,
            Relation::Mirror => return false,
            Relation::Driver(goal) => (goal, self.slot, peer),
            Relation::Follower(goal) => (goal, peer, self.slot),
        };
        let members = self.configuration.in_sync;
        let fits = members.contains(follower) == (goal != Goal::Resync);
        let verdict = session
            .verdict()
            .filter(|_| !matches!(goal, Goal::Verify { .. }));
        let drives = verdict.is_none_or(|verdict| self.driver_of(peer, verdict) == Some(driver));
        !(members.contains(driver) && fits && drives)
    }

    /// Handshakes begin anew that are over another configuration than the present one, and have no verdict yet, or that there
    /// is nothing to do and it is not acted upon yet: we may have marked the peer since we spoke (R8).
    pub(crate) fn end_stale_handshakes(&mut self) {
        for peer in self.others.iter() {
            let session = self.peer(peer).session.as_ref();
            if session.is_some_and(|session| session.is_stale(&self.configuration)) {
                self.disconnect(peer, "the configuration has changed meanwhile", true);
            }
        }
    }

    /// Frames that have waited for a configuration go on.
    pub(crate) fn release_held(&mut self, peer: Slot) {
        if let Some(session) = self.peer_mut(peer).session.as_mut() {
            session.holding = false;
        }
        loop {
            let Some(session) = self.peer_mut(peer).session.as_mut() else {
                return;
            };
            if session.holding || session.stage == Stage::Settling {
                return;
            }
            let Some(held) = session.held.pop_front() else {
                return;
            };
            self.frame(peer, held.frame, held.epoch, held.payload);
        }
    }

    fn frame(&mut self, peer: Slot, frame: Frame, epoch: u64, payload: Option<Buffer>) {
        let stage = self
            .peer(peer)
            .session
            .as_ref()
            .map(|session| session.stage);
        let broken = match (stage, &frame) {
            (None, _) => return self.release(payload),
            (_, Frame::Error { reason }) => {
                let reason = format!("it ended the session: {reason}");
                self.release(payload);
                return self.disconnect(peer, &reason, true);
            }
            (Some(Stage::Draining | Stage::Greeting), Frame::Identity(_) | Frame::Ping { .. }) => {
                None
            }
            (Some(Stage::Draining | Stage::Greeting), _) => Some("it spoke before its identity"),
            (_, Frame::Identity(_)) => Some("it told its identity twice"),
            (Some(Stage::Marking), _) => None,
            _ => self.epoch_fault(peer, &frame, epoch),
        };
        if let Some(reason) = broken {
            self.release(payload);
            return self.disconnect(peer, reason, true);
        }
        match payload {
            Some(buffer) => self.payload_frame(peer, &frame, buffer),
            None => self.bare_frame(peer, frame),
        }
    }

    /// Frames that change our data must come from the configuration that binds here; answers may be of one
    /// that we have left since, never of one that we do not know.
    fn epoch_fault(&self, peer: Slot, frame: &Frame, epoch: u64) -> Option<&'static str> {
        let current = self.configuration.epoch;
        let orders = matches!(
            frame,
            Frame::Write { .. }
                | Frame::Zero { .. }
                | Frame::Flush { .. }
                | Frame::Checkpoint { .. }
                | Frame::ChunkZero { .. }
                | Frame::ChunkData { .. }
        );
        let announces = matches!(frame, Frame::Configuration(_));
        let passive = matches!(
            frame,
            Frame::Ping { .. } | Frame::Disk(_) | Frame::PlannedStop
        );
        let idle = self
            .peer(peer)
            .session
            .as_ref()
            .is_some_and(|session| session.relation == Relation::Idle);
        if announces || passive || (idle && !orders) {
            None
        } else if epoch > current {
            Some("it is of a configuration that we do not know")
        } else if orders && epoch < current && !self.is_driver_of(peer) {
            Some("it is of a configuration that has been left")
        } else {
            None
        }
    }

    fn payload_frame(&mut self, peer: Slot, frame: &Frame, buffer: Buffer) {
        match *frame {
            Frame::Write {
                sequence,
                offset,
                length,
                fua,
                stable_through,
            } => {
                let span = Span::new(offset, u64::from(length));
                if !self.is_sound_data(span) || !self.takes_writes_from(peer) {
                    self.release(Some(buffer));
                    return self.disconnect(peer, "it sent a write that cannot be", true);
                }
                let cause = Cause::Mirror { sequence, fua };
                self.mirror_write(peer, span, Content::Data(buffer), cause, stable_through);
            }
            Frame::ReadDone { token, fault, .. } => {
                self.member_read(peer, token, fault, Some(buffer));
            }
            Frame::ChunkData { chunk, mask } => {
                self.chunk_run(peer, chunk, mask, Content::Data(buffer));
            }
            _ => {
                self.release(Some(buffer));
                self.disconnect(peer, "it sent a payload that nobody wants", true);
            }
        }
    }

    fn bare_frame(&mut self, peer: Slot, frame: Frame) {
        match frame {
            Frame::Identity(identity) => self.identity_heard(peer, identity),
            Frame::Marks { first_chunk, masks } => self.marks_heard(peer, first_chunk, &masks),
            Frame::MarksEnd => self.marks_ended(peer),
            Frame::Configuration(next) => self.configuration_received(peer, next),
            Frame::AdmitPrepare(next) => self.admission_asked(peer, next),
            Frame::AdmitReady { epoch } => self.admission_promised(peer, epoch),
            Frame::HandoverRequest => self.handover_asked(peer),
            Frame::HandoverRefused { reason } => self.handover_refused(peer, &reason),
            Frame::Zero {
                sequence,
                offset,
                length,
                unmap,
                fua,
                stable_through,
            } => {
                let span = Span::new(offset, length);
                let sound = self.is_sound(span, crate::limits::ZERO_BYTES_MAX);
                if !sound || !self.takes_writes_from(peer) {
                    return self.disconnect(peer, "it sent a write that cannot be", true);
                }
                let cause = Cause::Mirror { sequence, fua };
                self.mirror_write(peer, span, Content::Zero { unmap }, cause, stable_through);
            }
            Frame::Acks(acks) => self.acknowledged(peer, acks.as_slice()),
            Frame::WriteFailed { fault, .. } => self.peer_write_failed(peer, fault),
            Frame::Flush {
                token,
                stable_through,
                ..
            } => {
                self.peer_flush(peer, token, stable_through);
            }
            Frame::FlushDone { token, fault } => self.peer_flushed(peer, token, fault),
            Frame::Read {
                token,
                offset,
                length,
            } => {
                let span = Span::new(offset, u64::from(length));
                if !self.is_sound_data(span) {
                    return self.disconnect(peer, "it wants to read what cannot be", true);
                }
                self.fetch(peer, token, span);
            }
            Frame::ReadDone { token, fault, .. } => self.member_read(peer, token, fault, None),
            Frame::Ping { stable_through, .. } if self.takes_writes_from(peer) => {
                self.log.set_stable_through(stable_through);
            }
            Frame::Disk(state) => self.peer_disk(peer, state),
            Frame::PlannedStop => self.peer_stops(peer),
            Frame::Ping { .. } | Frame::Pong { .. } | Frame::ConfigurationDone { .. } => {}
            other => self.walk_frame(peer, other),
        }
    }

    /// Whether the peer's writes are ours to do: it is the primary, and a session with it is up.
    fn takes_writes_from(&self, peer: Slot) -> bool {
        self.configuration.primary == Some(peer) && self.is_up(peer)
    }

    fn peer_disk(&mut self, peer: Slot, state: DiskState) {
        self.peer_mut(peer).disk_state = Some(state);
        self.notice(Notice::Disk { slot: peer, state });
        if matches!(state, DiskState::Failed) && self.is_primary() {
            self.drop_member(peer);
            if !self.configuration.in_sync.contains(peer) {
                self.disconnect(peer, "its disk has failed", true);
            }
        }
    }

    /// A member that stops as planned is not waited for.
    fn peer_stops(&mut self, peer: Slot) {
        if self.configuration.primary == Some(peer) {
            self.leases.hold_until = self.now + self.settings.restart_hold;
        }
        if self.is_primary() {
            self.drop_member(peer);
        }
    }

    /// What falls due with a peer: a ping, the end of a session that does not answer, a member's drop.
    pub(crate) fn peer_tick(&mut self, peer: Slot) {
        let (now, timeout) = (self.now, self.settings.peer_timeout);
        let state = self.peer(peer);
        if let Some(session) = &state.session {
            let waits_for_us = matches!(session.stage, Stage::Draining | Stage::Settling);
            if now >= session.answered_at + timeout && !waits_for_us {
                let was_up = session.stage == Stage::Up;
                self.disconnect(peer, "it does not answer", true);
                if was_up && self.is_primary() {
                    self.drop_member(peer);
                }
            } else if now >= session.next_ping {
                self.ping(peer);
            }
        }
        if self.drop_due(self.peer(peer)).is_some_and(|due| now >= due) {
            self.drop_member(peer);
        }
    }

    /// Our own ping goes along with an answer if it is due soon: what comes together wakes the peer once. From then on the peer's is due before
    /// ours, for as long as it pings.
    fn ping_along(&mut self, peer: Slot) {
        let interval = self.settings.ping_interval;
        let soon = self.now + interval / 2;
        let session = self.peer(peer).up();
        if session.is_some_and(|session| session.next_ping <= soon) {
            self.ping(peer);
            if let Some(session) = self.peer_mut(peer).session.as_mut() {
                session.next_ping += interval / 4;
            }
        }
    }

    pub(crate) fn ping(&mut self, peer: Slot) {
        let next = self.now + self.settings.ping_interval;
        if let Some(session) = self.peer_mut(peer).session.as_mut() {
            session.next_ping = next;
        }
        if self.is_mute() {
            return;
        }
        // Who does not serve counts in an earlier reign's numbers; it may be the primary already for its peer.
        let stable_through = match &self.role {
            Role::Primary | Role::HandingOver(_) => self.log.stable_through(),
            Role::Stopping(stop) if stop.serving => self.log.stable_through(),
            _ => 0,
        };
        let sent_at = self.now;
        self.send(
            peer,
            Frame::Ping {
                sent_at,
                stable_through,
            },
            None,
        );
    }

    /// When a member that is away will be dropped. A link that has ended is half a proof that the other side
    /// is gone; a handshake under way is half a proof that it is not.
    fn drop_due(&self, peer: &Peer) -> Option<Nanos> {
        let member = self.configuration.in_sync.contains(peer.slot);
        let timeout = self.settings.peer_timeout;
        match &peer.session {
            Some(session) if session.stage == Stage::Up => None,
            Some(_) => peer.lost_at.map(|lost| lost + 2 * timeout),
            None => peer.lost_at.map(|lost| lost + timeout / 2),
        }
        .filter(|_| member && self.is_primary() && !self.doomed.contains(peer.slot))
    }

    pub(crate) fn peer_deadline(&self, peer: &Peer) -> Option<Nanos> {
        let timeout = self.settings.peer_timeout;
        let of_session = peer.session.as_ref().map(|session| {
            let silent = match session.stage {
                Stage::Draining | Stage::Settling => Nanos::MAX,
                _ => session.answered_at + timeout,
            };
            session.next_ping.min(silent)
        });
        of_session.into_iter().chain(self.drop_due(peer)).min()
    }
}
