//! What peers say to each other on a data link, once the link is authenticated.
//!
//! A frame is a header of fixed size, a body that its kind determines, and for some kinds a
//! payload: the volume's own bytes, which stay in an arena slot and are never part of a [`Frame`].

mod body;
mod decode;
mod encode;
mod header;
mod invalid;
pub mod kind;
mod order;
#[cfg(test)]
mod tests;

pub use header::{HEADER_BYTES, Header, PROTOCOL_VERSION, PayloadSummary, decode_header};
pub use order::Holds;

use crate::types::{BootId, Configuration, DiskState, Generation, NodeId, VolumeId};

/// The most payload bytes behind one frame: a large write must never delay a ping past the lease.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;
/// Acknowledgements that one frame carries.
pub const ACKS_MAX: usize = 15;
/// Digests that one frame carries: one for each block of a chunk.
pub const DIGESTS_MAX: usize = 32;
/// The longest reason that a frame carries, in bytes; a longer one is cut at a character.
pub const REASON_BYTES_MAX: usize = crate::wire::REASON_BYTES_MAX;
/// Generations of history that a replica remembers and tells.
pub const HISTORY_MAX: usize = 96;

/// The first 128 bits of a block's BLAKE3 hash.
pub type Digest = [u8; 16];

/// The digest of a block of zeroes.
pub const ZERO_BLOCK_DIGEST: Digest = [
    0xb6, 0xfb, 0x73, 0xfc, 0x46, 0x93, 0x8c, 0x98, 0x1e, 0x2b, 0x0b, 0x4b, 0x1e, 0xf2, 0x82, 0xad,
];

/// Why a peer could not do what it was asked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Its disk gave an error.
    Disk,
    /// Its disk is full.
    Full,
}

/// Sequence numbers of writes that the sender has done, at most [`ACKS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Acks {
    len: u8,
    sequences: [u64; ACKS_MAX],
}

impl Acks {
    /// Adds one; `false` if there is no room.
    #[must_use]
    pub fn push(&mut self, sequence: u64) -> bool {
        let Some(place) = self.sequences.get_mut(self.len as usize) else {
            return false;
        };
        *place = sequence;
        self.len += 1;
        true
    }

    /// The sequence numbers, in the order in which the writes ended.
    pub fn as_slice(&self) -> &[u64] {
        &self.sequences[..self.len as usize]
    }
}

impl std::fmt::Debug for Acks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// Who a replica is and what it knows: what a handshake compares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The volume.
    pub volume: VolumeId,
    /// Its size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// The sender's node.
    pub node: NodeId,
    /// The machine's boot.
    pub boot: BootId,
    /// Drawn at each start of the sender's process.
    pub incarnation: u64,
    /// The receiver's incarnation in the last session that got past the handshake, or 0.
    pub known_incarnation: u64,
    /// The latest configuration that the sender has persisted.
    pub configuration: Configuration,
    /// The generation that the sender's data descends from.
    pub data_generation: Generation,
    /// Its ancestors, latest first, at most [`HISTORY_MAX`].
    pub history: Vec<Generation>,
    /// Whether the history reaches back to the volume's creation.
    pub history_complete: bool,
    /// An admission that the sender has promised and not seen committed: (epoch, generation).
    pub pending_admission: Option<(u64, Generation)>,
    /// A configuration that the sender has proposed to an arbiter and not seen decided.
    pub proposal: Option<Configuration>,
    /// What the sender's data is worth.
    pub disk_state: DiskState,
    /// It may have lost acknowledged writes in a power cut.
    pub suspect: bool,
    /// It was primary when it last stopped, uncleanly.
    pub crashed_primary: bool,
    /// An operator gave its side of a split brain up.
    pub discarded: bool,
    /// Its generation was made by force.
    pub forced: bool,
    /// The sender asks an arbiter about its configurations.
    pub arbitrated: bool,
    /// The lease that it serves on as a primary, in milliseconds; 0 without an arbiter. Another's grace is counted
    /// against it.
    pub lease_ms: u32,
    /// Blocks that the sender has marked for the receiver, unstable ones left out.
    pub marked_blocks: u64,
    /// Whether those marks cover all that differs.
    pub marks_valid: bool,
}

/// What a driver of a walk wants done with the digests that it sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walk {
    /// Say which differ; the driver then sends its own blocks.
    Push,
    /// Send the blocks that differ; the driver writes them.
    Pull,
    /// Say which differ, and no more.
    Compare,
}

