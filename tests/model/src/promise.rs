//! What must hold in every state.

use crate::protocol::Protocol;
use crate::state::State;
use crate::types::{NodeSet, Slot};
use stateright::Property;

/// A promise of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// No two replicas serve at once.
    OnePrimary,
    /// R1: what a client was told of is on every member that has not lost power.
    AcknowledgedOnMembers,
    /// What was flushed is on every member's media.
    FlushedDurable,
    /// Who serves has what a client was told of.
    NoStaleRead,
    /// Where the block is served all members hold the same.
    EqualBeforeServed,
    /// R4: a superseded primary acknowledges nothing.
    SupersededSilent,
    /// R7: where two replicas differ there is a mark on one of them.
    DifferenceMarked,
    /// No commit leaves in_sync empty.
    NeverEmpty,
    /// No two configurations of one epoch are committed.
    NotForked,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::OnePrimary,
        Self::AcknowledgedOnMembers,
        Self::FlushedDurable,
        Self::NoStaleRead,
        Self::EqualBeforeServed,
        Self::SupersededSilent,
        Self::DifferenceMarked,
        Self::NeverEmpty,
        Self::NotForked,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnePrimary => "one primary",
            Self::AcknowledgedOnMembers => "acknowledged on members",
            Self::FlushedDurable => "flushed is durable",
            Self::NoStaleRead => "no stale read",
            Self::EqualBeforeServed => "equal before served",
            Self::SupersededSilent => "superseded is silent",
            Self::DifferenceMarked => "difference is marked",
            Self::NeverEmpty => "never empty",
            Self::NotForked => "not forked",
        }
    }

    /// The checker's property.
    pub(crate) fn property(self) -> Property<Protocol> {
        let condition = match self {
            Self::OnePrimary => one_primary,
            Self::AcknowledgedOnMembers => acknowledged_on_members,
            Self::FlushedDurable => flushed_durable,
            Self::NoStaleRead => no_stale_read,
            Self::EqualBeforeServed => equal_before_served,
            Self::SupersededSilent => |_: &Protocol, state: &State| !state.acknowledged_superseded,
            Self::DifferenceMarked => difference_marked,
            Self::NeverEmpty => |_: &Protocol, state: &State| !state.register.in_sync.is_empty(),
            Self::NotForked => |_: &Protocol, state: &State| !state.forked,
        };
        Property::always(self.name(), condition)
    }
}

fn serving(protocol: &Protocol, state: &State) -> impl Iterator<Item = Slot> {
    let serves = |slot: &Slot| state.serves(&protocol.rules, protocol.bounds.arbiter, *slot);
    let all: NodeSet = protocol.replicas();
    all.iter().filter(serves).collect::<Vec<_>>().into_iter()
}

fn one_primary(protocol: &Protocol, state: &State) -> bool {
    serving(protocol, state).count() <= 1
}

fn acknowledged_on_members(_: &Protocol, state: &State) -> bool {
    let mut members = state.register.in_sync.iter().map(|slot| state.node(slot));
    members.all(|node| node.suspect || node.failed || node.volatile >= state.observed)
}

fn flushed_durable(_: &Protocol, state: &State) -> bool {
    let mut members = state.register.in_sync.iter().map(|slot| state.node(slot));
    members.all(|node| node.failed || node.durable >= state.flushed)
}

fn no_stale_read(protocol: &Protocol, state: &State) -> bool {
    let mut readable = serving(protocol, state).filter(|slot| state.is_readable(*slot));
    readable.all(|slot| state.node(slot).volatile >= state.observed)
}

fn equal_before_served(protocol: &Protocol, state: &State) -> bool {
    let mut readable = serving(protocol, state).filter(|slot| state.is_readable(*slot));
    readable.all(|slot| {
        let mut members = state
            .bound(&protocol.rules, slot)
            .iter()
            .map(|slot| state.node(slot));
        members.all(|member| {
            member.suspect || member.failed || member.volatile == state.node(slot).volatile
        })
    })
}

fn difference_marked(protocol: &Protocol, state: &State) -> bool {
    let all = protocol.replicas();
    all.iter().all(|one| {
        let mut others = all.iter().filter(|other| other.0 > one.0);
        others.all(|other| {
            let (first, second) = (state.node(one), state.node(other));
            first.failed
                || second.failed
                || first.volatile == second.volatile
                || first.unstable
                || second.unstable
                || first.marks.contains(other)
                || second.marks.contains(one)
        })
    })
}
