//! The marks against plain arrays of masks, one for memory and one for the disk.

use super::{CHUNKS, Dirty};
use format::bitmap_page::{BitmapPage, PAGE_CHUNKS};
use format::types::{BLOCK_BYTES, CHUNK_BLOCKS, CHUNK_BYTES, EXTENT_CHUNKS, Slot, Span};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Chunks in the world's volume: two pages and a part of a third, and a part of a chunk.
const VOLUME_CHUNKS: u32 = 2 * CHUNKS + 300;
const VOLUME_BLOCKS: u64 = (VOLUME_CHUNKS as u64 - 1) * CHUNK_BLOCKS as u64 + 7;
/// What the volume may grow by: into a fourth page.
const GROWTH_CHUNKS: u32 = CHUNKS;
const PAGES: u32 = 4;

type Masks = Vec<u32>;

fn slot() -> Slot {
    Slot::new(3).expect("slot 3 exists")
}

struct World {
    dirty: Dirty,
    blocks: u64,
    set: Masks,
    disk: Masks,
    /// Images that are being written; `None` once they are void.
    writing: BTreeMap<u32, Option<BitmapPage>>,
    cleared: Vec<(u32, u32)>,
    checkpoint: Option<Vec<(u32, u32)>>,
}

impl World {
    fn new() -> World {
        let none = vec![0; (PAGES * CHUNKS) as usize];
        World {
            dirty: Dirty::new(slot(), VOLUME_BLOCKS * BLOCK_BYTES),
            blocks: VOLUME_BLOCKS,
            set: none.clone(),
            disk: none,
            writing: BTreeMap::new(),
            cleared: Vec::new(),
            checkpoint: None,
        }
    }

    /// The blocks of the chunk inside the volume, bit by bit.
    fn inside(&self, chunk: u32) -> u32 {
        let first = u64::from(chunk) * u64::from(CHUNK_BLOCKS);
        let bits = (0..CHUNK_BLOCKS).filter(|bit| first + u64::from(*bit) < self.blocks);
        bits.fold(0, |mask, bit| mask | 1 << bit)
    }

    fn set_mask(&mut self, chunk: u32, mask: u32) {
        if (chunk as usize) < self.set.len() {
            self.set[chunk as usize] |= mask & self.inside(chunk);
        }
    }

    /// What the disk must hold.
    fn wanted(&self) -> Masks {
        let mut wanted = self.set.clone();
        for (chunk, mask) in self.cleared.iter().chain(self.checkpoint.iter().flatten()) {
            wanted[*chunk as usize] |= mask;
        }
        wanted
    }

    fn take_page(&mut self, index: u32) {
        let epoch = 40 + u64::from(index);
        let page = self.dirty.take_page(index, epoch);
        assert_eq!((page.slot, page.index, page.epoch), (slot(), index, epoch));
        let first = (index * CHUNKS) as usize;
        assert_eq!(page.masks[..], self.wanted()[first..first + PAGE_CHUNKS]);
        self.writing.insert(index, Some(page));
    }

    fn end_write(&mut self, index: u32, written: bool) {
        let page = self.writing.remove(&index).expect("it is being written");
        if !written {
            self.dirty.page_failed(index);
            return;
        }
        self.dirty.page_written(index);
        if let Some(page) = page {
            let first = (index * CHUNKS) as usize;
            self.disk[first..first + PAGE_CHUNKS].copy_from_slice(&page.masks[..]);
        }
    }

    fn check(&self) {
        let dirty = &self.dirty;
        let set = |mask: &u32| *mask != 0;
        let count: u64 = self
            .set
            .iter()
            .map(|mask| u64::from(mask.count_ones()))
            .sum();
        assert_eq!((dirty.count(), dirty.is_empty()), (count, count == 0));
        for (chunk, mask) in (0..).zip(&self.set) {
            assert_eq!(dirty.mask(chunk), *mask);
        }
        for from in [0, 5, CHUNKS - 1, CHUNKS, 2 * CHUNKS + 1, PAGES * CHUNKS] {
            let found = self
                .set
                .get(from as usize..)
                .unwrap_or(&[])
                .iter()
                .position(set);
            let found = found.map(|place| from + u32::try_from(place).expect("small"));
            assert_eq!(dirty.next_chunk(from), found);
        }
        let mut told = vec![0; self.set.len()];
        for (first, masks) in dirty.pages() {
            assert!(masks.iter().any(set));
            told[first as usize..first as usize + masks.len()].copy_from_slice(&masks);
        }
        assert_eq!(told, self.set);
        let chunks = |list: &Vec<(u32, u32)>| {
            list.iter()
                .map(|(chunk, _)| *chunk)
                .collect::<BTreeSet<_>>()
                .len()
        };
        let unsettled = chunks(&self.cleared) + self.checkpoint.as_ref().map_or(0, chunks);
        assert_eq!(dirty.unsettled(), unsettled);
        self.check_disk();
    }

