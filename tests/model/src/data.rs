//! Requests, their frames, handshakes and resyncs: what is done with the block.

use crate::protocol::Protocol;
use crate::state::{Kind, Operation, Role, State};
use crate::step::Step;
use crate::types::{NodeSet, Slot};

impl Protocol {
    /// The state after a step, if the step can be taken.
    pub(crate) fn take(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        let taken = match step {
            Step::Write { primary } => self.write(&mut state, primary),
            Step::Flush { primary } => self.flush(&mut state, primary),
            Step::Read { primary } => self.read(&mut state, primary),
            Step::Apply { primary, member } => self.apply(&mut state, primary, member),
            Step::Answer { primary, member } => answer(&mut state, primary, member),
            Step::Complete { primary } => self.complete(&mut state, primary),
            Step::Handshake { primary, member } => self.handshake(&mut state, primary, member),
            Step::Resync { primary, target } => self.resync(&mut state, primary, target),
            Step::SuspectGoesOn { primary } => self.suspect_goes_on(&mut state, primary),
            _ => self.change(&mut state, step),
        };
        taken?;
        for node in &mut state.nodes {
            // What a role has no use for must not make states differ.
            node.grace_over &= node.role == Role::Secondary;
            if node.role != Role::Primary {
                node.leased = NodeSet::EMPTY;
            }
        }
        Some(state)
    }

    fn serves(&self, state: &State, slot: Slot) -> bool {
        state.serves(&self.rules, self.bounds.arbiter, slot)
    }

    /// A client's write: into the activity log, onto our own disk, and on its way to the others.
    fn write(&self, state: &mut State, primary: Slot) -> Option<()> {
        let free = self.serves(state, primary) && state.node(primary).operation.is_none();
        if !free || state.written == self.bounds.writes {
            return None;
        }
        state.written += 1;
        let value = state.written;
        self.put(state, primary, value);
        state.node_mut(primary).operation = Some(Operation::new(Kind::Write, value));
        Some(())
    }

    /// Writes a replica's copy, and marks it for those that are not members.
    fn put(&self, state: &mut State, slot: Slot, value: u8) {
        let all = self.replicas();
        let node = state.node_mut(slot);
        node.volatile = value;
        node.unstable = true;
        node.marks = node.marks.union(all.difference(node.configuration.in_sync));
    }

    fn flush(&self, state: &mut State, primary: Slot) -> Option<()> {
        let node = state.node(primary);
        // What is on no media yet, or not for certain on every member's, is worth a flush.
        let worth =
            node.unstable || node.durable != node.volatile || state.flushed != node.volatile;
        if !self.serves(state, primary) || node.operation.is_some() || !worth {
            return None;
        }
        let node = state.node_mut(primary);
        node.durable = node.volatile;
        node.operation = Some(Operation::new(Kind::Flush, node.volatile));
        Some(())
    }

    /// A read that tells a client something new; that no read tells it something old is a promise.
    fn read(&self, state: &mut State, primary: Slot) -> Option<()> {
        let value = state.node(primary).volatile;
        let allowed = self.serves(state, primary) && state.is_readable(primary);
        if !allowed || value <= state.observed {
            return None;
        }
        state.observed = value;
        Some(())
    }

    /// Whether frames of the one are taken by the other.
    pub(crate) fn hears(&self, state: &State, member: Slot, primary: Slot) -> bool {
        let node = state.node(member);
        let same = node.configuration == state.node(primary).configuration;
        let silent = node.proposal.is_some() && self.rules.open_is_silent;
        let up = state.is_up(primary) && state.is_up(member);
        up && !node.failed
            && state.in_session(primary, member)
            && !silent
            && (same || !self.rules.frames_fenced)
    }

    fn apply(&self, state: &mut State, primary: Slot, member: Slot) -> Option<()> {
        let wanted = state
            .bound(&self.rules, primary)
            .union(state.node(primary).joining);
        let operation = state.node(primary).operation?;
        if !self.hears(state, member, primary)
            || !wanted.contains(member)
            || operation.applied.contains(member)
        {
            return None;
        }
        match operation.kind {
            Kind::Write => self.put(state, member, operation.value),
            Kind::Flush => state.node_mut(member).durable = state.node(member).volatile,
        }
        let operation = state.node_mut(primary).operation.as_mut()?;
        operation.applied = operation.applied.with(member);
        Some(())
    }

    /// All have done their part: the client is told.
    fn complete(&self, state: &mut State, primary: Slot) -> Option<()> {
        let operation = state.node(primary).operation?;
        let bound = state.bound(&self.rules, primary).without(primary);
        let all = bound.is_within(operation.done) || !self.rules.all_members_acknowledge;
        if !self.serves(state, primary) || !all {
            return None;
        }
        state.acknowledged_superseded |= state.register.primary != Some(primary);
        state.observed = state.observed.max(operation.value);
        let others = self.replicas().without(primary);
        if operation.kind == Kind::Flush {
            state.flushed = state.flushed.max(operation.value);
            self.notify_flushed(state, primary);
        }
        let node = state.node_mut(primary);
        node.operation = None;
        // A replica that has not kept up is resynced again before it is admitted.
        let behind = others.difference(operation.done);
        if self.rules.joining_waited_for {
            node.joining = node.joining.difference(behind);
        }
        Some(())
    }

