//! Which extents may differ between replicas after a crash: the table behind the activity log.
//!
//! An extent is in one of three states:
//!
//! ```text
//!          next_block               committed
//!   Cold ─────────────▶ Writing ─────────────▶ Hot
//!    ▲                                          │
//!    └──────────── evicted by next_block ───────┘
//! ```
//!
//! An operation pins its extents. If one of them is not hot it waits; waiting operations are given
//! places in order of arrival, and only those that have been given theirs pin them. So the first of
//! them always gets through, however many wait and whatever they hold between them.
//!
//! A hot extent also holds the unstable set: which of its blocks have been written and are not known
//! to be durable on every member. It stays hot until it has none.

mod index;
mod list;
mod marks;

use self::index::Index;
use self::list::List;
use self::marks::{Marks, Now};
use format::log_block::{
    LOG_CONTEXT, LOG_CYCLE_BLOCKS, LOG_SLOTS, LOG_UPDATES_MAX, LogBlock, NO_EXTENT,
};
use format::types::{EXTENT_CHUNKS, Span};
use std::collections::VecDeque;

/// Whether an operation may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// All its extents are durable in the log.
    Hot,
    /// [`ActivityLog::committed`] lists it once they are.
    Waiting,
}

/// Why extents that wait have got no place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Starvation {
    /// They will, or every place is in use by an operation.
    None,
    /// The extents that nobody uses are unstable: a flush barrier would free them.
    NeedsBarrier,
    /// Some extents that nobody uses wait only for their bitmap pages.
    NeedsPages,
}

/// An extent's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Residence {
    /// It has no place in the table.
    Cold,
    /// The block that gives it this place is being written.
    Writing(u16),
    /// It has this place, durably.
    Hot(u16),
}

/// An extent that has a place or is wanted by an operation.
#[derive(Clone, Copy, Debug)]
struct Record {
    extent: u32,
    residence: Residence,
    /// Operations that hold it in its place.
    pins: u32,
    /// Waiting operations that have still to pin it.
    waiting: u32,
    marks: Marks,
}

/// An operation that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    operation: u32,
    span: Span,
    /// How many of its extents, from the first on, it has pinned.
    pinned: u32,
}

/// How far the search for places has got.
struct Search {
    /// The next candidate.
    next: Option<u32>,
    /// What stood in the way of the candidates so far.
    blocked: Starvation,
}

/// The activity log and the unstable set of one replica.
#[derive(Debug)]
pub struct ActivityLog {
    instance: u64,
    /// Blocks handed out so far.
    blocks: usize,
    /// The extent in each place.
    table: Vec<u32>,
    /// Places that have ever been given; they are never taken back, only given to others.
    places: u16,
    index: Index,
    records: Vec<Record>,
    /// Records of no extent.
    free: Vec<u32>,
    /// Records of hot extents that no operation pins.
    idle: List,
    /// Records with unstable blocks, roughly by their last write.
    unstable: List,
    /// In order of arrival.
    waiting: VecDeque<Waiting>,
    /// Records in the block that is being written; there is at most one.
    writing: Vec<u32>,
    starvation: Starvation,
    now: Now,
}

impl ActivityLog {
    /// An empty log; its blocks carry the instance.
    pub fn new(instance: u64) -> ActivityLog {
        ActivityLog {
            instance,
            blocks: 0,
            table: vec![NO_EXTENT; LOG_SLOTS],
            places: 0,
            index: Index::new(),
            records: Vec::new(),
            free: Vec::new(),
            idle: List::default(),
            unstable: List::default(),
            waiting: VecDeque::new(),
            writing: Vec::new(),
            starvation: Starvation::None,
            now: Now {
                stable_through: 0,
                barrier: 0,
            },
        }
    }

    /// Pins all extents of the span for the operation, or lets it wait for them.
    pub fn enter(&mut self, operation: u32, span: Span) -> Entry {
        if span.extents().all(|extent| self.is_durable(extent)) {
            for extent in span.extents() {
                let record = self.record_of(extent);
                self.pin(record);
            }
            return Entry::Hot;
        }
        for extent in span.extents() {
            let record = self.find_or_create(extent);
            self.records[record as usize].waiting += 1;
            if self.is_idle(record) {
                self.idle.push_newest(record);
            }
        }
        self.waiting.push_back(Waiting {
            operation,
            span,
            pinned: 0,
        });
        Entry::Waiting
    }

    /// The operation is over: it unpins its extents, or it waits no more.
    pub fn leave(&mut self, operation: u32, span: Span) {
        let waits = self
            .waiting
            .iter()
            .position(|waiting| waiting.operation == operation);
        let pinned = match waits.and_then(|at| self.waiting.remove(at)) {
            Some(waiting) => waiting.pinned as usize,
            None => span.extents().len(),
        };
        for (nth, extent) in span.extents().enumerate() {
            let number = self.record_of(extent);
            let record = &mut self.records[number as usize];
            let users = if nth < pinned {
                &mut record.pins
            } else {
                &mut record.waiting
            };
            assert!(
                *users > 0,
                "extent {extent} is left by an operation that has not entered"
            );
            *users -= 1;
            let unused = record.pins == 0 && record.waiting == 0;
            if nth < pinned && self.is_idle(number) {
                self.idle.push_newest(number);
            } else if unused && self.records[number as usize].residence == Residence::Cold {
                // Nothing has been written there: its marks go with it.
                self.forget(number);
            }
        }
    }

