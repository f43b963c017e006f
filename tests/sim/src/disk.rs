//! A data disk with a volatile cache, and the ways in which it loses what was not flushed.
//!
//! A write is visible when it completes, and durable once a flush that began after that has ended, or
//! at once with FUA. A power cut leaves of every other block any version since its last durable one,
//! or a mixture of them sector by sector. A crash of the process leaves of a write in flight any part.

use crate::content::{BLOCK_SECTORS, Block, Blocks, Content, Tag, ZERO_BLOCK, block_of, blocks};
use crate::rng::Rng;
use format::types::Span;
use replica::event::IoId;
use std::collections::{BTreeMap, BTreeSet};

/// A version of a block and when it was completed.
#[derive(Clone, Debug)]
struct Version {
    serial: u64,
    block: Block,
}

/// A write in flight.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where.
    pub blocks: Blocks,
    /// What, from this sector on; zeroes if `None`.
    pub content: Option<(Content, usize)>,
    /// Durable when it ends.
    pub fua: bool,
}

impl Write {
    /// What it makes of a block.
    fn block(&self, number: u32) -> Block {
        let nth = (number - self.blocks.start) as usize;
        match &self.content {
            Some((content, start)) => block_of(&content[*start..], nth),
            None => ZERO_BLOCK,
        }
    }
}

/// What becomes of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It is done.
    Done,
    /// It failed; any of its blocks may have been written.
    Partly,
    /// Nothing has been written.
    Not,
}

/// How a power cut treats the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// All of it is lost.
    All,
    /// Each block is left with any of its versions.
    Any,
    /// Each block is left with any of its versions, or a mixture.
    Torn,
}

/// A data disk.
#[derive(Default, Debug)]
pub struct Disk {
    /// What a read returns; blocks of zeroes are left out.
    visible: BTreeMap<u32, Block>,
    /// All versions of the blocks that have more than the durable one, which is the first.
    unflushed: BTreeMap<u32, Vec<Version>>,
    in_flight: BTreeMap<IoId, Write>,
    serial: u64,
    /// Blocks that cannot be read until they are written again.
    unreadable: BTreeSet<u32>,
}

impl Disk {
    /// What a read of the block returns.
    pub fn get(&self, number: u32) -> Block {
        self.visible.get(&number).copied().unwrap_or(ZERO_BLOCK)
    }

    /// A write begins.
    pub fn begin_write(&mut self, io: IoId, write: Write) {
        self.in_flight.insert(io, write);
    }

    /// The write in flight.
    pub fn write_in_flight(&self, io: IoId) -> Option<&Write> {
        self.in_flight.get(&io)
    }

    /// A write ends. The blocks that it may have changed.
    pub fn end_write(&mut self, io: IoId, how: Ended, rng: &mut Rng) -> Vec<u32> {
        let Some(write) = self.in_flight.remove(&io) else {
            return Vec::new();
        };
        if how == Ended::Not {
            return Vec::new();
        }
        self.serial += 1;
        let numbers = self.touched(&write);
        for number in &numbers {
            if how == Ended::Done || rng.permille(500) {
                self.put(
                    *number,
                    write.block(*number),
                    write.fua && how == Ended::Done,
                );
                self.unreadable.remove(number);
            }
        }
        numbers
    }

