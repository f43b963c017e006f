//! The vocabulary: identities, ranges, configurations, and the units in which data is tracked.

use std::fmt;

/// The unit of replication and of dirty tracking, in bytes.
pub const BLOCK_BYTES: u64 = 4096;
/// The unit of resync and of verify: as many blocks as a `u32` mask has bits.
pub const CHUNK_BYTES: u64 = BLOCK_BYTES * CHUNK_BLOCKS as u64;
/// Blocks in a chunk.
pub const CHUNK_BLOCKS: u32 = u32::BITS;
/// The unit of the activity log, in bytes: 1 MiB.
pub const EXTENT_BYTES: u64 = CHUNK_BYTES * EXTENT_CHUNKS as u64;
/// Blocks in an extent.
pub const EXTENT_BLOCKS: u32 = CHUNK_BLOCKS * EXTENT_CHUNKS;
/// Chunks in an extent.
pub const EXTENT_CHUNKS: u32 = 8;
/// Replicas that a volume can have.
pub const REPLICAS_MAX: usize = 8;
/// The largest volume, in bytes (64 TiB): extent and page numbers stay far below `u32::MAX`.
pub const VOLUME_BYTES_MAX: u64 = 64 << 40;

const _: () = assert!(EXTENT_BYTES == 1 << 20);
const _: () = assert!(VOLUME_BYTES_MAX / CHUNK_BYTES < u32::MAX as u64);

/// A replica's place in its volume, 0 to 7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u8);

impl Slot {
    /// The slot with this number, if there can be one.
    pub const fn new(index: u8) -> Option<Slot> {
        if (index as usize) < REPLICAS_MAX {
            Some(Slot(index))
        } else {
            None
        }
    }

    /// Its number, below [`REPLICAS_MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its number, as it is written to disks and sent to peers.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Every slot, in order.
    pub fn all() -> impl Iterator<Item = Slot> {
        (0..).map_while(Slot::new)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

/// A set of slots.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeSet(u8);

impl NodeSet {
    /// No slot.
    pub const EMPTY: NodeSet = NodeSet(0);

    /// The set of one slot.
    pub const fn only(slot: Slot) -> NodeSet {
        NodeSet(1 << slot.0)
    }

    /// The set with these bits, one a slot.
    pub const fn from_bits(bits: u8) -> NodeSet {
        NodeSet(bits)
    }

    /// One bit a slot.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether the slot is in it.
    pub const fn contains(self, slot: Slot) -> bool {
        self.0 & (1 << slot.0) != 0
    }

    /// The set with the slot.
    #[must_use]
    pub const fn with(self, slot: Slot) -> NodeSet {
        NodeSet(self.0 | (1 << slot.0))
    }

    /// The set without the slot.
    #[must_use]
    pub const fn without(self, slot: Slot) -> NodeSet {
        NodeSet(self.0 & !(1 << slot.0))
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn difference(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & !other.0)
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many slots are in it.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Its slots, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        Slot::all().filter(move |slot| self.contains(*slot))
    }

    /// Its lowest slot.
    pub fn first(self) -> Option<Slot> {
        self.iter().next()
    }
}

impl FromIterator<Slot> for NodeSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().fold(NodeSet::EMPTY, NodeSet::with)
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Slot::index)).finish()
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id that nothing has: all zero.
            pub const NONE: $name = $name([0; 16]);

            /// Whether this is [`Self::NONE`].
            pub fn is_none(&self) -> bool {
                *self == Self::NONE
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

random_id!(
    /// A node, from its first start on.
    NodeId
);
random_id!(
    /// A volume; a name used again has a new one.
    VolumeId
);
random_id!(
    /// One step in a volume's history: minted by every drop and every promotion.
    Generation
);
random_id!(
    /// One boot of a machine, as its kernel tells it.
    BootId
);

/// A node's or a volume's name: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 63;

    /// The name, if it is one.
    pub fn new(text: &str) -> Option<Name> {
        let first = text.bytes().next()?;
        let head = first.is_ascii_lowercase() || first.is_ascii_digit();
        let body = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        (head && text.len() <= Self::BYTES_MAX && text.bytes().all(body))
            .then(|| Name(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who serves a volume and whose copies count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// Counts the configurations of one history.
    pub epoch: u64,
    /// The step of history it belongs to.
    pub generation: Generation,
    /// Who may serve.
    pub primary: Option<Slot>,
    /// Whose copy a write needs before it is acknowledged. Never empty once the volume exists.
    pub in_sync: NodeSet,
}

/// What a replica's data is worth. DRBD's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskState {
    /// The latest data, as far as this replica knows.
    UpToDate,
    /// Consistent, but of a configuration that has been left behind.
    Outdated,
    /// Part old, part new: the target of a resync that has not ended.
    Inconsistent,
    /// The local disk gave an error; it is used no more until `resync`.
    Failed,
    /// No local disk.
    Diskless,
}

/// A range of bytes of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span {
    /// Its first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl Span {
    /// The span of `length` bytes from `offset` on.
    pub const fn new(offset: u64, length: u64) -> Span {
        Span { offset, length }
    }

    /// The span of one chunk.
    pub const fn chunk(chunk: u32) -> Span {
        Span::new(chunk as u64 * CHUNK_BYTES, CHUNK_BYTES)
    }

    /// One past its last byte.
    pub const fn end(self) -> u64 {
        self.offset + self.length
    }

    /// Whether they share a byte.
    pub const fn overlaps(self, other: Span) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    /// Whether the other lies within this one.
    pub const fn covers(self, other: Span) -> bool {
        self.offset <= other.offset && other.end() <= self.end()
    }

    /// Whether both ends lie on block boundaries.
    pub const fn is_aligned(self) -> bool {
        self.offset.is_multiple_of(BLOCK_BYTES) && self.length.is_multiple_of(BLOCK_BYTES)
    }

    /// The smallest span of whole blocks that covers it.
    #[must_use]
    pub const fn widened(self) -> Span {
        let start = self.offset / BLOCK_BYTES * BLOCK_BYTES;
        let end = self.end().next_multiple_of(BLOCK_BYTES);
        Span::new(start, end - start)
    }

    /// The numbers of the units of this size that it touches.
    fn units(self, unit_bytes: u64) -> std::ops::Range<u32> {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        number(self.offset / unit_bytes)..number(self.end().div_ceil(unit_bytes))
    }

    /// The chunks it touches.
    pub fn chunks(self) -> std::ops::Range<u32> {
        self.units(CHUNK_BYTES)
    }

    /// The extents it touches.
    pub fn extents(self) -> std::ops::Range<u32> {
        self.units(EXTENT_BYTES)
    }

    /// Which blocks of the chunk it touches, one bit a block.
    pub fn mask_in(self, chunk: u32) -> u32 {
        let whole = Span::chunk(chunk);
        if !self.overlaps(whole) || self.length == 0 {
            return 0;
        }
        let wide = self.widened();
        // The blocks of the chunk that lie below a byte of the volume.
        let below = |byte: u64| {
            let blocks = u32::try_from((byte - whole.offset) / BLOCK_BYTES).unwrap_or(CHUNK_BLOCKS);
            1u32.checked_shl(blocks).map_or(u32::MAX, |power| power - 1)
        };
        below(wide.end().min(whole.end())) & !below(wide.offset.max(whole.offset))
    }
}
