//! The log against a world that remembers everything and against the table that a reader rebuilds.

use super::{ActivityLog, Entry, Starvation};
use format::log_block::{
    LOG_CONTEXT, LOG_CYCLE_BLOCKS, LOG_RING_BLOCKS, LOG_SLOTS, LOG_UPDATES_MAX, LogBlock,
    NO_EXTENT, Recovered, recover,
};
use format::types::{BLOCK_BYTES, CHUNK_BLOCKS, EXTENT_BYTES, EXTENT_CHUNKS, Span};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The table as a reader rebuilds it from the last blocks of a prefix.
fn rebuild(blocks: &[LogBlock]) -> BTreeSet<u32> {
    let mut table = vec![NO_EXTENT; LOG_SLOTS];
    for block in &blocks[blocks.len().saturating_sub(LOG_CYCLE_BLOCKS)..] {
        for (place, extent) in &block.updates {
            table[usize::from(*place)] = *extent;
        }
        let sequence = usize::try_from(block.sequence).expect("few blocks");
        let window = sequence % LOG_CYCLE_BLOCKS * LOG_CONTEXT;
        table[window..window + LOG_CONTEXT].copy_from_slice(&block.context);
    }
    table
        .into_iter()
        .filter(|extent| *extent != NO_EXTENT)
        .collect()
}

/// The same, as the log is read from the disk after a stop.
fn recovered(blocks: &[LogBlock]) -> BTreeSet<u32> {
    let mut ring = vec![vec![0; 4096]; LOG_RING_BLOCKS];
    for (place, block) in (0..LOG_RING_BLOCKS).cycle().zip(blocks) {
        ring[place] = block.encode().to_vec();
    }
    match recover(ring.iter().map(Vec::as_slice), 7) {
        Recovered::Extents(extents) => extents.into_iter().collect(),
        Recovered::Damaged(damage) => panic!("{damage}"),
    }
}

/// An operation that is here.
#[derive(Clone, Copy, Debug)]
struct Operation {
    span: Span,
    arrival: u64,
    started: bool,
}

/// One block marked by one write.
#[derive(Clone, Copy, Debug)]
struct Mark {
    block: u64,
    sequence: u64,
    /// The operation's arrival; a write that never started has written nothing.
    arrival: u64,
    started: bool,
}

struct World {
    log: ActivityLog,
    durable: Vec<LogBlock>,
    writing: Option<LogBlock>,
    operations: BTreeMap<u32, Operation>,
    arrivals: u64,
    marks: Vec<Mark>,
    sequence: u64,
    dirty_pages: BTreeSet<u32>,
}

impl World {
    fn new() -> World {
        World {
            log: ActivityLog::new(7),
            durable: Vec::new(),
            writing: None,
            operations: BTreeMap::new(),
            arrivals: 0,
            marks: Vec::new(),
            sequence: 1,
            dirty_pages: BTreeSet::new(),
        }
    }

    /// A world whose table has only `free` places left, all extents from 0 on.
    fn full(free: usize) -> World {
        let mut world = World::new();
        let extents = (LOG_SLOTS - free) as u64;
        for first in (0..extents).step_by(LOG_UPDATES_MAX) {
            let count = (extents - first).min(LOG_UPDATES_MAX as u64);
            let operation = world.enter(Span::new(first * EXTENT_BYTES, count * EXTENT_BYTES));
            world.turn();
            world.leave(operation);
        }
        world
    }

    fn enter(&mut self, span: Span) -> u32 {
        let number = (0..)
            .find(|n| !self.operations.contains_key(n))
            .unwrap_or(0);
        let hot = span
            .extents()
            .all(|extent| rebuild(&self.durable).contains(&extent));
        let entry = self.log.enter(number, span);
        // An extent whose replacement is being written is cold already, though still durable.
        assert!(hot || entry == Entry::Waiting, "{span:?} is not durable");
        let started = entry == Entry::Hot;
        self.operations.insert(
            number,
            Operation {
                span,
                arrival: self.arrivals,
                started,
            },
        );
        self.arrivals += 1;
        number
    }

