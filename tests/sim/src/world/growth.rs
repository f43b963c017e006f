//! Growing the volume: every replica's file at once, then every replica's size, the primary's last.

use crate::world::World;
use format::types::BLOCK_BYTES;
use replica::command::Command;
use replica::status::{ConnectionState, Role, Status};

/// The hosts that have still to be told of a new size.
#[derive(Default, Debug)]
pub(crate) struct Growth {
    left: Vec<usize>,
}

impl Growth {
    /// A host's process has ended: the operator gives up, and tries again later.
    pub(crate) fn forget(&mut self) {
        self.left.clear();
    }
}

impl World {
    /// An operator grows the volume, or finishes what was left half done, if every replica is connected.
    pub(crate) fn grow(&mut self) {
        let statuses: Option<Vec<Status>> = self
            .replicas()
            .map(|host| self.hosts[host].node.as_ref().map(|node| node.status()))
            .collect();
        let Some(statuses) = statuses.filter(|all| all.iter().all(is_connected)) else {
            return;
        };
        let mut sizes = statuses.iter().map(|status| status.size_bytes);
        let grown = sizes.all(|size_bytes| size_bytes == self.plan.size_bytes);
        // No replica comes before an earlier growth is done.
        let change = self.membership.is_changing() && (grown || self.membership.is_told());
        if !self.growth.left.is_empty() || change {
            return;
        }
        if grown {
            self.plan.size_bytes += BLOCK_BYTES * self.fate.between(1, 600);
        }
        let mut hosts: Vec<&Status> = statuses.iter().collect();
        hosts.sort_by_key(|status| status.role != Role::Primary);
        self.growth.left = hosts.iter().map(|status| status.slot.index()).collect();
        self.grow_next();
    }

    fn grow_next(&mut self) {
        let size_bytes = self.plan.size_bytes;
        match self.growth.left.last() {
            Some(host) => self.command(*host, Command::Grow { size_bytes }),
            None => self.clients.size_bytes = size_bytes,
        }
    }

    /// A host has answered.
    pub(crate) fn grown(&mut self, host: usize, done: bool) {
        if self.growth.left.last() != Some(&host) {
            return;
        }
        if done {
            self.growth.left.pop();
            self.grow_next();
        } else {
            self.growth.left.clear();
        }
    }
}

fn is_connected(status: &Status) -> bool {
    let mut peers = status.peers.iter();
    peers.all(|peer| peer.connection == ConnectionState::Connected)
}
