//! Changes of the configuration: who serves, and whose copies count.
//!
//! In manual mode the proposer's own durable superblock commits, else the arbiter does (see `arbitration`). One
//! change is under way at a time.
//! No answer that needs the new configuration leaves before it is committed (R2).

use crate::change::{Cause, Change, Then};
use crate::event::{Effect, SessionId};
use crate::lineage::{Advance, Lineage};
use crate::node::Node;
use crate::notice::Notice;
use crate::peer::{Relation, Stage};
use format::frame::Frame;
use format::types::{Configuration, DiskState, NodeSet, Slot};

impl Node {
    /// A member has to leave the in-sync set. It is sent nothing more.
    pub(crate) fn drop_member(&mut self, member: Slot) {
        if self.configuration.in_sync.contains(member) {
            self.doomed = self.doomed.with(member);
            self.disconnect(member, "it is to leave the in-sync set", true);
        }
    }

    /// Begins the change that is wanted, if none is under way.
    pub(crate) fn start_change(&mut self) {
        let suspect = self.superblock.suspect && self.disk_usable();
        let may = self.is_primary() && !suspect;
        if !may || self.change.open().is_some() {
            return;
        }
        self.doomed = self.doomed.intersection(self.configuration.in_sync);
        if !self.is_member() {
            // Its data is not of the history that it would carry on: it hands over, and drops nobody.
            return;
        }
        if !self.disk_usable() {
            // With our own disk gone nobody else is given up; nor is it, where no other has a copy that could be used.
            let mut others = self.other_members().iter();
            self.doomed = match others.any(|member| self.may_be_good(member)) {
                true => NodeSet::only(self.slot),
                false => NodeSet::EMPTY,
            };
        }
        let staying = self.configuration.in_sync.difference(self.doomed);
        // No commit leaves the in-sync set empty.
        if self.doomed.is_empty() || staying.is_empty() {
            self.doomed = NodeSet::EMPTY;
            return;
        }
        if !self.is_logged_by(staying, self.doomed) {
            return;
        }
        if !self.arbiter_answers() {
            return self.consult();
        }
        let next = Configuration {
            epoch: self.configuration.epoch + 1,
            generation: self.random.generation(),
            primary: self.configuration.primary,
            in_sync: staying,
        };
        self.commit(next, Cause::Drop);
    }

    /// Whether another replica may have a copy that can be used, as far as was heard.
    pub(crate) fn may_be_good(&self, other: Slot) -> bool {
        let known = self.peer(other).disk_state;
        known.is_none_or(|state| matches!(state, DiskState::UpToDate | DiskState::Outdated))
    }

    /// Has a configuration of our own committed: by the arbiter, or by making it durable here.
    pub(crate) fn commit(&mut self, next: Configuration, cause: Cause) {
        assert!(
            self.change.open().is_none(),
            "one change is under way at a time"
        );
        if !self.has_arbiter() {
            return self.commit_durably(next, cause);
        }
        self.superblock.proposal = Some(next);
        self.change = Change::Noting { next, cause };
        self.persist(Then::Proposed(next));
    }

    /// Makes a configuration of our own durable, after which it binds.
    pub(crate) fn commit_durably(&mut self, next: Configuration, cause: Cause) {
        let promotes = matches!(cause, Cause::Promote | Cause::Reopened)
            && next.primary == Some(self.slot)
            && next.in_sync.contains(self.slot);
        if promotes && self.disk_usable() {
            let superblock = &mut self.superblock;
            superblock.suspect &= cause == Cause::Reopened;
            superblock.discarded = false;
            superblock.pending_admission = None;
            superblock.disk_state = DiskState::UpToDate;
        }
        // What was in flight when the process before ended is told by marks alone.
        self.record_as(next, cause != Cause::Reopened);
        self.change = Change::Persisting { next, cause };
        self.persist(Then::Committed);
    }

    /// Puts a configuration of our own history into the superblock. Our data's lineage moves with it only
    /// if we are a member; marks for those that it takes in are void.
    pub(crate) fn record(&mut self, next: Configuration) {
        self.record_as(next, true);
    }

    /// The same; marks are void only if the admission ends what this process has brought about.
    fn record_as(&mut self, next: Configuration, voids: bool) {
        let before = self.superblock.configuration;
        self.superblock.configuration = next;
        let member = next.in_sync.contains(self.slot);
        if member && next.generation != self.superblock.data_generation {
            self.superblock.advance(next.generation);
        }
        let voided = self.voided(before, next);
        for slot in voided.iter().filter(|_| voids) {
            self.superblock.mark_floor[slot.index()] = next.epoch;
            self.superblock.marks_valid = self.superblock.marks_valid.with(slot);
        }
        if !member && self.superblock.disk_state == DiskState::UpToDate {
            self.superblock.disk_state = DiskState::Outdated;
        }
    }

