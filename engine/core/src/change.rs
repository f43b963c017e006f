//! The change of the configuration that is under way, and the writes of the superblock that make it
//! durable.
//!
//! ```text
//!                              no arbiter                         durable
//!   None --- drop, hand over, ------------------> Persisting ----------------> None  (committed)
//!     |      promote                                  ^
//!     |                 |  arbiter                    | the register holds it
//!     |  admit          v             durable         |
//!     +--> Admitting -> Noting -----------------> Proposing ---> None  (the register holds another)
//!            promised                                 ^
//!                          open from before a restart |
//! ```

use crate::event::{Nanos, SessionId};
use format::types::{Configuration, Slot};

/// Writes of the superblock, and of pages.
#[derive(Debug, Default)]
pub(crate) struct Persistence {
    /// When the superblock's write under way began.
    pub(crate) writing: Option<Nanos>,
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
        self.writing.is_none() && self.next.is_empty()
    }
}

/// What follows a durable superblock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Nothing,
    Opened,
    /// Our own change is committed.
    Committed,
    /// This proposal may be sent.
    Proposed(Configuration),
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
    /// A proposal is being made durable; it is not sent before (R5a).
    Noting {
        next: Configuration,
        cause: Cause,
    },
    /// It is open until the register's epoch moves; both configurations bind.
    Proposing {
        next: Configuration,
        cause: Cause,
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
    /// It was proposed before a restart.
    Reopened,
}

impl Change {
    /// A change that may be committed already, or will be: what it says binds beside what is committed.
    pub(crate) fn open(&self) -> Option<(Configuration, Cause)> {
        match *self {
            Change::None | Change::Admitting { .. } => None,
            Change::Noting { next, cause }
            | Change::Proposing { next, cause }
            | Change::Persisting { next, cause } => Some((next, cause)),
        }
    }
}
