//! From bytes to a frame.

use super::body::{
    ChunkBody, ChunkOutcomeBody, ConfigurationBody, DiskBody, FlushBody, HashesBody, IdentityBody,
    MarksBody, NumberBody, OutcomeBody, PingBody, ReadBody, WriteBody, ZeroBody, fault,
    identity_flags,
};
use super::header::Header;
use super::{Acks, Fault, Frame, Identity, Walk, kind};
use crate::damage::{Damage, ensure};
use crate::types::{BootId, Configuration, Generation, NodeId, VolumeId};
use crate::wire::{disk_state, is_zero, read_optional_configuration};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

const LENGTH: Damage = Damage::new("the frame's body has a length that its kind has not");

impl Frame {
    /// Reads the frame of a header from its body, [`Header::body_length`] bytes.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Frame, Damage> {
        ensure(body.len() == header.body_length(), LENGTH.what)?;
        ensure(
            crc32fast::hash(body) == header.body_crc,
            "the frame's body has a wrong checksum",
        )?;
        let frame = parse(header, body)?;
        Damage::check(frame.invalid())?;
        ensure(
            frame.payload_bytes() == u64::from(header.payload_length),
            "the frame's payload has not the length that its body tells",
        )?;
        Ok(frame)
    }
}

/// One kind a line where it fits, so that it reads as the table it is.
#[rustfmt::skip]
fn parse(header: &Header, body: &[u8]) -> Result<Frame, Damage> {
    Ok(match header.kind {
        kind::IDENTITY => Frame::Identity(Box::new(identity(body)?)),
        kind::MARKS => marks(body)?,
        kind::MARKS_END => Frame::MarksEnd,
        kind::CONFIGURATION => Frame::Configuration(configuration(body)?),
        kind::CONFIGURATION_DONE => Frame::ConfigurationDone { epoch: number(body)? },
        kind::ADMIT_PREPARE => Frame::AdmitPrepare(configuration(body)?),
        kind::ADMIT_READY => Frame::AdmitReady { epoch: number(body)? },
        kind::HANDOVER_REQUEST => Frame::HandoverRequest,
        kind::HANDOVER_REFUSED => Frame::HandoverRefused { reason: reason(body)? },
        kind::DISK => fixed::<DiskBody>(body)?.frame()?,
        kind::PLANNED_STOP => Frame::PlannedStop,
        kind::ERROR => Frame::Error { reason: reason(body)? },
        kind::PING => fixed::<PingBody>(body)?.frame(),
        kind::PONG => Frame::Pong { echo: number(body)? },
        kind::WRITE => fixed::<WriteBody>(body)?.frame(header),
        kind::ZERO => fixed::<ZeroBody>(body)?.frame(header),
        kind::ACKS => Frame::Acks(acks(body)?),
        kind::WRITE_FAILED => match outcome(body)? {
            (sequence, Some(fault)) => Frame::WriteFailed { sequence, fault },
            (_, None) => return Err(Damage::new("a write failed without a fault")),
        },
        kind::FLUSH => fixed::<FlushBody>(body)?.frame(),
        kind::FLUSH_DONE => {
            let (token, fault) = outcome(body)?;
            Frame::FlushDone { token, fault }
        }
        kind::READ => fixed::<ReadBody>(body)?.frame()?,
        kind::READ_DONE => {
            let (token, fault) = outcome(body)?;
            Frame::ReadDone { token, length: header.payload_length, fault }
        }
        kind::CHUNK_HASHES => hashes(body)?,
        kind::CHUNK_VERDICT => {
            let (chunk, differing, fault) = chunk_outcome(body)?;
            Frame::ChunkVerdict { chunk, differing, fault }
        }
        kind::CHUNK_DATA => chunk(body, |chunk, mask| Frame::ChunkData { chunk, mask })?,
        kind::CHUNK_ZERO => chunk(body, |chunk, mask| Frame::ChunkZero { chunk, mask })?,
        kind::CHUNK_EQUAL => chunk(body, |chunk, mask| Frame::ChunkEqual { chunk, mask })?,
        kind::CHUNK_WRITTEN => {
            let (chunk, mask, fault) = chunk_outcome(body)?;
            Frame::ChunkWritten { chunk, mask, fault }
        }
        kind::CHECKPOINT => Frame::Checkpoint { number: number(body)? },
        kind::CHECKPOINT_DONE => {
            let (number, fault) = outcome(body)?;
            Frame::CheckpointDone { number, fault }
        }
        kind::SETTLED => Frame::Settled { number: number(body)? },
        kind::WALK_END => Frame::WalkEnd,
        _ => return Err(Damage::new("the frame is of an unknown kind")),
    })
}

/// A body without a list.
fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(body: &[u8]) -> Result<&T, Damage> {
    T::ref_from_bytes(body).map_err(|_| LENGTH)
}

/// A body with a list.
fn listed<Head, Item>(body: &[u8]) -> Result<(&Head, &[Item]), Damage>
where
    Head: FromBytes + KnownLayout + Immutable + Unaligned,
    Item: FromBytes + Immutable + Unaligned,
{
    let (head, rest) = Head::ref_from_prefix(body).map_err(|_| LENGTH)?;
    let items = <[Item]>::ref_from_bytes(rest).map_err(|_| LENGTH)?;
    Ok((head, items))
}

fn reserved(bytes: &[u8]) -> Result<(), Damage> {
    ensure(
        is_zero(bytes),
        "the reserved bytes of the frame's body are not zero",
    )
}

