//! Leases, proposals, commits, and how a replica learns of a configuration.

use crate::fault::lose_to_power;
use crate::protocol::Protocol;
use crate::state::{Arbiter, Role, State};
use crate::step::Step;
use crate::types::{Configuration, NodeSet, Slot};

impl Protocol {
    pub(crate) fn change(&self, state: &mut State, step: Step) -> Option<()> {
        match step {
            Step::Ping { primary, member } => self.ping(state, primary, member),
            Step::Bytes { primary, member } => self.bytes(state, primary, member),
            Step::LeaseEnds { primary, member } => {
                let node = state.node_mut(primary);
                node.leased = node.leased.without(member);
                Some(())
            }
            Step::GraceEnds { member } => self.grace_ends(state, member),
            Step::ProposeDrop { primary, dropped } => self.propose_drop(state, primary, dropped),
            Step::ProposePromotion { member, reached } => {
                self.propose_promotion(state, member, reached)
            }
            Step::OperatorPromotes { member, reached } => {
                self.operator_promotes(state, member, reached)
            }
            Step::ProposeAdmission { primary, target } => {
                self.propose_admission(state, primary, target)
            }
            Step::ProposeHandover { primary, to } => self.propose_handover(state, primary, to),
            Step::RegisterTakes { proposer } => {
                let next = state.node(proposer).proposal?;
                register_takes(state, proposer, next)
            }
            Step::LateRequest { proposer } => {
                let next = state.late[proposer.index()].take()?;
                register_takes(state, proposer, next)
            }
            Step::HearOldEpoch { proposer } => self.hear_old_epoch(state, proposer),
            Step::HearRegister { slot } => self.hear_register(state, slot),
            Step::Learn { slot, from } => self.learn(state, slot, from),
            Step::ConfirmedByRegister { primary } => self.confirmed_by_register(state, primary),
            Step::ConfirmedBy { primary, member } => self.confirmed_by(state, primary, member),
            Step::ProposeLeave { primary } => self.propose_leave(state, primary),
            Step::DiskFails { slot } => self.disk_fails(state, slot),
            Step::Crash { slot } => self.crash(state, slot),
            Step::PowerCut { slot, kept } => self.power_cut(state, slot, kept),
            Step::Restart { slot } => self.restart(state, slot),
            _ => None,
        }
    }

    fn with_register(&self) -> bool {
        self.bounds.arbiter == Arbiter::Register
    }

    /// A ping and its answer. An answer that is lost, or late, is one after which the lease ends at once.
    fn ping(&self, state: &mut State, primary: Slot, member: Slot) -> Option<()> {
        let serves = state.node(primary).role == Role::Primary;
        if !self.with_register() || !serves || !self.hears(state, member, primary) {
            return None;
        }
        state.node_mut(member).grace_over = false;
        let node = state.node_mut(primary);
        node.leased = node.leased.with(member);
        Some(())
    }

    /// Without the rule, whatever comes from a member renews the lease.
    fn bytes(&self, state: &mut State, primary: Slot, member: Slot) -> Option<()> {
        let serves = state.node(primary).role == Role::Primary;
        let comes = serves && state.is_up(member) && state.in_session(primary, member);
        if self.rules.answers_renew || !comes {
            return None;
        }
        let node = state.node_mut(primary);
        node.leased = node.leased.with(member);
        Some(())
    }

    /// Grace is longer than the lease and begins no earlier: when it ends, every lease from this member has ended.
    fn grace_ends(&self, state: &mut State, member: Slot) -> Option<()> {
        let mut all = state.nodes.iter();
        let leased = all.any(|node| node.leased.contains(member));
        let waits = state.node(member).role == Role::Secondary;
        if !self.with_register() || !waits || leased && self.rules.lease_from_send {
            return None;
        }
        state.node_mut(member).grace_over = true;
        Some(())
    }

    /// Whether a replica may make a proposal now.
    fn may_propose(&self, state: &State, slot: Slot) -> bool {
        let node = state.node(slot);
        let suspect = node.suspect && self.rules.suspect_proposes_nothing;
        let free = node.proposal.is_none() && node.configuration.epoch < self.bounds.epochs;
        state.is_up(slot) && free && !suspect
    }

    /// A proposal is made durable; with no register that commits it.
    fn propose(&self, state: &mut State, slot: Slot, next: Configuration) -> Option<()> {
        if self.with_register() {
            state.node_mut(slot).proposal = Some(next);
            return Some(());
        }
        if next.epoch == state.register.epoch + 1 {
            state.register = next;
        } else {
            state.forked = true;
        }
        self.adopt(state, slot, next);
        if next.primary == Some(slot) {
            state.node_mut(slot).role = Role::Primary;
        }
        Some(())
    }

