//! Promotions and handovers: how a node comes to serve and ceases to. The states are in
//! [`role`](crate::role); its end is in `stop`.

use crate::change::{Cause, Change, Then};
use crate::command::{Answer, Refusal};
use crate::event::{DiskError, Effect, Nanos, RequestError};
use crate::node::Node;
use crate::notice::Notice;
use crate::operation::IoTarget;
use crate::peer::Relation;
use crate::role::{Handover, Promotion, PromotionStep, Role, Swapping};
use format::frame::Frame;
use format::types::{Configuration, DiskState, NodeSet, Slot};

impl Node {
    /// The opening is durable.
    pub(crate) fn opened(&mut self) {
        if matches!(self.role, Role::Stopping(_) | Role::Stopped) {
            // It was told to stop before it was open.
            return;
        }
        self.role = Role::Secondary;
        let undecided = self.superblock.proposal;
        if let Some(next) = undecided.filter(|_| self.has_arbiter()) {
            // Only the register will do: it may hold this or not.
            let cause = Cause::Reopened;
            self.change = Change::Proposing { next, cause };
        }
        if undecided.is_some() || self.superblock.arbitrated && !self.has_arbiter() {
            return;
        }
        let alone = self.configuration.in_sync == NodeSet::only(self.slot);
        if alone && std::mem::take(&mut self.superblock.suspect) {
            // Nobody has more than we have: what was flushed is served, as by a local disk.
            self.persist(Then::Nothing);
            self.notice(Notice::Suspect(false));
        }
        if self.configuration.primary != Some(self.slot) || self.superblock.discarded {
            return;
        }
        if alone && !self.has_arbiter() {
            return self.resume();
        }
        self.role = Role::Waiting;
        if let Some(peer) = self.other_members().first() {
            self.notice(Notice::Waiting { peer });
        }
    }

    /// The recorded primary goes on serving.
    pub(crate) fn resume(&mut self) {
        // One that is about to hand over, and cannot know whether it has, serves nobody meanwhile.
        if self.change.open().is_none() {
            self.begin_promotion(None, false, None);
        }
    }

    /// Another has handed the volume over to us.
    pub(crate) fn take_over(&mut self) {
        self.disconnect_all("roles have changed", true);
        let answer = self.swapping.take().map(|swapping| swapping.answer);
        if matches!(self.role, Role::Stopping(_) | Role::Stopped) {
            // It is the recorded primary when it starts again.
            if let Some(id) = answer {
                self.refuse_command(id, "the replica is stopping");
            }
            return;
        }
        if self.is_member() && self.superblock.disk_state == DiskState::Inconsistent {
            // It has been given up since: what it holds is nothing to serve.
            self.fail_disk();
        }
        if self.superblock.suspect && !self.other_members().is_empty() {
            // Members are made equal before anything is acknowledged.
            self.role = Role::Waiting;
            if let Some(id) = answer {
                self.answer(id, Ok(Answer::Done));
            }
            return;
        }
        self.begin_promotion(None, false, answer);
    }

    /// A proposal from before a restart is committed.
    pub(crate) fn reopened_committed(&mut self) {
        if matches!(self.role, Role::Secondary) && self.configuration.primary == Some(self.slot) {
            self.role = Role::Waiting;
            self.arbitration.look_at = self.now;
        }
    }

    pub(crate) fn begin_promotion(
        &mut self,
        commits: Option<NodeSet>,
        forced: bool,
        answer: Option<u64>,
    ) {
        let step = match commits {
            Some(_) if self.has_arbiter() => PromotionStep::Consulting,
            _ => PromotionStep::Draining,
        };
        self.role = Role::Promoting(Promotion {
            step,
            commits,
            forced,
            answer,
        });
    }

