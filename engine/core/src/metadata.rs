//! Writes of metadata: the superblock, the activity log, the pages of the bitmaps.

use crate::activity_log::Starvation;
use crate::change::Then;
use crate::dirty::Dirty;
use crate::event::{DiskError, Effect, Nanos, RequestError};
use crate::node::Node;
use crate::operation::{IoTarget, Work};
use crate::role::Role;
use format::types::Slot;

/// Pages that are written in one go when the activity log has no place left to give.
const PAGES_AT_ONCE: usize = 64;

impl Node {
    /// Makes the superblock as it is now durable, then does what follows. Writes that are asked for while one
    /// is under way share the next.
    pub(crate) fn persist(&mut self, then: Then) {
        self.persistence.next.push(then);
        if self.persistence.writing.is_none() {
            self.write_superblock();
        }
    }

    fn write_superblock(&mut self) {
        self.superblock.sequence += 1;
        self.persistence.writing = Some(self.now);
        self.persistence.now = std::mem::take(&mut self.persistence.next);
        let superblock = Box::new(self.superblock.clone());
        self.out.push(Effect::WriteSuperblock {
            io: IoTarget::Superblock.id(),
            superblock,
        });
    }

    pub(crate) fn superblock_written(&mut self, result: Result<(), DiskError>) {
        self.persistence.writing = None;
        if result.is_err() {
            return self.halt("the superblock cannot be written");
        }
        for then in std::mem::take(&mut self.persistence.now) {
            self.persisted(then);
        }
        if !self.persistence.next.is_empty() && self.persistence.writing.is_none() {
            self.write_superblock();
        }
    }

    /// Without its metadata a primary cannot even hand over. It is as good as dead to the others, who may take over, and
    /// is back once the disk answers.
    pub(crate) fn is_mute(&self) -> bool {
        let hung = |since: Nanos| self.now.saturating_sub(since) >= self.settings.io_timeout;
        let writing = [self.persistence.writing, self.log_writing];
        let followed = self.is_primary() && self.has_arbiter() && !self.other_members().is_empty();
        followed && writing.into_iter().flatten().any(hung)
    }

    /// One write of the log makes all extents hot that a turn wants.
    pub(crate) fn write_log(&mut self) {
        if self.log_writing.is_some() || matches!(self.role, Role::Opening | Role::Stopped) {
            return;
        }
        let marks = &self.marks;
        let block = self.log.next_block(|extent| {
            !marks
                .iter()
                .flatten()
                .any(|marks| marks.wants_write(extent))
        });
        if let Some(block) = block {
            self.log_writing = Some(self.now);
            let (io, block) = (IoTarget::Log.id(), Box::new(block));
            self.out.push(Effect::WriteLog { io, block });
        }
        match self.log.starved() {
            Starvation::None => {}
            Starvation::NeedsBarrier => self.barrier.wanted = true,
            Starvation::NeedsPages => self.write_candidate_pages(),
        }
    }

    pub(crate) fn log_written(&mut self, result: Result<(), DiskError>) {
        self.log_writing = None;
        if result.is_err() {
            return self.halt("the activity log cannot be written");
        }
        let mut hot = Vec::new();
        self.log.committed(&mut hot);
        for id in hot {
            self.logged(id);
        }
    }

    fn write_candidate_pages(&mut self) {
        if self.pages_failing.is_some() {
            return;
        }
        let extents: Vec<u32> = self.log.page_candidates(PAGES_AT_ONCE).collect();
        for slot in self.others.iter() {
            let mut pages: Vec<u32> = extents
                .iter()
                .filter(|extent| self.marks_of(slot).wants_write(**extent))
                .map(|extent| Dirty::page_of(*extent))
                .collect();
            pages.dedup();
            for index in pages {
                self.write_page(slot, index);
            }
        }
    }

    /// Writes a page, unless it is being written.
    pub(crate) fn write_page(&mut self, slot: Slot, index: u32) {
        if self.marks_of(slot).is_writing(index) {
            return;
        }
        // The floor may stem from a history that was given up since, and lie above our present epoch.
        let floor = self.superblock.mark_floor[slot.index()];
        let epoch = self.superblock.configuration.epoch.max(floor);
        let page = self.marks_mut(slot).take_page(index, epoch);
        self.persistence.pages_writing += 1;
        let io = IoTarget::Page { slot, index }.id();
        self.out.push(Effect::WritePage { io, page });
    }

    pub(crate) fn page_written(&mut self, slot: Slot, index: u32, result: Result<(), DiskError>) {
        self.persistence.pages_writing -= 1;
        match result {
            Ok(()) => self.marks_mut(slot).page_written(index),
            Err(error) => {
                self.marks_mut(slot).page_failed(index);
                self.pages_failing = Some(error);
                self.fail_log_waiters(error);
            }
        }
    }

    /// Marks that cannot reach the disk keep extents in the log. Where that leaves a write no place, its
    /// client is told so; it has not set out.
    fn fail_log_waiters(&mut self, error: DiskError) {
        if !matches!(self.log.starved(), Starvation::NeedsPages) {
            return;
        }
        let waiting: Vec<u32> = self
            .operations
            .iter()
            .filter(|(id, operation)| {
                operation.logged && operation.pending == 0 && self.log.is_waiting(*id)
            })
            .map(|(id, _)| id)
            .collect();
        for id in waiting {
            let request_error: RequestError = crate::write::request_error(error);
            match &self.operations.get(id).work {
                Work::Write(_) => self.request_failed(id, request_error),
                Work::Apply(_) => self.apply_unlogged(id, error),
                _ => {}
            }
        }
    }

    /// The pages that a settled checkpoint, an opening or a stop has left out of date are written.
    pub(crate) fn write_wanted_pages(&mut self) {
        if self.pages_failing.is_some() {
            return;
        }
        let all = matches!(self.role, Role::Opening | Role::Stopping(_));
        if all || std::mem::take(&mut self.persistence.pages_wanted) {
            self.write_all_pages();
        }
        self.opening_advance();
    }
}
