//! Tests of the log block, and of recovery against a table that is simply kept.

use super::{
    LOG_CONTEXT, LOG_CYCLE_BLOCKS, LOG_RING_BLOCKS, LOG_SLOTS, LogBlock, LogBlockBytes, NO_EXTENT,
    Recovered, WireUpdate, recover,
};
use crate::block::BLOCK;
use crate::tests::document::{assert_layouts, layout};
use crate::tests::flips::{assert_every_flip_is_seen, assert_forgeries_are_refused_or_sound};
use crate::tests::samples::log_block;
use crate::tests::strategy::{any_log_block, any_updates};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

const INSTANCE: u64 = 77;

/// A log's ring on a disk, and the table as it was after each block.
struct Log {
    ring: Vec<Box<[u8; BLOCK]>>,
    table: Vec<u32>,
    tables: Vec<Vec<u32>>,
}

impl Log {
    fn new() -> Log {
        Log {
            ring: vec![Box::new([0; BLOCK]); LOG_RING_BLOCKS],
            table: vec![NO_EXTENT; LOG_SLOTS],
            tables: Vec::new(),
        }
    }

    fn of(blocks: Vec<Vec<(u16, u32)>>) -> Log {
        let mut log = Log::new();
        for updates in blocks {
            log.write(INSTANCE, updates);
        }
        log
    }

    fn write(&mut self, instance: u64, updates: Vec<(u16, u32)>) {
        for (place, extent) in &updates {
            self.table[usize::from(*place)] = *extent;
        }
        let nth = self.tables.len();
        let window = nth % LOG_CYCLE_BLOCKS * LOG_CONTEXT;
        let block = LogBlock {
            instance,
            sequence: nth as u64,
            updates,
            context: self.table[window..window + LOG_CONTEXT].to_vec(),
        };
        self.ring[nth % LOG_RING_BLOCKS] = block.encode();
        self.tables.push(self.table.clone());
    }

    /// The newest block but so many.
    fn block(&mut self, before_newest: usize) -> &mut [u8; BLOCK] {
        let nth = self.tables.len() - 1 - before_newest;
        &mut self.ring[nth % LOG_RING_BLOCKS]
    }

    fn recover(&self) -> Recovered {
        recover(self.ring.iter().map(|block| &block[..]), INSTANCE)
    }

    /// The extents in the table as it was before the newest blocks.
    fn expected(&self, before_newest: usize) -> Recovered {
        let table = match self.tables.len().checked_sub(1 + before_newest) {
            Some(nth) => &self.tables[nth][..],
            None => &[],
        };
        let mut extents = table.to_vec();
        extents.retain(|extent| *extent != NO_EXTENT);
        extents.sort_unstable();
        extents.dedup();
        Recovered::Extents(extents)
    }
}

/// The updates of the blocks of a log: few, about a cycle, or more than the ring holds.
fn any_blocks() -> impl Strategy<Value = Vec<Vec<(u16, u32)>>> {
    let updates = || prop_oneof![any_updates(), vec((0..600u16, 0..50u32), 0..9)];
    prop_oneof![vec(updates(), 1..20), vec(updates(), 60..150)]
}

