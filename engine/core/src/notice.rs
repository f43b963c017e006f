//! What a person may want to know: the events of `twinblk events`.

use crate::status::{ArbiterStanding, Receipt};
use crate::time::Nanos;
use format::types::{Configuration, DiskState, Slot};

/// One notice. Each has a stable name and number for scripts ([`Notice::name`], [`Notice::number`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A handshake's verdict.
    Handshake {
        /// With whom.
        peer: Slot,
        /// The row of the reconcile table.
        row: &'static str,
    },
    /// A session has ended.
    Disconnected {
        /// With whom.
        peer: Slot,
        /// Why.
        reason: String,
    },
    /// A configuration was committed or learned.
    Configured(Configuration),
    /// This replica serves now.
    Promoted {
        /// By force.
        forced: bool,
    },
    /// This replica serves no more.
    Demoted {
        /// Why.
        reason: &'static str,
    },
    /// The disk's state has changed.
    Disk {
        /// Whose.
        slot: Slot,
        /// To what.
        state: DiskState,
    },
    /// Both have gone on from a common past: an operator must choose.
    SplitBrain {
        /// With whom.
        peer: Slot,
    },
    /// A resync has begun.
    ResyncStarted {
        /// With whom.
        peer: Slot,
        /// Bytes marked.
        bytes: u64,
        /// Why everything is compared, if it is.
        full_because: Option<&'static str>,
    },
    /// A resync has ended.
    ResyncDone {
        /// With whom.
        peer: Slot,
        /// What it took.
        receipt: Receipt,
    },
    /// A verify has ended.
    VerifyDone {
        /// With whom.
        peer: Slot,
        /// Blocks that differed.
        differing: u64,
    },
    /// A read error was served by a peer, and the blocks rewritten.
    ReadRepaired {
        /// By whom.
        peer: Slot,
    },
    /// The replica waits for a member to confirm that it may serve.
    Waiting {
        /// For whom.
        peer: Slot,
    },
    /// The replica may have lost acknowledged writes in a power cut, or that is mended.
    Suspect(bool),
    /// Requests are held: a member does not answer and has not been dropped.
    Frozen,
    /// They are not any more.
    Thawed,
    /// The arbiter answers, or does not.
    Arbiter(ArbiterStanding),
    /// This member takes over, if the arbiter agrees.
    FailoverStarted {
        /// For how long it has heard nothing of the primary.
        quiet: Nanos,
    },
    /// A member answers, but too slowly: it is dropped.
    SlowPeer {
        /// Which.
        peer: Slot,
    },
    /// A power cut may have taken acknowledged writes, and nobody who has them has come for long: what was flushed
    /// is served, as a local disk would.
    ServesFlushed,
    /// Metadata was damaged; what was done about it.
    Metadata(String),
}

impl Notice {
    /// Its stable name.
    pub fn name(&self) -> &'static str {
        self.identity().0
    }

    /// Its stable number.
    pub fn number(&self) -> u16 {
        self.identity().1
    }

    fn identity(&self) -> (&'static str, u16) {
        match self {
            Notice::Handshake { .. } => ("handshake", 100),
            Notice::Disconnected { .. } => ("disconnected", 101),
            Notice::Configured(_) => ("configured", 200),
            Notice::Promoted { .. } => ("promoted", 201),
            Notice::Demoted { .. } => ("demoted", 202),
            Notice::Waiting { .. } => ("waiting", 203),
            Notice::Suspect(_) => ("suspect", 204),
            Notice::SplitBrain { .. } => ("split-brain", 205),
            Notice::Frozen => ("frozen", 206),
            Notice::Thawed => ("thawed", 207),
            Notice::Arbiter(_) => ("arbiter", 208),
            Notice::FailoverStarted { .. } => ("failover-started", 209),
            Notice::ServesFlushed => ("serves-flushed", 210),
            Notice::SlowPeer { .. } => ("slow-peer", 211),
            Notice::Disk { .. } => ("disk", 300),
            Notice::ReadRepaired { .. } => ("read-repaired", 301),
            Notice::Metadata(_) => ("metadata", 302),
            Notice::ResyncStarted { .. } => ("resync-started", 400),
            Notice::ResyncDone { .. } => ("resync-done", 401),
            Notice::VerifyDone { .. } => ("verify-done", 402),
        }
    }
}
