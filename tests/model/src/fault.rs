//! Crashes, power cuts and restarts.

use crate::protocol::Protocol;
use crate::state::{Node, Role, State};
use crate::types::{NodeSet, Slot};

impl Protocol {
    /// A process ends: its memory is gone, its disk is as it was.
    pub(crate) fn crash(&self, state: &mut State, slot: Slot) -> Option<()> {
        if !state.is_up(slot) || state.crashes == self.bounds.crashes {
            return None;
        }
        state.crashes += 1;
        self.forget(state.node_mut(slot));
        Some(())
    }

    /// A replica's host loses its power: what was not flushed is gone, or happens to be kept.
    pub(crate) fn power_cut(&self, state: &mut State, slot: Slot, kept: bool) -> Option<()> {
        let node = state.node(slot);
        let nothing_to_lose = node.volatile == node.durable;
        if state.power_cuts == self.bounds.power_cuts || kept && nothing_to_lose {
            return None;
        }
        state.power_cuts += 1;
        let node = state.node_mut(slot);
        self.forget(node);
        node.suspect = true;
        node.cut_while_open = node.proposal.is_some();
        if kept {
            node.durable = node.volatile;
        } else {
            node.volatile = node.durable;
        }
        lose_to_power(state);
        Some(())
    }

    /// A disk fails for good. Without it a replica does nothing more for the volume.
    pub(crate) fn disk_fails(&self, state: &mut State, slot: Slot) -> Option<()> {
        if state.node(slot).failed || state.disk_failures == self.bounds.disk_failures {
            return None;
        }
        state.disk_failures += 1;
        state.node_mut(slot).failed = true;
        lose_to_power(state);
        Some(())
    }

    fn forget(&self, node: &mut Node) {
        node.role = Role::Down;
        node.sessions = NodeSet::EMPTY;
        node.leased = NodeSet::EMPTY;
        node.joining = NodeSet::EMPTY;
        node.grace_over = false;
        node.operation = None;
        node.unstable &= self.rules.log_before_data;
    }

    pub(crate) fn restart(&self, state: &mut State, slot: Slot) -> Option<()> {
        if state.is_up(slot) {
            return None;
        }
        if !self.rules.proposal_durable {
            state.late[slot.index()] = state.node_mut(slot).proposal.take();
        }
        let node = state.node_mut(slot);
        node.grace_over = !self.rules.grace_from_start;
        let alone = node.configuration.in_sync == NodeSet::only(slot) && node.proposal.is_none();
        node.role = match node.configuration.primary == Some(slot) {
            true if alone || !self.rules.restart_confirmed => Role::Primary,
            true => Role::Waiting,
            false => Role::Secondary,
        };
        // Nobody has more than we have: what was flushed is served, as by a local disk.
        node.suspect &= !alone;
        Some(())
    }
}

/// Where every member has lost its power nobody was promised more than what was flushed.
pub(crate) fn lose_to_power(state: &mut State) {
    let mut members = state.register.in_sync.iter().map(|slot| state.node(slot));
    if members.all(|member| member.suspect || member.failed) {
        state.observed = state.flushed;
    }
}