    /// The replicas for which our marks are void: an admission has made them equal to the members, of whom we
    /// are one. Our own admission voids all our marks for members.
    fn voided(&self, before: Configuration, next: Configuration) -> NodeSet {
        if !next.in_sync.contains(self.slot) {
            return NodeSet::EMPTY;
        }
        let stayed = before.in_sync.contains(self.slot);
        let equal = if stayed {
            before.in_sync
        } else {
            NodeSet::EMPTY
        };
        next.in_sync.difference(equal).without(self.slot)
    }

    pub(crate) fn persisted(&mut self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Opened => self.opened(),
            Then::Committed => self.committed(),
            Then::Proposed(noted) => match self.change {
                Change::Noting { next, cause } if next == noted => {
                    self.change = Change::Proposing { next, cause };
                }
                // It was given up meanwhile.
                _ => {}
            },
            Then::Settled { peer, session } => self.settled(peer, session),
            Then::Learned {
                peer,
                session,
                configuration,
            } => {
                self.learned(peer, session, configuration);
            }
            Then::Promised {
                peer,
                session,
                epoch,
            } => {
                if self.session_matches(peer, session) {
                    self.send(peer, Frame::AdmitReady { epoch }, None);
                }
            }
            Then::Stopped => self.stopped(),
            Then::Discarded { answer } => self.discarded(answer),
            Then::Answer { answer } => self.answer_done(answer),
        }
    }

    fn committed(&mut self) {
        let Change::Persisting { next, cause } = self.change else {
            unreachable!("a change is committed once")
        };
        self.change = Change::None;
        if self.is_latest(next) {
            self.take_effect(next, cause);
        }
        self.renew_sessions();
        self.restart_handshakes();
        self.unblock();
    }

    /// Whether a configuration that is durable at last has not been gone past meanwhile, as it can be while a disk hangs:
    /// the later one binds from the moment that it was heard of.
    fn is_latest(&self, durable: Configuration) -> bool {
        self.superblock.configuration == durable
    }

    fn take_effect(&mut self, next: Configuration, cause: Cause) {
        let before = self.configuration;
        if cause != Cause::Reopened {
            self.clear_voided(before, next);
        }
        self.bind(next);
        if cause == Cause::HandOver {
            // All have flushed; who takes over has to know.
            for peer in self.up_among(self.others).iter() {
                self.ping(peer);
            }
        }
        for peer in self.up_among(self.others).iter() {
            // Who holds another to be the latest hears of this one in a handshake.
            if self.agree_on(peer, before, next) {
                self.send(peer, Frame::Configuration(next), None);
            }
        }
        for dropped in before.in_sync.difference(next.in_sync).iter() {
            if dropped != self.slot {
                self.disconnect(dropped, "it has left the in-sync set", true);
            }
        }
        match cause {
            Cause::Drop => self.hand_over_if_useless(),
            Cause::Admit(peer) => self.admitted(peer),
            Cause::HandOver => self.handed_over(),
            Cause::Promote => self.promotion_committed(),
            Cause::Reopened => self.reopened_committed(),
        }
    }

    /// A configuration binds from now on: nothing waits for those who have left it, and their marks cover all
    /// that they may lack.
    pub(crate) fn bind(&mut self, next: Configuration) {
        let before = self.configuration;
        self.configuration = next;
        self.leases.quiet_since = self.now;
        if next.primary != before.primary {
            // Another primary counts its writes from elsewhere: its numbers say nothing about those before.
            self.log.begin_reign();
        }
        self.doomed = self.doomed.intersection(next.in_sync);
        self.slow = self.slow.intersection(self.doomed);
        self.unmet = self.unmet.intersection(next.in_sync);
        for slot in next
            .in_sync
            .difference(before.in_sync)
            .without(self.slot)
            .iter()
        {
            self.peer_mut(slot).disk_state = Some(DiskState::UpToDate);
        }
        self.joining = self.joining.difference(next.in_sync);
        let dropped = before.in_sync.difference(next.in_sync);
        for slot in dropped.without(self.slot).iter() {
            self.mark_uncertain(slot);
        }
        if next.in_sync == NodeSet::only(self.slot) && std::mem::take(&mut self.superblock.suspect)
        {
            // Nobody has more than we have.
            self.persist(Then::Nothing);
            self.notice(Notice::Suspect(false));
        }
        let present = next.in_sync.union(self.joining);
        self.await_only(present);
        self.barrier_await_only(present);
        self.give_up_own_legs();
        self.notice(Notice::Configured(next));
        self.end_stale_handshakes();
    }

    /// Drops the marks that a commit has made void. A configuration that is learned in a handshake voids none:
    /// what we had in flight when the link broke may be told by nothing else.
    fn clear_voided(&mut self, before: Configuration, next: Configuration) {
        for slot in self.voided(before, next).iter() {
            self.marks_mut(slot).clear_all();
            self.peer_mut(slot).trust_marks();
        }
    }

    /// Whether a configuration that a peer names is over replicas that the volume has.
    pub(crate) fn knows_all_of(&self, next: Configuration) -> bool {
        let all = self.replicas();
        next.in_sync.difference(all).is_empty()
            && next.primary.is_none_or(|primary| all.contains(primary))
            && (!next.in_sync.is_empty() || next.epoch == 0)
    }

    /// The coordinator has sent a configuration in the stream.
    pub(crate) fn configuration_received(&mut self, peer: Slot, next: Configuration) {
        let Some(session) = self.session_id(peer) else {
            return;
        };
        let current = self.superblock.configuration;
        if !self.knows_all_of(next) {
            return self.disconnect(peer, "it named replicas that there are not", true);
        }
        if next.epoch <= current.epoch {
            return self.disconnect(peer, "it sent an old configuration", true);
        }
        if !self.agree_on(peer, current, next) {
            return self.disconnect(peer, "it sent a configuration of another history", true);
        }
        let promised = self.superblock.pending_admission == Some((next.epoch, next.generation));
        let was_member = current.in_sync.contains(self.slot);
        let now_member = next.in_sync.contains(self.slot);
        if now_member && !was_member && !promised {
            return self.disconnect(peer, "it admitted us without our promise", true);
        }
        let Some(session_state) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        session_state.holding = true;
        session_state.lineage.advance(next.generation);
        let lineage = session_state.lineage.clone();
        if now_member && !was_member {
            self.admit_self(next, lineage);
        } else {
            self.record(next);
        }
        self.persist(Then::Learned {
            peer,
            session,
            configuration: next,
        });
    }

    /// Moves a session on from the configuration that both sides hold to be the latest, if it is this one.
    fn agree_on(&mut self, peer: Slot, latest: Configuration, next: Configuration) -> bool {
        let session = self.peer_mut(peer).session.as_mut();
        let agreed = session.filter(|session| session.agreed == Some(latest));
        agreed.is_some_and(|session| session.agreed.replace(next).is_some())
    }

    /// Our admission: from now on our data is the source's.
    fn admit_self(&mut self, next: Configuration, lineage: Lineage) {
        self.superblock.disk_state = DiskState::UpToDate;
        self.superblock.pending_admission = None;
        self.superblock.discarded = false;
        self.superblock.forced = false;
        self.superblock.suspect = false;
        self.superblock.crashed_primary = false;
        self.superblock.data_generation = lineage.generation;
        self.superblock.history = lineage.history;
        self.superblock.history_complete = lineage.complete;
        self.record(next);
        self.notice(Notice::Disk {
            slot: self.slot,
            state: DiskState::UpToDate,
        });
    }

    fn learned(&mut self, peer: Slot, session: SessionId, configuration: Configuration) {
        if !self.is_latest(configuration) {
            if self.session_matches(peer, session) {
                self.disconnect(
                    peer,
                    "it told of a configuration that has been gone past",
                    true,
                );
            }
            return;
        }
        self.clear_voided(self.configuration, configuration);
        self.bind(configuration);
        self.restart_handshakes();
        self.unblock();
        let current = self.session_matches(peer, session);
        if current {
            self.send(
                peer,
                Frame::ConfigurationDone {
                    epoch: configuration.epoch,
                },
                None,
            );
        }
        if configuration.primary == Some(self.slot) {
            return self.take_over();
        }
        if current {
            let member = configuration.in_sync.contains(self.slot);
            let state = self
                .peer_mut(peer)
                .session
                .as_mut()
                .expect("the session is there");
            if member && matches!(state.relation, Relation::Follower(_)) {
                state.relation = Relation::Mirror;
            }
        }
        self.renew_sessions();
        if self.session_matches(peer, session) {
            self.release_held(peer);
        }
    }

    /// Handshakes compare what was true when they began; what has changed since makes them begin anew.
    pub(crate) fn restart_handshakes(&mut self) {
        for peer in self.others.iter() {
            let stage = self
                .peer(peer)
                .session
                .as_ref()
                .map(|session| session.stage);
            if matches!(stage, Some(Stage::Greeting | Stage::Marking)) {
                self.disconnect(peer, "the configuration has changed", true);
            }
        }
    }

    /// A drop or a promotion has to be announced; so has the end of a session by us.
    pub(crate) fn disconnect(&mut self, peer: Slot, reason: &str, retry: bool) {
        let Some(session) = self.session_id(peer) else {
            return;
        };
        self.send(
            peer,
            Frame::Error {
                reason: reason.into(),
            },
            None,
        );
        self.out.push(Effect::Disconnect {
            peer,
            session,
            retry,
        });
        self.session_ended(peer, reason);
        self.peer_mut(peer).stand_alone = !retry;
    }
}
