//! A block of the activity log: which extents may differ between replicas after a crash.
//!
//! The log is a table of [`LOG_SLOTS`] extent numbers, kept by a ring of [`LOG_RING_BLOCKS`] blocks.
//! Each block says which places of the table change (`updates`) and repeats a window of the table
//! (`context`); [`LOG_CYCLE_BLOCKS`] consecutive blocks repeat all of it.

mod recovery;
#[cfg(test)]
mod tests;

pub use recovery::{Recovered, recover};

use crate::block::{self, BLOCK, Block, Head, RESERVED, VERSION};
use crate::damage::Damage;
use crate::types::{EXTENT_BYTES, VOLUME_BYTES_MAX};
use crate::wire::is_zero;
use std::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Places in the table.
pub const LOG_SLOTS: usize = 4096;
/// Updates in one block.
pub const LOG_UPDATES_MAX: usize = 128;
/// Places of the table that one block repeats.
pub const LOG_CONTEXT: usize = 512;
/// Blocks that repeat the whole table.
pub const LOG_CYCLE_BLOCKS: usize = LOG_SLOTS / LOG_CONTEXT;
/// Blocks in the ring.
pub const LOG_RING_BLOCKS: usize = 64;
/// An unused place of the table.
pub const NO_EXTENT: u32 = u32::MAX;

/// One block of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogBlock {
    /// The log's instance; see the superblock.
    pub instance: u64,
    /// Counts the blocks of an instance from 0 on; block `n` lies at `n % LOG_RING_BLOCKS`.
    pub sequence: u64,
    /// (place, extent): at most [`LOG_UPDATES_MAX`].
    pub updates: Vec<(u16, u32)>,
    /// The table from place `(sequence % LOG_CYCLE_BLOCKS) * LOG_CONTEXT` on, after the updates:
    /// [`LOG_CONTEXT`] extents or [`NO_EXTENT`].
    pub context: Vec<u32>,
}

/// One past the last extent that any volume has.
const EXTENTS_MAX: u64 = VOLUME_BYTES_MAX / EXTENT_BYTES;

/// Where a log block's fields lie.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LogBlockBytes {
    head: Head,
    instance: U64,
    sequence: U64,
    updates_length: u8,
    reserved: [u8; 23],
    updates: [WireUpdate; LOG_UPDATES_MAX],
    context: [U32; LOG_CONTEXT],
    unused: [u8; 960],
}

const _: () = assert!(size_of::<LogBlockBytes>() == BLOCK);
const _: () = assert!(LOG_UPDATES_MAX <= u8::MAX as usize);
const _: () = assert!(LOG_SLOTS <= u16::MAX as usize + 1);
const _: () = assert!(LOG_SLOTS.is_multiple_of(LOG_CONTEXT));
// A torn write takes the block in its place with it, which must not belong to the newest cycle.
const _: () = assert!(LOG_RING_BLOCKS > LOG_CYCLE_BLOCKS);
// The place of a block and the window that it repeats follow from its sequence number alone.
const _: () = assert!(LOG_RING_BLOCKS.is_multiple_of(LOG_CYCLE_BLOCKS));

/// A place of the table and the extent that it holds from this block on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireUpdate {
    extent: U32,
    place: U16,
    reserved: [u8; 2],
}

const _: () = assert!(size_of::<WireUpdate>() == 8);

impl Block for LogBlockBytes {
    const MAGIC: [u8; 8] = *b"twinblkL";

    fn invalid(&self) -> Option<&'static str> {
        if !is_zero(&self.reserved) || !is_zero(&self.unused) {
            return Some(RESERVED);
        }
        let length = self.updates_length.into();
        let Some((updates, beyond)) = self.updates.split_at_checked(length) else {
            return Some("it has more updates than can be");
        };
        if !updates.iter().all(|update| is_zero(&update.reserved)) {
            return Some(RESERVED);
        }
        (!is_zero(beyond.as_bytes())).then_some("it has updates beyond their number")
    }
}

/// Whether a place of the table can hold this.
fn is_entry(extent: u32) -> bool {
    extent == NO_EXTENT || u64::from(extent) < EXTENTS_MAX
}

impl LogBlock {
    /// What is wrong with the block, if anything: none is written or read that is.
    pub fn invalid(&self) -> Option<&'static str> {
        if self.updates.len() > LOG_UPDATES_MAX || self.context.len() != LOG_CONTEXT {
            return Some("it has not the updates or the context of a log block");
        }
        let mut entries = self
            .context
            .iter()
            .chain(self.updates.iter().map(|(_, extent)| extent));
        if !entries.all(|extent| is_entry(*extent)) {
            return Some("it names an extent past the largest volume");
        }
        let mut last = [None; LOG_CONTEXT];
        for (place, extent) in &self.updates {
            let place = usize::from(*place);
            if place >= LOG_SLOTS {
                return Some("it names a place past the table");
            }
            if let Some(in_window) = place.checked_sub(self.window().start)
                && let Some(entry) = last.get_mut(in_window)
            {
                *entry = Some(*extent);
            }
        }
        let contradiction = last
            .iter()
            .zip(&self.context)
            .any(|(last, now)| last.is_some_and(|last| last != *now));
        contradiction.then_some("its updates and its context contradict each other")
    }

    /// The places of the table that it repeats.
    fn window(&self) -> Range<usize> {
        let nth = usize::try_from(self.sequence % LOG_CYCLE_BLOCKS as u64).unwrap_or(0);
        nth * LOG_CONTEXT..(nth + 1) * LOG_CONTEXT
    }

    /// Its bytes on the disk.
    ///
    /// # Panics
    ///
    /// If it is [invalid](LogBlock::invalid): it could not be read again.
    pub fn encode(&self) -> Box<[u8; BLOCK]> {
        assert_eq!(self.invalid(), None, "{self:?}");
        let mut block = LogBlockBytes::new_zeroed();
        block.instance = self.instance.into();
        block.sequence = self.sequence.into();
        block.updates_length = u8::try_from(self.updates.len()).expect("it is valid");
        for (wire, (place, extent)) in block.updates.iter_mut().zip(&self.updates) {
            wire.place = (*place).into();
            wire.extent = (*extent).into();
        }
        for (wire, extent) in block.context.iter_mut().zip(&self.context) {
            *wire = (*extent).into();
        }
        block::seal(&block)
    }

    /// The block of these bytes, in any version that this crate knows.
    pub fn decode(bytes: &[u8]) -> Result<LogBlock, Damage> {
        match block::version(bytes, LogBlockBytes::MAGIC)? {
            VERSION => block::open::<LogBlockBytes>(bytes)?.read(),
            _ => Err(block::NEWER),
        }
    }
}

impl LogBlockBytes {
    fn read(&self) -> Result<LogBlock, Damage> {
        let updates = &self.updates[..usize::from(self.updates_length)];
        let block = LogBlock {
            instance: self.instance.get(),
            sequence: self.sequence.get(),
            updates: updates
                .iter()
                .map(|update| (update.place.get(), update.extent.get()))
                .collect(),
            context: self.context.iter().map(|extent| extent.get()).collect(),
        };
        Damage::check(block.invalid())?;
        Ok(block)
    }
}
