//! The blocks of a metadata file.

use super::MetaWrite;
use crate::rng::Rng;
use format::bitmap_page::BitmapPage;
use format::log_block::{LOG_SLOTS, LogBlock, NO_EXTENT, LOG_RING_BLOCKS, LOG_CYCLE_BLOCKS, LOG_CONTEXT};
use format::superblock::Superblock;
use format::types::Slot;
use std::collections::BTreeMap;

/// What a start finds.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The newer valid copy.
    pub superblock: Superblock,
    /// The valid pages.
    pub pages: Vec<BitmapPage>,
    /// The damaged pages.
    pub damaged_pages: Vec<(Slot, u32)>,
    /// The extents in the log; `None` if it is damaged.
    pub hot_extents: Option<Vec<u32>>,
    /// A copy of the superblock was damaged or old.
    pub mended: bool,
}

/// The blocks; `None` is a torn one.
#[derive(Debug)]
pub struct File {
    superblocks: [Option<Superblock>; 2],
    log: BTreeMap<u64, Option<LogBlock>>,
    pages: BTreeMap<(Slot, u32), Option<BitmapPage>>,
}

impl File {
    /// A new replica's.
    pub fn new(superblock: &Superblock) -> File {
        File {
            superblocks: [Some(superblock.clone()), Some(superblock.clone())],
            log: BTreeMap::new(),
            pages: BTreeMap::new(),
        }
    }

    /// A write is done.
    pub fn write(&mut self, write: &MetaWrite) {
        match write {
            MetaWrite::Superblock(superblock) => {
                self.superblocks = [Some((**superblock).clone()), Some((**superblock).clone())];
            }
            MetaWrite::Log(block) => {
                self.log.insert(block.sequence % LOG_RING_BLOCKS as u64, Some((**block).clone()));
            }
            MetaWrite::Page(page) => {
                self.pages.insert((page.slot, page.index), Some(page.clone()));
            }
        }
    }

    /// A crash has hit a write in the middle.
    pub fn tear(&mut self, write: &MetaWrite, rng: &mut Rng) {
        match write {
            MetaWrite::Superblock(superblock) => {
                let new = Some((**superblock).clone());
                match rng.below(3) {
                    0 => self.superblocks[0] = None,
                    1 => self.superblocks[0] = new,
                    _ => self.superblocks = [new, None],
                }
            }
            MetaWrite::Log(block) => {
                self.log.insert(block.sequence % LOG_RING_BLOCKS as u64, None);
            }
            MetaWrite::Page(page) => {
                self.pages.insert((page.slot, page.index), None);
            }
        }
    }

    /// Reads everything, and mends the superblock.
    pub fn recover(&mut self) -> Result<Recovered, &'static str> {
        let newest = self.superblocks.iter().flatten().max_by_key(|copy| copy.sequence);
        let superblock = newest.cloned().ok_or("no copy of the superblock is valid")?;
        let mended = self.superblocks.iter().any(|copy| copy.as_ref() != Some(&superblock));
        self.superblocks = [Some(superblock.clone()), Some(superblock.clone())];
        let pages = self.pages.values().flatten().cloned().collect();
        let damaged = self.pages.iter().filter(|(_, page)| page.is_none());
        Ok(Recovered {
            damaged_pages: damaged.map(|(at, _)| *at).collect(),
            hot_extents: self.recover_log(superblock.log_instance),
            superblock,
            pages,
            mended,
        })
    }

    fn recover_log(&self, instance: u64) -> Option<Vec<u32>> {
        let valid = self.log.values().flatten().filter(|block| block.instance == instance);
        let mut blocks: Vec<&LogBlock> = valid.collect();
        blocks.sort_by_key(|block| block.sequence);
        let mut table = vec![NO_EXTENT; LOG_SLOTS];
        for block in blocks {
            let from = (block.sequence % LOG_CYCLE_BLOCKS as u64) as usize * LOG_CONTEXT;
            table[from..from + LOG_CONTEXT].copy_from_slice(&block.context);
            for (place, extent) in &block.updates {
                table[usize::from(*place)] = *extent;
            }
        }
        Some(table.into_iter().filter(|extent| *extent != NO_EXTENT).collect())
    }
}
