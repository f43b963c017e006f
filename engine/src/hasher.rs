//! Hashes of blocks, a little in each turn, so that no client waits for a resync's arithmetic.

use format::frame::Digest;
use format::types::BLOCK_BYTES;
use replica::event::{Event, IoId};
use ring::SharedSlot;
use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// Blocks that one turn hashes at most (256 KiB): about a hundred microseconds.
const TURN_BLOCKS: usize = 64;

/// What waits to be hashed.
#[derive(Default)]
pub(crate) struct Hasher {
    jobs: VecDeque<Job>,
}

struct Job {
    io: IoId,
    slot: SharedSlot,
    blocks: usize,
    digests: Vec<Digest>,
}

impl Hasher {
    /// Hashes the first `blocks` blocks of the slot in the turns to come.
    pub(crate) fn push(&mut self, io: IoId, slot: SharedSlot, blocks: usize) {
        self.jobs.push_back(Job {
            io,
            slot,
            blocks,
            digests: Vec::with_capacity(blocks),
        });
    }

    /// Whether something waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Hashes one turn's worth.
    pub(crate) fn turn(&mut self, events: &mut VecDeque<Event>) {
        let block_bytes = crate::memory::length(BLOCK_BYTES);
        let mut room = TURN_BLOCKS;
        while let Some(job) = self.jobs.front_mut() {
            let begun = job.digests.len();
            let todo = job.slot.chunks_exact(block_bytes).take(job.blocks);
            job.digests.extend(todo.skip(begun).take(room).map(digest));
            room -= job.digests.len() - begun;
            if job.digests.len() < job.blocks {
                return;
            }
            let (io, digests) = (job.io, std::mem::take(&mut job.digests).into());
            self.jobs.pop_front();
            events.push_back(Event::Hashed { io, digests });
        }
    }
}

fn digest(block: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(&blake3::hash(block).as_bytes()[..size_of::<Digest>()]);
    digest
}
