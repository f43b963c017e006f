//! A metadata file, and what would be found in it if its node stopped now.
//!
//! A metadata write is durable when it ends. One in flight at a crash leaves the old block, the new
//! one, or a torn one. [`Meta::covers`] tells which blocks a replica's marks and activity log are
//! sure to cover after a crash at this instant, whatever becomes of the writes in flight.

use crate::rng::Rng;
use format::bitmap_page::{BitmapPage, PAGE_CHUNKS};
use format::log_block::{LOG_SLOTS, LogBlock, NO_EXTENT};
use format::superblock::Superblock;
use format::types::{CHUNK_BLOCKS, EXTENT_BLOCKS, Slot};
use replica::event::IoId;
use std::collections::BTreeMap;

/// A write of metadata.
#[derive(Clone, Debug)]
pub enum MetaWrite {
    /// Both copies of the superblock, one after the other.
    Superblock(Box<Superblock>),
    /// A block of the activity log.
    Log(Box<LogBlock>),
    /// A page of a bitmap.
    Page(BitmapPage),
}

/// The extents in an instance of the activity log on disk.
#[derive(Debug)]
struct LogView {
    instance: u64,
    table: Vec<u32>,
    hot: BTreeMap<u32, u16>,
}

impl LogView {
    fn new(instance: u64) -> LogView {
        LogView {
            instance,
            table: vec![NO_EXTENT; LOG_SLOTS],
            hot: BTreeMap::new(),
        }
    }

    fn apply(&mut self, block: &LogBlock) {
        if block.instance != self.instance {
            *self = LogView::new(block.instance);
        }
        for (place, extent) in &block.updates {
            let old = std::mem::replace(&mut self.table[usize::from(*place)], *extent);
            self.hot.remove(&old);
            self.hot.insert(*extent, *place);
        }
    }
}

/// A metadata file.
#[derive(Debug)]
pub struct Meta {
    file: File,
    superblock: Superblock,
    pages: BTreeMap<(Slot, u32), BitmapPage>,
    log: LogView,
    in_flight: BTreeMap<IoId, MetaWrite>,
}

impl Meta {
    /// The file of a new replica.
    pub fn new(superblock: Superblock) -> Meta {
        Meta {
            file: File::new(&superblock),
            log: LogView::new(superblock.log_instance),
            superblock,
            pages: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        }
    }

    /// A write begins.
    pub fn begin(&mut self, io: IoId, write: MetaWrite) {
        self.in_flight.insert(io, write);
    }

    /// A write ends: it is durable, or it has failed and left the old or the new block.
    pub fn end(&mut self, io: IoId, done: bool, rng: &mut Rng) {
        let Some(write) = self.in_flight.remove(&io) else {
            return;
        };
        if done || rng.permille(500) {
            self.file.write(&write);
            self.view(write);
        }
    }

    fn view(&mut self, write: MetaWrite) {
        match write {
            MetaWrite::Superblock(superblock) => self.superblock = *superblock,
            MetaWrite::Log(block) => self.log.apply(&block),
            MetaWrite::Page(page) => {
                self.pages.insert((page.slot, page.index), page);
            }
        }
    }

