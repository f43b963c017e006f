//! The superblock: what a replica knows of itself, in two copies.

use crate::types::{
    BootId, Configuration, DiskState, Generation, Name, NodeId, NodeSet, REPLICAS_MAX, Slot,
    VolumeId,
};

/// One replica of the volume, as the superblock names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    /// Its node.
    pub node: NodeId,
    /// Its node's name.
    pub name: Name,
}

/// What a replica knows of itself. Both copies on disk are written, one durable before the other
/// is begun, before a change counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Counts the writes of the superblock; the copy with the higher number is the newer.
    pub sequence: u64,
    /// The volume.
    pub volume: VolumeId,
    /// Its name.
    pub name: Name,
    /// Its size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// This replica's slot.
    pub slot: Slot,
    /// All replicas, by slot.
    pub replicas: [Option<Replica>; REPLICAS_MAX],
    /// The latest configuration that this replica knows of.
    pub configuration: Configuration,
    /// The generation that its data descends from.
    pub data_generation: Generation,
    /// The ancestors of `data_generation`, latest first, at most
    /// [`HISTORY_MAX`](crate::frame::HISTORY_MAX).
    pub history: Vec<Generation>,
    /// Whether `history` reaches back to the volume's creation.
    pub history_complete: bool,
    /// A configuration proposed to an arbiter and not seen decided.
    pub proposal: Option<Configuration>,
    /// An admission promised and not seen committed: (epoch, generation).
    pub pending_admission: Option<(u64, Generation)>,
    /// What its data is worth.
    pub disk_state: DiskState,
    /// The last stop was orderly: everything is flushed and the activity log is void.
    pub clean: bool,
    /// It may have lost acknowledged writes in a power cut.
    pub suspect: bool,
    /// It was primary when it last stopped, uncleanly.
    pub crashed_primary: bool,
    /// An operator gave its side of a split brain up.
    pub discarded: bool,
    /// Its generation was made by force and has not been healed.
    pub forced: bool,
    /// The machine's boot in which the replica was last open.
    pub boot: BootId,
    /// Blocks of the activity log that carry another instance are void.
    pub log_instance: u64,
    /// For each slot: bitmap pages written in an earlier epoch are void.
    pub mark_floor: [u64; REPLICAS_MAX],
    /// The slots for which this replica's marks cover all that differs.
    pub marks_valid: NodeSet,
}
