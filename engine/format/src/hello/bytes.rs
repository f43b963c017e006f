//! The messages of the handshake in bytes: a prefix of fixed size, and a body that it bounds.

use super::{Hello, Link, LinkKey, Opening, Proof, Welcome, verify};
use crate::damage::{Damage, ensure};
use crate::frame::REASON_BYTES_MAX;
use crate::types::{NodeId, VolumeId};
use crate::wire::{NO_SLOT, WireName, bounded_reason, is_zero, slot};
use std::ops::RangeInclusive;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a message's prefix.
pub const PREFIX_BYTES: usize = size_of::<PrefixBytes>();

const MAGIC: [u8; 4] = *b"TWBH";
/// Where the bytes begin that the checksum covers: the rest of the prefix, and the body.
const COVERED: usize = std::mem::offset_of!(PrefixBytes, kind);
const MAC_BYTES: usize = 32;

pub(super) const OPENING: u8 = 1;
pub(super) const PROOF: u8 = 2;
pub(super) const HELLO: u8 = 3;
pub(super) const WELCOME: u8 = 4;

pub(super) const LINK_CONTROL: u8 = 1;
pub(super) const LINK_DATA: u8 = 2;

const LENGTH: Damage = Damage::new("the message has a length that its kind has not");
const RESERVED: &str = "the message's reserved bytes are not zero";

/// In front of every message.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct PrefixBytes {
    pub(super) magic: [u8; 4],
    pub(super) crc: U32,
    pub(super) kind: u8,
    pub(super) reserved: [u8; 3],
    pub(super) length: U32,
}

/// The body of an opening. It is the same in every version to come: it is read before one is agreed.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct OpeningBody {
    pub(super) version_min: U16,
    pub(super) version_max: U16,
    pub(super) reserved: [u8; 4],
    pub(super) features: U64,
    pub(super) nonce: [u8; 32],
}

/// The body of a proof.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ProofBody {
    pub(super) mac: [u8; MAC_BYTES],
}

/// The body of a hello; its keyed hash follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct HelloBody {
    pub(super) node: [u8; 16],
    pub(super) name: WireName,
    pub(super) link: u8,
    pub(super) slot: u8,
    pub(super) reserved: [u8; 6],
    pub(super) volume: [u8; 16],
}

/// The body of a welcome; the reason follows, if there is one, and then its keyed hash.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct WelcomeBody {
    pub(super) node: [u8; 16],
    pub(super) name: WireName,
    pub(super) accepted: u8,
    pub(super) reserved: [u8; 7],
}

const _: () = assert!(PREFIX_BYTES == 16);
const _: () = assert!(size_of::<OpeningBody>() == 48);
const _: () = assert!(size_of::<ProofBody>() == 32);
const _: () = assert!(size_of::<HelloBody>() == 104);
const _: () = assert!(size_of::<WelcomeBody>() == 88);

/// A prefix that has been checked: the length is within the bounds of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    kind: u8,
    length: u32,
    crc: u32,
}

/// Reads a prefix from its [`PREFIX_BYTES`] bytes.
pub fn decode_prefix(bytes: &[u8]) -> Result<Prefix, Damage> {
    let prefix = PrefixBytes::ref_from_bytes(bytes).map_err(|_| LENGTH)?;
    ensure(prefix.magic == MAGIC, "the peer does not speak twinblk")?;
    ensure(is_zero(&prefix.reserved), RESERVED)?;
    let length = prefix.length.get() as usize;
    let bounds =
        body_bounds(prefix.kind).ok_or(Damage::new("the message is of an unknown kind"))?;
    ensure(bounds.contains(&length), LENGTH.what)?;
    Ok(Prefix {
        kind: prefix.kind,
        length: prefix.length.get(),
        crc: prefix.crc.get(),
    })
}

/// How long the body of a kind of message can be.
pub(super) const fn body_bounds(kind: u8) -> Option<RangeInclusive<usize>> {
    let (fixed, variable) = match kind {
        OPENING => (size_of::<OpeningBody>(), 0),
        PROOF => (size_of::<ProofBody>(), 0),
        HELLO => (size_of::<HelloBody>() + MAC_BYTES, 0),
        WELCOME => (size_of::<WelcomeBody>() + MAC_BYTES, REASON_BYTES_MAX),
        _ => return None,
    };
    Some(fixed..=fixed + variable)
}

impl Prefix {
    /// Bytes of the body that follows the prefix.
    pub fn body_length(&self) -> usize {
        self.length as usize
    }

    /// The bytes that the checksum and the keyed hash cover, before the body.
    fn covered(&self) -> [u8; PREFIX_BYTES - COVERED] {
        let [a, b, c, d] = self.length.to_le_bytes();
        [self.kind, 0, 0, 0, a, b, c, d]
    }

    /// Checks that the body is of this message and the message of this kind.
    fn check(&self, kind: u8, body: &[u8]) -> Result<(), Damage> {
        ensure(self.kind == kind, "another message was due")?;
        ensure(body.len() == self.body_length(), LENGTH.what)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.covered());
        crc.update(body);
        ensure(
            crc.finalize() == self.crc,
            "the message has a wrong checksum",
        )
    }

    /// As [`check`](Prefix::check), for a message that ends in its keyed hash; what is before it.
    fn unseal<'a>(&self, kind: u8, key: &LinkKey, body: &'a [u8]) -> Result<&'a [u8], Damage> {
        self.check(kind, body)?;
        let (content, mac) = body.split_last_chunk::<MAC_BYTES>().ok_or(LENGTH)?;
        let sealed = [&self.covered()[..], content].concat();
        ensure(
            verify(&key.mac(&sealed), mac),
            "the message has been altered on its way",
        )?;
        Ok(content)
    }
}