    fn mark(&mut self, operation: u32) {
        let Operation {
            span,
            arrival,
            started,
        } = self.operations[&operation];
        self.sequence += 1;
        self.log.mark(span, self.sequence);
        let blocks = span.offset / BLOCK_BYTES..span.end() / BLOCK_BYTES;
        let sequence = self.sequence;
        self.marks.extend(blocks.map(|block| Mark {
            block,
            sequence,
            arrival,
            started,
        }));
    }

    fn leave(&mut self, operation: u32) {
        let span = self
            .operations
            .remove(&operation)
            .expect("the operation is here")
            .span;
        self.log.leave(operation, span);
    }

    fn next_block(&mut self) {
        let before: BTreeSet<u32> = self.log.hot_extents().collect();
        let block = self
            .log
            .next_block(|extent| !self.dirty_pages.contains(&extent));
        let after: BTreeSet<u32> = self.log.hot_extents().collect();
        assert!(
            block.is_none() || self.writing.is_none(),
            "two blocks at once"
        );
        for extent in before.difference(&after) {
            assert!(
                !self.dirty_pages.contains(extent),
                "{extent} left before its page"
            );
            assert!(!self.is_held(*extent), "{extent} left while in use");
        }
        if block.is_none() && self.writing.is_none() {
            self.assert_stuck();
        }
        if let Some(block) = block {
            assert_eq!(block.invalid(), None);
            assert!(!block.updates.is_empty());
            assert_eq!(
                (block.instance, block.sequence),
                (7, self.durable.len() as u64)
            );
            self.writing = Some(block);
        }
    }

    /// Nothing was written although nothing was being written: nothing waits, or no extent can go.
    fn assert_stuck(&self) {
        let Some(_) = self
            .operations
            .values()
            .find(|operation| !operation.started)
        else {
            return;
        };
        let wanted = |extent: u32| {
            self.operations
                .values()
                .any(|operation| operation.span.extents().contains(&extent))
        };
        let (mut unstable, mut pages) = (false, false);
        for extent in self.log.hot_extents().filter(|extent| !wanted(*extent)) {
            let span = Span::new(u64::from(extent) * EXTENT_BYTES, EXTENT_BYTES);
            unstable |= self.log.is_unstable(span);
            pages |= !self.log.is_unstable(span) && self.dirty_pages.contains(&extent);
            assert!(
                self.log.is_unstable(span) || self.dirty_pages.contains(&extent),
                "{extent} could have gone"
            );
        }
        match self.log.starved() {
            Starvation::None => assert!(!unstable && !pages),
            Starvation::NeedsBarrier => assert!(!pages),
            Starvation::NeedsPages => {
                let mut candidates = self.log.page_candidates(LOG_SLOTS);
                assert!(candidates.any(|extent| self.dirty_pages.contains(&extent)));
            }
        }
    }

    /// Whether a started operation uses the extent or has left unstable blocks in it.
    fn is_held(&self, extent: u32) -> bool {
        let mut started = self
            .operations
            .values()
            .filter(|operation| operation.started);
        let unstable = |mark: &Mark| {
            mark.started
                && mark.sequence > self.log.stable_through()
                && mark.block / (EXTENT_BYTES / BLOCK_BYTES) == u64::from(extent)
        };
        started.any(|operation| operation.span.extents().contains(&extent))
            || self.marks.iter().any(unstable)
    }

