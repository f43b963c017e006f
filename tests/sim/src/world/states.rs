//! The states that nodes go through, as their status tells.

use crate::world::World;
use replica::status::{Role, Status};
use std::collections::BTreeMap;

/// The last states seen: by host, group and peer.
#[derive(Default, Debug)]
pub struct States {
    last: BTreeMap<(usize, &'static str, usize), String>,
}

impl World {
    /// Counts what has changed since the last look.
    pub(crate) fn look_at_states(&mut self, host: usize) {
        let Some(node) = &self.hosts[host].node else {
            return;
        };
        let status = node.status();
        for (group, peer, state) in states(&status) {
            let known = self
                .states
                .last
                .entry((host, group, peer))
                .or_insert_with(|| state.clone());
            if *known != state {
                self.coverage.transition(group, known, &state);
                *known = state;
            }
        }
    }
}

fn states(status: &Status) -> Vec<(&'static str, usize, String)> {
    let role = match status.role {
        Role::Waiting(_) => "Waiting".to_owned(),
        role => format!("{role:?}"),
    };
    let mut states = vec![
        ("role", 0, role),
        ("disk", 0, format!("{:?}", status.disk_state)),
    ];
    for peer in &status.peers {
        let at = peer.slot.index();
        states.push(("connection", at, format!("{:?}", peer.connection)));
        states.push(("replication", at, format!("{:?}", peer.replication)));
    }
    states
}
