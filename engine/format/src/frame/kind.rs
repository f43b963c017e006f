//! The kinds of frame: their numbers, and what each allows in a header.
//!
//! The numbers are part of the protocol and are never used again for anything else.

use super::{
    ACKS_MAX, DIGESTS_MAX, HISTORY_MAX, MARKS_CHUNKS_MAX, PAYLOAD_BYTES_MAX, REASON_BYTES_MAX, body,
};
use crate::types::{BLOCK_BYTES, CHUNK_BYTES};

/// [`Frame::Identity`](super::Frame::Identity).
pub const IDENTITY: u8 = 1;
/// [`Frame::Marks`](super::Frame::Marks).
pub const MARKS: u8 = 2;
/// [`Frame::MarksEnd`](super::Frame::MarksEnd).
pub const MARKS_END: u8 = 3;
/// [`Frame::Configuration`](super::Frame::Configuration).
pub const CONFIGURATION: u8 = 4;
/// [`Frame::ConfigurationDone`](super::Frame::ConfigurationDone).
pub const CONFIGURATION_DONE: u8 = 5;
/// [`Frame::AdmitPrepare`](super::Frame::AdmitPrepare).
pub const ADMIT_PREPARE: u8 = 6;
/// [`Frame::AdmitReady`](super::Frame::AdmitReady).
pub const ADMIT_READY: u8 = 7;
/// [`Frame::HandoverRequest`](super::Frame::HandoverRequest).
pub const HANDOVER_REQUEST: u8 = 8;
/// [`Frame::HandoverRefused`](super::Frame::HandoverRefused).
pub const HANDOVER_REFUSED: u8 = 9;
/// [`Frame::Disk`](super::Frame::Disk).
pub const DISK: u8 = 10;
/// [`Frame::PlannedStop`](super::Frame::PlannedStop).
pub const PLANNED_STOP: u8 = 11;
/// [`Frame::Error`](super::Frame::Error).
pub const ERROR: u8 = 12;
/// [`Frame::Ping`](super::Frame::Ping).
pub const PING: u8 = 16;
/// [`Frame::Pong`](super::Frame::Pong).
pub const PONG: u8 = 17;
/// [`Frame::Write`](super::Frame::Write).
pub const WRITE: u8 = 32;
/// [`Frame::Zero`](super::Frame::Zero).
pub const ZERO: u8 = 33;
/// [`Frame::Acks`](super::Frame::Acks).
pub const ACKS: u8 = 34;
/// [`Frame::WriteFailed`](super::Frame::WriteFailed).
pub const WRITE_FAILED: u8 = 35;
/// [`Frame::Flush`](super::Frame::Flush).
pub const FLUSH: u8 = 36;
/// [`Frame::FlushDone`](super::Frame::FlushDone).
pub const FLUSH_DONE: u8 = 37;
/// [`Frame::Read`](super::Frame::Read).
pub const READ: u8 = 38;
/// [`Frame::ReadDone`](super::Frame::ReadDone).
pub const READ_DONE: u8 = 39;
/// [`Frame::ChunkHashes`](super::Frame::ChunkHashes).
pub const CHUNK_HASHES: u8 = 64;
/// [`Frame::ChunkVerdict`](super::Frame::ChunkVerdict).
pub const CHUNK_VERDICT: u8 = 65;
/// [`Frame::ChunkData`](super::Frame::ChunkData).
pub const CHUNK_DATA: u8 = 66;
/// [`Frame::ChunkZero`](super::Frame::ChunkZero).
pub const CHUNK_ZERO: u8 = 67;
/// [`Frame::ChunkWritten`](super::Frame::ChunkWritten).
pub const CHUNK_WRITTEN: u8 = 68;
/// [`Frame::ChunkEqual`](super::Frame::ChunkEqual).
pub const CHUNK_EQUAL: u8 = 69;
/// [`Frame::Checkpoint`](super::Frame::Checkpoint).
pub const CHECKPOINT: u8 = 70;
/// [`Frame::CheckpointDone`](super::Frame::CheckpointDone).
pub const CHECKPOINT_DONE: u8 = 71;
/// [`Frame::Settled`](super::Frame::Settled).
pub const SETTLED: u8 = 72;
/// [`Frame::WalkEnd`](super::Frame::WalkEnd).
pub const WALK_END: u8 = 73;

