//! The checkers of what covers a difference: R2, R6, R7, and R9's target.

use super::pair;
use crate::content::{BLOCK_SECTORS, Blocks};
use crate::failure::Checker;
use crate::meta::MetaWrite;
use crate::world::World;
use format::bitmap_page::{BitmapPage, PAGE_CHUNKS};
use format::log_block::LogBlock;
use format::superblock::Superblock;
use format::types::{CHUNK_BLOCKS, Configuration, DiskState, EXTENT_BLOCKS, Span};
use replica::event::IoId;
use std::collections::BTreeSet;

/// Every block of any volume.
const EVERYWHERE: Blocks = 0..u32::MAX;

impl World {
    /// R6: the extents are in the host's own durable log before it writes to them. R9: who is no
    /// member is durably inconsistent before it is written to.
    pub(crate) fn check_write(&mut self, host: usize, span: Span) {
        let meta = &self.hosts[host].meta;
        if let Some(extent) = span.extents().find(|extent| !meta.is_hot(*extent)) {
            return self.fail(Checker::R6, || {
                format!("{host} writes {span:?}; extent {extent} is not in its durable log")
            });
        }
        let superblock = meta.superblock();
        let member = superblock.configuration.in_sync.contains(superblock.slot);
        if !member && superblock.disk_state != DiskState::Inconsistent {
            let state = superblock.disk_state;
            self.fail(Checker::R9, || {
                format!("{host} writes {span:?} and is no member, but {state:?} on disk")
            });
        }
    }

    /// R6 for what is sent: the extents are in the primary's durable log.
    pub(crate) fn check_logged(&mut self, host: usize, span: Span) {
        let meta = &self.hosts[host].meta;
        // A failed disk is written to no more: its log has nothing to cover. Its superblock may be long in saying so.
        let superblock = meta.next_superblock().unwrap_or(meta.superblock());
        let usable =
            !self.has_failed(host) && superblock.configuration.in_sync.contains(superblock.slot);
        if usable && let Some(extent) = span.extents().find(|extent| !meta.is_hot(*extent)) {
            self.fail(Checker::R6, || {
                format!("{host} sends {span:?}; extent {extent} is not in its durable log")
            });
        }
    }

    /// A write of metadata begins: from now on a crash may leave the new state or the old.
    pub(crate) fn check_meta_begins(&mut self, host: usize, io: IoId, write: MetaWrite) {
        match &write {
            MetaWrite::Superblock(superblock) => {
                let superblock = superblock.clone();
                self.configuration_begins(host, &superblock);
                let shrinks = self.shrinks(host, &superblock);
                let before = self.hosts[host].meta.superblock().configuration;
                self.hosts[host].meta.begin(io, write);
                self.check_drop(host, before, superblock.configuration);
                if shrinks {
                    self.check_everywhere(host);
                }
            }
            MetaWrite::Log(block) => {
                let evicted = self.evicted(host, block);
                self.hosts[host].meta.begin(io, write);
                for extent in evicted {
                    let first = extent * EXTENT_BLOCKS;
                    self.check_range(host, first..first + EXTENT_BLOCKS);
                }
            }
            MetaWrite::Page(page) => {
                let cleared = self.cleared(host, page);
                let other = page.slot.index();
                self.hosts[host].meta.begin(io, write);
                if !cleared.is_empty() && other < self.hosts.len() {
                    self.check_pair(host, other, cleared);
                }
            }
        }
    }

    /// Whether a superblock may void marks or a log.
    fn shrinks(&self, host: usize, next: &Superblock) -> bool {
        let now = self.hosts[host].meta.superblock();
        now.mark_floor != next.mark_floor
            || now.marks_valid != next.marks_valid
            || now.log_instance != next.log_instance
            || now.clean != next.clean
    }

    fn evicted(&self, host: usize, block: &LogBlock) -> Vec<u32> {
        let meta = &self.hosts[host].meta;
        let old = block.updates.iter().filter_map(|(place, new)| {
            meta.extent_at(*place, block.instance)
                .filter(|old| old != new)
        });
        old.collect()
    }

    /// The range of blocks whose marks a page no longer holds.
    fn cleared(&self, host: usize, page: &BitmapPage) -> Blocks {
        let Some(old) = self.hosts[host].meta.page(page.slot, page.index) else {
            return 0..0;
        };
        let cleared = |place: &usize| old.masks[*place] & !page.masks[*place] != 0;
        let mut places = (0..PAGE_CHUNKS).filter(cleared);
        let Some(first) = places.next() else {
            return 0..0;
        };
        let last = places.next_back().unwrap_or(first);
        let chunk = |place: usize| {
            let place = u32::try_from(place).expect("a page is small");
            (page.index * u32::try_from(PAGE_CHUNKS).expect("a page is small") + place)
                * CHUNK_BLOCKS
        };
        chunk(first)..chunk(last) + CHUNK_BLOCKS
    }

