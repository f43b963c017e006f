//! What a frame must be, wherever it comes from.

use super::{DIGESTS_MAX, Frame, HISTORY_MAX, Identity, MARKS_CHUNKS_MAX, PAYLOAD_BYTES_MAX};
use crate::types::{BLOCK_BYTES, CHUNK_BYTES, Span, VOLUME_BYTES_MAX};

/// One past the last chunk that any volume has.
const CHUNKS_MAX: u64 = VOLUME_BYTES_MAX / CHUNK_BYTES;

impl Frame {
    /// What is wrong with the frame, if anything: no sender may send such a frame, and none is decoded.
    /// What it says still has to fit the volume, which only the receiver knows.
    pub fn invalid(&self) -> Option<&'static str> {
        match self {
            Frame::Identity(identity) => identity.invalid(),
            Frame::Marks { first_chunk, masks } => invalid_marks(*first_chunk, masks),
            Frame::Write { offset, length, .. } => invalid_data(*offset, *length),
            Frame::Read { offset, length, .. } => invalid_data(*offset, *length),
            Frame::Zero { offset, length, .. } => invalid_span(*offset, *length),
            Frame::ReadDone {
                length,
                fault: None,
                ..
            } => invalid_data(0, *length),
            Frame::ReadDone { length, .. } => {
                (*length != 0).then_some("data of a read that has failed")
            }
            Frame::ChunkHashes {
                chunk,
                mask,
                digests,
                ..
            } => invalid_chunk(*chunk).or_else(|| invalid_digests(*mask, digests.len())),
            Frame::ChunkVerdict { chunk, .. } | Frame::ChunkEqual { chunk, .. } => {
                invalid_chunk(*chunk)
            }
            Frame::ChunkData { chunk, mask }
            | Frame::ChunkZero { chunk, mask }
            | Frame::ChunkWritten { chunk, mask, .. } => {
                invalid_chunk(*chunk).or_else(|| invalid_run(*mask))
            }
            Frame::MarksEnd
            | Frame::Configuration(_)
            | Frame::ConfigurationDone { .. }
            | Frame::AdmitPrepare(_)
            | Frame::AdmitReady { .. }
            | Frame::HandoverRequest
            | Frame::HandoverRefused { .. }
            | Frame::Acks(_)
            | Frame::WriteFailed { .. }
            | Frame::Flush { .. }
            | Frame::FlushDone { .. }
            | Frame::Ping { .. }
            | Frame::Pong { .. }
            | Frame::Checkpoint { .. }
            | Frame::CheckpointDone { .. }
            | Frame::Settled { .. }
            | Frame::WalkEnd
            | Frame::Disk(_)
            | Frame::PlannedStop
            | Frame::Error { .. } => None,
        }
    }
}

impl Identity {
    fn invalid(&self) -> Option<&'static str> {
        if self.history.len() > HISTORY_MAX {
            return Some("an identity has too long a history");
        }
        let size = self.size_bytes;
        let whole = size.is_multiple_of(BLOCK_BYTES) && size <= VOLUME_BYTES_MAX;
        (!whole).then_some("an identity has an impossible size")
    }
}

fn invalid_marks(first_chunk: u32, masks: &[u32]) -> Option<&'static str> {
    if masks.len() > MARKS_CHUNKS_MAX {
        return Some("more marks than a frame carries");
    }
    // The last page of the largest volume covers some chunks that no volume has.
    invalid_chunk(first_chunk)
}

fn invalid_span(offset: u64, length: u64) -> Option<&'static str> {
    if length == 0 || !Span::new(offset, length).is_aligned() {
        return Some("a span that is not of whole blocks");
    }
    let end = offset.checked_add(length);
    end.is_none_or(|end| end > VOLUME_BYTES_MAX)
        .then_some("a span past the largest volume")
}

fn invalid_data(offset: u64, length: u32) -> Option<&'static str> {
    if length as usize > PAYLOAD_BYTES_MAX {
        return Some("more data than a frame carries");
    }
    invalid_span(offset, length.into())
}

fn invalid_chunk(chunk: u32) -> Option<&'static str> {
    (u64::from(chunk) >= CHUNKS_MAX).then_some("a chunk past the largest volume")
}

fn invalid_digests(mask: u32, digests: usize) -> Option<&'static str> {
    const { assert!(DIGESTS_MAX == u32::BITS as usize) };
    (mask.count_ones() as usize != digests).then_some("not one digest for each block of the mask")
}

fn invalid_run(mask: u32) -> Option<&'static str> {
    let from_first = mask.checked_shr(mask.trailing_zeros()).unwrap_or(0);
    let is_run = mask != 0 && from_first & from_first.wrapping_add(1) == 0;
    (!is_run).then_some("a mask that is not one run of blocks")
}
