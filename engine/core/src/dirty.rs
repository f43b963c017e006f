//! One replica's marks for one other: which blocks the other misses.
//!
//! The marks are kept in the pages in which they reach the disk. A mark is set in memory at once and
//! on disk before its extent leaves the activity log. A mark that a walk clears is *unsettled* at
//! first: gone from memory, but kept in the page's image, until a checkpoint has flushed both sides.
//! So `set | unsettled` is what a page's image must hold, and setting a mark always wins.

use format::bitmap_page::{BitmapPage, PAGE_CHUNKS, PAGE_EXTENTS};
use format::types::{BLOCK_BYTES, CHUNK_BLOCKS, EXTENT_CHUNKS, Slot, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Extents in a page, as extents are numbered.
#[expect(clippy::cast_possible_truncation, reason = "a page is small")]
const EXTENTS: u32 = PAGE_EXTENTS as u32;
/// Chunks in a page, as chunks are numbered.
const CHUNKS: u32 = EXTENTS * EXTENT_CHUNKS;

const _: () = assert!(CHUNKS as usize == PAGE_CHUNKS);

/// How a page's image on disk lags behind what it must hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Lag {
    /// It does not.
    None,
    /// It holds marks that have been settled: they cost a comparison, and may wait.
    Clears,
    /// It lacks marks: their extents cannot leave the activity log.
    Sets,
}

/// A page in memory.
#[derive(Debug)]
struct Page {
    masks: Box<[u32; PAGE_CHUNKS]>,
    /// Blocks that are set.
    count: u32,
    lag: Lag,
    /// The lag that the write in flight ends.
    writing: Option<Lag>,
}

impl Page {
    fn new() -> Page {
        Page {
            masks: Box::new([0; PAGE_CHUNKS]),
            count: 0,
            lag: Lag::None,
            writing: None,
        }
    }
}

/// One replica's marks for one other.
#[derive(Debug)]
pub struct Dirty {
    slot: Slot,
    /// Blocks in the volume; none past them is ever set.
    blocks: u64,
    /// By index. A page that is missing has no marks and does not lag.
    pages: BTreeMap<u32, Page>,
    /// The pages that lag and are not being written.
    lagging: BTreeSet<u32>,
    /// Blocks that are set.
    count: u64,
    /// By chunk: unsettled clears after the open checkpoint.
    cleared: BTreeMap<u32, u32>,
    /// By chunk: unsettled clears that the open checkpoint settles.
    checkpoint: Option<BTreeMap<u32, u32>>,
}

impl Dirty {
    /// No marks for the replica in this slot.
    pub fn new(slot: Slot, size_bytes: u64) -> Dirty {
        Dirty {
            slot,
            blocks: size_bytes / BLOCK_BYTES,
            pages: BTreeMap::new(),
            lagging: BTreeSet::new(),
            count: 0,
            cleared: BTreeMap::new(),
            checkpoint: None,
        }
    }

    /// The volume has grown.
    pub fn grow(&mut self, size_bytes: u64) {
        self.blocks = self.blocks.max(size_bytes / BLOCK_BYTES);
    }

    /// Adds the marks of a page that was found on disk.
    pub fn load(&mut self, page: &BitmapPage) {
        self.add(self.chunks_of(page.index), |chunk| page.masks[place(chunk)]);
    }

    /// Sets all of a page that was found damaged.
    pub fn set_page_full(&mut self, index: u32) {
        self.add_lagging(self.chunks_of(index), |_| u32::MAX);
    }

    /// Sets the blocks of the span.
    pub fn set(&mut self, span: Span) {
        let end = span.chunks().end.min(self.volume().end);
        let mut from = span.chunks().start;
        while from < end {
            let to = end.min((from / CHUNKS + 1) * CHUNKS);
            self.add_lagging(from..to, |chunk| span.mask_in(chunk));
            from = to;
        }
    }

    /// Sets blocks of a chunk.
    pub fn set_mask(&mut self, chunk: u32, mask: u32) {
        self.add_lagging(chunk..chunk.saturating_add(1), |_| mask);
    }

    /// Sets every block of the volume.
    pub fn set_all(&mut self) {
        self.set(Span::new(0, self.blocks * BLOCK_BYTES));
    }

    /// Drops all marks, unsettled ones too, without a write: the pages on disk have become void.
    pub fn clear_all(&mut self) {
        self.cleared.clear();
        self.checkpoint = None;
        self.lagging.clear();
        self.count = 0;
        // What is being written is void as well, but nothing may be written over it meanwhile.
        self.pages.retain(|_, page| page.writing.is_some());
        for page in self.pages.values_mut() {
            *page = Page {
                writing: Some(Lag::None),
                ..Page::new()
            };
        }
    }

