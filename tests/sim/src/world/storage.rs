//! The shell's operations on disks and metadata files.

use super::{Happening, World};
use crate::content::{BLOCK_SECTORS, block_of, blocks, digest, sectors};
use crate::disk::{Ended, Write};
use crate::failure::Checker;
use crate::host::Operation;
use crate::meta::MetaWrite;
use format::types::Span;
use replica::event::{Buffer, DiskError, Event, IoId, Nanos};

impl World {
    /// The shell takes an operation in hand; it ends after a while.
    fn take_in_hand(&mut self, host: usize, io: IoId, operation: Operation, mean: Nanos) {
        let slowness = self.hosts[host].ailment.slowness.max(1);
        let wait = self.chance.interval(mean) * slowness + 1;
        let known = self.hosts[host].operations.insert(io, operation);
        if known.is_some() {
            return self.fail(Checker::Contract, || {
                format!("{host} uses {io:?} twice at a time")
            });
        }
        let life = self.hosts[host].life;
        self.schedule(self.now + wait, Happening::Done { host, life, io });
    }

    pub(super) fn read_local(&mut self, host: usize, io: IoId, span: Span) {
        self.check_span(host, span);
        let operation = Operation::Read(blocks(span));
        self.take_in_hand(host, io, operation, self.plan.disk_latency);
    }

    pub(super) fn write_local(
        &mut self,
        host: usize,
        io: IoId,
        span: Span,
        source: Option<(Buffer, u32)>,
        fua: bool,
    ) {
        self.check_span(host, span);
        self.check_write(host, span);
        let content = match source {
            None => None,
            Some((buffer, start)) => match self.hosts[host].arena.get(buffer).cloned() {
                Ok(content) => Some((content, sectors(start.into()))),
                Err(misuse) => return self.fail(Checker::Buffers, || misuse),
            },
        };
        if let Some((content, start)) = &content
            && start + sectors(span.length) > content.len()
        {
            return self.fail(Checker::Buffers, || {
                format!("{host} writes {span:?} from too little")
            });
        }
        self.hosts[host].disk.begin_write(
            io,
            Write {
                blocks: blocks(span),
                content,
                fua,
            },
        );
        self.take_in_hand(host, io, Operation::Write, self.plan.disk_latency);
    }

    pub(super) fn flush_local(&mut self, host: usize, io: IoId) {
        let begun = self.hosts[host].disk.begin_flush();
        self.take_in_hand(
            host,
            io,
            Operation::Flush(begun),
            self.plan.disk_latency * 3,
        );
    }

    pub(super) fn hash(&mut self, host: usize, io: IoId, buffer: Buffer, count: u32) {
        let content = match self.hosts[host].arena.get(buffer) {
            Ok(content) if content.len() >= count as usize * BLOCK_SECTORS => content,
            Ok(_) => return self.fail(Checker::Buffers, || format!("{host} hashes past the end")),
            Err(misuse) => return self.fail(Checker::Buffers, || misuse),
        };
        let digests = (0..count as usize)
            .map(|nth| digest(&block_of(content, nth)))
            .collect();
        self.take_in_hand(host, io, Operation::Hash(digests), 20_000);
    }

    pub(super) fn write_meta(&mut self, host: usize, io: IoId, write: MetaWrite) {
        let superblock = matches!(write, MetaWrite::Superblock(_));
        self.check_meta_begins(host, io, write);
        let mean = self.plan.disk_latency * if superblock { 4 } else { 2 };
        self.take_in_hand(host, io, Operation::Meta { superblock }, mean);
    }

    /// Takes an operation in hand that does nothing.
    pub(super) fn pretend_done(&mut self, host: usize, io: IoId) {
        self.take_in_hand(host, io, Operation::Nothing, self.plan.disk_latency);
    }

    fn check_span(&mut self, host: usize, span: Span) {
        let sound = span.is_aligned() && span.length > 0 && span.end() <= self.plan.size_bytes;
        if !sound {
            self.fail(Checker::Contract, || {
                format!("{host} uses its disk at {span:?}")
            });
        }
    }

    /// An operation ends, unless the disk hangs.
    pub(super) fn io_ends(&mut self, host: usize, io: IoId) {
        let awake = self.hosts[host].ailment.hung_until;
        let Some(operation) = self.hosts[host].operations.get(&io) else {
            return;
        };
        if self.now < awake && !matches!(operation, Operation::Hash(_)) {
            let life = self.hosts[host].life;
            let at = awake + self.chance.below(1_000_000);
            return self.schedule(at, Happening::Done { host, life, io });
        }
        let Some(operation) = self.hosts[host].operations.remove(&io) else {
            return;
        };
        let event = match operation {
            Operation::Read(blocks) => {
                let failing = use_up(&mut self.hosts[host].ailment.read_errors);
                let stale = self.reads_stale();
                let mut read = self.hosts[host].disk.read(blocks, &mut self.chance);
                if stale && let Some(content) = &mut read {
                    content.fill(0);
                }
                let content = read.filter(|_| !failing).ok_or(DiskError::Io);
                let result = content.map(|content| self.hosts[host].arena.give(content));
                Event::ReadDone { io, result }
            }
            Operation::Write => Event::IoDone {
                io,
                result: self.write_ends(host, io),
            },
            Operation::Flush(begun) => {
                let failing = use_up(&mut self.hosts[host].ailment.flush_errors);
                if !failing {
                    self.hosts[host].disk.end_flush(begun);
                }
                let result = if failing { Err(DiskError::Io) } else { Ok(()) };
                Event::IoDone { io, result }
            }
            Operation::Hash(digests) => Event::Hashed { io, digests },
            Operation::Nothing => Event::IoDone { io, result: Ok(()) },
            Operation::Meta { superblock } => {
                let failing = !superblock && use_up(&mut self.hosts[host].ailment.meta_errors);
                let error = [DiskError::Io, DiskError::Full][self.chance.index(2)];
                self.hosts[host].meta.end(io, !failing, &mut self.chance);
                if superblock {
                    self.superblock_found(host);
                }
                let result = if failing { Err(error) } else { Ok(()) };
                Event::IoDone { io, result }
            }
        };
        self.step(host, event);
    }

    fn write_ends(&mut self, host: usize, io: IoId) -> Result<(), DiskError> {
        let ailing = &mut self.hosts[host].ailment;
        let (how, result) = if ailing.full {
            (Ended::Not, Err(DiskError::Full))
        } else if use_up(&mut ailing.write_errors) {
            (Ended::Partly, Err(DiskError::Io))
        } else {
            (Ended::Done, Ok(()))
        };
        let changed = self.hosts[host].disk.end_write(io, how, &mut self.chance);
        self.blocks_changed(host, &changed);
        result
    }
}

/// Whether one of so many was left.
fn use_up(left: &mut u32) -> bool {
    let some = *left > 0;
    *left -= u32::from(some);
    some
}