    fn propose_drop(&self, state: &mut State, primary: Slot, dropped: NodeSet) -> Option<()> {
        let node = state.node(primary);
        let members = node.configuration.in_sync;
        let silent = dropped.is_within(members.difference(node.leased));
        let staying = members.difference(dropped);
        let others = staying.without(primary);
        let reached = others
            .iter()
            .all(|member| state.in_session(primary, member) && state.agree(primary, member));
        let leads = node.role == Role::Primary && members.contains(primary) && !node.failed;
        let allowed = self.may_propose(state, primary) && leads && !dropped.is_empty();
        if !allowed || !silent || !reached {
            return None;
        }
        self.mark_for(state, staying, dropped);
        let next = state
            .node(primary)
            .configuration
            .minted(primary, Some(primary), staying);
        self.propose(state, primary, next)
    }

    /// A primary whose disk has failed gives up nobody else: it leaves the set, and its role with it.
    fn propose_leave(&self, state: &mut State, primary: Slot) -> Option<()> {
        let node = state.node(primary);
        let members = node.configuration.in_sync;
        let staying = members.without(primary);
        let leads = node.role == Role::Primary && members.contains(primary);
        let empty = staying.is_empty() && self.rules.never_empty;
        if !self.may_propose(state, primary) || !leads || !node.failed || empty {
            return None;
        }
        let next = node.configuration.minted(primary, None, staying);
        self.propose(state, primary, next)
    }

    /// Those that stay mark durably what those that go may lack (R2).
    fn mark_for(&self, state: &mut State, staying: NodeSet, dropped: NodeSet) {
        for slot in staying.iter().filter(|_| self.rules.marks_before_drop) {
            let node = state.node_mut(slot);
            if node.unstable {
                node.marks = node.marks.union(dropped.without(slot));
            }
        }
    }

    /// The members that a promotion takes along are there, of the same mind, and have lost nothing.
    fn promoted(&self, state: &State, member: Slot, reached: NodeSet) -> Option<Configuration> {
        let node = state.node(member);
        let members = node.configuration.in_sync;
        let good = |slot: Slot| state.agree(member, slot) && !state.node(slot).suspect;
        let is_member = members.contains(member) || !self.rules.members_promote;
        let with = reached.is_within(members.without(member)) && reached.iter().all(good);
        if !self.may_propose(state, member) || !is_member || !with || node.failed {
            return None;
        }
        Some(
            node.configuration
                .minted(member, Some(member), reached.with(member)),
        )
    }

    fn propose_promotion(&self, state: &mut State, member: Slot, reached: NodeSet) -> Option<()> {
        let node = state.node(member);
        let primary = node.configuration.primary;
        let due = node.grace_over || primary.is_none();
        if !self.with_register() || node.role != Role::Secondary || !due {
            return None;
        }
        let next = self.promoted(state, member, reached)?;
        self.mark_for(
            state,
            next.in_sync,
            self.replicas().difference(next.in_sync),
        );
        self.propose(state, member, next)
    }

    /// An operator has made sure that the primary is down, and that this is the latest configuration.
    fn operator_promotes(&self, state: &mut State, member: Slot, reached: NodeSet) -> Option<()> {
        let latest = state.node(member).configuration == state.register;
        let down = state
            .register
            .primary
            .is_none_or(|primary| !state.is_up(primary));
        let secondary = state.node(member).role == Role::Secondary;
        if self.with_register() || !latest || !down || !secondary {
            return None;
        }
        let next = self.promoted(state, member, reached)?;
        self.mark_for(
            state,
            next.in_sync,
            self.replicas().difference(next.in_sync),
        );
        self.propose(state, member, next)
    }

    /// The target has kept up, both have flushed, and nothing is under way.
    fn propose_admission(&self, state: &mut State, primary: Slot, target: Slot) -> Option<()> {
        let node = state.node(primary);
        let joined = node.joining.contains(target) && state.in_session(primary, target);
        let rest = node.operation.is_none();
        let serves = state.serves(&self.rules, self.bounds.arbiter, primary);
        if !self.may_propose(state, primary)
            || !joined
            || !rest
            || !serves
            || !state.agree(primary, target)
        {
            return None;
        }
        for slot in [primary, target] {
            if self.rules.admission_flushes {
                let node = state.node_mut(slot);
                node.durable = node.volatile;
            }
        }
        let current = state.node(primary).configuration;
        self.propose(
            state,
            primary,
            current.followed(Some(primary), current.in_sync.with(target)),
        )
    }

    /// Nothing is under way, and every member has flushed. From now on nothing is served here.
    fn propose_handover(&self, state: &mut State, primary: Slot, to: Option<Slot>) -> Option<()> {
        let node = state.node(primary);
        let current = node.configuration;
        let others = current.in_sync.without(primary);
        let rest = node.operation.is_none() && node.joining.is_empty();
        let serves = state.serves(&self.rules, self.bounds.arbiter, primary);
        let reached = others
            .iter()
            .all(|member| self.hears(state, member, primary));
        let member = to.is_none_or(|to| others.contains(to));
        if !self.may_propose(state, primary) || !rest || !serves || !reached || !member {
            return None;
        }
        for slot in current.in_sync.iter() {
            let node = state.node_mut(slot);
            node.durable = node.volatile;
        }
        self.propose(state, primary, current.followed(to, current.in_sync))
    }