    /// The blocks of the span, whose operation is here, are unstable from the write with this
    /// number on: on a primary at its submission, on a secondary at its arrival.
    pub fn mark(&mut self, span: Span, sequence: u64) {
        for extent in span.extents() {
            let number = self.record_of(extent);
            let marks = &mut self.records[number as usize].marks;
            marks.mark(extent, span, sequence, self.now);
            if marks.last() > self.now.stable_through {
                self.unstable.push_newest(number);
            }
        }
    }

    /// A flush barrier begins: later marks are kept apart from earlier ones.
    pub fn begin_barrier(&mut self) {
        self.now.barrier += 1;
    }

    /// Writes through this number are durable on every member. A lower number than before changes
    /// nothing.
    pub fn set_stable_through(&mut self, sequence: u64) {
        self.now.stable_through = self.now.stable_through.max(sequence);
        while let Some(oldest) = self.unstable.oldest() {
            if !self.is_stable(oldest) {
                break;
            }
            self.unstable.remove(oldest);
        }
    }

    /// Writes through this number are durable on every member.
    pub fn stable_through(&self) -> u64 {
        self.now.stable_through
    }

    /// A new reign numbers its writes anew, from 2 on: what is unstable so far counts as number 1.
    pub fn begin_reign(&mut self) {
        for record in &mut self.records {
            record.marks.begin_reign(self.now.stable_through);
        }
        self.now.stable_through = 0;
        let mut next = self.unstable.oldest();
        while let Some(number) = next {
            next = self.unstable.newer(number);
            if self.is_stable(number) {
                self.unstable.remove(number);
            }
        }
    }

    /// About how many extents have unstable blocks: never too few, and all that were are gone once
    /// the newest mark is stable.
    pub fn unstable_extents(&self) -> usize {
        self.unstable.len()
    }

    /// Each chunk with unstable blocks, and which they are.
    pub fn unstable(&self) -> impl Iterator<Item = (u32, u32)> {
        let chunks = |number: u32| {
            let record = &self.records[number as usize];
            let masks = record.marks.masks(self.now.stable_through);
            (record.extent * EXTENT_CHUNKS..).zip(masks)
        };
        self.unstable
            .iter()
            .flat_map(chunks)
            .filter(|(_, mask)| *mask != 0)
    }

    /// Whether any block of the span is unstable.
    pub fn is_unstable(&self, span: Span) -> bool {
        span.extents().any(|extent| {
            self.index.get(extent).is_some_and(|number| {
                let masks = self.records[number as usize]
                    .marks
                    .masks(self.now.stable_through);
                let mut chunks = (extent * EXTENT_CHUNKS..).zip(masks);
                chunks.any(|(chunk, mask)| mask & span.mask_in(chunk) != 0)
            })
        })
    }