    /// The blocks that a write can change: zeroing changes only what there is.
    fn touched(&self, write: &Write) -> Vec<u32> {
        if write.content.is_some() {
            return write.blocks.clone().collect();
        }
        let range = write.blocks.clone();
        let visible = self.visible.range(range.clone()).map(|(number, _)| *number);
        let unflushed = self.unflushed.range(range).map(|(number, _)| *number);
        visible
            .chain(unflushed)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    fn put(&mut self, number: u32, block: Block, durable: bool) {
        let old = self.get(number);
        self.show(number, block);
        if durable {
            self.unflushed.remove(&number);
            return;
        }
        match self.unflushed.get_mut(&number) {
            Some(versions) => {
                versions.push(Version {
                    serial: self.serial,
                    block,
                });
            }
            None if old != block => {
                let versions = [(0, old), (self.serial, block)];
                let versions = versions.map(|(serial, block)| Version { serial, block });
                self.unflushed.insert(number, versions.to_vec());
            }
            None => {}
        }
    }

    fn show(&mut self, number: u32, block: Block) {
        if block == ZERO_BLOCK {
            self.visible.remove(&number);
        } else {
            self.visible.insert(number, block);
        }
    }

    /// Data reaches the disk that nobody has sent now. The blocks that change.
    pub fn overwrite(&mut self, span: Span, content: &[Tag]) -> Vec<u32> {
        self.serial += 1;
        for (nth, number) in blocks(span).enumerate() {
            self.put(number, block_of(content, nth), false);
        }
        blocks(span).collect()
    }

    /// A flush begins; it makes durable what has been completed by now.
    pub fn begin_flush(&self) -> u64 {
        self.serial
    }

    /// The flush that began so has ended.
    pub fn end_flush(&mut self, begun: u64) {
        self.unflushed.retain(|_, versions| {
            let newest = versions
                .iter()
                .rposition(|version| version.serial <= begun)
                .unwrap_or(0);
            versions.drain(..newest);
            versions.len() > 1
        });
    }

    /// Reads blocks. A block that is being written reads as old or new, sector by sector.
    pub fn read(&self, blocks: Blocks, rng: &mut Rng) -> Option<Vec<Tag>> {
        if self.unreadable.range(blocks.clone()).next().is_some() {
            return None;
        }
        let mut content = Vec::with_capacity(blocks.len() * BLOCK_SECTORS);
        for number in blocks.clone() {
            content.extend_from_slice(&self.get(number));
        }
        for write in self.in_flight.values() {
            let from = write.blocks.start.max(blocks.start);
            for number in from..write.blocks.end.min(blocks.end) {
                let place = (number - blocks.start) as usize * BLOCK_SECTORS;
                for (nth, tag) in write.block(number).into_iter().enumerate() {
                    if rng.permille(500) {
                        content[place + nth] = tag;
                    }
                }
            }
        }
        Some(content)
    }

    /// Makes a block unreadable.
    pub fn spoil(&mut self, number: u32) {
        self.unreadable.insert(number);
    }

    /// Makes all blocks readable again.
    pub fn mend(&mut self) {
        self.unreadable.clear();
    }

    /// The process has ended: of each write in flight any part is done. The blocks that may have
    /// changed.
    pub fn crash(&mut self, rng: &mut Rng) -> Vec<u32> {
        let operations: Vec<IoId> = self.in_flight.keys().copied().collect();
        let mut changed = Vec::new();
        for io in operations {
            let how = [Ended::Not, Ended::Partly, Ended::Done][rng.index(3)];
            changed.extend(self.end_write(io, how, rng));
        }
        changed
    }

    /// The machine has lost its power. The blocks that may have changed.
    pub fn lose_power(&mut self, loss: Loss, rng: &mut Rng) -> Vec<u32> {
        let mut changed = self.crash(rng);
        for (number, versions) in std::mem::take(&mut self.unflushed) {
            let mut block = match loss {
                Loss::All => versions[0].block,
                Loss::Any | Loss::Torn => versions[rng.index(versions.len())].block,
            };
            if loss == Loss::Torn {
                for (nth, tag) in block.iter_mut().enumerate() {
                    *tag = versions[rng.index(versions.len())].block[nth];
                }
            }
            self.show(number, block);
            changed.push(number);
        }
        changed
    }

    /// Whether a power cut now could change the block.
    pub fn is_volatile(&self, number: u32) -> bool {
        self.unflushed.contains_key(&number)
            || self
                .in_flight
                .values()
                .any(|write| write.blocks.contains(&number))
    }

    /// The blocks in the range that a power cut now could change, or that a write in flight covers
    /// and that are not zero.
    pub fn volatile_in(&self, range: Blocks) -> BTreeSet<u32> {
        let unflushed = self
            .unflushed
            .range(range.clone())
            .map(|(number, _)| *number);
        let mut numbers: BTreeSet<u32> = unflushed.collect();
        for write in self.in_flight.values() {
            let from = write.blocks.start.max(range.start);
            let to = write.blocks.end.min(range.end);
            if from >= to {
                continue;
            }
            if write.content.is_some() {
                numbers.extend(from..to);
            } else {
                numbers.extend(self.visible.range(from..to).map(|(number, _)| *number));
            }
        }
        numbers
    }

    /// Every value that the sector could have after a power cut now.
    pub fn outcomes(&self, number: u32, sector: usize) -> impl Iterator<Item = Tag> {
        let versions = self.unflushed.get(&number);
        let visible = versions.is_none().then(|| self.get(number)[sector]);
        let versions = versions.into_iter().flatten();
        let moving = self
            .in_flight
            .values()
            .filter(move |write| write.blocks.contains(&number));
        versions
            .map(move |version| version.block[sector])
            .chain(visible)
            .chain(moving.map(move |write| write.block(number)[sector]))
    }

    /// The first block of the range that is not zero.
    pub fn occupied(&self, range: Blocks) -> impl Iterator<Item = u32> {
        self.visible.range(range).map(|(number, _)| *number)
    }

    /// All blocks that are not zero.
    pub fn blocks(&self) -> impl Iterator<Item = (u32, Block)> {
        self.visible.iter().map(|(number, block)| (*number, *block))
    }
}

#[cfg(test)]
mod tests;