    /// The node has stopped: each write in flight is done, or not, or torn.
    pub fn crash(&mut self, rng: &mut Rng) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let settled = in_flight.is_empty();
        for write in in_flight.into_values() {
            match rng.below(3) {
                0 => {}
                1 => self.file.write(&write),
                _ => self.file.tear(&write, rng),
            }
        }
        if !settled {
            // What is found now is what a start will find; one that finds nothing says so itself.
            let _ = self.recover();
        }
    }

    /// Reads the file as a start does, and mends a damaged copy of the superblock.
    pub fn recover(&mut self) -> Result<Recovered, &'static str> {
        let recovered = self.file.recover()?;
        self.superblock = recovered.superblock.clone();
        self.pages = recovered
            .pages
            .iter()
            .cloned()
            .map(|p| ((p.slot, p.index), p))
            .collect();
        for (slot, index) in &recovered.damaged_pages {
            let masks = Box::new([u32::MAX; PAGE_CHUNKS]);
            let page = BitmapPage {
                slot: *slot,
                index: *index,
                epoch: u64::MAX,
                masks,
            };
            self.pages.insert((*slot, *index), page);
        }
        self.log = LogView::new(self.superblock.log_instance);
        for (place, extent) in recovered.hot_extents.iter().flatten().enumerate() {
            self.log.table[place] = *extent;
            self.log
                .hot
                .insert(*extent, u16::try_from(place).unwrap_or(u16::MAX));
        }
        Ok(recovered)
    }

    /// The superblock that would be found, if the write in flight is not done.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The superblock that is being written.
    pub fn next_superblock(&self) -> Option<&Superblock> {
        self.in_flight.values().find_map(|write| match write {
            MetaWrite::Superblock(superblock) => Some(&**superblock),
            _ => None,
        })
    }

    /// Whether the extent is in the durable log, and stays so whatever becomes of a write in flight.
    pub fn is_hot(&self, extent: u32) -> bool {
        let Some(place) = self.log.hot.get(&extent) else {
            return false;
        };
        let evicted = self.in_flight.values().any(|write| match write {
            MetaWrite::Log(block) => block
                .updates
                .iter()
                .any(|(at, new)| at == place && *new != extent),
            _ => false,
        });
        !evicted
    }

    /// Whether the log counts under this superblock.
    fn log_counts(&self, superblock: &Superblock) -> bool {
        !superblock.clean && superblock.log_instance == self.log.instance
    }

    /// Whether a crash now would leave a mark for the replica `other` on the block, or its extent in
    /// the log.
    pub fn covers(&self, other: Slot, block: u32) -> bool {
        let hot = self.is_hot(block / EXTENT_BLOCKS);
        let chunk = block / CHUNK_BLOCKS;
        let (index, place) = (chunk as usize / PAGE_CHUNKS, chunk as usize % PAGE_CHUNKS);
        let index = u32::try_from(index).expect("a volume has few pages");
        let bit = 1 << (block % CHUNK_BLOCKS);
        self.superblocks().all(|superblock| {
            let floor = superblock.mark_floor[other.index()];
            let marks = |page: &BitmapPage| page.epoch >= floor && page.masks[place] & bit != 0;
            let marked = self.pages.get(&(other, index)).is_some_and(marks)
                && self.pages_in_flight(other, index).all(marks);
            marked || hot && self.log_counts(superblock)
        })
    }

    /// Whether the replica's marks for the other claim to cover all that differs.
    pub fn claims(&self, other: Slot) -> bool {
        self.superblocks()
            .all(|superblock| superblock.marks_valid.contains(other))
    }

    /// Whether any block is marked for the other on disk.
    pub fn has_marks(&self, other: Slot) -> bool {
        let floor = self.superblock.mark_floor[other.index()];
        let pages = self.pages.iter().filter(|((slot, _), _)| *slot == other);
        pages
            .filter(|(_, page)| page.epoch >= floor)
            .any(|(_, page)| page.masks.iter().any(|mask| *mask != 0))
    }

    fn superblocks(&self) -> impl Iterator<Item = &Superblock> {
        std::iter::once(&self.superblock).chain(self.next_superblock())
    }

    fn pages_in_flight(&self, slot: Slot, index: u32) -> impl Iterator<Item = &BitmapPage> {
        self.in_flight
            .values()
            .filter_map(move |write| match write {
                MetaWrite::Page(page) if page.slot == slot && page.index == index => Some(page),
                _ => None,
            })
    }

    /// The extents in the log on disk.
    pub fn hot_extents(&self) -> impl Iterator<Item = u32> {
        self.log.hot.keys().copied()
    }

    /// The extent that has this place of the log now, if it counts.
    pub fn extent_at(&self, place: u16, instance: u64) -> Option<u32> {
        let extent = self.log.table[usize::from(place)];
        (self.log.instance == instance && extent != NO_EXTENT).then_some(extent)
    }

    /// The page on disk.
    pub fn page(&self, slot: Slot, index: u32) -> Option<&BitmapPage> {
        self.pages.get(&(slot, index))
    }
}

mod file;
pub use file::{File, Recovered};