    /// The blocks of a chunk that are set.
    pub fn mask(&self, chunk: u32) -> u32 {
        self.pages
            .get(&(chunk / CHUNKS))
            .map_or(0, |page| page.masks[place(chunk)])
    }

    /// Whether any block of the span is set.
    pub fn intersects(&self, span: Span) -> bool {
        !self.is_empty()
            && span
                .chunks()
                .any(|chunk| self.mask(chunk) & span.mask_in(chunk) != 0)
    }

    /// How many blocks are set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether no block is set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first chunk from this one on with a block that is set.
    pub fn next_chunk(&self, from: u32) -> Option<u32> {
        let pages = self
            .pages
            .range(from / CHUNKS..)
            .filter(|(_, page)| page.count > 0);
        for (index, page) in pages {
            let first = index * CHUNKS;
            let skipped = place(from.max(first));
            let found = page.masks[skipped..].iter().zip(from.max(first)..);
            if let Some((_, chunk)) = found.into_iter().find(|(mask, _)| **mask != 0) {
                return Some(chunk);
            }
        }
        None
    }

    /// Clears blocks of a chunk: in memory now, on disk once a checkpoint settles them.
    pub fn clear(&mut self, chunk: u32, mask: u32) {
        let Some(page) = self.pages.get_mut(&(chunk / CHUNKS)) else {
            return;
        };
        let cleared = page.masks[place(chunk)] & mask;
        if cleared != 0 {
            page.masks[place(chunk)] &= !cleared;
            page.count -= cleared.count_ones();
            self.count -= u64::from(cleared.count_ones());
            *self.cleared.entry(chunk).or_default() |= cleared;
        }
    }

    /// What has been cleared so far belongs to the checkpoint that begins.
    ///
    /// # Panics
    ///
    /// If one is open.
    pub fn begin_checkpoint(&mut self) {
        assert!(self.checkpoint.is_none(), "a checkpoint is open");
        self.checkpoint = Some(std::mem::take(&mut self.cleared));
    }

    /// Both sides have flushed: the open checkpoint's clears are final. Without one, nothing happens.
    pub fn settle(&mut self) {
        for (chunk, mask) in self.checkpoint.take().unwrap_or_default() {
            if mask & !(self.mask(chunk) | unsettled(&self.cleared, None, chunk)) != 0 {
                self.lag(chunk / CHUNKS, Lag::Clears);
            }
        }
    }

    /// The session broke: what has not been settled is set again.
    pub fn revert(&mut self) {
        let checkpoint = self.checkpoint.take().unwrap_or_default();
        let cleared = std::mem::take(&mut self.cleared);
        for (chunk, mask) in checkpoint.into_iter().chain(cleared) {
            self.add(chunk..chunk.saturating_add(1), |_| mask);
        }
    }

    /// Chunks that have been cleared and are not settled; one that was cleared both before and after
    /// the checkpoint began counts twice.
    pub fn unsettled(&self) -> usize {
        self.cleared.len() + self.checkpoint.as_ref().map_or(0, BTreeMap::len)
    }

    /// Whether a mark of the page that covers the extent is not known to be on disk.
    pub fn wants_write(&self, extent: u32) -> bool {
        self.pages
            .get(&Dirty::page_of(extent))
            .is_some_and(|page| page.lag == Lag::Sets || page.writing == Some(Lag::Sets))
    }

    /// The page's image, to be written; it counts as being written until
    /// [`page_written`](Self::page_written) or [`page_failed`](Self::page_failed).
    ///
    /// # Panics
    ///
    /// If it is being written.
    pub fn take_page(&mut self, index: u32, epoch: u64) -> BitmapPage {
        let page = self.pages.entry(index).or_insert_with(Page::new);
        assert!(page.writing.is_none(), "page {index} is being written");
        page.writing = Some(page.lag);
        page.lag = Lag::None;
        let mut masks = page.masks.clone();
        self.lagging.remove(&index);
        for chunks in std::iter::once(&self.cleared).chain(&self.checkpoint) {
            for (chunk, mask) in chunks.range(index * CHUNKS..(index + 1) * CHUNKS) {
                masks[place(*chunk)] |= mask;
            }
        }
        BitmapPage {
            slot: self.slot,
            index,
            epoch,
            masks,
        }
    }

    /// Whether the page is being written.
    pub fn is_writing(&self, index: u32) -> bool {
        self.pages
            .get(&index)
            .is_some_and(|page| page.writing.is_some())
    }

