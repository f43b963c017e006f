//! The change of the configuration that is under way, and the writes of the superblock that make it
//! durable.
//!
//! ```text
//!            drop, hand over, promote                    durable
//!   None --------------------------------> Persisting ------------> None  (committed)
//!     |                                        ^
//!     |  admit               promised          |
//!     +--------> Admitting --------------------+
//! ```

use crate::event::SessionId;
use format::types::{Configuration, Slot};

/// Writes of the superblock, and of pages.
#[derive(Debug, Default)]
pub(crate) struct Persistence {
    pub(crate) writing: bool,
    /// What follows the write under way.
    pub(crate) now: Vec<Then>,
    /// What follows the write after it.
    pub(crate) next: Vec<Then>,
    /// Pages that are being written.
    pub(crate) pages_writing: usize,
    /// Pages that are out of date on disk should be written soon.
    pub(crate) pages_wanted: bool,
}

impl Persistence {
    pub(crate) fn is_idle(&self) -> bool {
        !self.writing && self.next.is_empty()
    }
}

/// What follows a durable superblock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Nothing,
    Opened,
    /// Our own change is committed.
    Committed,
    /// A handshake goes on.
    Settled {
        peer: Slot,
        session: SessionId,
    },
    /// A configuration that came in the stream binds.
    Learned {
        peer: Slot,
        session: SessionId,
        configuration: Configuration,
    },
    /// The promise of an admission is durable.
    Promised {
        peer: Slot,
        session: SessionId,
        epoch: u64,
    },
    /// The stop is clean.
    Stopped,
    /// This replica's side has been given up.
    Discarded {
        answer: u64,
    },
    /// A command is done.
    Answer {
        answer: u64,
    },
}

/// The change under way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    None,
    /// A resynced replica has been asked to promise its membership.
    Admitting {
        peer: Slot,
        next: Configuration,
    },
    /// Our superblock with the new configuration is being written.
    Persisting {
        next: Configuration,
        cause: Cause,
    },
}

/// Why a configuration changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Drop,
    Admit(Slot),
    HandOver,
    Promote,
}