    fn check_disk(&self) {
        let wanted = self.wanted();
        let lagging: BTreeSet<u32> = self.dirty.dirty_pages().collect();
        for index in 0..PAGES {
            let chunks = (index * CHUNKS) as usize..((index + 1) * CHUNKS) as usize;
            let lacks = |chunk: usize| wanted[chunk] & !self.disk[chunk] != 0;
            let differs = self.disk[chunks.clone()] != wanted[chunks.clone()];
            let extent = index * CHUNKS / EXTENT_CHUNKS;
            assert_eq!(Dirty::page_of(extent), index);
            if chunks.clone().any(lacks) {
                assert!(self.dirty.wants_write(extent), "page {index} lacks marks");
            }
            assert_eq!(
                self.dirty.wants_write(extent),
                self.dirty.wants_write(extent + 125)
            );
            if self.writing.contains_key(&index) {
                assert!(!lagging.contains(&index), "page {index} is being written");
            } else {
                assert!(
                    lagging.contains(&index) || !differs,
                    "page {index} is out of date"
                );
            }
        }
    }

    /// Once all that lags is written, the disk holds just what it must and nothing lags.
    fn write_all(&mut self) {
        for index in self.writing.keys().copied().collect::<Vec<_>>() {
            self.end_write(index, true);
        }
        for index in self.dirty.dirty_pages().collect::<Vec<_>>() {
            self.take_page(index);
            self.end_write(index, true);
        }
        assert_eq!(self.dirty.dirty_pages().count(), 0);
        assert_eq!(self.disk, self.wanted());
        assert!((0..PAGES * CHUNKS / EXTENT_CHUNKS).all(|extent| !self.dirty.wants_write(extent)));
    }
}

#[derive(Clone, Debug)]
enum Action {
    Set(Span),
    SetMask(u32, u32),
    SetPageFull(u32),
    SetAll,
    ClearAll,
    Clear(u32, u32),
    BeginCheckpoint,
    Settle,
    Revert,
    TakePage(prop::sample::Index),
    EndWrite(prop::sample::Index, bool),
    WriteAll,
    Grow(u64),
}

/// Few chunks, around the edges of pages and of the volume, so that actions meet.
fn chunk() -> impl Strategy<Value = u32> {
    let edge = prop_oneof![
        Just(0),
        Just(CHUNKS - 2),
        Just(2 * CHUNKS),
        Just(VOLUME_CHUNKS - 3)
    ];
    (edge, 0u32..5).prop_map(|(edge, more)| edge + more)
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let mask = || prop_oneof![any::<u32>(), Just(u32::MAX), Just(1)];
    let span = (
        chunk(),
        0..CHUNK_BYTES,
        prop_oneof![0u64..3 * CHUNK_BYTES, Just(200 << 20)],
    )
        .prop_map(|(chunk, offset, length)| {
            Span::new(u64::from(chunk) * CHUNK_BYTES + offset, length)
        });
    let index = any::<prop::sample::Index>;
    let action = prop_oneof![
        6 => span.prop_map(Action::Set),
        6 => (chunk(), mask()).prop_map(|(chunk, mask)| Action::SetMask(chunk, mask)),
        1 => (0..PAGES).prop_map(Action::SetPageFull),
        1 => Just(Action::SetAll),
        1 => Just(Action::ClearAll),
        12 => (chunk(), mask()).prop_map(|(chunk, mask)| Action::Clear(chunk, mask)),
        4 => Just(Action::BeginCheckpoint),
        3 => Just(Action::Settle),
        2 => Just(Action::Revert),
        5 => index().prop_map(Action::TakePage),
        5 => (index(), any::<bool>()).prop_map(|(index, written)| Action::EndWrite(index, written)),
        1 => Just(Action::WriteAll),
        1 => (1..=u64::from(GROWTH_CHUNKS * CHUNK_BLOCKS)).prop_map(Action::Grow),
    ];
    prop::collection::vec(action, 1..80)
}

fn act_on_marks(world: &mut World, action: &Action) {
    match *action {
        Action::Set(span) => {
            world.dirty.set(span);
            span.chunks()
                .for_each(|chunk| world.set_mask(chunk, span.mask_in(chunk)));
            assert!(
                span.chunks()
                    .all(|chunk| world.inside(chunk) & span.mask_in(chunk) == 0)
                    || world.dirty.intersects(span)
            );
        }
        Action::SetMask(chunk, mask) => {
            world.dirty.set_mask(chunk, mask);
            world.set_mask(chunk, mask);
        }
        Action::SetPageFull(index) => {
            world.dirty.set_page_full(index);
            (index * CHUNKS..(index + 1) * CHUNKS).for_each(|at| world.set_mask(at, u32::MAX));
        }
        Action::SetAll => {
            world.dirty.set_all();
            (0..PAGES * CHUNKS).for_each(|chunk| world.set_mask(chunk, u32::MAX));
        }
        Action::ClearAll => {
            world.dirty.clear_all();
            world.set.fill(0);
            world.disk.fill(0);
            world.writing.values_mut().for_each(|page| *page = None);
            world.cleared.clear();
            world.checkpoint = None;
        }
        Action::Grow(blocks) => {
            world.blocks = world.blocks.max(VOLUME_BLOCKS + blocks);
            world.dirty.grow((VOLUME_BLOCKS + blocks) * BLOCK_BYTES);
        }
        _ => {}
    }
}