/// A message that is being put together.
struct Draft(Vec<u8>);

impl Draft {
    /// The prefix of a message whose body has this length, but for the checksum.
    fn new(kind: u8, length: usize) -> Draft {
        let prefix = PrefixBytes {
            magic: MAGIC,
            crc: U32::ZERO,
            kind,
            reserved: [0; 3],
            length: u32::try_from(length).expect("messages are short").into(),
        };
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + length);
        bytes.extend_from_slice(prefix.as_bytes());
        Draft(bytes)
    }

    fn put(mut self, bytes: &[u8]) -> Draft {
        self.0.extend_from_slice(bytes);
        self
    }

    fn seal(self, key: &LinkKey) -> Draft {
        let mac = key.mac(&self.0[COVERED..]);
        self.put(&mac)
    }

    fn finish(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.0[COVERED..]);
        self.0[std::mem::offset_of!(PrefixBytes, crc)..COVERED].copy_from_slice(&crc.to_le_bytes());
        self.0
    }
}

impl Opening {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let body = OpeningBody {
            version_min: self.versions.0.into(),
            version_max: self.versions.1.into(),
            reserved: [0; 4],
            features: self.features.into(),
            nonce: self.nonce,
        };
        Draft::new(OPENING, size_of::<OpeningBody>())
            .put(body.as_bytes())
            .finish()
    }

    /// Reads the body of the prefix.
    pub fn decode(prefix: &Prefix, body: &[u8]) -> Result<Opening, Damage> {
        prefix.check(OPENING, body)?;
        let body = OpeningBody::ref_from_bytes(body).map_err(|_| LENGTH)?;
        ensure(is_zero(&body.reserved), RESERVED)?;
        let versions = (body.version_min.get(), body.version_max.get());
        ensure(
            0 < versions.0 && versions.0 <= versions.1,
            "the opening has an impossible range of versions",
        )?;
        Ok(Opening {
            versions,
            features: body.features.get(),
            nonce: body.nonce,
        })
    }
}

impl Proof {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        Draft::new(PROOF, size_of::<ProofBody>())
            .put(ProofBody { mac: self.mac }.as_bytes())
            .finish()
    }

    /// Reads the body of the prefix; whether it proves anything, [`verify`] tells.
    pub fn decode(prefix: &Prefix, body: &[u8]) -> Result<Proof, Damage> {
        prefix.check(PROOF, body)?;
        let body = ProofBody::ref_from_bytes(body).map_err(|_| LENGTH)?;
        Ok(Proof { mac: body.mac })
    }
}

impl Hello {
    /// The message, sealed for its link.
    pub fn encode(&self, key: &LinkKey) -> Vec<u8> {
        let (link, slot, volume) = match self.link {
            Link::Control => (LINK_CONTROL, NO_SLOT, VolumeId::NONE),
            Link::Data { volume, slot } => (LINK_DATA, slot.number(), volume),
        };
        let body = HelloBody {
            node: self.node.0,
            name: (&self.name).into(),
            link,
            slot,
            reserved: [0; 6],
            volume: volume.0,
        };
        Draft::new(HELLO, size_of::<HelloBody>() + MAC_BYTES)
            .put(body.as_bytes())
            .seal(key)
            .finish()
    }

    /// Reads the body of the prefix, if its seal is this link's.
    pub fn decode(prefix: &Prefix, body: &[u8], key: &LinkKey) -> Result<Hello, Damage> {
        let content = prefix.unseal(HELLO, key, body)?;
        let body = HelloBody::ref_from_bytes(content).map_err(|_| LENGTH)?;
        ensure(is_zero(&body.reserved), RESERVED)?;
        let link = match body.link {
            LINK_CONTROL => {
                let unused = body.slot == NO_SLOT && is_zero(&body.volume);
                ensure(unused, "a control link names a volume")?;
                Link::Control
            }
            LINK_DATA => Link::Data {
                volume: VolumeId(body.volume),
                slot: slot(body.slot)?,
            },
            _ => return Err(Damage::new("the hello asks for an unknown kind of link")),
        };
        Ok(Hello {
            node: NodeId(body.node),
            name: body.name.read()?,
            link,
        })
    }
}

impl Welcome {
    /// The message, sealed for its link.
    pub fn encode(&self, key: &LinkKey) -> Vec<u8> {
        let reason = match &self.accepted {
            Ok(()) => "",
            Err(reason) => bounded_reason(reason),
        };
        let body = WelcomeBody {
            node: self.node.0,
            name: (&self.name).into(),
            accepted: self.accepted.is_ok().into(),
            reserved: [0; 7],
        };
        Draft::new(WELCOME, size_of::<WelcomeBody>() + reason.len() + MAC_BYTES)
            .put(body.as_bytes())
            .put(reason.as_bytes())
            .seal(key)
            .finish()
    }

    /// Reads the body of the prefix, if its seal is this link's.
    pub fn decode(prefix: &Prefix, body: &[u8], key: &LinkKey) -> Result<Welcome, Damage> {
        let content = prefix.unseal(WELCOME, key, body)?;
        let (body, reason) = WelcomeBody::ref_from_prefix(content).map_err(|_| LENGTH)?;
        ensure(is_zero(&body.reserved), RESERVED)?;
        let accepted = match body.accepted {
            1 => {
                ensure(reason.is_empty(), "a link is accepted and refused")?;
                Ok(())
            }
            0 => {
                let text = std::str::from_utf8(reason)
                    .map_err(|_| Damage::new("the reason in the welcome is not UTF-8"))?;
                Err(text.into())
            }
            _ => return Err(Damage::new("the welcome neither accepts nor refuses")),
        };
        Ok(Welcome {
            node: NodeId(body.node),
            name: body.name.read()?,
            accepted,
        })
    }
}
