//! The checkers of what a reply means: R1, R4, equal before served. The others are beside it.

use crate::content::{BLOCK_SECTORS, Block, Blocks, Tag, blocks};
use crate::failure::Checker;
use crate::network::ConnectionId;
use crate::world::World;
use crate::world::clients::{Ask, Pending};
use format::types::NodeSet;
use replica::status::ReplicationState;
use std::collections::{BTreeMap, BTreeSet};

mod configuration;
mod marks;
mod sessions;

/// What the checkers remember.
#[derive(Default, Debug)]
pub struct Checks {
    /// For each pair of hosts, lower first: the blocks that read differently.
    pub(crate) differ: BTreeMap<(usize, usize), BTreeSet<u32>>,
    /// For each connection and end: what the checkers know of it.
    pub(crate) sessions: BTreeMap<(ConnectionId, usize), sessions::Known>,
    /// Times at which every node had lost its power since the last.
    pub(crate) blackouts: u64,
    /// Hosts that have lost their power since the last blackout.
    pub(crate) dark: BTreeSet<usize>,
    /// Whether a host's superblock called it suspect.
    pub(crate) suspects: BTreeMap<usize, bool>,
    /// What each host was told to write since a node last came to serve.
    pub(crate) written: BTreeMap<usize, Vec<Blocks>>,
}

/// The blocks in which a pair differs.
pub(crate) fn pair(left: usize, right: usize) -> (usize, usize) {
    (left.min(right), left.max(right))
}

impl World {
    /// The hosts of a set of slots.
    pub(crate) fn hosts_of(&self, set: NodeSet) -> impl Iterator<Item = usize> {
        let count = self.hosts.len();
        set.iter()
            .map(|slot| slot.index())
            .filter(move |host| *host < count)
    }

    /// The members of the configuration that binds the host.
    fn members(&self, host: usize) -> Vec<usize> {
        self.hosts_of(self.hosts[host].meta.superblock().configuration.in_sync)
            .collect()
    }

    /// R4: a primary that has been told of its successor acknowledges nothing.
    pub(crate) fn check_acknowledging(&mut self, host: usize, pending: &Pending) {
        let this = &self.hosts[host];
        let configuration = this.meta.superblock().configuration;
        let superseded = this
            .superseded_by
            .is_some_and(|epoch| epoch > configuration.epoch);
        if superseded || configuration.primary != Some(this.slot) {
            let told = this.superseded_by;
            self.fail(Checker::R4, || {
                format!("{host} answers {pending:?} under {configuration:?}, told of {told:?}")
            });
        }
    }

    /// R1: every member has done the write that is acknowledged.
    pub(crate) fn check_done_by_all(&mut self, host: usize, pending: &Pending) {
        for member in self.members(host) {
            // Who has lost its power since may have done it before.
            if self.hosts[member].dark_at >= pending.order {
                continue;
            }
            // By force it may have gone on elsewhere, which an answer under way does not tell.
            if self.lineage_of(member) != self.lineage_of(host) {
                continue;
            }
            let missing = self.not_done(member, pending);
            if let Some(number) = missing {
                let holds = self.hosts[member].disk.get(number);
                self.fail(Checker::R1, || {
                    format!("{host} answers {pending:?}; block {number} of {member}: {holds:x?}")
                });
            }
        }
    }

    /// A block of a member that lacks the write.
    fn not_done(&self, member: usize, pending: &Pending) -> Option<u32> {
        let disk = &self.hosts[member].disk;
        if pending.ask == Ask::Zero {
            let mut left = disk.occupied(blocks(pending.span));
            let left = left.find(|number| !self.is_overtaken(pending, *number));
            let fua = pending.fua;
            let mut volatile = disk.volatile_in(blocks(pending.span)).into_iter();
            let volatile = volatile.find(|number| {
                let durable = self.is_durable(member, *number, [Some(0); 8]);
                fua && !durable && !self.is_overtaken(pending, *number)
            });
            return left.or(volatile);
        }
        blocks(pending.span).find(|number| {
            if self.is_overtaken(pending, *number) {
                return false;
            }
            let written = self.written(pending, *number);
            let holds = disk.get(*number);
            let done = matches(&holds, &written);
            !done || pending.fua && !self.is_durable(member, *number, written)
        })
    }

    /// Whether a later write has touched the block although this request has not been answered: an answer that
    /// waits for a lease tells of what has been.
    fn is_overtaken(&self, pending: &Pending, number: u32) -> bool {
        let oracle = &self.lineages.get(pending.lineage).oracle;
        self.register.held.is_some() && oracle.is_overtaken(number, pending.order)
    }

