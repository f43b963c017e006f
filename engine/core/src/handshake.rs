//! The handshake: two identities, one table, one verdict; and what the verdict asks for.

use crate::change::Then;
use crate::event::SessionId;
use crate::lineage::{Advance, Lineage};
use crate::node::Node;
use crate::notice::Notice;
use crate::peer::{Relation, Stage};
use crate::progress::Goal;
use crate::reconcile::{Scope, Side, Verdict, reconcile};
use crate::role::{Role, is_superseded};
use format::frame::{Frame, Identity};
use format::types::{DiskState, NodeSet, Slot};

impl Node {
    pub(crate) fn identity_heard(&mut self, peer: Slot, identity: Box<Identity>) {
        if !self.knows_all_of(identity.configuration) {
            return self.disconnect(peer, "it named replicas that there are not", true);
        }
        let state = self.peer_mut(peer);
        state.disk_state = Some(identity.disk_state);
        let Some(session) = state.session.as_mut() else {
            return;
        };
        session.lineage = Lineage {
            generation: identity.data_generation,
            history: identity.history.clone(),
            complete: identity.history_complete,
        };
        session.heard = Some(identity);
        if session.stage == Stage::Greeting {
            self.handshake(peer);
        }
    }

    /// Both identities are known: the verdict, and what has to be durable before it is acted upon.
    pub(crate) fn handshake(&mut self, peer: Slot) {
        let me = self.slot;
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        let (Some(sent), Some(heard)) = (session.sent.take(), session.heard.take()) else {
            return;
        };
        let id = session.id;
        let outcome = reconcile(&sent, me, &heard, peer);
        let (row, verdict, adopt) = (outcome.row, outcome.verdict, outcome.adopt);
        session.stage = Stage::Settling;
        session.outcome = Some(outcome);
        session.agreed = match adopt {
            Some(Side::Local) => Some(heard.configuration),
            Some(Side::Remote) => Some(sent.configuration),
            None => Some(sent.configuration).filter(|ours| *ours == heard.configuration),
        };
        self.notice(Notice::Handshake { peer, row });
        if is_target(Some(verdict)) && self.is_target_of_another(peer) {
            // Two sources, of rival histories, would undo each other's work.
            return self.disconnect(peer, "another replica brings this one up to date", true);
        }
        let changes = match adopt {
            Some(Side::Local) => {
                self.adopt(peer, &heard);
                true
            }
            Some(Side::Remote) | None => false,
        };
        let targeted = self.become_target(peer, verdict, &heard);
        let split = matches!(verdict, Verdict::SplitBrain);
        self.peer_mut(peer).split_brain = split;
        if let Some(session) = self.peer_mut(peer).session.as_mut() {
            session.heard = Some(heard);
        }
        match verdict {
            Verdict::SplitBrain => {
                self.notice(Notice::SplitBrain { peer });
                self.disconnect(peer, "split brain", false);
            }
            Verdict::Refuse(reason) => self.disconnect(peer, reason, false),
            _ if changes || targeted => self.persist(Then::Settled { peer, session: id }),
            _ => self.settled(peer, id),
        }
    }

    /// Whether another replica than the peer brings this one up to date, or is about to.
    fn is_target_of_another(&self, peer: Slot) -> bool {
        let others = self.others.without(peer);
        others.iter().any(|other| {
            let session = self.peer(other).session.as_ref();
            session.is_some_and(|session| match session.stage {
                Stage::Settling => is_target(session.verdict()),
                _ => session.relation == Relation::Follower(Goal::Resync),
            })
        })
    }

    /// Takes the peer's later configuration of our own history.
    fn adopt(&mut self, peer: Slot, heard: &Identity) {
        let next = heard.configuration;
        let before = self.superblock.configuration;
        let member = next.in_sync.contains(self.slot);
        let superseded = is_superseded(&self.role, self.slot, &next);
        let behind = member && self.superblock.data_generation != next.generation;
        if behind && heard.data_generation == next.generation {
            self.superblock.data_generation = heard.data_generation;
            self.superblock.history = heard.history.clone();
            self.superblock.history_complete = heard.history_complete;
        } else if behind {
            // The peer itself has left the set: it knows the configuration, and its data is not of it. If it was
            // the peer that made it, its data's generations lie between.
            let alone = self.others == NodeSet::only(peer) && next.primary == Some(self.slot);
            if next.primary == Some(peer) || alone {
                self.superblock.data_generation = heard.data_generation;
                self.superblock.history = heard.history.clone();
                self.superblock.history_complete = heard.history_complete;
            }
            self.superblock.advance(next.generation);
        }
        if member && !before.in_sync.contains(self.slot) {
            self.superblock.disk_state = DiskState::UpToDate;
            self.superblock.discarded = false;
        }
        if member {
            self.superblock.pending_admission = None;
        }
        self.superblock.configuration = next;
        if !member && self.superblock.disk_state == DiskState::UpToDate {
            self.superblock.disk_state = DiskState::Outdated;
        }
        if superseded {
            self.supersede("a later configuration has another primary");
        }
        self.bind(next);
        self.renew_sessions();
        if next.primary == Some(self.slot) && matches!(self.role, Role::Secondary) {
            self.role = Role::Waiting;
            for other in self.up_among(self.others.without(peer)).iter() {
                self.disconnect(other, "roles have changed", true);
            }
        }
    }

