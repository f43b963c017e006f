//! From a frame to bytes, and what of a frame decides how many.

use super::body::{
    ChunkBody, ChunkOutcomeBody, ConfigurationBody, DiskBody, FlushBody, HashesBody, IdentityBody,
    MarksBody, NumberBody, OutcomeBody, PingBody, ReadBody, WriteBody, ZeroBody, fault_number,
    identity_flags,
};
use super::header::{HEADER_BYTES, Header, PayloadSummary};
use super::{Acks, Frame, Identity, Walk, kind};
use crate::types::BLOCK_BYTES;
use crate::wire::{bounded_reason, disk_state_number, flags, optional_configuration};
use bytes::BytesMut;
use zerocopy::IntoBytes;

impl Frame {
    /// Appends header and body. `payload` is the summary of what is sent behind them, for those
    /// frames that [have a payload](Frame::has_payload). Allocates nothing if `out` has room for
    /// [`Frame::wire_bytes`].
    ///
    /// # Panics
    ///
    /// If the frame is [invalid](Frame::invalid), or the payload not as long as the frame says: the
    /// receiver would end the session, or lose its place in the stream.
    pub fn encode(&self, epoch: u64, payload: Option<PayloadSummary>, out: &mut BytesMut) {
        let payload = payload.unwrap_or(PayloadSummary { length: 0, crc: 0 });
        assert_eq!(
            u64::from(payload.length),
            self.payload_bytes(),
            "the payload of {self:?}"
        );
        assert_eq!(self.invalid(), None, "{self:?}");
        let start = out.len();
        let body = start + HEADER_BYTES;
        out.reserve(HEADER_BYTES + self.body_bytes());
        out.extend_from_slice(&[0; HEADER_BYTES]);
        self.encode_body(out);
        debug_assert_eq!(out.len() - body, self.body_bytes(), "{self:?}");
        let header = Header {
            kind: self.kind(),
            flags: self.flags(),
            epoch,
            body_length: u32::try_from(out.len() - body).expect("a body has a few KiB"),
            body_crc: crc32fast::hash(&out[body..]),
            payload_length: payload.length,
            payload_crc: payload.crc,
        };
        out[start..body].copy_from_slice(header.encode().as_bytes());
    }

    /// Bytes of header and body, without the payload.
    pub fn wire_bytes(&self) -> u64 {
        (HEADER_BYTES + self.body_bytes()) as u64
    }

    /// Whether a payload follows the frame.
    pub fn has_payload(&self) -> bool {
        self.payload_bytes() > 0
    }

