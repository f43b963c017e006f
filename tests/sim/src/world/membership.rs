//! Replicas that come and go while clients work: what the command line does, step by step, and again from the
//! beginning where anything has kept it from its end.

use crate::disk::Disk;
use crate::meta::Meta;
use crate::world::{Happening, World};
use format::superblock::{Replica, Superblock};
use format::types::{Configuration, DiskState, Generation, NodeSet, REPLICAS_MAX, Slot};
use replica::command::{Answer, Command, Refusal};
use replica::status::{ConnectionState, PeerStatus, Role, Status};

/// Which hosts are to have a replica, and what is being done about it.
#[derive(Debug)]
pub(crate) struct Membership {
    /// Those whose replica is to be, once what is under way is done.
    pub(crate) wanted: NodeSet,
    /// Those who are replicas of the volume: a host that is to come is one once all others know it.
    present: NodeSet,
    /// Those who have been replicas.
    used: NodeSet,
    identities: [Option<Replica>; REPLICAS_MAX],
    change: Option<Change>,
    /// The hosts that have still to be told, the next one last.
    left: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Add(usize),
    Remove(usize),
}

impl Membership {
    pub(crate) fn new(first: NodeSet, identities: [Option<Replica>; REPLICAS_MAX]) -> Membership {
        Membership {
            wanted: first,
            present: first,
            used: first,
            identities,
            change: None,
            left: Vec::new(),
        }
    }

    /// A process has ended, or does not do it: the operator begins anew later.
    pub(crate) fn forget(&mut self) {
        self.left.clear();
    }

    pub(crate) fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// Whether somebody is being told of the change.
    pub(crate) fn is_told(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether there is a host left that has never been a replica, and nothing under way.
    pub(crate) fn may_change(&self) -> bool {
        let known = self.identities.iter().flatten().count();
        let spare = known > self.used.len() || self.wanted.len() > 2 && known == REPLICAS_NEW;
        self.change.is_none() && spare
    }
}

/// Hosts in a world whose replicas come and go.
const REPLICAS_NEW: usize = 4;

/// The superblock of a replica of which nobody knows anything yet.
pub(super) fn blank(superblock: &mut Superblock) {
    let all = Slot::all().filter(|slot| superblock.replicas[slot.index()].is_some());
    let all: NodeSet = all.collect();
    superblock.configuration = Configuration {
        epoch: 0,
        generation: Generation::NONE,
        primary: None,
        in_sync: all.without(superblock.slot),
    };
    superblock.data_generation = Generation::NONE;
    superblock.history_complete = false;
    superblock.disk_state = DiskState::Inconsistent;
    superblock.marks_valid = NodeSet::EMPTY;
}

impl World {
    /// Whether the host is to run a replica.
    pub(crate) fn has_replica(&self, host: usize) -> bool {
        self.membership.present.contains(self.hosts[host].slot)
    }

    /// The hosts that have a replica.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = usize> {
        self.hosts_of(self.membership.present)
    }