    /// A target is durably inconsistent before its first block is written (R9).
    fn become_target(&mut self, peer: Slot, verdict: Verdict, heard: &Identity) -> bool {
        let Verdict::Resync {
            source: Side::Remote,
            ..
        } = verdict
        else {
            return false;
        };
        if self.driver_of(peer, verdict) != Some(peer) {
            return false;
        }
        if matches!(self.role, Role::Primary | Role::Waiting) {
            self.supersede("this replica is to be brought up to date");
        }
        if self.superblock.discarded {
            self.superblock.configuration = heard.configuration;
            self.bind(heard.configuration);
            self.renew_sessions();
        }
        self.superblock.disk_state = DiskState::Inconsistent;
        self.superblock.pending_admission = None;
        true
    }

    /// Who walks over what two replicas differ in: the primary, or where there is none the source, if it is
    /// the one member that coordinates.
    pub(crate) fn driver_of(&self, peer: Slot, verdict: Verdict) -> Option<Slot> {
        let configuration = self.superblock.configuration;
        let pair = [self.slot, peer];
        match configuration.primary {
            Some(primary) => Some(primary).filter(|primary| pair.contains(primary)),
            None => {
                let coordinator = configuration.in_sync.first();
                let side = |side: Side| match side {
                    Side::Local => self.slot,
                    Side::Remote => peer,
                };
                match verdict {
                    Verdict::Resync { source, .. } => {
                        Some(side(source)).filter(|source| Some(*source) == coordinator)
                    }
                    Verdict::Equalise { .. } => {
                        coordinator.filter(|coordinator| pair.contains(coordinator))
                    }
                    _ => None,
                }
            }
        }
    }

    /// What the verdict needed is durable.
    pub(crate) fn settled(&mut self, peer: Slot, id: SessionId) {
        if !self.session_matches(peer, id) {
            return;
        }
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        session.holding = false;
        if matches!(self.role, Role::Waiting)
            && self.configuration.in_sync == NodeSet::only(self.slot)
        {
            // The handover to us had not reached us.
            self.resume();
        }
        let session = self.peer(peer).session.as_ref();
        let Some(verdict) = session.and_then(|session| session.verdict()) else {
            return;
        };
        if let Verdict::Resync {
            scope: Scope::Full(_),
            source: Side::Local,
        } = verdict
            && self.driver_of(peer, verdict) == Some(self.slot)
        {
            self.peer_mut(peer).suspects_all = true;
            self.marks_mut(peer).set_all();
        }
        self.settle_sessions();
    }

    /// Sessions whose verdict is durable, and before which no old I/O is left, go on.
    pub(crate) fn settle_sessions(&mut self) {
        for peer in self.others.iter() {
            let Some(session) = self.peer(peer).session.as_ref() else {
                continue;
            };
            let waiting = session.stage == Stage::Settling
                && session.outcome.is_some()
                && self.persistence.is_idle();
            if waiting {
                self.enact(peer);
            }
        }
    }