    fn commit(&mut self) {
        let Some(block) = self.writing.take() else {
            return;
        };
        self.durable.push(block);
        let durable = rebuild(&self.durable);
        let mut ready = Vec::new();
        self.log.committed(&mut ready);
        let mut expected: Vec<(u64, u32)> = Vec::new();
        for (number, operation) in &mut self.operations {
            let hot = operation
                .span
                .extents()
                .all(|extent| durable.contains(&extent));
            if !operation.started && hot {
                operation.started = true;
                expected.push((operation.arrival, *number));
            }
        }
        expected.sort_unstable();
        assert_eq!(
            ready,
            expected
                .iter()
                .map(|(_, number)| *number)
                .collect::<Vec<_>>()
        );
        for mark in &mut self.marks {
            mark.started |= expected.iter().any(|(arrival, _)| mark.arrival == *arrival);
        }
    }

    fn turn(&mut self) {
        self.next_block();
        self.commit();
    }

    /// What a crash at this moment would find, whether or not the block in flight gets through.
    fn check(&self) {
        let mut blocks = self.durable.clone();
        self.check_recovery(&rebuild(&blocks));
        if let Some(block) = &self.writing {
            blocks.push(block.clone());
            self.check_recovery(&rebuild(&blocks));
        }
        let hot: BTreeSet<u32> = self.log.hot_extents().collect();
        assert_eq!(hot, rebuild(&blocks));
        assert!(hot.iter().all(|extent| self.log.is_hot(*extent)));
        assert_eq!(self.log.is_hot(1 << 20), hot.contains(&(1 << 20)));
        self.check_unstable();
    }

    fn check_recovery(&self, recovered: &BTreeSet<u32>) {
        for operation in self
            .operations
            .values()
            .filter(|operation| operation.started)
        {
            for extent in operation.span.extents() {
                assert!(
                    recovered.contains(&extent),
                    "{extent} is in use and would be missed"
                );
            }
        }
        for (chunk, _) in self.unstable_of_started() {
            assert!(
                recovered.contains(&(chunk / EXTENT_CHUNKS)),
                "chunk {chunk} would be missed"
            );
        }
    }

    /// By chunk: the blocks that started writes have left unstable.
    fn unstable_of_started(&self) -> BTreeMap<u32, u32> {
        let mut chunks = BTreeMap::new();
        for mark in &self.marks {
            if mark.started && mark.sequence > self.log.stable_through() {
                let chunk = u32::try_from(mark.block / u64::from(CHUNK_BLOCKS)).expect("small");
                *chunks.entry(chunk).or_default() |= 1u32 << (mark.block % u64::from(CHUNK_BLOCKS));
            }
        }
        chunks
    }

    fn check_unstable(&self) {
        let found: BTreeMap<u32, u32> = self.log.unstable().collect();
        for (chunk, mask) in self.unstable_of_started() {
            assert_eq!(
                found.get(&chunk).copied().unwrap_or(0) & mask,
                mask,
                "chunk {chunk}"
            );
        }
        for (chunk, mask) in &found {
            assert!(*mask != 0 && self.log.is_unstable(Span::chunk(*chunk)));
        }
        let extents: BTreeSet<u32> = found.keys().map(|chunk| chunk / EXTENT_CHUNKS).collect();
        assert!(extents.len() <= self.log.unstable_extents());
    }

    /// Lets everything end: nobody waits for ever.
    fn drain(&mut self) {
        self.commit();
        let waits = self
            .operations
            .values()
            .filter(|operation| !operation.started)
            .count();
        for _ in 0..=waits {
            self.log.set_stable_through(self.sequence);
            self.dirty_pages.clear();
            let started = self
                .operations
                .iter()
                .filter(|(_, operation)| operation.started);
            for number in started.map(|(number, _)| *number).collect::<Vec<_>>() {
                self.leave(number);
            }
            self.turn();
        }
        assert!(
            self.operations.is_empty(),
            "left behind: {:?}",
            self.operations
        );
        assert_eq!(self.log.unstable_extents(), 0);
        assert_eq!(self.log.unstable().count(), 0);
    }
}