    /// Whether a power cut would leave what was written.
    fn is_durable(
        &self,
        member: usize,
        number: u32,
        written: [Option<Tag>; BLOCK_SECTORS],
    ) -> bool {
        let disk = &self.hosts[member].disk;
        (0..BLOCK_SECTORS).all(|sector| {
            written[sector].is_none_or(|tag| disk.outcomes(number, sector).all(|left| left == tag))
        })
    }

    /// R1 for a flush: what it covers is durable on every member.
    pub(crate) fn check_flushed_by_all(&mut self, host: usize, pending: &Pending) {
        let members = self.members(host);
        let oracle = &self.lineages.get(pending.lineage).oracle;
        let mut missing = None;
        for member in members
            .into_iter()
            .filter(|m| self.hosts[*m].dark_at < pending.order)
        {
            let disk = &self.hosts[member].disk;
            missing = missing.or_else(|| {
                let places = oracle
                    .unflushed()
                    .flat_map(|n| (0..BLOCK_SECTORS).map(move |s| (n, s)));
                let lacks = |(number, sector): &(u32, usize)| {
                    disk.outcomes(*number, *sector)
                        .any(|left| oracle.misses_flush(*number, *sector, left, pending.order))
                };
                places.into_iter().find(lacks).map(|place| (member, place))
            });
        }
        if let Some((member, (number, sector))) = missing {
            let left: Vec<Tag> = self.hosts[member].disk.outcomes(number, sector).collect();
            let history = oracle.tell(number, sector);
            self.fail(Checker::R1, || {
                format!(
                    "{host} answers {pending:?}; sector {sector} of block {number} of {member} may be \
                     {left:x?}, but was {history}"
                )
            });
        }
    }

    /// Equal before served: what a read returns is the same on every member.
    pub(crate) fn check_equal(&mut self, host: usize, pending: &Pending, content: &[Tag]) {
        for member in self.members(host) {
            if member == host {
                continue;
            }
            let mut differing = self.differing(member, pending.span.widened(), content);
            differing.retain(|number| !self.is_overtaken(pending, *number));
            if let Some(number) = differing.first().copied()
                && self.works_with(host, member)
            {
                self.fail(Checker::EqualBeforeServed, || {
                    format!("{host} answers {pending:?}; block {number} of {member} differs")
                });
            }
        }
    }

    /// Whether two nodes are past their handshake, and neither has lost its power since.
    fn works_with(&self, host: usize, member: usize) -> bool {
        let Some(id) = self.network.open_of(host, member) else {
            return false;
        };
        if self.network.open_of(member, host) != Some(id) {
            return false;
        }
        let made_at = self.network.connections[&id].made_at;
        self.is_past_handshake(host, member) && self.hosts[member].dark_since <= made_at
    }

    /// Whether the node works with the other, and over their present link.
    fn is_past_handshake(&self, host: usize, other: usize) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let slot = self.hosts[other].slot;
        let peers = node.status().peers;
        let state = peers
            .iter()
            .find(|peer| peer.slot == slot)
            .map(|peer| peer.replication);
        let works = state.is_some_and(|state| state != ReplicationState::Off);
        works && self.has_agreed(host, other)
    }

    /// Blocks of a host's disk may have changed.
    pub(crate) fn blocks_changed(&mut self, host: usize, changed: &[u32]) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            let differ = self.checks.differ.entry(pair(host, other)).or_default();
            for number in changed {
                let (left, right) = (&self.hosts[host].disk, &self.hosts[other].disk);
                if left.get(*number) == right.get(*number) {
                    differ.remove(number);
                } else {
                    differ.insert(*number);
                }
            }
        }
    }

    /// What every member's disk must hold once all is calm.
    pub(crate) fn check_contents(&mut self, lineage: usize) {
        let order = self.clients.order() + 1;
        for host in self.replicas().collect::<Vec<_>>() {
            let oracle = &self.lineages.get(lineage).oracle;
            let disk = &self.hosts[host].disk;
            let numbers = oracle
                .numbers()
                .chain(disk.blocks().map(|(number, _)| number));
            let wrong = numbers
                .map(|number| oracle.check(number, &disk.get(number), order))
                .find_map(Result::err);
            if let Some(mismatch) = wrong {
                let checker = match mismatch.wrong {
                    crate::oracle::Wrong::OlderThanFlushed => Checker::FlushedSurvives,
                    crate::oracle::Wrong::NotLatest => Checker::ReadLatest,
                };
                self.fail(checker, || format!("in the end {host} holds {mismatch:x?}"));
            }
        }
    }
}

/// Whether a block holds what was written to it.
fn matches(holds: &Block, written: &[Option<Tag>; BLOCK_SECTORS]) -> bool {
    holds
        .iter()
        .zip(written)
        .all(|(holds, written)| written.is_none_or(|tag| tag == *holds))
}