    /// Whether a checkpoint is open.
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// The page's image is durable.
    pub fn page_written(&mut self, index: u32) {
        self.write_ended(index, Lag::None);
    }

    /// The page's image could not be written.
    pub fn page_failed(&mut self, index: u32) {
        let lag = self.pages.get(&index).and_then(|page| page.writing);
        self.write_ended(index, lag.unwrap_or(Lag::None));
    }

    /// The pages whose image on disk is out of date and is not being written.
    pub fn dirty_pages(&self) -> impl Iterator<Item = u32> {
        self.lagging.iter().copied()
    }

    /// The page that covers the extent.
    pub fn page_of(extent: u32) -> u32 {
        extent / EXTENTS
    }

    /// The pages that have marks: the first chunk of each and its masks, to the volume's end.
    pub fn pages(&self) -> impl Iterator<Item = (u32, Box<[u32]>)> {
        self.pages
            .iter()
            .filter(|(_, page)| page.count > 0)
            .map(|(index, page)| {
                let chunks = self.chunks_of(*index);
                (chunks.start, page.masks[..chunks.len()].into())
            })
    }

    /// Sets blocks of chunks that share a page, whose image lags then if it need not have held them
    /// before.
    fn add_lagging(&mut self, chunks: Range<u32>, mask_of: impl Fn(u32) -> u32) {
        let index = chunks.start / CHUNKS;
        if self.add(chunks, mask_of) {
            self.lag(index, Lag::Sets);
        }
    }

    /// Sets blocks of chunks that share a page. Whether any of them was not among `set | unsettled`.
    fn add(&mut self, chunks: Range<u32>, mask_of: impl Fn(u32) -> u32) -> bool {
        let chunks = chunks.start..chunks.end.min(self.volume().end);
        if chunks.is_empty() {
            return false;
        }
        let index = chunks.start / CHUNKS;
        let page = self.pages.entry(index).or_insert_with(Page::new);
        let before = page.count;
        let mut lacking = false;
        for chunk in chunks {
            let mask = &mut page.masks[place(chunk)];
            let added = mask_of(chunk) & inside(self.blocks, chunk) & !*mask;
            if added != 0 {
                *mask |= added;
                page.count += added.count_ones();
                let held = unsettled(&self.cleared, self.checkpoint.as_ref(), chunk);
                lacking |= added & !held != 0;
            }
        }
        self.count += u64::from(page.count - before);
        lacking
    }

    /// The page's image lags, at least so far.
    fn lag(&mut self, index: u32, lag: Lag) {
        let page = self.pages.entry(index).or_insert_with(Page::new);
        page.lag = page.lag.max(lag);
        if page.writing.is_none() {
            self.lagging.insert(index);
        }
    }

    /// The write of a page has ended and has left this lag, besides what has come up meanwhile.
    fn write_ended(&mut self, index: u32, lag: Lag) {
        let Some(page) = self.pages.get_mut(&index) else {
            return;
        };
        page.writing = None;
        page.lag = page.lag.max(lag);
        if page.lag > Lag::None {
            self.lagging.insert(index);
        } else if page.count == 0 {
            self.pages.remove(&index);
        }
    }

    /// The volume's chunks.
    fn volume(&self) -> Range<u32> {
        Span::new(0, self.blocks * BLOCK_BYTES).chunks()
    }

    /// The page's chunks inside the volume.
    fn chunks_of(&self, index: u32) -> Range<u32> {
        let volume = self.volume();
        let first = index.saturating_mul(CHUNKS).min(volume.end);
        first..first.saturating_add(CHUNKS).min(volume.end)
    }
}

/// The chunk's blocks that were cleared and are not settled.
fn unsettled(
    cleared: &BTreeMap<u32, u32>,
    checkpoint: Option<&BTreeMap<u32, u32>>,
    chunk: u32,
) -> u32 {
    let of = |chunks: &BTreeMap<u32, u32>| chunks.get(&chunk).copied().unwrap_or(0);
    of(cleared) | checkpoint.map_or(0, of)
}

/// The chunk's blocks that lie inside a volume of so many blocks.
fn inside(blocks: u64, chunk: u32) -> u32 {
    let left = blocks.saturating_sub(u64::from(chunk) * u64::from(CHUNK_BLOCKS));
    let left = u32::try_from(left)
        .unwrap_or(CHUNK_BLOCKS)
        .min(CHUNK_BLOCKS);
    1u32.checked_shl(left).map_or(u32::MAX, |bit| bit - 1)
}

/// The chunk's place in its page.
fn place(chunk: u32) -> usize {
    (chunk % CHUNKS) as usize
}

#[cfg(test)]
mod tests;
