//! The local disk: the data file and the metadata file, as the core's effects use them.
//!
//! An effect is one operation of the ring or a short chain of them; what a chain does next travels
//! with its operation as a [`Step`].

use crate::memory::{self, Pool, length};
use crate::shell::{Shell, Token};
use crate::step::{Step, Zeroes};
use format::bitmap_page::BitmapPage;
use format::layout::{META_BLOCK_BYTES, SUPERBLOCK_OFFSETS, log_block_offset, page_offset};
use format::log_block::LogBlock;
use format::superblock::Superblock;
use format::types::Span;
use replica::event::{Buffer, DiskError, Event, IoId};
use ring::{Done, File, Operation, SLOT_BYTES_MAX, SharedSlot, Zeroing};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;

mod create;
mod files;
mod holes;
mod open;
mod space;
#[cfg(test)]
mod tests;

pub(crate) use create::{adopt, create, create_joining, extend, reserve_for};
pub(crate) use holes::Holes;
pub(crate) use open::{Found, open};

/// The local disk of a replica.
pub(crate) struct Store {
    data: File,
    meta: File,
    /// Reads that wait for a slot, first come first served.
    reads: VecDeque<(IoId, Span)>,
    /// Metadata that waits for a slot.
    metadata: VecDeque<(IoId, Metadata)>,
    /// What is written where nothing can be made zero otherwise.
    zeroes: SharedSlot,
    /// Whether the file system has been found unable to zero a range, or to free one.
    lacks_zero: bool,
    lacks_punch: bool,
}

/// Something for the metadata file.
#[derive(Debug)]
pub(crate) enum Metadata {
    Superblock(Box<Superblock>),
    Log(Box<LogBlock>),
    Page(BitmapPage),
}

impl Store {
    /// Drives these files.
    pub(crate) fn new(shell: &mut Shell, data: File, meta: File) -> Store {
        let zeroes = memory::take(shell.ring.arena(), Pool::Metadata, SLOT_BYTES_MAX);
        let mut zeroes = zeroes.expect("the pool has a whole region at the start");
        zeroes.fill(0);
        Store {
            data,
            meta,
            reads: VecDeque::new(),
            metadata: VecDeque::new(),
            zeroes: zeroes.share(),
            lacks_zero: false,
            lacks_punch: false,
        }
    }

    /// Reads whole blocks into a slot, once there is one.
    pub(crate) fn read(&mut self, shell: &mut Shell, io: IoId, span: Span) {
        self.reads.push_back((io, span));
        self.start_reads(shell);
    }

    fn start_reads(&mut self, shell: &mut Shell) {
        while let Some((io, span)) = self.reads.front().copied() {
            let bytes = length(span.length);
            let Some(slot) = memory::take(shell.ring.arena(), Pool::Reads, bytes) else {
                return;
            };
            self.reads.pop_front();
            let read = Operation::Read {
                file: self.data.clone(),
                offset: span.offset,
                slot,
                range: 0..bytes,
            };
            shell.ring.submit(read, Token::Store(Step::Read(io)));
        }
    }

    /// Writes whole blocks from the buffer.
    pub(crate) fn write(
        &mut self,
        shell: &mut Shell,
        io: IoId,
        span: Span,
        (buffer, start): (Buffer, u32),
        durable: bool,
    ) {
        let start = start as usize;
        let write = Operation::Write {
            file: self.data.clone(),
            offset: span.offset,
            slot: shell.buffers.slot(buffer).clone(),
            range: start..start + length(span.length),
            durable,
        };
        shell.ring.submit(write, Token::Store(Step::Last(io)));
    }

    /// Makes whole blocks read as zeroes.
    pub(crate) fn zero(
        &mut self,
        shell: &mut Shell,
        io: IoId,
        span: Span,
        unmap: bool,
        durable: bool,
    ) {
        let zeroes = Zeroes {
            io,
            span,
            unmap,
            durable,
        };
        self.start_zeroing(shell, zeroes);
    }

    /// Zeroes in the best way that the file system has not refused.
    fn start_zeroing(&mut self, shell: &mut Shell, zeroes: Zeroes) {
        let ways = match zeroes.unmap {
            true => [Zeroing::Punch, Zeroing::Zero],
            false => [Zeroing::Zero, Zeroing::Punch],
        };
        let can = |way: &Zeroing| match way {
            Zeroing::Zero => !self.lacks_zero,
            Zeroing::Punch => !self.lacks_punch,
        };
        let Some(zeroing) = ways.into_iter().find(can) else {
            return self.fill(shell, zeroes, 0);
        };
        let zero = Operation::Zero {
            file: self.data.clone(),
            offset: zeroes.span.offset,
            length: zeroes.span.length,
            zeroing,
        };
        shell
            .ring
            .submit(zero, Token::Store(Step::Zeroed(zeroes, zeroing)));
    }

