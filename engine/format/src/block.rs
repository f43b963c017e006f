//! What all metadata blocks have in common: their head, their checksum and the order in which they
//! are checked.
//!
//! The head's magic, checksum, length and version lie at the same places in every version to come,
//! so that an older program can tell a newer file from a damaged one.

#[cfg(test)]
mod tests;

use crate::damage::{Damage, ensure};
use crate::wire::is_zero;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;

/// The same, as a head says it.
const LENGTH: U32 = U32::new(4096);

const _: () = assert!(BLOCK == LENGTH.get() as usize);

/// The version of the metadata that this crate writes.
pub(crate) const VERSION: u16 = 1;

/// The block is not there in full.
pub(crate) const SHORT: Damage = Damage::new("it is cut short");
/// The block is not of the kind that belongs there, nor of any version of it.
pub(crate) const FOREIGN: Damage = Damage::new("it has not the mark of a twinblk block");
/// The block is sound, and of a version that only a newer program knows.
pub(crate) const NEWER: Damage = Damage::new("it was written by a newer version of twinblk");

/// The head of every block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Head {
    pub(crate) magic: [u8; 8],
    /// The CRC-32 of all that follows it in the block.
    pub(crate) crc: U32,
    /// Bytes of the block.
    pub(crate) length: U32,
    pub(crate) version: U16,
    pub(crate) reserved: [u8; 6],
}

const _: () = assert!(size_of::<Head>() == 24);
/// Where the bytes begin that the checksum covers.
const COVERED: usize = std::mem::offset_of!(Head, length);

/// A block of this version, as it lies on the disk: [`Head`] and then what it says.
pub(crate) trait Block: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {
    /// Tells the kinds of blocks apart.
    const MAGIC: [u8; 8];

    /// What is wrong with what it says, its head left aside.
    fn invalid(&self) -> Option<&'static str>;
}

/// The bytes of a block, whose head is filled in.
pub(crate) fn seal<B: Block>(block: &B) -> Box<[u8; BLOCK]> {
    const { assert!(size_of::<B>() == BLOCK) };
    let mut bytes = Box::new([0; BLOCK]);
    bytes.copy_from_slice(block.as_bytes());
    let mut head = Head {
        magic: B::MAGIC,
        crc: U32::ZERO,
        length: LENGTH,
        version: VERSION.into(),
        reserved: [0; 6],
    };
    bytes[..size_of::<Head>()].copy_from_slice(head.as_bytes());
    head.crc = crc32fast::hash(&bytes[COVERED..]).into();
    bytes[..size_of::<Head>()].copy_from_slice(head.as_bytes());
    bytes
}

/// The version of a block with this magic, once its checksum has shown that it is sound. Each
/// version's bytes are then read by a function of its own.
pub(crate) fn version(bytes: &[u8], magic: [u8; 8]) -> Result<u16, Damage> {
    ensure(bytes.len() == BLOCK, SHORT.what)?;
    let (head, _) = Head::ref_from_prefix(bytes).map_err(|_| SHORT)?;
    ensure(head.magic == magic, FOREIGN.what)?;
    // Before the version: a flipped bit is not a newer version.
    ensure(
        head.crc == crc32fast::hash(&bytes[COVERED..]),
        "its checksum is wrong",
    )?;
    match head.version.get() {
        version @ 1..=VERSION => Ok(version),
        0 => Err(Damage::new("it is of version 0, which never was")),
        _ => Err(NEWER),
    }
}

/// A block of the present version, whose [`version`] has been told.
pub(crate) fn open<B: Block>(bytes: &[u8]) -> Result<&B, Damage> {
    let (head, _) = Head::ref_from_prefix(bytes).map_err(|_| SHORT)?;
    let block = B::ref_from_bytes(bytes).map_err(|_| SHORT)?;
    ensure(head.length == LENGTH, "its length is wrong")?;
    ensure(is_zero(&head.reserved), RESERVED)?;
    Damage::check(block.invalid())?;
    Ok(block)
}

/// Says that what nobody uses has been written to.
pub(crate) const RESERVED: &str = "its reserved bytes are not zero";