#[derive(Clone, Debug)]
enum Action {
    Enter { block: u64, blocks: u64, mark: bool },
    Leave(prop::sample::Index),
    NextBlock,
    Commit,
    Barrier,
    Stable { lag: u64 },
    DirtyPage { extent: u32 },
    CleanPages,
    Reign,
}

/// Extents of the world that are used: few among the old ones and some that are new.
fn block() -> impl Strategy<Value = u64> {
    let extent_blocks = EXTENT_BYTES / BLOCK_BYTES;
    let extent = prop_oneof![0u64..12, 4088u64..4110];
    (extent, 0..extent_blocks).prop_map(move |(extent, block)| extent * extent_blocks + block)
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let blocks = prop_oneof![6 => 1u64..4, 3 => 64u64..600, 1 => Just(4096)];
    let action = prop_oneof![
        8 => (block(), blocks, any::<bool>())
            .prop_map(|(block, blocks, mark)| Action::Enter { block, blocks, mark }),
        6 => any::<prop::sample::Index>().prop_map(Action::Leave),
        4 => Just(Action::NextBlock),
        4 => Just(Action::Commit),
        1 => Just(Action::Barrier),
        2 => (0u64..6).prop_map(|lag| Action::Stable { lag }),
        3 => (0u32..4110).prop_map(|extent| Action::DirtyPage { extent }),
        1 => Just(Action::CleanPages),
        1 => Just(Action::Reign),
    ];
    prop::collection::vec(action, 1..120)
}

