//! Changes with an arbiter: proposals, what the register says, and when it is asked.
//!
//! A proposal is durable before it is sent, and open from then on until the register's epoch moves (R5a), also over
//! restarts; a read of the old epoch settles nothing, since the request may still be on its way. So that nothing
//! is left open for long the register is read first, and nothing is proposed while it does not answer:
//! what is not proposed can still be undone by a link that comes back.

use crate::arbiter::{Question, Register};
use crate::change::{Cause, Change, Then};
use crate::command::Refusal;
use crate::event::{Effect, Nanos};
use crate::limits::ARBITER_RETRY_NANOS;
use crate::lineage::Advance;
use crate::node::Node;
use crate::notice::Notice;
use crate::quorum::Arbitration;
use crate::role::{Promotion, PromotionStep, Role, is_superseded};
use crate::settings::Failover;
use crate::status::ArbiterStanding;
use format::types::{Configuration, DiskState, NodeSet, Slot};

impl Node {
    /// Whether an arbiter decides on changes.
    pub(crate) fn has_arbiter(&self) -> bool {
        self.settings.failover.lease().is_some()
    }

    /// Whether changes may be proposed now: nobody is asked in manual mode, and an arbiter has answered
    /// a moment ago.
    pub(crate) fn arbiter_answers(&self) -> bool {
        let Some(lease) = self.settings.failover.lease() else {
            return true;
        };
        let recently = |at: Nanos| self.now < at + lease.lease();
        let agrees = self.arbitration.standing == ArbiterStanding::Agrees;
        agrees && self.arbitration.answered_at.is_some_and(recently)
    }

    /// Somebody waits for the arbiter's word.
    pub(crate) fn consult(&mut self) {
        self.arbitration.consult = true;
    }

    /// Asks what is to be asked.
    pub(crate) fn ask_arbiter(&mut self) {
        if let Some((due, question)) = self.question()
            && self.now >= due
        {
            self.arbitration.asked = true;
            self.arbitration.consult = false;
            self.out.push(Effect::AskArbiter(question));
        }
    }

    /// What is to be asked next, and when.
    fn question(&self) -> Option<(Nanos, Question)> {
        let silent = matches!(self.role, Role::Opening | Role::Stopped);
        if silent || self.arbitration.asked || !self.has_arbiter() {
            return None;
        }
        let Arbitration {
            not_before,
            look_at,
            consult,
            ..
        } = self.arbitration;
        if let Change::Proposing { next, .. } = self.change {
            return Some((not_before, Question::Propose(next)));
        }
        if self.may_seed() {
            return Some((not_before, Question::Seed(self.configuration)));
        }
        match (consult, self.wants_to_look()) {
            (true, _) => Some((not_before, Question::Read)),
            (false, true) => Some((not_before.max(look_at), Question::Read)),
            (false, false) => None,
        }
    }

    /// Whether the register is to be looked at without anybody waiting for it.
    fn wants_to_look(&self) -> bool {
        let alone = self.configuration.in_sync == NodeSet::only(self.slot);
        match &self.role {
            Role::Waiting => true,
            // Whoever has been promoted by force, or in the place of one that is mute, would say so to nobody else.
            Role::Primary => {
                let agrees = self.arbitration.standing == ArbiterStanding::Agrees;
                alone || !agrees || self.is_mute()
            }
            Role::Secondary => self.wants_failover(),
            _ => false,
        }
    }

    /// An empty register is no permission: it is filled when all replicas are of one mind.
    fn may_seed(&self) -> bool {
        let agreed = |peer: Slot| {
            let heard = self
                .peer(peer)
                .up()
                .and_then(|session| session.heard.as_ref());
            self.agrees(peer) && heard.is_some_and(|heard| heard.arbitrated)
        };
        self.arbitration.standing == ArbiterStanding::Empty
            && matches!(self.role, Role::Primary)
            && matches!(self.change, Change::None)
            && self.others.iter().all(agreed)
    }

    /// The answer to the question under way.
    pub(crate) fn arbiter_answered(&mut self, register: Register) {
        self.arbitration.asked = false;
        self.arbitration.not_before = self.now + ARBITER_RETRY_NANOS;
        match register {
            Register::Holds(held) if self.knows_all_of(held) => self.register_heard(held),
            Register::Holds(_) => self.arbiter_is(ArbiterStanding::Foreign),
            Register::Empty => self.arbiter_is(ArbiterStanding::Empty),
            Register::Unreachable => self.arbiter_is(ArbiterStanding::Unreachable),
        }
        if self.arbitration.standing != ArbiterStanding::Agrees {
            self.arbiter_fails();
        }
    }

    fn arbiter_is(&mut self, standing: ArbiterStanding) {
        if std::mem::replace(&mut self.arbitration.standing, standing) != standing {
            self.notice(Notice::Arbiter(standing));
        }
    }