    /// The primary's notice that all have flushed: those that it reaches take the block out of their logs. Who
    /// does not hear it does so at the next flush.
    fn notify_flushed(&self, state: &mut State, primary: Slot) {
        state.node_mut(primary).unstable = false;
        for member in self.replicas().without(primary).iter() {
            let done = state
                .node(primary)
                .operation
                .is_some_and(|all| all.done.contains(member));
            if done && self.hears(state, member, primary) {
                state.node_mut(member).unstable = false;
            }
        }
    }

    /// Copies the block; it stays in the log of whoever has it there, and goes into the target's. Like any write it
    /// is marked for those that do not get it.
    fn equalise(&self, state: &mut State, source: Slot, target: Slot) {
        let value = state.node(source).volatile;
        let marks = state.node(target).marks;
        self.put(state, target, value);
        let node = state.node_mut(target);
        node.marks = match self.rules.copies_marked {
            true => node.marks.without(target),
            false => marks,
        };
    }

    /// Two members meet. Where they may differ the block is made equal first: from the one that is not suspect,
    /// else from the primary.
    fn handshake(&self, state: &mut State, primary: Slot, member: Slot) -> Option<()> {
        let configuration = state.node(primary).configuration;
        let members = configuration.in_sync;
        let leads = matches!(state.node(primary).role, Role::Primary | Role::Waiting);
        let both = members.contains(primary) && members.contains(member);
        if !leads || !both || !state.agree(primary, member) || state.in_session(primary, member) {
            return None;
        }
        let (ours, theirs) = (state.node(primary).suspect, state.node(member).suspect);
        let marked = state.node(primary).unstable || state.node(member).unstable;
        if ours && theirs {
            return None;
        }
        let pull = ours && self.rules.equal_from_unsuspect;
        let (source, target) = if pull {
            (member, primary)
        } else {
            (primary, member)
        };
        if (marked || ours || theirs) && self.rules.equal_before_served {
            self.equalise(state, source, target);
        }
        for slot in [primary, member] {
            state.node_mut(slot).suspect = false;
        }
        connect(state, primary, member);
        Some(())
    }

    /// A replica outside in_sync is brought up to date, where there is a mark on either side; from now on it gets
    /// every write.
    fn resync(&self, state: &mut State, primary: Slot, target: Slot) -> Option<()> {
        let source = *state.node(primary);
        let outside = !source.configuration.in_sync.contains(target);
        let ready = self.serves(state, primary) && source.operation.is_none();
        let joined = source.joining.contains(target) && state.in_session(primary, target);
        if !outside || !ready || joined || !state.agree(primary, target) {
            return None;
        }
        let sink = *state.node(target);
        let ours = source.unstable || source.marks.contains(target);
        let theirs = sink.unstable || sink.marks.contains(primary);
        let marked = ours || theirs && self.rules.union_of_marks;
        if marked && self.rules.marks_dealt_with {
            self.equalise(state, primary, target);
        }
        // All that it may have lost in a power cut it has been given again.
        state.node_mut(target).suspect = false;
        connect(state, primary, target);
        let node = state.node_mut(primary);
        node.joining = node.joining.with(target);
        Some(())
    }
}

fn connect(state: &mut State, primary: Slot, member: Slot) {
    for (slot, other) in [(primary, member), (member, primary)] {
        let node = state.node_mut(slot);
        node.sessions = node.sessions.with(other);
    }
    // What was not acknowledged is sent again.
    if let Some(operation) = state.node_mut(primary).operation.as_mut() {
        operation.applied = operation.applied.without(member);
    }
}

fn answer(state: &mut State, primary: Slot, member: Slot) -> Option<()> {
    let operation = state.node_mut(primary).operation.as_mut()?;
    if !operation.applied.contains(member) || operation.done.contains(member) {
        return None;
    }
    operation.done = operation.done.with(member);
    Some(())
}

impl Protocol {
    /// Every member is suspect, and the recorded primary knows it of all: its copy counts.
    fn suspect_goes_on(&self, state: &mut State, primary: Slot) -> Option<()> {
        let node = state.node(primary);
        let leads = matches!(node.role, Role::Primary | Role::Waiting);
        let members: NodeSet = node.configuration.in_sync;
        let known = |slot: Slot| state.node(slot).suspect && state.agree(primary, slot);
        let all = members.iter().all(known) || !self.rules.suspect_waits;
        if !leads || !node.suspect || !members.contains(primary) || !all {
            return None;
        }
        state.node_mut(primary).suspect = false;
        Some(())
    }
}

impl Operation {
    const fn new(kind: Kind, value: u8) -> Self {
        Self {
            kind,
            value,
            applied: NodeSet::EMPTY,
            done: NodeSet::EMPTY,
        }
    }
}