/// Header flag of a write or a zero: it must be durable before it is acknowledged.
pub const FLAG_FUA: u8 = 1;
/// Header flag of a zero: free the space.
pub const FLAG_UNMAP: u8 = 2;

/// What a kind allows in a header, so that every length is bounded before anything is allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Bytes of the body's fixed part.
    pub(super) body_fixed: usize,
    /// Bytes of one item of the body's list, or 0 if it has none.
    pub(super) item: usize,
    /// The most items.
    pub(super) items_max: usize,
    /// The fewest and the most bytes of the payload.
    pub(super) payload: (u64, u64),
    /// The flags it may have.
    pub(super) flags: u8,
}

impl Shape {
    /// Whether a body can be this long.
    pub(super) const fn allows_body(&self, length: usize) -> bool {
        match length.checked_sub(self.body_fixed) {
            Some(0) => true,
            Some(list) => {
                self.item > 0
                    && list.is_multiple_of(self.item)
                    && list / self.item <= self.items_max
            }
            None => false,
        }
    }

    /// Whether a payload can be this long.
    pub(super) const fn allows_payload(&self, length: u64) -> bool {
        let (min, max) = self.payload;
        min <= length && length <= max && length.is_multiple_of(BLOCK_BYTES)
    }
}

const PAYLOAD_MAX: u64 = PAYLOAD_BYTES_MAX as u64;

/// A body of this fixed size, and nothing else.
const fn fixed(bytes: usize) -> Shape {
    list(bytes, 0, 0)
}

/// A body of a fixed part and items.
const fn list(bytes: usize, item: usize, items_max: usize) -> Shape {
    Shape {
        body_fixed: bytes,
        item,
        items_max,
        payload: (0, 0),
        flags: 0,
    }
}

/// The shape of a kind, if there is such a kind.
pub(super) const fn shape(kind: u8) -> Option<Shape> {
    Some(match kind {
        IDENTITY => list(size_of::<body::IdentityBody>(), 16, HISTORY_MAX),
        MARKS => list(size_of::<body::MarksBody>(), 4, MARKS_CHUNKS_MAX),
        MARKS_END | HANDOVER_REQUEST | PLANNED_STOP | WALK_END => fixed(0),
        CONFIGURATION | ADMIT_PREPARE => fixed(size_of::<body::ConfigurationBody>()),
        CONFIGURATION_DONE | ADMIT_READY => fixed(size_of::<body::NumberBody>()),
        HANDOVER_REFUSED | ERROR => list(0, 1, REASON_BYTES_MAX),
        DISK => fixed(size_of::<body::DiskBody>()),
        PING => fixed(size_of::<body::PingBody>()),
        PONG | CHECKPOINT | SETTLED => fixed(size_of::<body::NumberBody>()),
        WRITE => Shape {
            payload: (BLOCK_BYTES, PAYLOAD_MAX),
            flags: FLAG_FUA,
            ..fixed(size_of::<body::WriteBody>())
        },
        ZERO => Shape {
            flags: FLAG_FUA | FLAG_UNMAP,
            ..fixed(size_of::<body::ZeroBody>())
        },
        ACKS => list(0, 8, ACKS_MAX),
        WRITE_FAILED | FLUSH_DONE | CHECKPOINT_DONE => fixed(size_of::<body::OutcomeBody>()),
        FLUSH => fixed(size_of::<body::FlushBody>()),
        READ => fixed(size_of::<body::ReadBody>()),
        READ_DONE => Shape {
            payload: (0, PAYLOAD_MAX),
            ..fixed(size_of::<body::OutcomeBody>())
        },
        CHUNK_HASHES => list(size_of::<body::HashesBody>(), 16, DIGESTS_MAX),
        CHUNK_VERDICT | CHUNK_WRITTEN => fixed(size_of::<body::ChunkOutcomeBody>()),
        CHUNK_DATA => Shape {
            payload: (BLOCK_BYTES, CHUNK_BYTES),
            ..fixed(size_of::<body::ChunkBody>())
        },
        CHUNK_ZERO | CHUNK_EQUAL => fixed(size_of::<body::ChunkBody>()),
        _ => return None,
    })
}
