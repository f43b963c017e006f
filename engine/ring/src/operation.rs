//! What a ring can be asked to do, and what comes back.

use crate::arena::{Arena, OwnedSlot, SharedSlot};
use crate::batch::SendBatch;
use crate::file::File;
use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use std::io;
use std::ops::Range;

/// Names an operation in flight, so that it can be cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OperationKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl OperationKey {
    pub(crate) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half is the index")]
    pub(crate) fn from_user_data(user_data: u64) -> OperationKey {
        OperationKey {
            index: user_data as u32,
            generation: (user_data >> 32) as u32,
        }
    }
}

/// How a range of a file is made to read as zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zeroing {
    /// Free its space.
    Punch,
    /// Keep its space.
    Zero,
}

/// Something for the kernel to do. It owns all that it needs until it is done.
///
/// # Panics
///
/// Submitting one whose range does not lie within its buffer panics.
#[derive(Debug)]
pub enum Operation {
    /// Fill the range of the slot from the file.
    Read {
        /// From what.
        file: File,
        /// From where.
        offset: u64,
        /// To where.
        slot: OwnedSlot,
        /// Which part of the slot.
        range: Range<usize>,
    },
    /// Write the range of the slot to the file.
    Write {
        /// To what.
        file: File,
        /// To where.
        offset: u64,
        /// What.
        slot: SharedSlot,
        /// Which part of the slot.
        range: Range<usize>,
        /// Whether it is durable when it ends.
        durable: bool,
    },
    /// Make durable what was written to the file, and what is needed to read it again.
    Sync {
        /// What.
        file: File,
    },
    /// Make a range of the file read as zeroes.
    Zero {
        /// What.
        file: File,
        /// From where.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// How.
        zeroing: Zeroing,
    },
    /// Receive what has come, at least one byte.
    Receive {
        /// From where.
        socket: File,
        /// To where.
        buffer: Vec<u8>,
        /// Which part of it.
        range: Range<usize>,
    },
    /// Receive into a slot, until the range is full if possible.
    ReceiveSlot {
        /// From where.
        socket: File,
        /// To where.
        slot: OwnedSlot,
        /// Which part of it.
        range: Range<usize>,
    },
    /// Send all of the batch.
    Send {
        /// To where.
        socket: File,
        /// What.
        batch: SendBatch,
    },
}

/// An operation that has ended, with what it owned that can be used again.
#[derive(Debug)]
pub enum Done {
    /// The range has been filled, or not.
    Read(io::Result<()>, OwnedSlot),
    /// All has been written, or not.
    Write(io::Result<()>),
    /// All is durable, or nothing is known of it.
    Sync(io::Result<()>),
    /// The range reads as zeroes, or nothing is known of it.
    Zero(io::Result<()>),
    /// How many bytes have been received; 0 at the end of the stream.
    Receive(io::Result<usize>, Vec<u8>),
    /// How many bytes have been received; 0 at the end of the stream.
    ReceiveSlot(io::Result<usize>, OwnedSlot),
    /// All has been sent, or an unknown part of it. The batch has been emptied.
    Send(io::Result<()>, SendBatch),
}

/// What becomes of an operation when the kernel has answered.
pub(crate) enum Progress {
    /// It has ended so.
    Ended(io::Result<usize>),
    /// This much of it is done; the rest is to be submitted again.
    More(usize),
}

/// Files are written directly, in whole sectors; a continued operation begins on one again.
const SECTOR_BYTES: usize = 512;

impl Operation {
    /// Panics unless its range lies within its buffer: what the kernel is told afterwards relies on
    /// it.
    pub(crate) fn check(&self) {
        let (range, length) = match self {
            Operation::Read { slot, range, .. } | Operation::ReceiveSlot { slot, range, .. } => {
                (range, slot.len())
            }
            Operation::Write { slot, range, .. } => (range, slot.len()),
            Operation::Receive { buffer, range, .. } => (range, buffer.len()),
            Operation::Sync { .. } | Operation::Zero { .. } | Operation::Send { .. } => return,
        };
        assert!(
            range.start < range.end && range.end <= length,
            "{range:?} is no part of {length} bytes"
        );
    }

    /// The file it works on.
    pub(crate) fn file(&self) -> &File {
        match self {
            Operation::Read { file, .. }
            | Operation::Write { file, .. }
            | Operation::Sync { file }
            | Operation::Zero { file, .. }
            | Operation::Receive { socket: file, .. }
            | Operation::ReceiveSlot { socket: file, .. }
            | Operation::Send { socket: file, .. } => file,
        }
    }

