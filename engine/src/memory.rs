//! Who may use how much of the arena, and the buffers that the core knows by number.

use format::frame::{PAYLOAD_BYTES_MAX, PayloadSummary};
use replica::event::{Buffer, Payload};
use ring::{Arena, OwnedSlot, SLOT_BYTES_MAX, SharedSlot};
use std::io;

#[cfg(test)]
mod tests;

/// Users of the arena. Each has a pool of its own, so that none can starve another:
/// acknowledgements, reads and resyncs go on while clients fill theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pool {
    /// Payloads of clients' writes, from their arrival to their last acknowledgement.
    Writes,
    /// What is read from the local disk.
    Reads,
    /// Payloads from peers.
    Peers,
    /// Metadata on its way to the disk.
    Metadata,
}

/// Pools that share what the metadata leaves.
const DATA_POOLS: usize = 3;
/// Metadata is written in single blocks; while more than this waits, it waits in the heap.
const METADATA_BYTES: usize = 2 * SLOT_BYTES_MAX;
/// A pool must hold a few of the largest payloads for work to flow at all.
const POOL_BYTES_MIN: usize = 4 * SLOT_BYTES_MAX;

const _: () = assert!(PAYLOAD_BYTES_MAX <= SLOT_BYTES_MAX);

/// Makes an arena of about this many bytes, divided among its users.
pub(crate) fn arena(bytes: usize) -> io::Result<Arena> {
    let share = pool_bytes(bytes);
    Arena::new(&[share, share, share, METADATA_BYTES])
}

/// Takes a slot from a user's pool.
pub(crate) fn take(arena: &Arena, pool: Pool, bytes: usize) -> Option<OwnedSlot> {
    arena.take(pool as usize, bytes)
}

/// What data of this length occupies in the arena.
pub(crate) fn slot_bytes(bytes: u64) -> u64 {
    let largest = SLOT_BYTES_MAX as u64;
    [largest / 64, largest / 16, largest / 4]
        .into_iter()
        .find(|slot| bytes <= *slot)
        .unwrap_or(largest)
}

/// The size of a pool of data in an arena of about this many bytes.
pub(crate) fn pool_bytes(arena_bytes: usize) -> usize {
    (arena_bytes.saturating_sub(METADATA_BYTES) / DATA_POOLS).max(POOL_BYTES_MIN)
}

/// A length of something in memory.
pub(crate) fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("what is in memory is shorter than the address space")
}

/// The buffers on which the core has a claim.
#[derive(Default, Debug)]
pub(crate) struct Buffers {
    held: Vec<Option<Held>>,
    vacant: Vec<Buffer>,
}

#[derive(Debug)]
struct Held {
    slot: SharedSlot,
    /// The last summary that was asked for: a write to several peers is summed once.
    summary: Option<(Payload, PayloadSummary)>,
}

impl Buffers {
    /// Gives the core a claim on the slot.
    pub(crate) fn insert(&mut self, slot: SharedSlot) -> Buffer {
        let held = Some(Held {
            slot,
            summary: None,
        });
        if let Some(buffer) = self.vacant.pop() {
            self.held[buffer.0 as usize] = held;
            return buffer;
        }
        self.held.push(held);
        let last = self.held.len() - 1;
        Buffer(u32::try_from(last).expect("an arena has fewer than 2^32 slots"))
    }

    /// Ends the core's claim.
    ///
    /// # Panics
    ///
    /// If the core has none: its bookkeeping is broken.
    pub(crate) fn remove(&mut self, buffer: Buffer) -> SharedSlot {
        let held = self.held[buffer.0 as usize].take();
        self.vacant.push(buffer);
        held.expect("the core has a claim on the buffer").slot
    }

    /// The slot behind a buffer.
    ///
    /// # Panics
    ///
    /// As above.
    pub(crate) fn slot(&self, buffer: Buffer) -> &SharedSlot {
        let held = self.held[buffer.0 as usize].as_ref();
        &held.expect("the core has a claim on the buffer").slot
    }

    /// Length and checksum of a payload.
    pub(crate) fn summary(&mut self, payload: Payload) -> PayloadSummary {
        let held = self.held[payload.buffer.0 as usize].as_mut();
        let held = held.expect("the core has a claim on the buffer");
        match held.summary {
            Some((known, summary)) if known == payload => summary,
            _ => {
                let (start, length) = (payload.start as usize, payload.length as usize);
                let summary = PayloadSummary::of(&held.slot[start..start + length]);
                held.summary = Some((payload, summary));
                summary
            }
        }
    }

    /// Copies the first `length` bytes of `patch` over `base` from byte `at` on.
    ///
    /// # Panics
    ///
    /// If something else uses `base`: the core overlays only what it has just read.
    pub(crate) fn overlay(&mut self, base: Buffer, patch: Buffer, at: usize, length: usize) {
        let patch = self.slot(patch).clone();
        let held = self.held[base.0 as usize].take();
        let slot = held.expect("the core has a claim on the buffer").slot;
        let mut slot = slot
            .into_owned()
            .expect("nothing else uses what was just read");
        slot[at..at + length].copy_from_slice(&patch[..length]);
        self.held[base.0 as usize] = Some(Held {
            slot: slot.share(),
            summary: None,
        });
    }
}
