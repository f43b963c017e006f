//! The unstable blocks of one extent.

use format::types::{EXTENT_CHUNKS, Span};

/// Chunk masks of one extent.
const CHUNKS: usize = EXTENT_CHUNKS as usize;

/// Blocks, and the last write to any of them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Layer {
    masks: [u32; CHUNKS],
    /// The highest sequence number; 0 if there are no blocks.
    last: u64,
}

impl Layer {
    /// Forgets the blocks once all of them are stable.
    fn settle(&mut self, stable_through: u64) {
        if self.last <= stable_through {
            *self = Layer::default();
        }
    }

    fn absorb(&mut self, other: Layer) {
        for (mask, more) in self.masks.iter_mut().zip(other.masks) {
            *mask |= more;
        }
        self.last = self.last.max(other.last);
    }
}

/// The unstable blocks of one extent, in two layers, so that blocks which are written over and over
/// do not keep the others unstable for ever: a barrier moves what came before it into `previous`,
/// which becomes stable as a whole while `current` goes on. Both are brought up to date lazily.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Marks {
    current: Layer,
    previous: Layer,
    /// The barrier after which `current` was begun.
    barrier: u64,
}

impl Marks {
    /// The blocks that the span has in this extent are unstable from this write on.
    pub(super) fn mark(&mut self, extent: u32, span: Span, sequence: u64, now: Now) {
        self.current.settle(now.stable_through);
        self.previous.settle(now.stable_through);
        if self.barrier < now.barrier {
            self.previous.absorb(std::mem::take(&mut self.current));
            self.barrier = now.barrier;
        }
        for (chunk, mask) in (extent * EXTENT_CHUNKS..).zip(&mut self.current.masks) {
            *mask |= span.mask_in(chunk);
        }
        self.current.last = self.current.last.max(sequence);
    }

    /// The last write to any of the blocks; 0 if there are none.
    pub(super) fn last(&self) -> u64 {
        self.current.last.max(self.previous.last)
    }

    /// Writes are numbered anew: what is unstable now counts as the first of them.
    pub(super) fn begin_reign(&mut self, stable_through: u64) {
        self.current.settle(stable_through);
        self.previous.settle(stable_through);
        self.previous.absorb(std::mem::take(&mut self.current));
        self.previous.last = self.previous.last.min(1);
    }

    /// The unstable blocks of each of the extent's chunks.
    pub(super) fn masks(&self, stable_through: u64) -> [u32; CHUNKS] {
        let (mut current, mut previous) = (self.current, self.previous);
        current.settle(stable_through);
        previous.settle(stable_through);
        current.absorb(previous);
        current.masks
    }
}

/// What the layers are measured by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Now {
    /// Writes through this one are stable.
    pub(super) stable_through: u64,
    /// Barriers begun so far.
    pub(super) barrier: u64,
}
