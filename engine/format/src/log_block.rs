//! A block of the activity log: which extents may differ between replicas after a crash.
//!
//! The log is a table of [`LOG_SLOTS`] extent numbers, kept by a ring of [`LOG_RING_BLOCKS`] blocks.
//! Each block says which places of the table change (`updates`) and repeats a window of the table
//! (`context`); [`LOG_CYCLE_BLOCKS`] consecutive blocks repeat all of it.

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