    fn register_heard(&mut self, held: Configuration) {
        let ours = self.superblock.configuration;
        match self.change {
            Change::Proposing { next, cause } if held == next => {
                self.arbiter_agrees();
                return self.accepted(next, cause);
            }
            // Nothing has been decided; a register that has gone back in time decides nothing either.
            Change::Noting { next, .. } | Change::Proposing { next, .. }
                if held.epoch < next.epoch =>
            {
                return match held.epoch + 1 == next.epoch {
                    true => self.arbiter_is(ArbiterStanding::Agrees),
                    false => self.arbiter_is(ArbiterStanding::Behind),
                };
            }
            Change::Noting { cause, .. } | Change::Proposing { cause, .. } => self.outvoted(cause),
            _ => {}
        }
        if held == ours {
            self.arbiter_agrees();
            self.confirmed_by_register();
        } else if held.epoch > ours.epoch {
            self.arbiter_agrees();
            self.learn_from_register(held);
        } else {
            self.arbiter_is(ArbiterStanding::Behind);
        }
    }

    fn arbiter_agrees(&mut self) {
        self.arbiter_is(ArbiterStanding::Agrees);
        let lease = self
            .settings
            .failover
            .lease()
            .map_or(0, |lease| lease.lease());
        self.arbitration.answered_at = Some(self.now);
        self.arbitration.not_before = self.now;
        self.arbitration.look_at = self.now + lease;
    }

    /// The arbiter does not answer, or not with what could be built on: what has not been proposed is off.
    fn arbiter_fails(&mut self) {
        let reason = self.arbitration.standing.complaint();
        if let Some((to, answer)) = self.arbitration.handover.take() {
            self.refuse_handover(to, answer, reason);
        }
        if let Role::Promoting(Promotion {
            step: PromotionStep::Consulting,
            ..
        }) = self.role
        {
            self.promotion_failed(reason);
        }
        let alone = self.configuration.in_sync == NodeSet::only(self.slot);
        if alone && matches!(self.role, Role::Waiting) && self.change.open().is_none() {
            // It would have been nice to hear whether somebody was promoted by force.
            self.resume();
        }
    }

    /// The register holds our proposal: it is committed, and binds us once it is durable here.
    fn accepted(&mut self, next: Configuration, cause: Cause) {
        self.superblock.proposal = None;
        self.commit_durably(next, cause);
    }

    /// Another has been quicker.
    fn outvoted(&mut self, cause: Cause) {
        self.superblock.proposal = None;
        self.change = Change::None;
        if cause == Cause::Promote {
            self.promotion_failed("another configuration was committed meanwhile");
        }
        self.persist(Then::Nothing);
    }

    /// Nobody has changed the configuration that we hold to be the latest.
    fn confirmed_by_register(&mut self) {
        if let Some((to, answer)) = self.arbitration.handover.take() {
            let there =
                to.is_none_or(|to| self.is_up(to) && self.configuration.in_sync.contains(to));
            match self.role {
                Role::Primary if there => self.begin_handover(to, answer),
                _ => self.refuse_handover(to, answer, "the situation has changed; try again"),
            }
        }
        if !matches!(self.role, Role::Waiting) || self.change.open().is_some() {
            return;
        }
        if self.superblock.suspect && self.disk_usable() {
            if !self.may_serve_suspect() {
                return;
            }
            self.tell_what_is_given_up();
            self.clear_suspicion();
        }
        self.resume();
    }

    /// Whether a suspect replica serves what it has: nobody has more, or nobody who has has come for long.
    pub(crate) fn may_serve_suspect(&self) -> bool {
        let mut present = self.up_among(self.other_members()).iter();
        let nobody = present.all(|member| {
            let failed = self.peer(member).disk_state == Some(DiskState::Failed);
            failed || self.has_no_more(member)
        });
        let waited = self.settings.suspect_promotes_after;
        let waited = waited.is_some_and(|wait| self.now >= self.opened_at + wait);
        self.is_best() || nobody && waited
    }

    /// A suspect replica is about to serve: unless all others have lost their power as well, or were given up, one of
    /// them may have had what this one has not.
    pub(crate) fn tell_what_is_given_up(&mut self) {
        let mut others = self.other_members().iter();
        if self.superblock.suspect && !others.all(|member| self.has_no_more(member)) {
            self.notice(Notice::ServesFlushed);
        }
    }

