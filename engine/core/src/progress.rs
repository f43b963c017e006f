//! How far a walk has come.
//!
//! ```text
//!   Copying ----- little is left ----> Draining ---- all is settled ----> Admitting --> (member)
//!          (resync only: writes wait for      (checkpoint: both have
//!           the target from here on)           flushed all that came)
//! ```

use crate::operation::OperationId;
use crate::pace::Pace;
use crate::settings::Settings;
use crate::status::Receipt;
use crate::time::Nanos;
use format::types::NodeSet;

/// What a walk is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// Two members are made equal, from the driver or towards it.
    Equalise { pull: bool },
    /// A replica outside the in-sync set is brought up to date.
    Resync,
    /// Everything is compared.
    Verify { repair: bool },
}

/// Which walks may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leave {
    /// None may: an operator holds them back.
    pub(crate) paused: bool,
    /// Resyncs may, for all that other volumes do.
    pub(crate) has_turn: bool,
}

impl Leave {
    pub(crate) fn at_first(settings: &Settings) -> Leave {
        Leave {
            paused: false,
            has_turn: !settings.takes_turns,
        }
    }

    pub(crate) fn allows(self, goal: Goal) -> bool {
        !self.paused && (self.has_turn || goal != Goal::Resync)
    }
}

/// A walk under way.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) goal: Goal,
    pub(crate) stage: WalkStage,
    /// Where to look for the next chunk.
    pub(crate) cursor: u32,
    /// Chunks under way.
    pub(crate) chunks: Vec<(u32, OperationId)>,
    /// A chunk could not be dealt with; the walk will not end well.
    pub(crate) failed: bool,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) pace: Pace,
    pub(crate) receipt: Receipt,
    pub(crate) started_at: Nanos,
    pub(crate) differing: u64,
    pub(crate) blocks_at_start: u64,
}

/// How far a walk has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WalkStage {
    Copying,
    /// Writes wait for the target; what is left drains.
    Draining,
    /// The target has been asked for its promise.
    Admitting,
}

/// Both sides flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) number: u64,
    pub(crate) local: bool,
    pub(crate) remote: bool,
}

/// A verify that somebody waits for.
#[derive(Debug)]
pub(crate) struct Verifying {
    pub(crate) answer: u64,
    pub(crate) peers: NodeSet,
    pub(crate) blocks: u64,
    pub(crate) differing: u64,
}

impl Walk {
    pub(crate) fn new(goal: Goal, blocks: u64, now: Nanos) -> Walk {
        Walk {
            goal,
            stage: WalkStage::Copying,
            cursor: 0,
            chunks: Vec::new(),
            failed: false,
            checkpoint: None,
            receipt: Receipt {
                blocks_dirty: blocks,
                ..Receipt::default()
            },
            pace: Pace::new(now),
            started_at: now,
            differing: 0,
            blocks_at_start: blocks,
        }
    }
}
