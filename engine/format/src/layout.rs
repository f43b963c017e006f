//! Where things lie in a replica's metadata file.

use crate::log_block::LOG_RING_BLOCKS;
use crate::types::{REPLICAS_MAX, Slot};

/// The unit in which metadata is written, in bytes.
pub const META_BLOCK_BYTES: u64 = crate::block::BLOCK as u64;
/// Where the two copies of the superblock lie: far enough apart for no disk to tear both at once.
pub const SUPERBLOCK_OFFSETS: [u64; 2] = [0, 64 << 10];
/// Where the activity log's ring begins.
pub const LOG_OFFSET: u64 = 128 << 10;
/// Where the bitmaps begin.
pub const BITMAP_OFFSET: u64 = 1 << 20;

const _: () = assert!(LOG_OFFSET + LOG_RING_BLOCKS as u64 * META_BLOCK_BYTES <= BITMAP_OFFSET);

/// Where a block of the activity log lies.
pub const fn log_block_offset(sequence: u64) -> u64 {
    LOG_OFFSET + sequence % LOG_RING_BLOCKS as u64 * META_BLOCK_BYTES
}

/// Where a page of a replica's bitmap lies. The bitmaps of all slots are interleaved page by page,
/// so that a volume grows by appending; the file is sparse, so that unused slots cost nothing.
pub const fn page_offset(slot: Slot, index: u32) -> u64 {
    BITMAP_OFFSET + (index as u64 * REPLICAS_MAX as u64 + slot.index() as u64) * META_BLOCK_BYTES
}
