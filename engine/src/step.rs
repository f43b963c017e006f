//! Where an effect of the local disk stands: it travels with the operation under way.

use format::types::Span;
use replica::event::IoId;
use ring::{SharedSlot, Zeroing};

/// What becomes of an effect when its operation ends.
#[derive(Debug)]
pub(crate) enum Step {
    /// It was a read.
    Read(IoId),
    /// It was the last operation.
    Last(IoId),
    /// The superblock's first copy was written; the second comes next.
    FirstCopy(IoId, SharedSlot),
    /// A range was zeroed, if the file system can.
    Zeroed(Zeroes, Zeroing),
    /// The first bytes of a range were overwritten with zeroes.
    Filled(Zeroes, u64),
}

/// A range that is being zeroed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zeroes {
    pub(crate) io: IoId,
    pub(crate) span: Span,
    pub(crate) unmap: bool,
    pub(crate) durable: bool,
}

impl Step {
    /// Whose it is.
    pub(crate) fn io(&self) -> IoId {
        match self {
            Step::Read(io) | Step::Last(io) | Step::FirstCopy(io, _) => *io,
            Step::Zeroed(zeroes, _) | Step::Filled(zeroes, _) => zeroes.io,
        }
    }
}