impl WriteBody {
    fn frame(&self, header: &Header) -> Frame {
        Frame::Write {
            sequence: self.sequence.get(),
            offset: self.offset.get(),
            length: header.payload_length,
            fua: header.flags & kind::FLAG_FUA != 0,
            stable_through: self.stable_through.get(),
        }
    }
}

impl ZeroBody {
    fn frame(&self, header: &Header) -> Frame {
        Frame::Zero {
            sequence: self.sequence.get(),
            offset: self.offset.get(),
            length: self.length.get(),
            unmap: header.flags & kind::FLAG_UNMAP != 0,
            fua: header.flags & kind::FLAG_FUA != 0,
            stable_through: self.stable_through.get(),
        }
    }
}

impl PingBody {
    fn frame(&self) -> Frame {
        Frame::Ping {
            sent_at: self.sent_at.get(),
            stable_through: self.stable_through.get(),
        }
    }
}

impl FlushBody {
    fn frame(&self) -> Frame {
        Frame::Flush {
            token: self.token.get(),
            covers: self.covers.get(),
            stable_through: self.stable_through.get(),
        }
    }
}

impl ReadBody {
    fn frame(&self) -> Result<Frame, Damage> {
        reserved(&self.reserved)?;
        Ok(Frame::Read {
            token: self.token.get(),
            offset: self.offset.get(),
            length: self.length.get(),
        })
    }
}

impl DiskBody {
    fn frame(&self) -> Result<Frame, Damage> {
        reserved(&self.reserved)?;
        disk_state(self.disk_state).map(Frame::Disk)
    }
}

fn number(body: &[u8]) -> Result<u64, Damage> {
    Ok(fixed::<NumberBody>(body)?.number.get())
}

fn configuration(body: &[u8]) -> Result<Configuration, Damage> {
    fixed::<ConfigurationBody>(body)?.configuration.read()
}

fn outcome(body: &[u8]) -> Result<(u64, Option<Fault>), Damage> {
    let body = fixed::<OutcomeBody>(body)?;
    reserved(&body.reserved)?;
    Ok((body.number.get(), fault(body.fault)?))
}

fn chunk(body: &[u8], frame: fn(u32, u32) -> Frame) -> Result<Frame, Damage> {
    let body = fixed::<ChunkBody>(body)?;
    Ok(frame(body.chunk.get(), body.mask.get()))
}

fn chunk_outcome(body: &[u8]) -> Result<(u32, u32, Option<Fault>), Damage> {
    let body = fixed::<ChunkOutcomeBody>(body)?;
    reserved(&body.reserved)?;
    Ok((body.chunk.get(), body.mask.get(), fault(body.fault)?))
}

fn acks(body: &[u8]) -> Result<Acks, Damage> {
    let sequences = <[U64]>::ref_from_bytes(body).map_err(|_| LENGTH)?;
    let mut acks = Acks::default();
    for sequence in sequences {
        ensure(acks.push(sequence.get()), LENGTH.what)?;
    }
    Ok(acks)
}

fn marks(body: &[u8]) -> Result<Frame, Damage> {
    let (head, masks) = listed::<MarksBody, U32>(body)?;
    reserved(&head.reserved)?;
    Ok(Frame::Marks {
        first_chunk: head.first_chunk.get(),
        masks: masks.iter().map(|mask| mask.get()).collect(),
    })
}

fn hashes(body: &[u8]) -> Result<Frame, Damage> {
    let (head, digests) = listed::<HashesBody, [u8; 16]>(body)?;
    reserved(&head.reserved)?;
    Ok(Frame::ChunkHashes {
        chunk: head.chunk.get(),
        mask: head.mask.get(),
        walk: match head.walk {
            1 => Walk::Push,
            2 => Walk::Pull,
            3 => Walk::Compare,
            _ => return Err(Damage::new("an unknown kind of walk")),
        },
        digests: digests.into(),
    })
}

fn reason(body: &[u8]) -> Result<Box<str>, Damage> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Damage::new("the reason in the frame is not UTF-8"))?;
    Ok(text.into())
}

fn identity(body: &[u8]) -> Result<Identity, Damage> {
    let (head, history) = listed::<IdentityBody, [u8; 16]>(body)?;
    reserved(&head.reserved)?;
    let flags = head.flags.get();
    let has = |flag: u16| flags & flag != 0;
    ensure(!has(!identity_flags::ALL), "an identity has unknown flags")?;
    Ok(Identity {
        volume: VolumeId(head.volume),
        size_bytes: head.size_bytes.get(),
        node: NodeId(head.node),
        boot: BootId(head.boot),
        incarnation: head.incarnation.get(),
        known_incarnation: head.known_incarnation.get(),
        configuration: head.configuration.read()?,
        data_generation: Generation(head.data_generation),
        history: history.iter().copied().map(Generation).collect(),
        history_complete: has(identity_flags::HISTORY_COMPLETE),
        pending_admission: head
            .pending_admission
            .read(has(identity_flags::PENDING_ADMISSION))?,
        proposal: read_optional_configuration(has(identity_flags::PROPOSAL), &head.proposal)?,
        disk_state: disk_state(head.disk_state)?,
        suspect: has(identity_flags::SUSPECT),
        crashed_primary: has(identity_flags::CRASHED_PRIMARY),
        discarded: has(identity_flags::DISCARDED),
        forced: has(identity_flags::FORCED),
        arbitrated: has(identity_flags::ARBITRATED),
        lease_ms: head.lease_ms.get(),
        marked_blocks: head.marked_blocks.get(),
        marks_valid: has(identity_flags::MARKS_VALID),
    })
}