    /// R2: a drop is proposed only after everyone who remains has durably marked what the dropped
    /// may lack.
    pub(crate) fn check_drop(&mut self, host: usize, now: Configuration, next: Configuration) {
        let me = Some(self.hosts[host].slot);
        let drops = now.primary == me && next.primary == me && next.generation != now.generation;
        // Who is forced to go on alone cannot know what the others have done since.
        let forced = self.lineages.of(next.generation) != Some(self.lineage_of(host));
        if !drops || forced {
            return;
        }
        let dropped: Vec<usize> = self
            .hosts_of(now.in_sync.difference(next.in_sync))
            .collect();
        let remaining: Vec<usize> = self.hosts_of(next.in_sync).collect();
        let here = self.lineage_of(host);
        // Who has gone on in a history of his own, or follows another's, has marked that himself.
        let follows = |at: usize| {
            let configuration = self.hosts[at].meta.superblock().configuration;
            self.lineages.of(configuration.generation)
        };
        for dropped in dropped
            .into_iter()
            .filter(|at| self.lineage_of(*at) == here && follows(*at) == Some(here))
            .collect::<Vec<_>>()
        {
            for remaining in &remaining {
                let slot = self.hosts[dropped].slot;
                let meta = &self.hosts[*remaining].meta;
                let unequal = self.unequal(dropped, *remaining, EVERYWHERE);
                // Who drops itself knows what it has written and never sent; and what one replica alone was
                // sent before the present reign, or was copied to it since, only that one can tell.
                let other = &self.hosts[dropped].meta;
                let bare = |block: &u32| {
                    let alone = dropped == host || !self.has_written(*block, [dropped, *remaining]);
                    let known = alone && other.covers(self.hosts[*remaining].slot, *block);
                    !known && !meta.covers(slot, *block)
                };
                if let Some(number) = unequal.into_iter().find(bare) {
                    self.fail(Checker::R2, || {
                        format!("{host} drops {dropped}; {remaining} has not marked {number}")
                    });
                }
            }
        }
    }

    /// Whether one of the hosts was told to write the block in the present reign.
    fn has_written(&self, block: u32, hosts: [usize; 2]) -> bool {
        let written = hosts
            .iter()
            .filter_map(|host| self.checks.written.get(host));
        written.flatten().any(|blocks| blocks.contains(&block))
    }

    /// The blocks that differ between two hosts, or may after a power cut.
    fn unequal(&self, left: usize, right: usize, range: Blocks) -> BTreeSet<u32> {
        let mut numbers = self.hosts[left].disk.volatile_in(range.clone());
        numbers.extend(self.hosts[right].disk.volatile_in(range.clone()));
        if let Some(differ) = self.checks.differ.get(&pair(left, right)) {
            numbers.extend(differ.range(range));
        }
        numbers
    }

    /// R7 everywhere, for a host and all others.
    pub(crate) fn check_everywhere(&mut self, host: usize) {
        self.check_range(host, EVERYWHERE);
    }

    fn check_range(&mut self, host: usize, range: Blocks) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            self.check_pair(host, other, range.clone());
        }
    }

    /// R7: what differs between the two is marked by one for the other, or in a log.
    fn check_pair(&mut self, host: usize, other: usize, range: Blocks) {
        let (slot, other_slot) = (self.hosts[host].slot, self.hosts[other].slot);
        let (mine, theirs) = (&self.hosts[host].meta, &self.hosts[other].meta);
        if !mine.claims(other_slot) || !theirs.claims(slot) {
            return;
        }
        let unequal = self.unequal(host, other, range);
        let bare = |block: &u32| !mine.covers(other_slot, *block) && !theirs.covers(slot, *block);
        if let Some(number) = unequal.into_iter().find(bare) {
            let tell = |at: usize| {
                let disk = &self.hosts[at].disk;
                let meta = &self.hosts[at].meta;
                let values = (0..BLOCK_SECTORS)
                    .map(|sector| disk.outcomes(number, sector).collect::<BTreeSet<_>>());
                let hot = meta.is_hot(number / EXTENT_BLOCKS);
                format!("{at} (hot {hot}, {:x?})", values.collect::<Vec<_>>())
            };
            let (left, right) = (tell(host), tell(other));
            self.fail(Checker::R7, || {
                format!(
                    "block {number} may differ between {left} and {right} and nothing covers it"
                )
            });
        }
    }

    /// R9: a resync sends no block that neither side has marked.
    pub(crate) fn check_copied(&mut self, host: usize, peer: usize, numbers: &[u32]) {
        let (slot, peer_slot) = (self.hosts[host].slot, self.hosts[peer].slot);
        let (mine, theirs) = (&self.hosts[host].meta, &self.hosts[peer].meta);
        if !mine.claims(peer_slot) || !theirs.claims(slot) {
            return;
        }
        let bare = |block: &&u32| !mine.covers(peer_slot, **block) && !theirs.covers(slot, **block);
        if let Some(number) = numbers.iter().find(bare).copied() {
            self.fail(Checker::R9, || {
                format!("{host} sends block {number} to {peer}, which neither has marked")
            });
        }
    }

    /// A host has read its metadata after a crash.
    pub(crate) fn check_recovered(&mut self, host: usize) {
        self.superblock_found(host);
        self.check_everywhere(host);
    }
}