    /// Without the rule, a read of the old epoch makes a proposer forget what it has sent.
    fn hear_old_epoch(&self, state: &mut State, proposer: Slot) -> Option<()> {
        let next = state.node(proposer).proposal?;
        let old = state.register.epoch < next.epoch;
        if self.rules.open_until_epoch_moves || !old || !state.is_up(proposer) {
            return None;
        }
        state.node_mut(proposer).proposal = None;
        state.late[proposer.index()] = Some(next);
        Some(())
    }

    fn hear_register(&self, state: &mut State, slot: Slot) -> Option<()> {
        let register = state.register;
        let news = register.epoch > state.node(slot).configuration.epoch;
        if !self.with_register() || !state.is_up(slot) || !news {
            return None;
        }
        self.adopt(state, slot, register);
        let node = state.node_mut(slot);
        if node.configuration.primary == Some(slot) {
            node.role = Role::Primary;
        }
        clear_if_alone(state, slot);
        Some(())
    }

    /// A later configuration, from a peer.
    fn learn(&self, state: &mut State, slot: Slot, from: Slot) -> Option<()> {
        let next = state.node(from).configuration;
        let up = state.is_up(slot) && state.is_up(from);
        if !up || next.epoch <= state.node(slot).configuration.epoch {
            return None;
        }
        self.adopt(state, slot, next);
        Some(())
    }

    /// A configuration binds a replica from now on.
    fn adopt(&self, state: &mut State, slot: Slot, next: Configuration) {
        let proposal = state.node(slot).proposal;
        let moved = proposal.filter(|own| own.epoch <= next.epoch);
        let own = moved.filter(|own| own.epoch == next.epoch && !self.rules.generation_tells);
        let next = own.unwrap_or(next);
        let before = state.node(slot).configuration;
        self.mark_for(
            state,
            NodeSet::only(slot),
            before.in_sync.difference(next.in_sync),
        );
        let admitted = next.in_sync.difference(before.in_sync);
        let node = state.node_mut(slot);
        if moved.is_some() {
            node.proposal = None;
            node.cut_while_open = false;
        }
        node.configuration = next;
        if next.epoch == before.epoch + 1 && next.in_sync.contains(slot) && !admitted.is_empty() {
            // An admission voids the marks between those that it makes members and the others.
            let equal = if admitted.contains(slot) {
                next.in_sync
            } else {
                admitted
            };
            node.marks = node.marks.difference(equal);
        }
        node.joining = node.joining.difference(next.in_sync);
        if next.primary != before.primary && self.rules.frames_fenced {
            node.sessions = NodeSet::EMPTY;
        }
        let leads = matches!(node.role, Role::Primary | Role::Waiting);
        if next.primary == Some(slot) {
            if !leads {
                // It serves once the register, or a member, has confirmed it.
                node.role = Role::Waiting;
            }
        } else if leads && self.rules.superseded_stops {
            node.role = Role::Secondary;
            node.operation = None;
            node.joining = NodeSet::EMPTY;
            node.leased = NodeSet::EMPTY;
        }
    }

    fn confirmed_by_register(&self, state: &mut State, primary: Slot) -> Option<()> {
        let register = state.register;
        let node = state.node_mut(primary);
        let waits = node.role == Role::Waiting && node.proposal.is_none();
        if !self.with_register() || !waits || node.configuration != register {
            return None;
        }
        node.role = Role::Primary;
        clear_if_alone(state, primary);
        Some(())
    }
}

/// When the register shows it alone, with no proposal of its own open, nobody has more than it has.
fn clear_if_alone(state: &mut State, slot: Slot) {
    let node = state.node_mut(slot);
    let alone = node.configuration.in_sync == NodeSet::only(slot);
    if alone && node.proposal.is_none() {
        node.suspect = false;
    }
}

impl Protocol {
    /// A member confirms the recorded primary: it knows of nothing later, and has no proposal open. Without a
    /// register nobody knows of a promotion but those that were there, so every other member has to.
    fn confirmed_by(&self, state: &mut State, primary: Slot, member: Slot) -> Option<()> {
        let node = state.node(primary);
        let others = node.configuration.in_sync.without(primary);
        let alone = self.with_register() || !self.rules.confirmed_by_all;
        let asked = if alone { NodeSet::only(member) } else { others };
        let confirmed = asked.iter().all(|slot| state.agree(primary, slot));
        if node.role != Role::Waiting || !others.contains(member) || !confirmed {
            return None;
        }
        state.node_mut(primary).role = Role::Primary;
        Some(())
    }
}

/// The register's compare-and-swap.
fn register_takes(state: &mut State, proposer: Slot, next: Configuration) -> Option<()> {
    if next.epoch != state.register.epoch + 1 {
        return None;
    }
    state.register = next;
    if state.node(proposer).cut_while_open {
        lose_to_power(state);
    }
    Some(())
}