    /// Bytes of the payload that follows the frame; 0 if none does.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Frame::Write { length, .. } | Frame::ReadDone { length, .. } => u64::from(*length),
            Frame::ChunkData { mask, .. } => u64::from(mask.count_ones()) * BLOCK_BYTES,
            _ => 0,
        }
    }

    /// The number of the frame's [kind].
    pub fn kind(&self) -> u8 {
        match self {
            Frame::Identity(_) => kind::IDENTITY,
            Frame::Marks { .. } => kind::MARKS,
            Frame::MarksEnd => kind::MARKS_END,
            Frame::Configuration(_) => kind::CONFIGURATION,
            Frame::ConfigurationDone { .. } => kind::CONFIGURATION_DONE,
            Frame::AdmitPrepare(_) => kind::ADMIT_PREPARE,
            Frame::AdmitReady { .. } => kind::ADMIT_READY,
            Frame::HandoverRequest => kind::HANDOVER_REQUEST,
            Frame::HandoverRefused { .. } => kind::HANDOVER_REFUSED,
            Frame::Write { .. } => kind::WRITE,
            Frame::Zero { .. } => kind::ZERO,
            Frame::Acks(_) => kind::ACKS,
            Frame::WriteFailed { .. } => kind::WRITE_FAILED,
            Frame::Flush { .. } => kind::FLUSH,
            Frame::FlushDone { .. } => kind::FLUSH_DONE,
            Frame::Read { .. } => kind::READ,
            Frame::ReadDone { .. } => kind::READ_DONE,
            Frame::Ping { .. } => kind::PING,
            Frame::Pong { .. } => kind::PONG,
            Frame::ChunkHashes { .. } => kind::CHUNK_HASHES,
            Frame::ChunkVerdict { .. } => kind::CHUNK_VERDICT,
            Frame::ChunkData { .. } => kind::CHUNK_DATA,
            Frame::ChunkZero { .. } => kind::CHUNK_ZERO,
            Frame::ChunkWritten { .. } => kind::CHUNK_WRITTEN,
            Frame::ChunkEqual { .. } => kind::CHUNK_EQUAL,
            Frame::Checkpoint { .. } => kind::CHECKPOINT,
            Frame::CheckpointDone { .. } => kind::CHECKPOINT_DONE,
            Frame::Settled { .. } => kind::SETTLED,
            Frame::WalkEnd => kind::WALK_END,
            Frame::Disk(_) => kind::DISK,
            Frame::PlannedStop => kind::PLANNED_STOP,
            Frame::Error { .. } => kind::ERROR,
        }
    }

    fn flags(&self) -> u8 {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        match self {
            Frame::Write { fua, .. } => flag(*fua, kind::FLAG_FUA),
            Frame::Zero { unmap, fua, .. } => {
                flag(*fua, kind::FLAG_FUA) | flag(*unmap, kind::FLAG_UNMAP)
            }
            _ => 0,
        }
    }

    fn body_bytes(&self) -> usize {
        let fixed = kind::shape(self.kind()).map_or(0, |shape| shape.body_fixed);
        let list = match self {
            Frame::Identity(identity) => identity.history.len() * 16,
            Frame::Marks { masks, .. } => masks.len() * 4,
            Frame::Acks(acks) => acks.as_slice().len() * 8,
            Frame::ChunkHashes { digests, .. } => digests.len() * 16,
            Frame::HandoverRefused { reason } | Frame::Error { reason } => {
                bounded_reason(reason).len()
            }
            _ => 0,
        };
        fixed + list
    }

    /// One kind a line where it fits, so that it reads as the table it is.
    #[rustfmt::skip]
    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Frame::Identity(identity) => identity.encode_body(out),
            Frame::Marks { first_chunk, masks } => {
                MarksBody::put(out, *first_chunk, [0; 4]);
                put_masks(out, masks);
            }
            Frame::MarksEnd | Frame::HandoverRequest | Frame::PlannedStop | Frame::WalkEnd => {}
            Frame::Configuration(configuration) | Frame::AdmitPrepare(configuration) => {
                ConfigurationBody::put(out, *configuration);
            }
            Frame::ConfigurationDone { epoch: number }
            | Frame::AdmitReady { epoch: number }
            | Frame::Pong { echo: number }
            | Frame::Checkpoint { number }
            | Frame::Settled { number } => NumberBody::put(out, *number),
            Frame::HandoverRefused { reason } | Frame::Error { reason } => {
                out.extend_from_slice(bounded_reason(reason).as_bytes());
            }
            Frame::Disk(state) => DiskBody::put(out, disk_state_number(*state), [0; 7]),
            Frame::Ping { sent_at, stable_through } => {
                PingBody::put(out, *sent_at, *stable_through);
            }
            Frame::Write { sequence, offset, stable_through, .. } => {
                WriteBody::put(out, *sequence, *offset, *stable_through);
            }
            Frame::Zero { sequence, offset, length, stable_through, .. } => {
                ZeroBody::put(out, *sequence, *offset, *length, *stable_through);
            }
            Frame::Acks(acks) => put_acks(out, acks),
            Frame::WriteFailed { sequence, fault } => {
                OutcomeBody::put(out, *sequence, fault_number(Some(*fault)), [0; 7]);
            }
            Frame::Flush { token, covers, stable_through } => {
                FlushBody::put(out, *token, *covers, *stable_through);
            }
            Frame::FlushDone { token: number, fault }
            | Frame::ReadDone { token: number, fault, .. }
            | Frame::CheckpointDone { number, fault } => {
                OutcomeBody::put(out, *number, fault_number(*fault), [0; 7]);
            }
            Frame::Read { token, offset, length } => {
                ReadBody::put(out, *token, *offset, *length, [0; 4]);
            }
            Frame::ChunkHashes { chunk, mask, walk, digests } => {
                HashesBody::put(out, *chunk, *mask, walk_number(*walk), [0; 7]);
                out.extend_from_slice(digests.as_bytes());
            }
            Frame::ChunkVerdict { chunk, differing: mask, fault }
            | Frame::ChunkWritten { chunk, mask, fault } => {
                ChunkOutcomeBody::put(out, *chunk, *mask, fault_number(*fault), [0; 7]);
            }
            Frame::ChunkData { chunk, mask }
            | Frame::ChunkZero { chunk, mask }
            | Frame::ChunkEqual { chunk, mask } => ChunkBody::put(out, *chunk, *mask),
        }
    }
}

impl Identity {
    fn encode_body(&self, out: &mut BytesMut) {
        let body = IdentityBody {
            volume: self.volume.0,
            size_bytes: self.size_bytes.into(),
            node: self.node.0,
            boot: self.boot.0,
            incarnation: self.incarnation.into(),
            known_incarnation: self.known_incarnation.into(),
            configuration: self.configuration.into(),
            data_generation: self.data_generation.0,
            proposal: optional_configuration(self.proposal),
            pending_admission: self.pending_admission.into(),
            marked_blocks: self.marked_blocks.into(),
            flags: self.flags().into(),
            disk_state: disk_state_number(self.disk_state),
            lease_ms: self.lease_ms.into(),
            reserved: [0; 1],
        };
        out.extend_from_slice(body.as_bytes());
        for generation in &self.history {
            out.extend_from_slice(&generation.0);
        }
    }

    fn flags(&self) -> u16 {
        flags(&[
            (self.history_complete, identity_flags::HISTORY_COMPLETE),
            (self.proposal.is_some(), identity_flags::PROPOSAL),
            (
                self.pending_admission.is_some(),
                identity_flags::PENDING_ADMISSION,
            ),
            (self.suspect, identity_flags::SUSPECT),
            (self.crashed_primary, identity_flags::CRASHED_PRIMARY),
            (self.discarded, identity_flags::DISCARDED),
            (self.forced, identity_flags::FORCED),
            (self.marks_valid, identity_flags::MARKS_VALID),
            (self.arbitrated, identity_flags::ARBITRATED),
        ])
    }
}

fn put_masks(out: &mut BytesMut, masks: &[u32]) {
    for mask in masks {
        out.extend_from_slice(&mask.to_le_bytes());
    }
}

fn put_acks(out: &mut BytesMut, acks: &Acks) {
    for sequence in acks.as_slice() {
        out.extend_from_slice(&sequence.to_le_bytes());
    }
}

/// A walk's number.
const fn walk_number(walk: Walk) -> u8 {
    match walk {
        Walk::Push => 1,
        Walk::Pull => 2,
        Walk::Compare => 3,
    }
}