    pub(crate) fn promote(&mut self, id: u64, force: bool) {
        match self.promotion_members(force) {
            Ok(Some(members)) => {
                if !force {
                    self.tell_what_is_given_up();
                }
                self.disconnect_all("roles have changed", true);
                self.begin_promotion(Some(members), force, Some(id));
            }
            Ok(None) => {
                let Configuration {
                    primary, in_sync, ..
                } = self.configuration;
                let decides = primary.or(in_sync.first());
                if let Some(peer) = decides.filter(|slot| *slot != self.slot) {
                    self.ask_for_handover(peer, id);
                } else {
                    self.answer(id, Ok(Answer::Done));
                }
            }
            Err(refusal) => self.answer(id, Err(refusal)),
        }
    }

    /// Who is in the in-sync set beside us after a promotion; `None` if we serve already, or if the member
    /// that coordinates has to be asked.
    fn promotion_members(&self, force: bool) -> Result<Option<NodeSet>, Refusal> {
        let protects = |text: String| Err(Refusal::ProtectsData(text));
        let split = self.peers.iter().flatten().find(|peer| peer.split_brain);
        match self.role {
            Role::Primary if split.is_some() && !force => {
                return protects("there is a split brain: resolve it first".into());
            }
            Role::Primary => return Ok(None),
            Role::Secondary | Role::Waiting => {}
            _ => return Err(Refusal::NotNow("the replica is busy; try again".into())),
        }
        if self.change.open().is_some() {
            return Err(Refusal::NotNow(
                "the configuration is changing; try again".into(),
            ));
        }
        if !self.disk_usable() {
            return Err(Refusal::NotNow(
                "the replica's disk has failed: resync it first".into(),
            ));
        }
        let serves =
            |peer: &Slot| *peer != self.slot && self.is_up(*peer) && !self.has_given_up(*peer);
        if let Some(peer) = self.configuration.primary.filter(serves) {
            let name = self.name_of(peer);
            return protects(format!("{name} is the primary and connected: use swap"));
        }
        let others = self.other_members();
        let reached = self.up_among(others);
        if force {
            return Ok(Some(if self.is_member() {
                reached
            } else {
                NodeSet::EMPTY
            }));
        }
        if !self.is_member() || self.superblock.disk_state != DiskState::UpToDate {
            return protects(
                "this replica is not in sync: promoting it (--force) would lose writes".into(),
            );
        }
        if self.superblock.suspect && !self.is_best() {
            return protects("it may have lost writes in a power cut (--force overrides)".into());
        }
        if self.has_arbiter() {
            self.may_ask_arbiter()?;
        } else if let Some(away) = others.difference(reached).first() {
            let name = self.name_of(away);
            return protects(format!(
                "{name} cannot be reached and may be serving: make sure that it is not, then --force"
            ));
        }
        let mut members = self.configuration.in_sync.iter();
        let here = reached.with(self.slot);
        let coordinator =
            members.find(|member| here.contains(*member) && !self.has_given_up(*member));
        Ok((coordinator == Some(self.slot)).then_some(reached))
    }