    /// The next block to write, if extents wait and none is being written. It evicts the least
    /// recently used extents that no operation pins, that are stable, and that are `evictable`:
    /// their bitmap pages are on disk.
    pub fn next_block(&mut self, mut evictable: impl FnMut(u32) -> bool) -> Option<LogBlock> {
        if !self.writing.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let mut search = Search {
            next: self.idle.oldest(),
            blocked: Starvation::None,
        };
        let mut updates = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting);
        self.starvation = Starvation::None;
        'full: for operation in &mut waiting {
            for extent in operation.span.extents().skip(operation.pinned as usize) {
                let number = self.record_of(extent);
                if self.records[number as usize].residence == Residence::Cold {
                    if updates.len() == LOG_UPDATES_MAX {
                        break 'full;
                    }
                    let Some(place) = self.take_place(&mut search, &mut evictable) else {
                        self.starvation = search.blocked;
                        break 'full;
                    };
                    self.table[usize::from(place)] = extent;
                    self.records[number as usize].residence = Residence::Writing(place);
                    self.writing.push(number);
                    updates.push((place, extent));
                }
                if search.next == Some(number) {
                    search.next = self.idle.newer(number);
                }
                self.records[number as usize].waiting -= 1;
                self.pin(number);
                operation.pinned += 1;
            }
        }
        self.waiting = waiting;
        if updates.is_empty() {
            None
        } else {
            Some(self.block(updates))
        }
    }

    /// The block is durable. The operations whose extents are all hot now are appended to `ready`,
    /// in order of arrival.
    pub fn committed(&mut self, ready: &mut Vec<u32>) {
        let mut writing = std::mem::take(&mut self.writing);
        for number in writing.drain(..) {
            let record = &mut self.records[number as usize];
            let Residence::Writing(place) = record.residence else {
                unreachable!("extent {} was not being written", record.extent);
            };
            record.residence = Residence::Hot(place);
            if self.is_idle(number) {
                self.idle.push_newest(number);
            }
        }
        self.writing = writing;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|operation| {
            let hot = operation
                .span
                .extents()
                .all(|extent| self.is_durable(extent));
            if hot {
                for extent in operation.span.extents().skip(operation.pinned as usize) {
                    let number = self.record_of(extent);
                    self.records[number as usize].waiting -= 1;
                    self.pin(number);
                }
                ready.push(operation.operation);
            }
            !hot
        });
        self.waiting = waiting;
    }

    /// Whether the operation waits for its extents.
    pub fn is_waiting(&self, operation: u32) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.operation == operation)
    }

    /// What would give places to the extents that the last [`next_block`](Self::next_block) had none
    /// for.
    pub fn starved(&self) -> Starvation {
        if self.waiting.is_empty() {
            Starvation::None
        } else {
            self.starvation
        }
    }

    /// The least recently used extents that nothing but their bitmap pages can keep in the log, at
    /// most `count`.
    pub fn page_candidates(&self, count: usize) -> impl Iterator<Item = u32> {
        let stable = self.idle.iter().filter(|number| self.is_stable(*number));
        stable
            .map(|number| self.records[number as usize].extent)
            .take(count)
    }

    /// Every extent in the table, durable or being written.
    pub fn hot_extents(&self) -> impl Iterator<Item = u32> {
        self.table
            .iter()
            .copied()
            .filter(|extent| *extent != NO_EXTENT)
    }

    /// Whether the extent is in the table, durable or being written.
    pub fn is_hot(&self, extent: u32) -> bool {
        let number = self.index.get(extent);
        number.is_some_and(|number| self.records[number as usize].residence != Residence::Cold)
    }

    /// Whether the extent is in the durable log.
    fn is_durable(&self, extent: u32) -> bool {
        let residence = self
            .index
            .get(extent)
            .map(|at| self.records[at as usize].residence);
        matches!(residence, Some(Residence::Hot(_)))
    }

    fn is_stable(&self, number: u32) -> bool {
        self.records[number as usize].marks.last() <= self.now.stable_through
    }

    fn is_idle(&self, number: u32) -> bool {
        let record = &self.records[number as usize];
        record.pins == 0 && matches!(record.residence, Residence::Hot(_))
    }

    /// The record of an extent that an operation uses.
    fn record_of(&self, extent: u32) -> u32 {
        match self.index.get(extent) {
            Some(number) => number,
            None => panic!("extent {extent} is not in use"),
        }
    }

    fn find_or_create(&mut self, extent: u32) -> u32 {
        if let Some(number) = self.index.get(extent) {
            return number;
        }
        let record = Record {
            extent,
            residence: Residence::Cold,
            pins: 0,
            waiting: 0,
            marks: Marks::default(),
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.records[number as usize] = record;
                number
            }
            None => {
                self.records.push(record);
                u32::try_from(self.records.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.insert(extent, number);
        number
    }

    fn forget(&mut self, number: u32) {
        let record = &mut self.records[number as usize];
        record.marks = Marks::default();
        self.index.remove(record.extent);
        self.unstable.remove(number);
        self.free.push(number);
    }

    fn pin(&mut self, number: u32) {
        self.records[number as usize].pins += 1;
        self.idle.remove(number);
    }

    /// A place that has never been given, or else an idle extent's, which is cold then.
    fn take_place(
        &mut self,
        search: &mut Search,
        evictable: &mut impl FnMut(u32) -> bool,
    ) -> Option<u16> {
        if usize::from(self.places) < LOG_SLOTS {
            self.places += 1;
            return Some(self.places - 1);
        }
        while let Some(number) = search.next {
            search.next = self.idle.newer(number);
            let record = self.records[number as usize];
            if !self.is_stable(number) {
                search.blocked = search.blocked.max(Starvation::NeedsBarrier);
            } else if !evictable(record.extent) {
                search.blocked = Starvation::NeedsPages;
            } else if let Residence::Hot(place) = record.residence {
                self.idle.remove(number);
                self.records[number as usize].residence = Residence::Cold;
                if record.waiting == 0 {
                    self.forget(number);
                }
                return Some(place);
            }
        }
        None
    }

    fn block(&mut self, updates: Vec<(u16, u32)>) -> LogBlock {
        let window = self.blocks % LOG_CYCLE_BLOCKS * LOG_CONTEXT;
        let context = self.table[window..window + LOG_CONTEXT].to_vec();
        let sequence = self.blocks as u64;
        self.blocks += 1;
        LogBlock {
            instance: self.instance,
            sequence,
            updates,
            context,
        }
    }
}

#[cfg(test)]
mod tests;