/// One frame. `offset` and `length` are bytes; a chunk's `mask` has one bit a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// First in a session, both ways.
    Identity(Box<Identity>),
    /// The sender's marks for one page of chunks: `masks[i]` is for chunk `first_chunk + i`.
    Marks {
        /// The first chunk.
        first_chunk: u32,
        /// At most [`crate::frame::MARKS_CHUNKS_MAX`] masks.
        masks: Box<[u32]>,
    },
    /// The sender has sent all its marks and is ready for the walk.
    MarksEnd,
    /// The sender's configuration from here on in the stream.
    Configuration(Configuration),
    /// The receiver of a configuration has persisted it.
    ConfigurationDone {
        /// Its epoch.
        epoch: u64,
    },
    /// Promise durably to be a member when this configuration is committed.
    AdmitPrepare(Configuration),
    /// The promise is durable.
    AdmitReady {
        /// The epoch of the configuration that was promised.
        epoch: u64,
    },
    /// Please make the sender the primary (swap), or tell it why not.
    HandoverRequest,
    /// The answer to a handover request that cannot be met.
    HandoverRefused {
        /// One sentence for a person.
        reason: Box<str>,
    },
    /// A write; its payload follows.
    Write {
        /// Orders the writes of one reign, from 2 on.
        sequence: u64,
        /// Where; whole blocks.
        offset: u64,
        /// How many bytes: the payload's length.
        length: u32,
        /// It must be durable before it is acknowledged.
        fua: bool,
        /// Writes through this one are durable on every member.
        stable_through: u64,
    },
    /// Zero a range, and where `unmap` free its space.
    Zero {
        /// As in a write.
        sequence: u64,
        /// Where; whole blocks.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// Free the space.
        unmap: bool,
        /// As in a write.
        fua: bool,
        /// As in a write.
        stable_through: u64,
    },
    /// Writes and zeroes that are done.
    Acks(Acks),
    /// A write or zero that could not be done.
    WriteFailed {
        /// Its number.
        sequence: u64,
        /// Why.
        fault: Fault,
    },
    /// Make durable every write through `covers`.
    Flush {
        /// Names the flush in its answer.
        token: u64,
        /// All members have acknowledged every write through this one.
        covers: u64,
        /// As in a write.
        stable_through: u64,
    },
    /// The answer to a flush.
    FlushDone {
        /// The flush.
        token: u64,
        /// What went wrong, if anything.
        fault: Option<Fault>,
    },
    /// Read a range for the sender; whole blocks.
    Read {
        /// Names the read in its answer.
        token: u64,
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u32,
    },
    /// What was read; a payload follows unless there is a fault.
    ReadDone {
        /// The read.
        token: u64,
        /// Payload bytes; 0 with a fault.
        length: u32,
        /// What went wrong, if anything.
        fault: Option<Fault>,
    },
    /// Is anybody there?
    Ping {
        /// The sender's clock, nanoseconds.
        sent_at: u64,
        /// As in a write.
        stable_through: u64,
    },
    /// The answer to a ping.
    Pong {
        /// The ping's `sent_at`.
        echo: u64,
    },
    /// The driver's digests of the blocks in `mask`, lowest block first.
    ChunkHashes {
        /// The chunk.
        chunk: u32,
        /// Which of its blocks.
        mask: u32,
        /// What to do with them.
        walk: Walk,
        /// One for each bit of the mask, at most [`DIGESTS_MAX`].
        digests: Box<[Digest]>,
    },
    /// Which of the hashed blocks differ; under [`Walk::Pull`] their data came before it.
    ChunkVerdict {
        /// The chunk.
        chunk: u32,
        /// The blocks that differ.
        differing: u32,
        /// What went wrong, if anything.
        fault: Option<Fault>,
    },
    /// A run of blocks of a chunk; the payload follows.
    ChunkData {
        /// The chunk.
        chunk: u32,
        /// The run, contiguous.
        mask: u32,
    },
    /// A run of blocks of a chunk that is all zero.
    ChunkZero {
        /// The chunk.
        chunk: u32,
        /// The run, contiguous.
        mask: u32,
    },
    /// Pushed blocks that the target has written.
    ChunkWritten {
        /// The chunk.
        chunk: u32,
        /// The run, as it came.
        mask: u32,
        /// What went wrong, if anything.
        fault: Option<Fault>,
    },
    /// These blocks are equal on both sides: the receiver may drop its own marks once settled.
    ChunkEqual {
        /// The chunk.
        chunk: u32,
        /// The blocks.
        mask: u32,
    },
    /// Make durable all that the walk has brought.
    Checkpoint {
        /// Counts the checkpoints of a walk.
        number: u64,
    },
    /// The receiver of a checkpoint has flushed.
    CheckpointDone {
        /// The checkpoint.
        number: u64,
        /// What went wrong, if anything.
        fault: Option<Fault>,
    },
    /// Both sides have flushed: marks dropped before this checkpoint are gone for good.
    Settled {
        /// The checkpoint.
        number: u64,
    },
    /// The walk has ended.
    WalkEnd,
    /// The sender's disk has changed its state.
    Disk(DiskState),
    /// The sender stops as planned and will be back.
    PlannedStop,
    /// The session is over.
    Error {
        /// One sentence for a person.
        reason: Box<str>,
    },
}

/// Masks that one [`Frame::Marks`] carries: those of a bitmap page.
pub const MARKS_CHUNKS_MAX: usize = 1008;