fn act(world: &mut World, action: &Action) {
    match action {
        Action::Enter {
            block,
            blocks,
            mark,
        } => {
            let operation = world.enter(Span::new(block * BLOCK_BYTES, blocks * BLOCK_BYTES));
            if *mark {
                world.mark(operation);
            }
        }
        Action::Leave(index) if !world.operations.is_empty() => {
            let numbers: Vec<u32> = world.operations.keys().copied().collect();
            world.leave(*index.get(&numbers));
        }
        Action::Leave(_) => {}
        Action::NextBlock => world.next_block(),
        Action::Commit => world.commit(),
        Action::Barrier => world.log.begin_barrier(),
        Action::Stable { lag } => {
            world
                .log
                .set_stable_through(world.sequence.saturating_sub(*lag));
        }
        Action::DirtyPage { extent } => {
            world.dirty_pages.insert(*extent);
        }
        Action::CleanPages => world.dirty_pages.clear(),
        Action::Reign => {
            let unstable: BTreeMap<u32, u32> = world.log.unstable().collect();
            world
                .marks
                .retain(|mark| mark.sequence > world.log.stable_through());
            world.marks.iter_mut().for_each(|mark| mark.sequence = 1);
            world.log.begin_reign();
            world.sequence = 1;
            assert_eq!(unstable, world.log.unstable().collect());
            assert_eq!(world.log.stable_through(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn crash_at_any_moment_misses_nothing(free in 0usize..20, actions in actions()) {
        let mut world = World::full(free);
        for action in &actions {
            act(&mut world, action);
            world.check();
        }
        prop_assert_eq!(recovered(&world.durable), rebuild(&world.durable));
        world.drain();
        world.check();
    }

    /// With barriers one after another, just what was written after the last of them is unstable.
    #[test]
    fn barriers_make_stable_what_came_before(
        rounds in prop::collection::vec(prop::collection::vec((block(), 1u64..300), 0..12), 1..8)
    ) {
        let mut world = World::new();
        for writes in rounds {
            let before = world.sequence;
            world.log.begin_barrier();
            for (block, blocks) in writes {
                let operation = world.enter(Span::new(block * BLOCK_BYTES, blocks * BLOCK_BYTES));
                world.turn();
                world.mark(operation);
                world.leave(operation);
            }
            world.log.set_stable_through(before);
            let found: BTreeMap<u32, u32> = world.log.unstable().collect();
            prop_assert_eq!(found, world.unstable_of_started());
        }
    }
}

#[test]
fn evicts_the_least_recently_used() {
    let mut world = World::full(0);
    let touched = world.enter(Span::new(0, EXTENT_BYTES));
    world.leave(touched);
    let new = world.enter(Span::new(5000 * EXTENT_BYTES, EXTENT_BYTES));
    world.next_block();
    let block = world.writing.clone().expect("a place is free");
    assert_eq!(
        block.updates,
        [(1, 5000)],
        "extent 0 was used after extent 1"
    );
    assert!(!world.log.is_hot(1));
    world.commit();
    assert!(world.operations[&new].started);
    assert_eq!(world.log.page_candidates(2).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn says_what_it_starves_for() {
    let mut world = World::full(0);
    let all = world.enter(Span::new(0, LOG_SLOTS as u64 * EXTENT_BYTES));
    let new = world.enter(Span::new(5000 * EXTENT_BYTES, EXTENT_BYTES));
    world.next_block();
    assert_eq!(
        world.log.starved(),
        Starvation::None,
        "every place is in use"
    );
    world.mark(all);
    world.leave(all);
    world.next_block();
    assert_eq!(world.log.starved(), Starvation::NeedsBarrier);
    world.log.set_stable_through(world.sequence);
    world.dirty_pages.extend(world.log.hot_extents());
    world.next_block();
    assert_eq!(world.log.starved(), Starvation::NeedsPages);
    world.dirty_pages.remove(&9);
    world.turn();
    assert_eq!(world.log.starved(), Starvation::None);
    assert!(world.operations[&new].started && !world.log.is_hot(9));
}

#[test]
fn operation_does_not_evict_its_own_extent() {
    let mut world = World::full(0);
    let last = LOG_SLOTS as u64 - 1;
    world.enter(Span::new(0, last * EXTENT_BYTES));
    world.enter(Span::new(last * EXTENT_BYTES, 2 * EXTENT_BYTES));
    world.next_block();
    assert!(world.writing.is_none());
    world.drain();
}

/// Operations that wait hold no places, so that those which wait before them can have them.
#[test]
fn crowd_of_wide_operations_gets_through() {
    let mut world = World::full(0);
    for number in 0..300u64 {
        world.enter(Span::new((6000 + number * 20) * EXTENT_BYTES, BLOCK_BYTES));
        world.enter(Span::new(
            number % 256 * 16 * EXTENT_BYTES,
            17 * EXTENT_BYTES,
        ));
    }
    world.drain();
}

#[test]
fn operation_of_an_extent_being_written_starts_with_the_block() {
    let mut world = World::new();
    let first = world.enter(Span::new(0, BLOCK_BYTES));
    world.next_block();
    let second = world.enter(Span::new(BLOCK_BYTES, BLOCK_BYTES));
    let third = world.enter(Span::new(EXTENT_BYTES, BLOCK_BYTES));
    world.leave(first);
    world.commit();
    assert!(world.operations[&second].started);
    assert!(!world.operations[&third].started);
    world.turn();
    assert!(world.operations[&third].started);
}

#[test]
fn keeps_its_memory() {
    let mut log = ActivityLog::new(1);
    let mut ready = Vec::new();
    let mut capacities = Vec::new();
    for turn in 0..3 {
        for operation in 0..64 {
            log.enter(
                operation,
                Span::new(u64::from(operation) * EXTENT_BYTES, BLOCK_BYTES),
            );
        }
        while log.next_block(|_| true).is_some() {
            log.committed(&mut ready);
        }
        for operation in 0..64 {
            let span = Span::new(u64::from(operation) * EXTENT_BYTES, BLOCK_BYTES);
            log.mark(span, turn * 64 + u64::from(operation) + 2);
            log.leave(operation, span);
        }
        capacities.push((
            log.records.capacity(),
            log.waiting.capacity(),
            log.free.capacity(),
        ));
    }
    assert_eq!(capacities[1], capacities[2]);
}
