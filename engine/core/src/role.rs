//! What a node is to its volume: from its opening through serving and handing over to its stop.
//!
//! ```text
//!            durable                     recorded primary with other members
//!  Opening ----------> Secondary / Waiting ------------------+
//!                          |   ^  confirmed by a member      | alone in the in-sync set
//!          promote, handed |   |                             v
//!               over to us +---|----------------------> Promoting -----> Primary
//!                              |   superseded (R4)       drain, flush,      |
//!                              +-------------------------commit-------------+
//!                              |                                            v
//!                              +-------------- committed ------------ HandingOver
//!  any -- stop --> Stopping -- flushed, marked clean --> Stopped
//! ```

use crate::time::Nanos;
use format::types::{Configuration, NodeSet, Slot};

/// What a node is to its volume.
#[derive(Debug)]
pub(crate) enum Role {
    /// What was found on disk is being made durable.
    Opening,
    /// It keeps a copy.
    Secondary,
    /// It is the recorded primary, and no member has confirmed it yet.
    Waiting,
    /// It is about to serve.
    Promoting(Promotion),
    /// It serves.
    Primary,
    /// It serves no more; what is in hand is being finished.
    HandingOver(Handover),
    /// It stops.
    Stopping(Stop),
    /// It has stopped.
    Stopped,
}

/// A promotion under way.
#[derive(Debug)]
pub(crate) struct Promotion {
    pub(crate) step: PromotionStep,
    /// A configuration has to be committed: its members beside us.
    pub(crate) commits: Option<NodeSet>,
    pub(crate) forced: bool,
    pub(crate) answer: Option<u64>,
}

/// A handover to this replica that a command asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swapping {
    pub(crate) answer: u64,
    /// Who decides.
    pub(crate) asked: Slot,
    /// When the link to it has ended: what it has decided may be heard of in the next session only.
    pub(crate) lost_at: Option<Nanos>,
}

/// A replica that is to be forgotten once it has left the in-sync set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    pub(crate) slot: Slot,
    pub(crate) answer: u64,
}

/// What a promotion waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PromotionStep {
    /// The arbiter has to be there, and leases that were given to have ended.
    Consulting,
    /// I/O of an old primary or session has not ended.
    Draining,
    /// Our own disk is being flushed before our first I/O.
    Flushing,
    /// The configuration is being committed.
    Committing,
}

/// A handover under way.
#[derive(Debug)]
pub(crate) struct Handover {
    /// To whom; to nobody in a demotion.
    pub(crate) to: Option<Slot>,
    pub(crate) answer: Option<u64>,
    pub(crate) flushing: bool,
    pub(crate) committing: bool,
}

/// A stop under way.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) answer: u64,
    pub(crate) step: StopStep,
    /// It served when the stop began: what is in hand is its own to finish.
    pub(crate) serving: bool,
    /// When what members have not finished is given up.
    pub(crate) patience_until: Nanos,
}

/// What a stop waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopStep {
    /// Requests are being finished.
    Requests,
    /// A last barrier makes them durable everywhere.
    Barrier,
    /// What peers have sent is being finished.
    Draining,
    /// Our own disk is being flushed.
    Flushing,
    /// Marks are being written.
    Pages,
    /// The mark of a clean stop is being written.
    Marking,
}

/// Whether a node that serves has to stop, since this is the configuration now (R4).
pub(crate) fn is_superseded(role: &Role, slot: Slot, next: &Configuration) -> bool {
    let serving = matches!(
        role,
        Role::Primary | Role::Waiting | Role::HandingOver(_) | Role::Promoting(_)
    );
    serving && next.primary != Some(slot)
}