fn act_on_checkpoints(world: &mut World, action: &Action) {
    match *action {
        Action::Clear(chunk, mask) => {
            world.dirty.clear(chunk, mask);
            let cleared = world.set[chunk as usize] & mask;
            world.set[chunk as usize] &= !mask;
            world
                .cleared
                .extend((cleared != 0).then_some((chunk, cleared)));
        }
        Action::BeginCheckpoint if world.checkpoint.is_none() => {
            world.dirty.begin_checkpoint();
            world.checkpoint = Some(std::mem::take(&mut world.cleared));
        }
        Action::Settle => {
            world.dirty.settle();
            world.checkpoint = None;
        }
        Action::Revert => {
            world.dirty.revert();
            world.set = world.wanted();
            world.cleared.clear();
            world.checkpoint = None;
        }
        _ => {}
    }
}

fn act_on_pages(world: &mut World, action: &Action) {
    match action {
        Action::TakePage(at) => {
            let pages: Vec<u32> = world.dirty.dirty_pages().collect();
            if !pages.is_empty() {
                world.take_page(*at.get(&pages));
            }
        }
        Action::EndWrite(at, written) if !world.writing.is_empty() => {
            let pages: Vec<u32> = world.writing.keys().copied().collect();
            world.end_write(*at.get(&pages), *written);
        }
        Action::WriteAll => world.write_all(),
        _ => {}
    }
}

proptest! {
    #[test]
    fn memory_and_disk_agree_with_plain_arrays(actions in actions()) {
        let mut world = World::new();
        for action in &actions {
            act_on_marks(&mut world, action);
            act_on_checkpoints(&mut world, action);
            act_on_pages(&mut world, action);
            world.check();
        }
        world.write_all();
    }
}

#[test]
fn loaded_pages_need_no_write_and_damaged_ones_do() {
    let mut dirty = Dirty::new(slot(), VOLUME_BLOCKS * BLOCK_BYTES);
    let masks = Box::new([u32::MAX; PAGE_CHUNKS]);
    dirty.load(&BitmapPage {
        slot: slot(),
        index: 2,
        epoch: 1,
        masks: masks.clone(),
    });
    dirty.load(&BitmapPage {
        slot: slot(),
        index: u32::MAX,
        epoch: 1,
        masks,
    });
    assert_eq!(
        dirty.count(),
        299 * u64::from(CHUNK_BLOCKS) + 7,
        "none past the volume's end"
    );
    assert_eq!(dirty.dirty_pages().count(), 0);
    dirty.set_page_full(0);
    assert!(dirty.wants_write(0) && !dirty.wants_write(2 * CHUNKS / EXTENT_CHUNKS));
    assert_eq!(dirty.dirty_pages().collect::<Vec<_>>(), [0]);
}

#[test]
fn nothing_is_set_past_the_volume() {
    let mut dirty = Dirty::new(slot(), VOLUME_BLOCKS * BLOCK_BYTES);
    dirty.set(Span::new(VOLUME_BLOCKS * BLOCK_BYTES, 1 << 60));
    dirty.set_mask(u32::MAX, u32::MAX);
    dirty.set_page_full(u32::MAX);
    assert_eq!((dirty.count(), dirty.pages.len()), (0, 1));
    dirty.set_all();
    assert_eq!(dirty.count(), VOLUME_BLOCKS);
}

#[test]
fn mark_set_again_during_its_checkpoint_outlives_it() {
    let mut dirty = Dirty::new(slot(), VOLUME_BLOCKS * BLOCK_BYTES);
    dirty.set_mask(4, 0b11);
    dirty.take_page(0, 1);
    dirty.page_written(0);
    dirty.clear(4, 0b11);
    dirty.begin_checkpoint();
    dirty.set_mask(4, 0b01);
    assert!(!dirty.wants_write(0), "the disk still holds it");
    dirty.settle();
    assert_eq!(dirty.take_page(0, 1).masks[4], 0b01);
}

#[test]
#[should_panic(expected = "a checkpoint is open")]
fn checkpoints_do_not_overlap() {
    let mut dirty = Dirty::new(slot(), VOLUME_BLOCKS * BLOCK_BYTES);
    dirty.begin_checkpoint();
    dirty.begin_checkpoint();
}