    /// The first host that has a replica, with each of the others.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (usize, usize)> {
        let first = self.replicas().next();
        first
            .into_iter()
            .flat_map(|first| self.replicas().skip(1).map(move |host| (first, host)))
    }

    /// An operator decides that a replica is to come or to go.
    pub(crate) fn change_membership(&mut self) {
        if !self.membership.may_change() {
            return;
        }
        let Membership { wanted, used, .. } = self.membership;
        let spare = self.hosts.iter().map(|host| host.slot);
        let spare = spare.filter(|slot| !used.contains(*slot)).min();
        let adds = wanted.len() == 2 || self.fate.permille(500);
        let change = match spare.filter(|_| adds) {
            Some(slot) => Change::Add(slot.index()),
            None if wanted.len() > 2 => {
                let all: Vec<usize> = self.hosts_of(wanted).collect();
                Change::Remove(all[self.fate.index(all.len())])
            }
            None => return,
        };
        self.coverage.fault("membership");
        self.trace
            .line(self.now, || format!("operator: {change:?}"));
        self.membership.wanted = match change {
            Change::Add(host) => wanted.with(self.hosts[host].slot),
            Change::Remove(host) => wanted.without(self.hosts[host].slot),
        };
        self.membership.change = Some(change);
    }

    /// The operator takes it up, or up again.
    pub(super) fn see_to_membership(&mut self, statuses: &[Option<Status>]) {
        let Some(change) = self.membership.change else {
            return;
        };
        if !self.membership.left.is_empty() {
            return;
        }
        let (Change::Add(target) | Change::Remove(target)) = change;
        let others = self.membership.present.without(self.hosts[target].slot);
        let others: Option<Vec<&Status>> = self
            .hosts_of(others)
            .map(|host| statuses[host].as_ref())
            .collect();
        let Some(others) = others else { return };
        let Some(primary) = others.iter().find(|status| status.role == Role::Primary) else {
            if let (Change::Remove(_), Some(first)) = (change, others.first()) {
                let host = first.slot.index();
                self.command(host, Command::Swap);
            }
            return;
        };
        let mut left: Vec<usize> = others.iter().map(|status| status.slot.index()).collect();
        let primary = primary.slot.index();
        match change {
            Change::Add(host) => {
                // An earlier attempt may have told some of the one that is to come.
                let new = self.hosts[host].slot;
                let mut peers = others.iter().flat_map(|status| &status.peers);
                let apart = |peer: &PeerStatus| peer.connection != ConnectionState::Connected;
                if peers.any(|peer| peer.slot != new && apart(peer)) {
                    return;
                }
                let size_bytes = others[0].size_bytes;
                if others.iter().any(|status| status.size_bytes != size_bytes) {
                    return;
                }
                self.prepare(host, size_bytes);
                left.sort_by_key(|host| *host != primary);
            }
            Change::Remove(_) => left.sort_by_key(|host| *host == primary),
        }
        self.membership.left = left;
        self.tell_next();
    }

    /// The files of a new replica, as they are before anybody is told.
    fn prepare(&mut self, host: usize, size_bytes: u64) {
        let mut superblock = self.hosts[host].meta.superblock().clone();
        for slot in self.membership.present.iter() {
            let identity = self.membership.identities[slot.index()].clone();
            superblock.replicas[slot.index()] = identity;
        }
        for (slot, place) in Slot::all().zip(&mut superblock.replicas) {
            let keeps = self.membership.present.contains(slot) || slot == superblock.slot;
            *place = place.take().filter(|_| keeps);
        }
        superblock.size_bytes = size_bytes;
        blank(&mut superblock);
        let primary = self.replicas().find(|host| self.hosts[*host].serves());
        if let Some(primary) = primary.filter(|_| self.trusts_newborns()) {
            let told = self.hosts[primary].meta.superblock();
            superblock.configuration = told.configuration;
            superblock.data_generation = told.data_generation;
            superblock.history.clone_from(&told.history);
            superblock.history_complete = told.history_complete;
            superblock.disk_state = DiskState::Outdated;
            superblock.marks_valid = NodeSet::from_bits(u8::MAX);
        }
        self.hosts[host].meta = Meta::new(superblock);
        self.wipe(host);
    }

    /// Whoever starts anew knows of a replica what the disk tells.
    fn restart_all_but(&mut self, newborn: usize) {
        for host in self
            .replicas()
            .filter(|host| *host != newborn)
            .collect::<Vec<_>>()
        {
            self.kill(host);
            self.schedule(self.now, Happening::Start { host });
        }
    }

    fn wipe(&mut self, host: usize) {
        let held: Vec<u32> = self.hosts[host].disk.blocks().map(|(n, _)| n).collect();
        self.hosts[host].disk = Disk::default();
        for number in held {
            self.blocks_changed(host, &[number]);
        }
    }

    fn tell_next(&mut self) {
        let Some(change) = self.membership.change else {
            return;
        };
        let Some(host) = self.membership.left.last().copied() else {
            return self.conclude_change(change);
        };
        if self.hosts[host].node.is_none() {
            return self.membership.forget();
        }
        let command = match change {
            Change::Add(target) => {
                let slot = self.hosts[target].slot;
                let replica = self.membership.identities[target].clone();
                let replica = Box::new(replica.expect("every host has an identity"));
                Command::AddReplica { slot, replica }
            }
            Change::Remove(target) => {
                let slot = self.hosts[target].slot;
                Command::RemoveReplica { slot }
            }
        };
        self.command(host, command);
    }

    /// A host has answered.
    pub(super) fn membership_told(&mut self, host: usize, result: &Result<Answer, Refusal>) {
        if self.membership.left.last() != Some(&host) {
            return;
        }
        if result.is_ok() {
            self.membership.left.pop();
            self.tell_next();
        } else {
            self.membership.left.clear();
        }
    }

    /// Everybody has been told.
    fn conclude_change(&mut self, change: Change) {
        self.trace
            .line(self.now, || format!("operator: {change:?} is done"));
        self.membership.change = None;
        match change {
            Change::Add(host) => {
                let slot = self.hosts[host].slot;
                self.membership.present = self.membership.present.with(slot);
                self.membership.used = self.membership.used.with(slot);
                self.schedule(self.now, Happening::Start { host });
                if self.trusts_newborns() {
                    self.restart_all_but(host);
                }
            }
            Change::Remove(host) => {
                self.kill(host);
                let slot = self.hosts[host].slot;
                self.membership.present = self.membership.present.without(slot);
                let size_bytes = self.hosts[host].meta.superblock().size_bytes;
                self.prepare(host, size_bytes);
            }
        }
    }
}