    fn fill(&mut self, shell: &mut Shell, zeroes: Zeroes, filled: u64) {
        let bytes = (zeroes.span.length - filled).min(self.zeroes.len() as u64);
        let write = Operation::Write {
            file: self.data.clone(),
            offset: zeroes.span.offset + filled,
            slot: self.zeroes.clone(),
            range: 0..length(bytes),
            durable: zeroes.durable,
        };
        let step = Step::Filled(zeroes, filled + bytes);
        shell.ring.submit(write, Token::Store(step));
    }

    /// Makes the data durable.
    pub(crate) fn flush(&mut self, shell: &mut Shell, io: IoId) {
        let file = self.data.clone();
        shell
            .ring
            .submit(Operation::Sync { file }, Token::Store(Step::Last(io)));
    }

    /// Writes metadata, durable when it ends.
    pub(crate) fn write_metadata(&mut self, shell: &mut Shell, io: IoId, metadata: Metadata) {
        self.metadata.push_back((io, metadata));
        self.start_metadata(shell);
    }

    fn start_metadata(&mut self, shell: &mut Shell) {
        while !self.metadata.is_empty() {
            let bytes = length(META_BLOCK_BYTES);
            let Some(mut slot) = memory::take(shell.ring.arena(), Pool::Metadata, bytes) else {
                return;
            };
            let Some((io, metadata)) = self.metadata.pop_front() else {
                return;
            };
            let (offset, block) = match metadata {
                Metadata::Superblock(superblock) => (SUPERBLOCK_OFFSETS[0], superblock.encode()),
                Metadata::Log(block) => (log_block_offset(block.sequence), block.encode()),
                Metadata::Page(page) => (page_offset(page.slot, page.index), page.encode()),
            };
            slot[..bytes].copy_from_slice(&block[..]);
            let slot = slot.share();
            let step = if offset == SUPERBLOCK_OFFSETS[0] {
                Step::FirstCopy(io, slot.clone())
            } else {
                Step::Last(io)
            };
            self.write_block(shell, offset, slot, step);
        }
    }

    fn write_block(&self, shell: &mut Shell, offset: u64, slot: SharedSlot, step: Step) {
        let write = Operation::Write {
            file: self.meta.clone(),
            offset,
            slot,
            range: 0..length(META_BLOCK_BYTES),
            durable: true,
        };
        shell.ring.submit(write, Token::Store(step));
    }

    /// Starts what has waited for slots.
    pub(crate) fn slots_freed(&mut self, shell: &mut Shell) {
        self.start_reads(shell);
        self.start_metadata(shell);
    }

    /// An operation has ended: goes on with its effect, or tells the core of its end.
    pub(crate) fn completed(&mut self, shell: &mut Shell, step: Step, done: Done) {
        let result = match done {
            Done::Read(result, slot) => {
                let Step::Read(io) = step else {
                    unreachable!("only a read has read");
                };
                let result = result.map_err(|error| failed(io, &error));
                let result = result.map(|()| shell.buffers.insert(slot.share()));
                shell.events.push_back(Event::ReadDone { io, result });
                return;
            }
            Done::Write(result) | Done::Sync(result) | Done::Zero(result) => result,
            other => unreachable!("the store neither sends nor receives: {other:?}"),
        };
        match (step, result) {
            (Step::FirstCopy(io, slot), Ok(())) => {
                self.write_block(shell, SUPERBLOCK_OFFSETS[1], slot, Step::Last(io));
            }
            (Step::Zeroed(zeroes, zeroing), Err(error)) if is_unsupported(&error) => {
                match zeroing {
                    Zeroing::Zero => self.lacks_zero = true,
                    Zeroing::Punch => self.lacks_punch = true,
                }
                self.start_zeroing(shell, zeroes);
            }
            (Step::Zeroed(zeroes, _), Ok(())) if zeroes.durable => self.flush(shell, zeroes.io),
            (Step::Filled(zeroes, filled), Ok(())) if filled < zeroes.span.length => {
                self.fill(shell, zeroes, filled);
            }
            (step, result) => {
                let io = step.io();
                let result = result.map_err(|error| failed(io, &error));
                shell.events.push_back(Event::IoDone { io, result });
            }
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(files::is_unsupported)
}

/// What the core makes of an error.
fn failed(io: IoId, error: &io::Error) -> DiskError {
    tracing::warn!("local I/O {} failed: {error}", io.0);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
        _ => DiskError::Io,
    }
}