    /// The register holds a later configuration: it is so, whoever has told nobody of it.
    fn learn_from_register(&mut self, held: Configuration) {
        let before = self.superblock.configuration;
        let listed = held.in_sync.contains(self.slot);
        let promised = self.superblock.pending_admission;
        let admitted =
            promised.is_some_and(|(epoch, _)| epoch > before.epoch && epoch <= held.epoch);
        let stays = before.in_sync.contains(self.slot);
        if listed && !stays && !admitted {
            // A member without knowing: only a peer can tell what our data is.
            return;
        }
        if listed && held.generation != self.superblock.data_generation {
            self.superblock.advance(held.generation);
        }
        if listed && !stays {
            self.superblock.disk_state = DiskState::UpToDate;
            self.superblock.suspect = false;
            self.superblock.crashed_primary = false;
        }
        if listed {
            self.superblock.pending_admission = None;
        } else if self.superblock.disk_state == DiskState::UpToDate {
            self.superblock.disk_state = DiskState::Outdated;
        }
        self.superblock.configuration = held;
        if is_superseded(&self.role, self.slot, &held) {
            self.supersede("the arbiter holds a later configuration");
        }
        self.bind(held);
        self.persist(Then::Nothing);
        if held.primary == Some(self.slot) && matches!(self.role, Role::Secondary) {
            self.role = Role::Waiting;
        }
        self.disconnect_all("the arbiter holds a later configuration", true);
        self.unblock();
    }

    /// Whether this member is to take over, for all that it knows.
    pub(crate) fn wants_failover(&self) -> bool {
        matches!(self.settings.failover, Failover::Automatic(_))
            && matches!(self.role, Role::Secondary)
            && matches!(self.change, Change::None)
            && self
                .configuration
                .primary
                .is_some_and(|primary| primary != self.slot)
            && self.may_stand()
            && self.now >= self.failover_at()
    }

    /// When a member takes over by itself. An operator need not wait for a primary that has said that it stops.
    fn failover_at(&self) -> Nanos {
        self.grace_until().max(self.leases.hold_until)
    }

    /// Whether this replica's copy is one to serve.
    fn may_stand(&self) -> bool {
        self.is_member()
            && self.superblock.disk_state == DiskState::UpToDate
            && !self.superblock.discarded
            && (!self.superblock.suspect || self.may_serve_suspect())
    }

    /// Takes over, if the arbiter has just said that nobody else has.
    pub(crate) fn start_failover(&mut self) {
        if self.wants_failover() && self.arbiter_answers() {
            self.notice(Notice::FailoverStarted {
                quiet: self.now - self.leases.quiet_since,
            });
            let reached = self.up_among(self.other_members());
            self.tell_what_is_given_up();
            self.disconnect_all("this node takes over", true);
            self.begin_promotion(Some(reached), false, None);
        }
    }

    /// When the arbiter is to be asked, or a member may take over.
    pub(crate) fn arbitration_deadline(&self) -> Option<Nanos> {
        if !self.has_arbiter() || matches!(self.role, Role::Stopped) {
            return None;
        }
        let asks = self.question().map(|(due, _)| due);
        let automatic = matches!(self.settings.failover, Failover::Automatic(_));
        let grace = match &self.role {
            Role::Secondary if automatic => Some(self.failover_at()),
            Role::Promoting(promotion) if promotion.step == PromotionStep::Consulting => {
                Some(self.grace_until())
            }
            _ => None,
        };
        let grace = grace.filter(|until| self.now < *until);
        let suspect = self
            .settings
            .suspect_promotes_after
            .map(|wait| self.opened_at + wait);
        let suspect = suspect.filter(|at| self.superblock.suspect && self.now < *at);
        asks.into_iter().chain(grace).chain(suspect).min()
    }

    /// A handover is asked for. Clients' requests are not held up before the arbiter is known to be there.
    pub(crate) fn wish_handover(&mut self, to: Option<Slot>, answer: Option<u64>) {
        if self.arbiter_answers() {
            self.begin_handover(to, answer);
        } else if self.arbitration.handover.is_some() {
            self.refuse_handover(to, answer, "the volume is about to be handed over already");
        } else {
            self.arbitration.handover = Some((to, answer));
            self.consult();
        }
    }

    /// A promotion goes on once the arbiter is known to be there, and no lease of ours can be in force.
    pub(crate) fn promotion_consults(&mut self) {
        if !self.arbiter_answers() {
            self.consult();
        } else if self.configuration.primary.is_none() || self.now >= self.grace_until() {
            self.set_promotion_step(PromotionStep::Draining);
            self.again = true;
        }
    }

    /// An arbiter decides from now on.
    pub(crate) fn arbitrate(&mut self, id: u64, failover: Failover) {
        if failover.lease().is_none() && self.superblock.arbitrated {
            let text = "an arbiter decides on this volume; it cannot be taken away while the volume is open";
            return self.refuse_command(id, text);
        }
        self.settings.failover = failover;
        self.leases.quiet_since = self.now;
        self.superblock.arbitrated = failover.lease().is_some();
        self.disconnect_all("the arbiter was set", true);
        self.persist(Then::Answer { answer: id });
    }

    pub(crate) fn refuse_handover(&mut self, to: Option<Slot>, answer: Option<u64>, reason: &str) {
        if let Some(id) = answer {
            self.answer(id, Err(Refusal::NotNow(reason.into())));
        } else if let Some(peer) = to {
            let reason = reason.into();
            self.send(peer, format::frame::Frame::HandoverRefused { reason }, None);
        }
    }
}
