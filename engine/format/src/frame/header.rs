//! The header in front of every frame.

use super::kind::{self, Shape};
use crate::damage::{Damage, ensure};
use crate::wire::is_zero;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header.
pub const HEADER_BYTES: usize = size_of::<HeaderBytes>();
/// The version of the peer protocol that this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;

pub(super) const MAGIC: [u8; 4] = *b"TWBF";
/// What a header's checksum covers: all that lies before it.
const COVERED: usize = std::mem::offset_of!(HeaderBytes, header_crc);

/// A header as it lies in the stream.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct HeaderBytes {
    pub(super) magic: [u8; 4],
    pub(super) version: U16,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) epoch: U64,
    pub(super) body_length: U32,
    pub(super) body_crc: U32,
    pub(super) payload_length: U32,
    pub(super) payload_crc: U32,
    pub(super) reserved: [u8; 12],
    pub(super) header_crc: U32,
}

const _: () = assert!(HEADER_BYTES == 48);
const _: () = assert!(COVERED + 4 == HEADER_BYTES);

/// Length and checksum of the payload behind a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadSummary {
    /// How many bytes.
    pub length: u32,
    /// Their CRC-32.
    pub crc: u32,
}

impl PayloadSummary {
    /// The summary of these bytes, at most
    /// [`PAYLOAD_BYTES_MAX`](super::PAYLOAD_BYTES_MAX) of them.
    pub fn of(payload: &[u8]) -> PayloadSummary {
        let length = u32::try_from(payload.len()).expect("a payload is far below 4 GiB");
        PayloadSummary {
            length,
            crc: crc32fast::hash(payload),
        }
    }
}

/// A header that has been checked: its lengths are within the bounds of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) epoch: u64,
    pub(super) body_length: u32,
    pub(super) body_crc: u32,
    pub(super) payload_length: u32,
    pub(super) payload_crc: u32,
}

impl Header {
    /// The sender's epoch when it sent the frame.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes of the body that follows the header.
    pub fn body_length(&self) -> usize {
        self.body_length as usize
    }

    /// Bytes of the payload that follows the body; 0 if there is none.
    pub fn payload_length(&self) -> usize {
        self.payload_length as usize
    }

    /// Compares the payload's CRC-32, as it arrived, with the one that was sent.
    pub fn check_payload(&self, crc: u32) -> Result<(), Damage> {
        ensure(
            crc == self.payload_crc,
            "the frame's payload has a wrong checksum",
        )
    }

    /// The header in bytes, its checksum included.
    pub(super) fn encode(&self) -> HeaderBytes {
        let mut bytes = HeaderBytes {
            magic: MAGIC,
            version: PROTOCOL_VERSION.into(),
            kind: self.kind,
            flags: self.flags,
            epoch: self.epoch.into(),
            body_length: self.body_length.into(),
            body_crc: self.body_crc.into(),
            payload_length: self.payload_length.into(),
            payload_crc: self.payload_crc.into(),
            reserved: [0; 12],
            header_crc: U32::ZERO,
        };
        bytes.header_crc = crc32fast::hash(&bytes.as_bytes()[..COVERED]).into();
        bytes
    }
}

impl HeaderBytes {
    /// What is wrong with the header, if anything.
    fn invalid(&self) -> Option<&'static str> {
        let Some(shape) = kind::shape(self.kind) else {
            return Some("the frame is of an unknown kind");
        };
        if !is_zero(&self.reserved) {
            return Some("the frame header's reserved bytes are not zero");
        }
        if self.flags & !shape.flags != 0 {
            return Some("the frame has flags that its kind has not");
        }
        self.invalid_lengths(&shape)
    }

    fn invalid_lengths(&self, shape: &Shape) -> Option<&'static str> {
        if !shape.allows_body(self.body_length.get() as usize) {
            return Some("the frame's body has a length that its kind has not");
        }
        if !shape.allows_payload(self.payload_length.get().into()) {
            return Some("the frame's payload has a length that its kind has not");
        }
        // The checksum of nothing is 0, so that an absent payload has one too.
        let absent = self.payload_length == 0 && self.payload_crc != 0;
        absent.then_some("the frame has the checksum of a payload and no payload")
    }
}

/// Reads a header from its [`HEADER_BYTES`] bytes; every length in it is within the bounds of its
/// kind, so that a buffer of that length may be found.
pub fn decode_header(bytes: &[u8]) -> Result<Header, Damage> {
    let bytes = HeaderBytes::ref_from_bytes(bytes)
        .map_err(|_| Damage::new("the frame header has a wrong length"))?;
    ensure(bytes.magic == MAGIC, "the bytes are no frame header")?;
    // Before any other field, the version included: a flipped bit is not a newer version.
    ensure(
        bytes.header_crc == crc32fast::hash(&bytes.as_bytes()[..COVERED]),
        "the frame header has a wrong checksum",
    )?;
    ensure(
        bytes.version == PROTOCOL_VERSION,
        "the frame is of another protocol version",
    )?;
    Damage::check(bytes.invalid())?;
    Ok(Header {
        kind: bytes.kind,
        flags: bytes.flags,
        epoch: bytes.epoch.get(),
        body_length: bytes.body_length.get(),
        body_crc: bytes.body_crc.get(),
        payload_length: bytes.payload_length.get(),
        payload_crc: bytes.payload_crc.get(),
    })
}