    /// Whether the primary has been silent for long enough that the arbiter may be asked to replace it.
    fn may_ask_arbiter(&self) -> Result<(), Refusal> {
        let primary = self
            .configuration
            .primary
            .filter(|primary| *primary != self.slot);
        match primary {
            Some(primary) if self.now < self.grace_until() => {
                let name = self.name_of(primary);
                let wait = (self.grace_until() - self.now).div_ceil(1_000_000);
                Err(Refusal::NotNow(format!(
                    "{name} has answered a moment ago and may be serving: try again in {wait} ms"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The steps of promotions, handovers and stops that wait for something else to end.
    pub(crate) fn lifecycle_advance(&mut self) {
        self.swapping_advance();
        match &self.role {
            Role::Promoting(promotion) if promotion.step == PromotionStep::Consulting => {
                self.promotion_consults();
            }
            Role::Promoting(promotion)
                if promotion.step == PromotionStep::Draining
                    && self.nothing_applying()
                    && self.persistence.is_idle() =>
            {
                self.set_promotion_step(PromotionStep::Flushing);
                match self.disk_usable() {
                    true => self.flush_as(IoTarget::Promotion),
                    false => self.promotion_flushed(Ok(())),
                }
            }
            Role::HandingOver(_) => self.handover_advance(),
            Role::Stopping(_) => self.stop_advance(),
            _ => {}
        }
    }

    pub(crate) fn set_promotion_step(&mut self, step: PromotionStep) {
        if let Role::Promoting(promotion) = &mut self.role {
            promotion.step = step;
        }
    }

    pub(crate) fn flush_as(&mut self, target: IoTarget) {
        self.out.push(Effect::FlushLocal { io: target.id() });
    }

    /// Our own disk is flushed before a promoted node's first I/O; the promotion may be off by now.
    pub(crate) fn promotion_flushed(&mut self, result: Result<(), DiskError>) {
        if result.is_err() {
            self.fail_disk();
        }
        let Role::Promoting(promotion) = &self.role else {
            return;
        };
        match (result, promotion.commits) {
            (Err(_), _) => self.promotion_failed("the replica's disk has failed"),
            (Ok(()), None) => self.serve(),
            (Ok(()), Some(members)) => self.commit_promotion(members, promotion.forced),
        }
    }

    pub(crate) fn promotion_failed(&mut self, reason: &str) {
        let Role::Promoting(promotion) = &self.role else {
            return;
        };
        let answer = promotion.answer;
        self.role = match self.configuration.primary == Some(self.slot) {
            true => Role::Waiting,
            false => Role::Secondary,
        };
        if let Some(id) = answer {
            self.answer(id, Err(Refusal::NotNow(reason.into())));
        }
    }

    fn commit_promotion(&mut self, members: NodeSet, forced: bool) {
        self.set_promotion_step(PromotionStep::Committing);
        let next = Configuration {
            epoch: self.configuration.epoch + 1,
            generation: self.random.generation(),
            primary: Some(self.slot),
            in_sync: members.with(self.slot),
        };
        self.superblock.forced |= forced;
        if !self.has_arbiter() {
            // By force: unforced it would not have come so far.
            self.superblock.arbitrated = false;
            self.superblock.proposal = None;
        }
        self.commit(next, Cause::Promote);
    }

    pub(crate) fn promotion_committed(&mut self) {
        // It may have been told to stop meanwhile.
        if matches!(self.role, Role::Promoting(_)) {
            self.serve();
        }
    }

    fn serve(&mut self) {
        let Role::Promoting(promotion) = std::mem::replace(&mut self.role, Role::Primary) else {
            unreachable!("a promotion ends once")
        };
        // Their marks come with their sessions; until then nobody knows which blocks are equal.
        let members = self.other_members();
        self.unmet = members.difference(self.up_among(members));
        let now = self.now;
        for peer in self
            .peers
            .iter_mut()
            .flatten()
            .filter(|peer| peer.session.is_none())
        {
            peer.lost_at = Some(now);
        }
        self.log.begin_reign();
        self.notice(Notice::Promoted {
            forced: promotion.forced,
        });
        if let Some(id) = promotion.answer {
            self.answer(id, Ok(Answer::Done));
        }
        self.drop_useless_members();
        self.renew_sessions();
    }

    /// Members that cannot do their part, or may have lost what they had, leave the set; they come back by
    /// resync.
    fn drop_useless_members(&mut self) {
        for peer in self.up_among(self.other_members()).iter() {
            let relation = self.peer(peer).up().map(|session| session.relation);
            let equal = matches!(relation, Some(Relation::Mirror));
            let useless = matches!(relation, Some(Relation::Idle)) || self.heard_suspect(peer);
            if useless && !equal && self.is_member() && self.disk_usable() {
                self.disconnect(peer, "as a member it is of no use now", true);
                self.drop_member(peer);
            }
        }
    }

    /// A later configuration has another primary, or none: this node serves no more (R4).
    pub(crate) fn supersede(&mut self, reason: &'static str) {
        if let Role::Promoting(_) = self.role {
            self.promotion_failed(reason);
        }
        self.stop_serving(reason, RequestError::NotPrimary);
        for peer in self
            .others
            .iter()
            .filter(|peer| self.is_up(*peer))
            .collect::<Vec<_>>()
        {
            self.disconnect(peer, "roles have changed", true);
        }
    }

    pub(crate) fn stop_serving(&mut self, reason: &'static str, error: RequestError) {
        if let Role::HandingOver(Handover {
            answer: Some(id), ..
        }) = self.role
        {
            self.answer(id, Err(Refusal::NotNow(reason.into())));
        }
        self.role = Role::Secondary;
        self.doomed = NodeSet::EMPTY;
        self.slow = NodeSet::EMPTY;
        self.unmet = NodeSet::EMPTY;
        self.abandon_requests(error);
        self.barrier.active = None;
        self.out.push(Effect::DropClients);
        self.notice(Notice::Demoted { reason });
    }

    /// A recorded primary that cannot keep a copy itself hands over to a member as soon as it can.
    pub(crate) fn hand_over_if_useless(&mut self) {
        let useless = !self.is_member() || !self.disk_usable();
        if !useless || self.configuration.primary != Some(self.slot) {
            return;
        }
        let Some(member) = self.successor() else {
            return;
        };
        match self.role {
            Role::Primary if !self.is_member() => self.begin_handover(Some(member), None),
            // Only who knows of nothing later may say who serves next.
            Role::Waiting
                if matches!(self.change, Change::None)
                    && self.agrees(member)
                    && self.arbiter_answers() =>
            {
                self.give_up_waiting(member);
            }
            _ => {}
        }
    }

    /// The member to hand over to: one with a good copy, and if there is one, that has lost no power since.
    fn successor(&self) -> Option<Slot> {
        let good = |peer: &Slot| self.peer(*peer).disk_state == Some(DiskState::UpToDate);
        let up = self.up_among(self.other_members());
        let sure = up
            .iter()
            .find(|peer| good(peer) && !self.heard_suspect(*peer));
        sure.or_else(|| up.iter().find(good))
    }

    /// A failed disk leaves the set and hands over in one: nothing is in hand that would have to be finished.
    fn give_up_waiting(&mut self, member: Slot) {
        let current = self.configuration;
        let generation = match self.is_member() {
            true => self.random.generation(),
            false => current.generation,
        };
        let next = Configuration {
            epoch: current.epoch + 1,
            generation,
            primary: Some(member),
            in_sync: current.in_sync.without(self.slot),
        };
        self.commit(next, Cause::HandOver);
    }

    /// A member asks to be the primary in our place.
    pub(crate) fn handover_asked(&mut self, peer: Slot) {
        let good = self.peer(peer).disk_state == Some(DiskState::UpToDate);
        let member = self.configuration.in_sync.contains(peer) && self.is_up(peer) && good;
        let idle = matches!(self.change, Change::None) && self.joining.is_empty();
        let coordinates = match self.configuration.primary {
            Some(primary) => primary == self.slot,
            None => self.configuration.in_sync.first() == Some(self.slot),
        };
        let reason = match &self.role {
            _ if !member => "it is not an up-to-date member of the in-sync set",
            _ if !coordinates => "this node does not decide who serves",
            _ if !idle => "the configuration is changing; try again",
            Role::Primary => return self.wish_handover(Some(peer), None),
            Role::Secondary | Role::Waiting => return self.commit_handover(Some(peer)),
            _ => "this node is busy; try again",
        };
        self.send(
            peer,
            Frame::HandoverRefused {
                reason: reason.into(),
            },
            None,
        );
    }

    pub(crate) fn begin_handover(&mut self, to: Option<Slot>, answer: Option<u64>) {
        let handover = Handover {
            to,
            answer,
            flushing: false,
            committing: false,
        };
        self.role = Role::HandingOver(handover);
    }

    fn handover_advance(&mut self) {
        let stuck = !self.doomed.is_empty() || !self.blocked.is_empty();
        if !self.is_member() && stuck {
            // A member has gone that only the next primary can drop, or members are unequal that only the next
            // can make equal: what waits for that is given up, to be asked for again there.
            self.abandon_requests(RequestError::NotPrimary);
            self.barrier.active = None;
            self.barrier.wanted = false;
            if let Role::HandingOver(handover) = &mut self.role {
                handover.flushing = true;
            }
        }
        let busy = self.requests_in_hand() > 0
            || !matches!(self.change, Change::None)
            || !self.barrier.is_idle();
        let Role::HandingOver(handover) = &mut self.role else {
            return;
        };
        if busy || handover.committing {
            return;
        }
        if !handover.flushing {
            handover.flushing = true;
            self.barrier.wanted = true;
            return;
        }
        let to = handover.to;
        handover.committing = true;
        self.commit_handover(to);
    }

    fn commit_handover(&mut self, to: Option<Slot>) {
        let current = self.configuration;
        let next = Configuration {
            epoch: current.epoch + 1,
            primary: to,
            ..current
        };
        self.commit(next, Cause::HandOver);
    }

    pub(crate) fn handed_over(&mut self) {
        if let Role::HandingOver(handover) = &mut self.role {
            let answer = handover.answer.take();
            self.stop_serving("handed over", RequestError::NotPrimary);
            if let Some(id) = answer {
                self.answer(id, Ok(Answer::Done));
            }
        } else {
            self.role = Role::Secondary;
        }
        if self.configuration.primary == Some(self.slot) {
            return self.take_over();
        }
        self.disconnect_all("roles have changed", true);
    }

    /// Has the replica that decides hand the volume over to us.
    pub(crate) fn ask_for_handover(&mut self, asked: Slot, answer: u64) {
        if self.swapping.is_some() {
            return self.refuse_command(answer, "a handover has been asked for; try again");
        }
        self.swapping = Some(Swapping {
            answer,
            asked,
            lost_at: None,
        });
        self.send(asked, Frame::HandoverRequest, None);
    }

    /// Answers for a handover whose link has ended: it may have been committed all the same.
    fn swapping_advance(&mut self) {
        let serves = matches!(self.role, Role::Primary);
        let late = self
            .swapping_deadline()
            .is_some_and(|late| self.now >= late);
        let Some(swapping) = self.swapping.take_if(|_| serves || late) else {
            return;
        };
        let text = "the link broke meanwhile; look at the status and try again";
        let result = match serves {
            true => Ok(Answer::Done),
            false => Err(Refusal::NotNow(text.into())),
        };
        self.answer(swapping.answer, result);
    }

    /// Until when the outcome of a handover whose link has ended is waited for.
    pub(crate) fn swapping_deadline(&self) -> Option<Nanos> {
        let lost_at = self.swapping.and_then(|swapping| swapping.lost_at);
        lost_at.map(|lost_at| lost_at + self.settings.peer_timeout)
    }

    /// The replica that was to take over, or that was to decide, has gone.
    pub(crate) fn handover_peer_lost(&mut self, peer: Slot) {
        let now = self.now;
        if let Some(swapping) = self.swapping.as_mut().filter(|one| one.asked == peer) {
            swapping.lost_at.get_or_insert(now);
        }
        match &self.role {
            Role::HandingOver(handover) if handover.to == Some(peer) && !handover.committing => {
                self.role = Role::Primary;
                for request in std::mem::take(&mut self.postponed) {
                    self.request(request);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn handover_refused(&mut self, peer: Slot, reason: &str) {
        if let Some(swapping) = self.swapping.take() {
            let name = self.name_of(peer);
            self.answer(
                swapping.answer,
                Err(Refusal::NotNow(format!("{name} refuses: {reason}"))),
            );
        }
    }

    pub(crate) fn disconnect_all(&mut self, reason: &str, retry: bool) {
        for peer in self.others.iter() {
            self.disconnect(peer, reason, retry);
        }
    }

    pub(crate) fn answer(&mut self, id: u64, result: Result<Answer, Refusal>) {
        self.out.push(Effect::Answer { id, result });
    }

    pub(crate) fn name_of(&self, slot: Slot) -> String {
        let replica = self.superblock.replicas[slot.index()].as_ref();
        replica.map_or_else(|| slot.to_string(), |replica| replica.name.to_string())
    }
}
