//! From what lies on disk to a running node.

use crate::activity_log::ActivityLog;
use crate::barrier::Barrier;
use crate::change::{Change, Persistence, Then};
use crate::dirty::Dirty;
use crate::event::{Effects, Nanos};
use crate::inflight::Inflight;
use crate::node::{Node, Opening};
use crate::notice::Notice;
use crate::operation::Operations;
use crate::peer::Peer;
use crate::progress::Leave;
use crate::quorum::{Arbitration, Leases};
use crate::random::Random;
use crate::role::Role;
use crate::sequence::Sequences;
use crate::settings::Settings;
use format::superblock::Superblock;
use format::types::{BootId, EXTENT_BYTES, NodeSet, REPLICAS_MAX, Slot, Span};
use std::collections::VecDeque;

impl Node {
    /// Opens a replica. The effects make its opening durable; until they have ended it serves nobody.
    ///
    /// After an unclean stop every block of every extent in the activity log is marked for every other
    /// replica; the marks are on disk before the superblock declares that log void.
    pub fn open(opening: Opening, settings: Settings, effects: &mut Effects) -> Node {
        let mut random = Random::new(opening.seed);
        let mut superblock = opening.superblock;
        let (slot, others) = (superblock.slot, other_replicas(&superblock));
        let unclean = !superblock.clean;
        let mut marks = load_marks(&superblock, others, &opening.pages, &opening.damaged_pages);
        if unclean {
            mark_hot(
                &mut marks,
                opening.hot_extents.as_deref(),
                superblock.size_bytes,
            );
        }
        let rebooted = begin_life(&mut superblock, opening.boot);
        superblock.arbitrated |= settings.failover.lease().is_some();
        superblock.log_instance = random.number();
        let now = opening.now;
        let mut node = Node {
            settings,
            now,
            out: Effects::new(),
            incarnation: random.number(),
            random,
            slot,
            others,
            configuration: superblock.configuration,
            log: ActivityLog::new(superblock.log_instance),
            superblock,
            persistence: Persistence::default(),
            role: Role::Opening,
            change: Change::None,
            doomed: NodeSet::EMPTY,
            slow: NodeSet::EMPTY,
            unmet: NodeSet::EMPTY,
            joining: NodeSet::EMPTY,
            operations: Operations::default(),
            inflight: Inflight::new(),
            log_writing: None,
            marks,
            sequences: Sequences::new(),
            by_sequence: VecDeque::new(),
            first_sequence: crate::limits::FIRST_SEQUENCE,
            barrier: Barrier::default(),
            peers: peers_of(others, now),
            ready: Vec::new(),
            proceeding: Vec::new(),
            again: false,
            blocked: Vec::new(),
            postponed: VecDeque::new(),
            leave: Leave::at_first(&settings),
            checkpoints: 0,
            opened_at: now,
            arbitration: Arbitration::default(),
            leases: Leases::at(now),
            leaving: None,
            swapping: None,
            verifying: None,
            last_receipt: None,
            next_check: now,
            pages_failing: None,
        };
        if rebooted {
            node.notice(Notice::Suspect(true));
        }
        node.trust_empty_marks();
        node.write_all_pages();
        node.opening_advance();
        std::mem::swap(&mut node.out, effects);
        node
    }

    /// Where nothing is marked, all marks to come are certain.
    fn trust_empty_marks(&mut self) {
        for other in self.others.iter() {
            if self.marks_of(other).is_empty() {
                self.peer_mut(other).trust_marks();
            }
        }
    }

    /// Once the marks are on disk, the superblock may say that the old log is void.
    pub(crate) fn opening_advance(&mut self) {
        if matches!(self.role, Role::Opening) && self.pages_clean() && self.persistence.is_idle() {
            self.persist(Then::Opened);
        }
    }

    /// Writes every page whose image on disk is out of date.
    pub(crate) fn write_all_pages(&mut self) {
        for slot in self.others.iter() {
            let pages: Vec<u32> = self.marks_of(slot).dirty_pages().collect();
            for index in pages {
                self.write_page(slot, index);
            }
        }
    }

    /// Whether every page is on disk as it is in memory.
    pub(crate) fn pages_clean(&self) -> bool {
        self.persistence.pages_writing == 0
            && self
                .others
                .iter()
                .all(|slot| self.marks_of(slot).dirty_pages().next().is_none())
    }
}

/// A process begins: what may have been lost since the last one. Whether a power cut came between.
fn begin_life(superblock: &mut Superblock, boot: BootId) -> bool {
    let unclean = !std::mem::take(&mut superblock.clean);
    let served = superblock.configuration.primary == Some(superblock.slot);
    let rebooted = unclean && superblock.boot != boot;
    superblock.suspect |= rebooted;
    superblock.crashed_primary |= unclean && served;
    superblock.boot = boot;
    rebooted
}

fn peers_of(others: NodeSet, now: Nanos) -> [Option<Peer>; REPLICAS_MAX] {
    std::array::from_fn(|index| {
        let other = others.iter().find(|other| other.index() == index);
        other.map(|other| Peer::new(other, now))
    })
}

fn other_replicas(superblock: &Superblock) -> NodeSet {
    let exists = |slot: &Slot| superblock.replicas[slot.index()].is_some();
    let all: NodeSet = Slot::all().filter(exists).collect();
    all.without(superblock.slot)
}

fn load_marks(
    superblock: &Superblock,
    others: NodeSet,
    pages: &[format::bitmap_page::BitmapPage],
    damaged: &[(Slot, u32)],
) -> [Option<Box<Dirty>>; REPLICAS_MAX] {
    let mut marks: [Option<Box<Dirty>>; REPLICAS_MAX] = std::array::from_fn(|_| None);
    for other in others.iter() {
        let mut dirty = Box::new(Dirty::new(other, superblock.size_bytes));
        let floor = superblock.mark_floor[other.index()];
        pages
            .iter()
            .filter(|page| page.slot == other && page.epoch >= floor)
            .for_each(|page| dirty.load(page));
        damaged
            .iter()
            .filter(|(slot, _)| *slot == other)
            .for_each(|(_, index)| dirty.set_page_full(*index));
        marks[other.index()] = Some(dirty);
    }
    marks
}

fn mark_hot(
    marks: &mut [Option<Box<Dirty>>; REPLICAS_MAX],
    hot_extents: Option<&[u32]>,
    size_bytes: u64,
) {
    for dirty in marks.iter_mut().flatten() {
        let Some(extents) = hot_extents else {
            dirty.set_all();
            continue;
        };
        for extent in extents {
            let offset = u64::from(*extent) * EXTENT_BYTES;
            let length = EXTENT_BYTES.min(size_bytes.saturating_sub(offset));
            dirty.set(Span::new(offset, length));
        }
    }
}
