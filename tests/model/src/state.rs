//! A state of the whole: replicas, the register, and what clients have been told.

use crate::rules::Rules;
use crate::types::{Configuration, NodeSet, REPLICAS_MAX, Slot};

/// What commits a change of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arbiter {
    /// A register with compare-and-swap, and leases.
    Register,
    /// The primary's own durable write; an operator promotes once the primary is down for certain.
    Manual,
}

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many replicas there are: two or three.
    pub replicas: u8,
    /// What commits.
    pub arbiter: Arbiter,
    /// The last epoch that anybody proposes.
    pub epochs: u8,
    /// How many writes clients send.
    pub writes: u8,
    /// How many processes are killed.
    pub crashes: u8,
    /// How often a replica loses its power.
    pub power_cuts: u8,
    /// How many disks fail.
    pub disk_failures: u8,
}

/// What a node is to its volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Its process is not running.
    Down,
    /// It keeps a copy.
    Secondary,
    /// It is the recorded primary, and nobody has confirmed it yet.
    Waiting,
    /// It is the primary. Whether it serves is another matter: [`State::serves`].
    Primary,
}

/// What a client's request is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A write of the block.
    Write,
    /// A flush of what has been written.
    Flush,
}

/// A request under way at a primary, and its frames and their answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Operation {
    /// What it is.
    pub kind: Kind,
    /// What is written, or what the flush covers.
    pub value: u8,
    /// Who has done it; the answer is on its way.
    pub applied: NodeSet,
    /// Whose answer has come.
    pub done: NodeSet,
}

/// A replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// What it is to its volume; in memory.
    pub role: Role,
    /// The configuration that binds it; on disk.
    pub configuration: Configuration,
    /// Its open proposal; on disk.
    pub proposal: Option<Configuration>,
    /// The block, as its disk gives it back.
    pub volatile: u8,
    /// The block, as it would be after a power cut.
    pub durable: u8,
    /// It may have lost acknowledged writes; on disk.
    pub suspect: bool,
    /// Its disk has failed; on what it boots from.
    pub failed: bool,
    /// Its power went while its proposal was open: whether before or after the commit nobody can tell. Not part of
    /// the protocol, but of what it promises.
    pub cut_while_open: bool,
    /// The block is in the activity log: it may differ from other members' copies; on disk.
    pub unstable: bool,
    /// For whom the block is marked in a bitmap; on disk.
    pub marks: NodeSet,
    /// With whom it has a session past its handshake; in memory.
    pub sessions: NodeSet,
    /// Whose answers to its pings are younger than the lease; in memory.
    pub leased: NodeSet,
    /// Its grace has passed since the last ping that it got; in memory.
    pub grace_over: bool,
    /// Who has been brought up to date and gets every write; in memory.
    pub joining: NodeSet,
    /// The request under way; in memory.
    pub operation: Option<Operation>,
}

/// A state of the whole.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// The replicas.
    pub nodes: [Node; REPLICAS_MAX],
    /// What the register holds; without one, what was committed last.
    pub register: Configuration,
    /// Requests to the register whose senders have forgotten them.
    pub late: [Option<Configuration>; REPLICAS_MAX],
    /// The last value that any client has sent.
    pub written: u8,
    /// The newest value that a client was told of, by an acknowledgement or a read.
    pub observed: u8,
    /// The newest value that an acknowledged flush covers.
    pub flushed: u8,
    /// Crashes so far.
    pub crashes: u8,
    /// Power cuts so far.
    pub power_cuts: u8,
    /// Disks that have failed.
    pub disk_failures: u8,
    /// A primary has acknowledged something after another configuration had been committed (R4).
    pub acknowledged_superseded: bool,
    /// A configuration was committed beside another of its epoch.
    pub forked: bool,
}

impl State {
    /// All replicas equal and members, the first of them the primary, nothing written.
    #[must_use]
    pub fn new(bounds: &Bounds) -> Self {
        let all = NodeSet::first_of(bounds.replicas);
        let first = Slot(0);
        let register = Configuration {
            epoch: 1,
            generation: (1, first),
            primary: Some(first),
            in_sync: all,
        };
        let node = |slot: Slot| Node {
            role: if slot == first {
                Role::Primary
            } else {
                Role::Secondary
            },
            configuration: register,
            proposal: None,
            volatile: 0,
            durable: 0,
            suspect: false,
            failed: false,
            cut_while_open: false,
            unstable: false,
            marks: NodeSet::EMPTY,
            sessions: if slot == first {
                all.without(slot)
            } else {
                NodeSet::only(first)
            },
            leased: NodeSet::EMPTY,
            grace_over: false,
            joining: NodeSet::EMPTY,
            operation: None,
        };
        Self {
            nodes: [node(Slot(0)), node(Slot(1)), node(Slot(2))],
            register,
            late: [None; REPLICAS_MAX],
            written: 0,
            observed: 0,
            flushed: 0,
            crashes: 0,
            power_cuts: 0,
            disk_failures: 0,
            acknowledged_superseded: false,
            forked: false,
        }
    }

    /// A replica.
    #[must_use]
    pub const fn node(&self, slot: Slot) -> &Node {
        &self.nodes[slot.index()]
    }

    pub(crate) const fn node_mut(&mut self, slot: Slot) -> &mut Node {
        &mut self.nodes[slot.index()]
    }

    pub(crate) fn is_up(&self, slot: Slot) -> bool {
        self.node(slot).role != Role::Down
    }

    /// Whether two replicas are running with disks, hold the same configuration, and neither has a proposal open.
    pub(crate) fn agree(&self, one: Slot, other: Slot) -> bool {
        let (one, other) = (self.node(one), self.node(other));
        let settled =
            |node: &Node| node.role != Role::Down && !node.failed && node.proposal.is_none();
        settled(one) && settled(other) && one.configuration == other.configuration
    }

    /// Whether both sides hold the session to be up.
    pub(crate) fn in_session(&self, one: Slot, other: Slot) -> bool {
        self.node(one).sessions.contains(other) && self.node(other).sessions.contains(one)
    }

    /// Who has to do its part before this replica acknowledges anything: the members of the configuration, and
    /// while a proposal is open those of both (R5a).
    #[must_use]
    pub fn bound(&self, rules: &Rules, slot: Slot) -> NodeSet {
        let node = self.node(slot);
        let committed = node.configuration.in_sync;
        let Some(next) = node.proposal else {
            return committed;
        };
        let mut bound = committed.union(next.in_sync);
        if !rules.drop_before_acknowledging {
            bound = bound.difference(committed.difference(next.in_sync));
        }
        if !rules.both_bind {
            bound = bound.difference(next.in_sync.difference(committed));
        }
        bound
    }

    /// Whether the replica would answer a client's read now, and acknowledge what all have done.
    #[must_use]
    pub fn serves(&self, rules: &Rules, arbiter: Arbiter, slot: Slot) -> bool {
        let node = self.node(slot);
        let hands_over = node.proposal.is_some_and(|next| next.primary != Some(slot));
        if node.role != Role::Primary || hands_over || node.suspect || node.failed {
            return false;
        }
        let others = self.bound(rules, slot).without(slot);
        let leased = arbiter == Arbiter::Manual || !rules.lease || others.is_within(node.leased);
        leased && others.is_within(node.sessions)
    }

    /// Whether the replica's copy may be read: a read waits for a write under way.
    pub(crate) fn is_readable(&self, slot: Slot) -> bool {
        let operation = self.node(slot).operation;
        operation.is_none_or(|operation| operation.kind == Kind::Flush)
    }
}