    fn enact(&mut self, peer: Slot) {
        let Some(session) = self.peer(peer).session.as_ref() else {
            return;
        };
        let Some(verdict) = session.verdict() else {
            return;
        };
        let driver = self.driver_of(peer, verdict);
        let goal = match verdict {
            Verdict::Equalise { source } => {
                let from_driver = match source {
                    Side::Local => driver == Some(self.slot),
                    Side::Remote => driver == Some(peer),
                };
                Some(Goal::Equalise { pull: !from_driver })
            }
            Verdict::Resync { .. } => Some(Goal::Resync),
            _ => None,
        };
        let relation = match (goal, driver) {
            (None, _) if matches!(verdict, Verdict::Resume | Verdict::InSync) => Relation::Mirror,
            (None, _) | (_, None) => Relation::Idle,
            (Some(goal), Some(driver)) if driver == self.slot => Relation::Driver(goal),
            (Some(goal), Some(_)) => Relation::Follower(goal),
        };
        let follows = !matches!(relation, Relation::Driver(_) | Relation::Idle);
        let serves = self.is_primary();
        if follows && !serves && !self.is_done_with_others(peer) {
            return;
        }
        let suspect = session.heard.as_ref().is_some_and(|heard| heard.suspect);
        let useless = suspect || matches!(verdict, Verdict::Idle);
        let good = self.is_member() && self.disk_usable();
        if serves && useless && good && self.configuration.in_sync.contains(peer) {
            // Nothing may be acknowledged while a member is suspect or cannot do its part: it leaves the
            // set, and comes back by resync.
            self.disconnect(peer, "as a member it is of no use now", true);
            return self.drop_member(peer);
        }
        if !matches!(verdict, Verdict::Resume) && !serves {
            self.log_new_reign(peer, relation);
        }
        if goal.is_some() && relation != Relation::Idle {
            self.mark_uncertain(peer);
        }
        self.begin_relation(peer, relation);
    }

    /// Whether nothing is in hand any more that was begun for our own clients, or for another primary than the
    /// peer: it must not land after the first frame of a new session.
    fn is_done_with_others(&self, peer: Slot) -> bool {
        let leads = self
            .configuration
            .primary
            .is_none_or(|primary| primary == peer);
        let others = self
            .peers
            .iter()
            .flatten()
            .filter(|other| other.slot != peer);
        self.requests_in_hand() == 0
            && (!leads || others.map(|other| other.applying).sum::<u32>() == 0)
    }

    /// What an earlier reign has left unstable is marked, and its numbers mean nothing any more.
    fn log_new_reign(&mut self, peer: Slot, relation: Relation) {
        let serves = self.configuration.primary == Some(peer);
        let follows = matches!(relation, Relation::Follower(_));
        if serves && relation != Relation::Mirror {
            // What the primary calls stable is so on members that are equal to it. Of what this replica alone may have nobody
            // else knows, also where nothing comes of the session, and whoever serves next: the primary may be gone before
            // it has made the others equal.
            self.others
                .iter()
                .for_each(|other| self.mark_uncertain(other));
        } else if follows {
            self.mark_uncertain(peer);
        }
        if serves {
            self.log.begin_reign();
        }
    }

    fn begin_relation(&mut self, peer: Slot, relation: Relation) {
        let Some(session) = self.peer_mut(peer).session.as_mut() else {
            return;
        };
        session.relation = relation;
        // Our identity was said before.
        let adopted = session
            .outcome
            .as_ref()
            .is_some_and(|outcome| outcome.adopt == Some(Side::Local));
        match relation {
            Relation::Driver(_) => {
                session.stage = Stage::Marking;
                self.release_held(peer);
            }
            Relation::Follower(_) => {
                let state = self.superblock.disk_state;
                self.send(peer, Frame::Disk(state), None);
                self.send_marks(peer);
                self.session_up(peer);
            }
            Relation::Mirror | Relation::Idle => {
                if adopted {
                    let state = self.superblock.disk_state;
                    self.send(peer, Frame::Disk(state), None);
                }
                self.session_up(peer);
            }
        }
    }

    fn send_marks(&mut self, peer: Slot) {
        let pages: Vec<(u32, Box<[u32]>)> = self.marks_of(peer).pages().collect();
        for (first_chunk, masks) in pages {
            self.send(peer, Frame::Marks { first_chunk, masks }, None);
        }
        self.send(peer, Frame::MarksEnd, None);
    }

    pub(crate) fn marks_heard(&mut self, peer: Slot, first_chunk: u32, masks: &[u32]) {
        if !self.is_marking(peer) {
            return self.disconnect(peer, "it sent marks that nobody wants", true);
        }
        if let Some(session) = self.peer_mut(peer).session.as_mut() {
            session.peer_marks = true;
        }
        for (chunk, mask) in (first_chunk..).zip(masks) {
            if *mask != 0 {
                self.peer_mut(peer).suspected.insert(chunk);
                self.marks_mut(peer).set_mask(chunk, *mask);
            }
        }
    }

    pub(crate) fn marks_ended(&mut self, peer: Slot) {
        if !self.is_marking(peer) {
            return self.disconnect(peer, "it sent marks that nobody wants", true);
        }
        self.session_up(peer);
    }

    fn is_marking(&self, peer: Slot) -> bool {
        let session = self.peer(peer).session.as_ref();
        session.is_some_and(|session| session.stage == Stage::Marking)
    }

