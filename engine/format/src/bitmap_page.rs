//! A page of the dirty-region bitmap: which blocks one other replica misses.

#[cfg(test)]
mod tests;

use crate::block::{self, BLOCK, Block, Head, RESERVED, VERSION};
use crate::damage::{Damage, ensure};
use crate::types::{CHUNK_BYTES, Slot, VOLUME_BYTES_MAX};
use crate::wire::{is_zero, slot};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Chunk masks in a page.
pub const PAGE_CHUNKS: usize = crate::frame::MARKS_CHUNKS_MAX;
/// Extents that a page covers.
pub const PAGE_EXTENTS: usize = PAGE_CHUNKS / crate::types::EXTENT_CHUNKS as usize;
/// One past the last page that any volume has.
const PAGES_MAX: u64 = VOLUME_BYTES_MAX.div_ceil(CHUNK_BYTES * PAGE_CHUNKS as u64);

// An extent's marks lie in one page, so that one write of it lets the extent leave the log.
const _: () = assert!(PAGE_CHUNKS.is_multiple_of(crate::types::EXTENT_CHUNKS as usize));

/// One page. Page `i` covers the chunks from `i * PAGE_CHUNKS` on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BitmapPage {
    /// The replica that misses the blocks.
    pub slot: Slot,
    /// Its place in that replica's bitmap.
    pub index: u32,
    /// The epoch in which it was written; see the superblock's `mark_floor`.
    pub epoch: u64,
    /// One mask a chunk.
    pub masks: Box<[u32; PAGE_CHUNKS]>,
}

/// Where a page's fields lie: 64 bytes, and then the masks.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BitmapPageBytes {
    head: Head,
    epoch: U64,
    index: U32,
    slot: u8,
    reserved: [u8; 27],
    masks: [U32; PAGE_CHUNKS],
}

const _: () = assert!(size_of::<BitmapPageBytes>() == BLOCK);
const _: () = assert!(std::mem::offset_of!(BitmapPageBytes, masks) == 64);

impl Block for BitmapPageBytes {
    const MAGIC: [u8; 8] = *b"twinblkM";

    fn invalid(&self) -> Option<&'static str> {
        (!is_zero(&self.reserved)).then_some(RESERVED)
    }
}

impl BitmapPage {
    /// What is wrong with the page, if anything: none is written or read that is.
    pub fn invalid(&self) -> Option<&'static str> {
        (u64::from(self.index) >= PAGES_MAX).then_some("it lies past the largest volume")
    }

    /// Its bytes on the disk.
    ///
    /// # Panics
    ///
    /// If it is [invalid](BitmapPage::invalid): it could not be read again.
    pub fn encode(&self) -> Box<[u8; BLOCK]> {
        assert_eq!(self.invalid(), None, "{self:?}");
        let mut block = BitmapPageBytes::new_zeroed();
        block.epoch = self.epoch.into();
        block.index = self.index.into();
        block.slot = self.slot.number();
        for (wire, mask) in block.masks.iter_mut().zip(self.masks.iter()) {
            *wire = (*mask).into();
        }
        block::seal(&block)
    }

    /// The page of these bytes, in any version that this crate knows.
    pub fn decode(bytes: &[u8]) -> Result<BitmapPage, Damage> {
        match block::version(bytes, BitmapPageBytes::MAGIC)? {
            VERSION => block::open::<BitmapPageBytes>(bytes)?.read(),
            _ => Err(block::NEWER),
        }
    }

    /// The page that lies where this one belongs; `None` where none has ever been written, which the
    /// metadata file, being sparse, shows as zeroes. A sound page of another place is damage too: the
    /// disk has written it to a wrong place, or not written what belongs here.
    pub fn decode_at(slot: Slot, index: u32, bytes: &[u8]) -> Result<Option<BitmapPage>, Damage> {
        if bytes.len() == BLOCK && is_zero(bytes) {
            return Ok(None);
        }
        let page = BitmapPage::decode(bytes)?;
        ensure(
            (page.slot, page.index) == (slot, index),
            "it belongs to another place",
        )?;
        Ok(Some(page))
    }
}

impl BitmapPageBytes {
    fn read(&self) -> Result<BitmapPage, Damage> {
        let mut masks = Box::new([0; PAGE_CHUNKS]);
        for (mask, wire) in masks.iter_mut().zip(&self.masks) {
            *mask = wire.get();
        }
        let page = BitmapPage {
            slot: slot(self.slot)?,
            index: self.index.get(),
            epoch: self.epoch.get(),
            masks,
        };
        Damage::check(page.invalid())?;
        Ok(page)
    }
}
