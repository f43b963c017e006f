//! The bytes of a metadata file, written and read by the real format.

use super::MetaWrite;
use crate::rng::Rng;
use format::bitmap_page::BitmapPage;
use format::layout::{META_BLOCK_BYTES, SUPERBLOCK_OFFSETS, log_block_offset, page_offset};
use format::log_block::{LOG_RING_BLOCKS, Recovered as RecoveredLog, recover};
use format::superblock::Superblock;
use format::types::Slot;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a block of metadata.
#[expect(clippy::cast_possible_truncation, reason = "a block is small")]
const BYTES: usize = META_BLOCK_BYTES as usize;
/// Bytes that a disk writes as a whole.
const SECTOR: usize = 512;

/// A block of metadata.
type Block = Box<[u8; BYTES]>;

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
}

/// The blocks, by their offset; those that were never written are zero.
#[derive(Debug)]
pub struct File {
    blocks: BTreeMap<u64, Block>,
    /// Where pages have been written.
    pages: BTreeSet<(Slot, u32)>,
}

impl File {
    /// A new replica's.
    pub fn new(superblock: &Superblock) -> File {
        let mut file = File {
            blocks: BTreeMap::new(),
            pages: BTreeSet::new(),
        };
        file.write(&MetaWrite::Superblock(Box::new(superblock.clone())));
        file
    }

    /// A write is done.
    pub fn write(&mut self, write: &MetaWrite) {
        for (offset, block) in self.parts(write) {
            self.blocks.insert(offset, block);
        }
    }

    /// A crash has hit a write in the middle: of the parts that are written in turn the first are done,
    /// one is torn, and the others are not.
    pub fn tear(&mut self, write: &MetaWrite, rng: &mut Rng) {
        let parts = self.parts(write);
        let torn = rng.index(parts.len());
        for (nth, (offset, new)) in parts.into_iter().enumerate() {
            if nth < torn {
                self.blocks.insert(offset, new);
            } else if nth == torn {
                let old = self
                    .blocks
                    .entry(offset)
                    .or_insert_with(|| Box::new([0; BYTES]));
                for at in (0..BYTES).step_by(SECTOR).filter(|_| rng.permille(500)) {
                    old[at..at + SECTOR].copy_from_slice(&new[at..at + SECTOR]);
                }
            }
        }
    }

    /// The blocks of a write, in the order in which they reach the disk.
    fn parts(&mut self, write: &MetaWrite) -> Vec<(u64, Block)> {
        match write {
            MetaWrite::Superblock(superblock) => {
                let block = superblock.encode();
                SUPERBLOCK_OFFSETS
                    .map(|offset| (offset, block.clone()))
                    .into()
            }
            MetaWrite::Log(block) => vec![(log_block_offset(block.sequence), block.encode())],
            MetaWrite::Page(page) => {
                self.pages.insert((page.slot, page.index));
                vec![(page_offset(page.slot, page.index), page.encode())]
            }
        }
    }

    /// Reads everything, and mends the superblock.
    pub fn recover(&mut self) -> Result<Recovered, &'static str> {
        let copies = SUPERBLOCK_OFFSETS.map(|offset| self.blocks.get(&offset));
        let copies = copies.into_iter().flatten();
        let valid = copies.filter_map(|block| Superblock::decode(&block[..]).ok());
        let newest = valid.max_by_key(|superblock| superblock.sequence);
        let superblock = newest.ok_or("no copy of the superblock is valid")?;
        self.write(&MetaWrite::Superblock(Box::new(superblock.clone())));
        let (mut pages, mut damaged_pages) = (Vec::new(), Vec::new());
        for (slot, index) in &self.pages {
            let Some(block) = self.blocks.get(&page_offset(*slot, *index)) else {
                continue;
            };
            match BitmapPage::decode_at(*slot, *index, &block[..]) {
                Ok(page) => pages.extend(page),
                Err(_) => damaged_pages.push((*slot, *index)),
            }
        }
        let hot_extents = self.recover_log(superblock.log_instance);
        Ok(Recovered {
            superblock,
            pages,
            damaged_pages,
            hot_extents,
        })
    }

    fn recover_log(&self, instance: u64) -> Option<Vec<u32>> {
        let offsets = (0..LOG_RING_BLOCKS as u64).map(log_block_offset);
        let blocks = offsets.map(|offset| self.blocks.get(&offset).map_or(&[0; BYTES], |b| &**b));
        match recover(blocks.map(|block| &block[..]), instance) {
            RecoveredLog::Extents(extents) => Some(extents),
            RecoveredLog::Damaged(_) => None,
        }
    }
}