proptest! {
    #[test]
    fn a_block_survives_the_disk(block in any_log_block()) {
        prop_assert_eq!(LogBlock::decode(&block.encode()[..]), Ok(block));
    }

    #[test]
    fn a_log_is_recovered(blocks in any_blocks()) {
        let log = Log::of(blocks);
        prop_assert_eq!(log.recover(), log.expected(0));
    }

    /// The block that was being written has come to the disk up to some byte only.
    #[test]
    fn a_torn_newest_block_is_harmless(blocks in any_blocks(), sectors in 0usize..8) {
        let mut log = Log::of(blocks);
        let new = log.block(0).to_owned();
        let nth = log.tables.len() - 1;
        let old = match nth.checked_sub(LOG_RING_BLOCKS) {
            Some(_) => LogBlock { sequence: (nth - LOG_RING_BLOCKS) as u64, ..log_block() },
            None => log_block(),
        };
        let torn = log.block(0);
        *torn = *LogBlock { context: vec![NO_EXTENT; LOG_CONTEXT], updates: Vec::new(), ..old }.encode();
        torn[..sectors * 512].copy_from_slice(&new[..sectors * 512]);
        let lost = usize::from(*torn != new);
        prop_assert_eq!(log.recover(), log.expected(lost));
    }

    /// A block that later ones rely on must be there, and no other need be.
    #[test]
    fn a_hole_counts_within_the_newest_cycle_only(
        blocks in any_blocks(),
        back in 1usize..LOG_RING_BLOCKS,
        spoil in any::<bool>(),
    ) {
        let mut log = Log::of(blocks);
        let back = back.min(log.tables.len() - 1);
        if spoil {
            log.block(back)[2000] ^= 1;
        } else {
            log.block(back).fill(0);
        }
        if back == 0 {
            prop_assert_eq!(log.recover(), log.expected(1));
        } else if back < LOG_CYCLE_BLOCKS {
            prop_assert!(matches!(log.recover(), Recovered::Damaged(_)));
        } else {
            prop_assert_eq!(log.recover(), log.expected(0));
        }
    }

    /// A new instance begins in a ring full of an earlier one's blocks.
    #[test]
    fn other_instances_are_void(earlier in any_blocks(), blocks in vec(any_updates(), 0..12)) {
        let mut log = Log::new();
        for updates in earlier {
            log.write(INSTANCE - 1, updates);
        }
        let mut log = Log { tables: Vec::new(), ..log };
        log.table.fill(NO_EXTENT);
        prop_assert_eq!(log.recover(), Recovered::Extents(Vec::new()));
        for updates in blocks {
            log.write(INSTANCE, updates);
            prop_assert_eq!(log.recover(), log.expected(0));
        }
    }
}

#[test]
fn a_ring_that_is_cut_short_is_read_as_far_as_it_goes() {
    let log = Log::of(vec![vec![(1, 2)]]);
    let short = log.ring.iter().take(1).map(|block| &block[..100]);
    assert_eq!(recover(short, INSTANCE), Recovered::Extents(Vec::new()));
    let short = log.ring.iter().take(1).map(|block| &block[..]);
    assert_eq!(recover(short, INSTANCE), Recovered::Extents(vec![2]));
}

#[test]
fn a_block_in_another_blocks_place_is_not_taken_for_it() {
    let mut log = Log::of(vec![Vec::new(), vec![(1, 2)]]);
    log.ring.swap(1, 9);
    assert_eq!(log.recover(), Recovered::Extents(Vec::new()));
}

#[test]
fn every_flipped_bit_is_seen() {
    let bytes = log_block().encode();
    assert_every_flip_is_seen(&bytes[..], |bytes| LogBlock::decode(bytes).is_err());
}

#[test]
fn forgeries_are_refused_or_sound() {
    assert_forgeries_are_refused_or_sound(
        &log_block().encode(),
        |bytes| LogBlock::decode(bytes).ok(),
        LogBlock::encode,
    );
}

#[test]
fn an_impossible_block_is_none() {
    let past_the_table = vec![(4096, 1)];
    let against_the_context = vec![(1024, 1)];
    let past_the_volume = vec![(1, 1 << 26)];
    for updates in [past_the_table, against_the_context, past_the_volume] {
        assert!(
            LogBlock {
                updates,
                ..log_block()
            }
            .invalid()
            .is_some()
        );
    }
}

#[test]
fn the_document_tells_where_the_fields_lie() {
    let layouts = [
        layout!(
            "Log block",
            LogBlockBytes {
                head,
                instance,
                sequence,
                updates_length,
                reserved,
                updates,
                context,
                unused,
            }
        ),
        layout!(
            "Update",
            WireUpdate {
                extent,
                place,
                reserved
            }
        ),
    ];
    assert_layouts("Activity log", &layouts);
}