    /// Work may go on with the peer.
    fn session_up(&mut self, peer: Slot) {
        let (me, primary, now) = (self.slot, self.configuration.primary, self.now);
        let state = self.peer_mut(peer);
        let Some(session) = state.session.as_mut() else {
            return;
        };
        session.stage = Stage::Up;
        session.up_since = Some(now);
        session.sent = None;
        let incarnation = session.heard.as_ref().map_or(0, |heard| heard.incarnation);
        state.known_incarnation = incarnation;
        state.resumable = primary.is_some_and(|primary| primary == me || primary == peer);
        state.lost_at = None;
        self.unmet = self.unmet.without(peer);
        if primary == Some(peer) {
            self.leases.hold_until = 0;
        }
        if self.has_arbiter() {
            // What has not been proposed is off, now that it answers; and its lease is asked for.
            if !self.slow.contains(peer) {
                self.doomed = self.doomed.without(peer);
            }
            self.ping(peer);
        }
        if self.is_primary() && self.configuration.in_sync.contains(peer) {
            self.resend_writes(peer);
            self.send_flush(peer);
        }
        if matches!(self.role, Role::Waiting) {
            self.confirmed_by(peer);
        }
        self.start_walk(peer);
        self.hand_over_if_useless();
        self.unblock();
        self.release_held(peer);
    }

    /// Whether the peer knows our configuration, and of nothing later.
    pub(crate) fn agrees(&self, peer: Slot) -> bool {
        let session = self.peer(peer).up();
        session.is_some_and(|session| session.agreed == Some(self.configuration))
    }

    /// Members confirm that the recorded primary may serve, unless it or they may have lost writes: then all is
    /// made equal first. With an arbiter one will do: whoever else has taken over gives no lease. Without,
    /// every other member has to, since any of them may know of a promotion.
    fn confirmed_by(&mut self, peer: Slot) {
        let others = self.other_members();
        let asked = match self.has_arbiter() {
            true => others.intersection(NodeSet::only(peer)),
            false => others,
        };
        let all = asked.iter().all(|member| self.is_confirmed_by(member));
        if asked.is_empty() || !all || !self.is_member() {
            return;
        }
        // A disk that is not used any more can have lost nothing that matters.
        if self.superblock.suspect && self.disk_usable() {
            if !self.is_best() {
                return;
            }
            self.tell_what_is_given_up();
            self.clear_suspicion();
        }
        self.resume();
    }

    /// Whether the member knows of nothing later. One that cannot do a member's part still knows the configuration.
    fn is_confirmed_by(&self, member: Slot) -> bool {
        let Some(session) = self.peer(member).up() else {
            return false;
        };
        let suspect = session.heard.as_ref().is_none_or(|heard| heard.suspect);
        match session.relation {
            Relation::Mirror => true,
            Relation::Driver(Goal::Equalise { .. }) => !suspect,
            // Who was given up has been so with all that it may know of later.
            Relation::Idle => self.agrees(member) || self.has_given_up(member),
            _ => false,
        }
    }

    /// Whether an operator has given the connected peer's side up: it serves nobody and decides nothing.
    pub(crate) fn has_given_up(&self, peer: Slot) -> bool {
        let state = self.peers[peer.index()].as_ref();
        let heard = state.and_then(|state| state.up()?.heard.as_ref());
        heard.is_some_and(|heard| heard.discarded) && !self.superblock.discarded
    }

    /// Whether every other member is connected and none can make this one good: each may have lost writes as
    /// well, or has no copy. One whose disk has failed may have all of it: an operator gives that up, or time does.
    pub(crate) fn is_best(&self) -> bool {
        self.other_members().iter().all(|member| {
            let idle = self
                .peer(member)
                .up()
                .filter(|session| session.relation == Relation::Idle);
            let useless = idle
                .and_then(|session| session.heard.as_ref())
                .is_some_and(|heard| {
                    matches!(
                        heard.disk_state,
                        DiskState::Diskless | DiskState::Inconsistent
                    )
                });
            useless || self.has_no_more(member)
        })
    }

    /// Whether the connected member may have lost writes as well, or its side was given up.
    pub(crate) fn has_no_more(&self, member: Slot) -> bool {
        self.has_given_up(member) || self.heard_suspect(member)
    }
}

/// Whether the verdict is that the other side brings this one up to date.
fn is_target(verdict: Option<Verdict>) -> bool {
    matches!(
        verdict,
        Some(Verdict::Resync {
            source: Side::Remote,
            ..
        })
    )
}
