//! Slots, sets of them, and configurations, as small as they go.

use std::fmt::{self, Debug, Formatter};

/// Replicas that a state has room for.
pub(crate) const REPLICAS_MAX: usize = 3;

/// A replica's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u8);

impl Slot {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Debug for Slot {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{}", char::from(b'A' + self.0))
    }
}

/// A set of replicas.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NodeSet(pub u8);

impl NodeSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// One replica.
    #[must_use]
    pub const fn only(slot: Slot) -> Self {
        Self(1 << slot.0)
    }

    /// The first so many replicas.
    #[must_use]
    pub const fn first_of(count: u8) -> Self {
        Self((1 << count) - 1)
    }

    /// Whether the replica is in it.
    #[must_use]
    pub const fn contains(self, slot: Slot) -> bool {
        self.0 & (1 << slot.0) != 0
    }

    /// The set with the replica.
    #[must_use]
    pub const fn with(self, slot: Slot) -> Self {
        Self(self.0 | 1 << slot.0)
    }

    /// The set without the replica.
    #[must_use]
    pub const fn without(self, slot: Slot) -> Self {
        Self(self.0 & !(1 << slot.0))
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of it is in the other.
    #[must_use]
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether nobody is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its replicas, in order.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        (0..8).map(Slot).filter(move |slot| self.contains(*slot))
    }

    /// All sets that are within this one.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        (0..=self.0)
            .map(Self)
            .filter(move |set| set.is_within(self))
    }
}

impl Debug for NodeSet {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}

/// Who serves and whose copies count.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// One more with every change.
    pub epoch: u8,
    /// The epoch and the proposer that it was minted with stand for its random number.
    pub generation: (u8, Slot),
    /// Who serves.
    pub primary: Option<Slot>,
    /// Whose copies count.
    pub in_sync: NodeSet,
}

impl Configuration {
    /// The next one, with a generation of its own.
    pub(crate) const fn minted(self, by: Slot, primary: Option<Slot>, in_sync: NodeSet) -> Self {
        let epoch = self.epoch + 1;
        Self {
            epoch,
            generation: (epoch, by),
            primary,
            in_sync,
        }
    }

    /// The next one, of the same generation.
    pub(crate) const fn followed(self, primary: Option<Slot>, in_sync: NodeSet) -> Self {
        let epoch = self.epoch + 1;
        Self {
            epoch,
            generation: self.generation,
            primary,
            in_sync,
        }
    }
}

impl Debug for Configuration {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            epoch,
            generation: (at, by),
            in_sync,
            ..
        } = self;
        match self.primary {
            Some(primary) => write!(out, "epoch {epoch} ({at}{by:?}) {primary:?} of {in_sync:?}"),
            None => write!(out, "epoch {epoch} ({at}{by:?}) nobody of {in_sync:?}"),
        }
    }
}
