//! A page of the dirty-region bitmap: which blocks one other replica misses.

use crate::types::Slot;

/// Chunk masks in a page.
pub const PAGE_CHUNKS: usize = crate::frame::MARKS_CHUNKS_MAX;
/// Extents that a page covers.
pub const PAGE_EXTENTS: usize = PAGE_CHUNKS / crate::types::EXTENT_CHUNKS as usize;

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