    /// Where its slot begins, if it has one of this arena.
    pub(crate) fn offset_in(&self, arena: &Arena) -> Option<usize> {
        match self {
            Operation::Read { slot, .. } | Operation::ReceiveSlot { slot, .. } => {
                slot.offset_in(arena)
            }
            Operation::Write { slot, .. } => slot.offset_in(arena),
            _ => None,
        }
    }

    /// The submission for what is left after `done` bytes. It refers to memory of the operation,
    /// which must stay untouched until the completion. `place`: of its slot in the table of memory that the kernel knows, if
    /// it is there.
    pub(crate) fn entry(&mut self, done: usize, place: Option<u16>) -> Entry {
        let fd = types::Fd(self.file().number());
        match self {
            Operation::Read {
                offset,
                slot,
                range,
                ..
            } => {
                let at = *offset + done as u64;
                let length = length(range.len() - done);
                let pointer = slot.pointer_at(range.start + done);
                match place {
                    Some(index) => opcode::ReadFixed::new(fd, pointer, length, index)
                        .offset(at)
                        .build(),
                    None => opcode::Read::new(fd, pointer, length).offset(at).build(),
                }
            }
            Operation::Write {
                offset,
                slot,
                range,
                durable,
                ..
            } => {
                let at = *offset + done as u64;
                let length = length(range.len() - done);
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                let pointer = slot.pointer_at(range.start + done);
                match place {
                    Some(index) => opcode::WriteFixed::new(fd, pointer, length, index)
                        .offset(at)
                        .rw_flags(flags)
                        .build(),
                    None => opcode::Write::new(fd, pointer, length)
                        .offset(at)
                        .rw_flags(flags)
                        .build(),
                }
            }
            Operation::Sync { .. } => opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Operation::Zero {
                offset,
                length,
                zeroing,
                ..
            } => opcode::Fallocate::new(fd, *length)
                .offset(*offset)
                .mode(zeroing.mode())
                .build(),
            Operation::Receive { buffer, range, .. } => {
                let pointer = buffer[range.clone()].as_mut_ptr();
                opcode::Recv::new(fd, pointer, length(range.len())).build()
            }
            Operation::ReceiveSlot { slot, range, .. } => {
                let pointer = slot.pointer_at(range.start);
                opcode::Recv::new(fd, pointer, length(range.len()))
                    .flags(libc::MSG_WAITALL)
                    .build()
            }
            Operation::Send { batch, .. } => opcode::SendMsg::new(fd, batch.message(done))
                .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
                .build(),
        }
    }

    /// What becomes of it after the kernel's answer; `done` bytes had been done before.
    pub(crate) fn progress(&self, done: usize, answer: i32) -> Progress {
        let Ok(answered) = usize::try_from(answer) else {
            return match -answer {
                libc::EINTR | libc::EAGAIN => Progress::More(done),
                error => Progress::Ended(Err(io::Error::from_raw_os_error(error))),
            };
        };
        let (wanted, none, unit) = match self {
            Operation::Read { range, .. } => {
                (range.len(), io::ErrorKind::UnexpectedEof, SECTOR_BYTES)
            }
            Operation::Write { range, .. } => (range.len(), io::ErrorKind::WriteZero, SECTOR_BYTES),
            Operation::Send { batch, .. } => (batch.len(), io::ErrorKind::WriteZero, 1),
            _ => return Progress::Ended(Ok(answered)),
        };
        let total = done + answered;
        if total >= wanted {
            return Progress::Ended(Ok(total));
        }
        let again_from = total - total % unit;
        if again_from <= done {
            return Progress::Ended(Err(none.into()));
        }
        Progress::More(again_from)
    }

    /// What it comes back as.
    pub(crate) fn finish(self, result: io::Result<usize>) -> Done {
        match self {
            Operation::Read { slot, .. } => Done::Read(result.map(drop), slot),
            Operation::Write { .. } => Done::Write(result.map(drop)),
            Operation::Sync { .. } => Done::Sync(result.map(drop)),
            Operation::Zero { .. } => Done::Zero(result.map(drop)),
            Operation::Receive { buffer, .. } => Done::Receive(result, buffer),
            Operation::ReceiveSlot { slot, .. } => Done::ReceiveSlot(result, slot),
            Operation::Send { mut batch, .. } => {
                batch.clear();
                Done::Send(result.map(drop), batch)
            }
        }
    }
}

impl Zeroing {
    fn mode(self) -> i32 {
        match self {
            Zeroing::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Zeroing::Zero => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
        }
    }
}

/// Lengths of buffers as the kernel wants them; none comes near the limit.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes.min(1 << 30)).unwrap_or(1 << 30)
}
