//! Which extents a ring of log blocks holds.

use super::{LOG_CYCLE_BLOCKS, LOG_RING_BLOCKS, LOG_SLOTS, LogBlock, NO_EXTENT};
use crate::damage::Damage;

/// What an activity log tells after a stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recovered {
    /// These extents may differ between replicas; in order, each once.
    Extents(Vec<u32>),
    /// The log does not tell: any block may differ.
    Damaged(Damage),
}

/// Reads the blocks of one instance of the log, given all of the ring in the order in which it lies.
///
/// A block is durable before the next is begun, and before any write that relies on it. So what is not
/// sound can only be the block that was being written: nothing relied on it, and the run that ends
/// with its predecessor tells everything. It has taken the place of a block too old to matter. A hole
/// further back is damage: the blocks after the hole rely on it.
pub fn recover<'a>(blocks: impl Iterator<Item = &'a [u8]>, instance: u64) -> Recovered {
    let mut ring: Vec<Option<LogBlock>> = vec![None; LOG_RING_BLOCKS];
    for ((place, found), bytes) in ring.iter_mut().enumerate().zip(blocks) {
        *found = LogBlock::decode(bytes)
            .ok()
            .filter(|block| block.instance == instance && place_of(block.sequence) == place);
    }
    let Some(newest) = ring.iter().flatten().map(|block| block.sequence).max() else {
        return Recovered::Extents(Vec::new());
    };
    let oldest = newest.saturating_sub(LOG_CYCLE_BLOCKS as u64 - 1);
    let mut table = [NO_EXTENT; LOG_SLOTS];
    for sequence in oldest..=newest {
        match &ring[place_of(sequence)] {
            Some(block) if block.sequence == sequence => block.apply(&mut table),
            _ => return Recovered::Damaged(Damage::new("a block of the activity log is missing")),
        }
    }
    let mut extents: Vec<u32> = table.into_iter().filter(|at| *at != NO_EXTENT).collect();
    extents.sort_unstable();
    extents.dedup();
    Recovered::Extents(extents)
}

/// Where in the ring a block lies.
fn place_of(sequence: u64) -> usize {
    usize::try_from(sequence % LOG_RING_BLOCKS as u64).unwrap_or(0)
}

impl LogBlock {
    /// Brings the table from the state before the block to the one after it, and the window that the
    /// block repeats from any state.
    fn apply(&self, table: &mut [u32; LOG_SLOTS]) {
        table[self.window()].copy_from_slice(&self.context);
        for (place, extent) in &self.updates {
            table[usize::from(*place)] = *extent;
        }
    }
}
