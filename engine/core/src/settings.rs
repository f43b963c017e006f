//! How a replica behaves; from the configuration file.

use crate::limits::{DRIFT_DIVISOR, GRACE_MARGIN_NANOS};
use crate::time::Nanos;

/// How a node behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// A peer that has not answered for this long is gone.
    pub peer_timeout: Nanos,
    /// How often a peer is pinged.
    pub ping_interval: Nanos,
    /// What 99 of 100 clients' requests should take at most while a walk goes on; it slows down for that.
    pub application_p99_max: Nanos,
    /// A local I/O unanswered for this long has failed.
    pub io_timeout: Nanos,
    /// Who decides that another node takes over.
    pub failover: Failover,
    /// After a power cut that may have taken acknowledged writes, and with nobody there who has them: when what was
    /// flushed is served nevertheless; `None` for never.
    pub suspect_promotes_after: Option<Nanos>,
    /// How long members wait for a primary that has stopped as planned before they take over.
    pub restart_hold: Nanos,
    /// A member that has had a write or a flush for longer than this is dropped; `None` for never.
    pub slow_peer: Option<Nanos>,
    /// How long requests are held without a quorum before clients are sent away; `None` for as long as it takes.
    pub freeze_max: Option<Nanos>,
    /// A resync copies nothing before it is told that it is its turn: other volumes' may be under way.
    pub takes_turns: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            peer_timeout: 2_000_000_000,
            ping_interval: 250_000_000,
            application_p99_max: 20_000_000,
            io_timeout: 30_000_000_000,
            failover: Failover::Manual,
            suspect_promotes_after: Some(60_000_000_000),
            restart_hold: 30_000_000_000,
            slow_peer: None,
            freeze_max: None,
            takes_turns: false,
        }
    }
}

/// Who decides that another node takes over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Failover {
    /// An operator: there is no arbiter.
    #[default]
    Manual,
    /// The arbiter, when the volume is opened on a member.
    OnDemand(Lease),
    /// The arbiter, as soon as a member has heard nothing of the primary for long enough.
    Automatic(Lease),
}

impl Failover {
    /// The times of a lease, where there is an arbiter.
    pub fn lease(self) -> Option<Lease> {
        match self {
            Failover::Manual => None,
            Failover::OnDemand(lease) | Failover::Automatic(lease) => Some(lease),
        }
    }
}

/// For how long members bind themselves (R5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    lease: Nanos,
    grace: Nanos,
}

impl Lease {
    /// A primary serves for `lease` after it has sent the newest ping that a member has answered; a member proposes
    /// itself no earlier than `grace` after it has received one. `None` if the one may outlast the other.
    pub fn new(lease: Nanos, grace: Nanos) -> Option<Lease> {
        (grace >= Lease::grace_min(lease)).then_some(Lease { lease, grace })
    }

    /// The least grace for a lease: the primary's clock may be slow, and the member's fast.
    pub fn grace_min(lease: Nanos) -> Nanos {
        lease + lease / DRIFT_DIVISOR + GRACE_MARGIN_NANOS
    }

    /// How long a primary serves on an answered ping.
    pub fn lease(self) -> Nanos {
        self.lease
    }

    /// How long a member waits.
    pub fn grace(self) -> Nanos {
        self.grace
    }
}
