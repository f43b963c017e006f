//! What a node knows of leases and of the arbiter.

use crate::event::{Buffer, Nanos, Token};
use crate::status::ArbiterStanding;
use format::types::Slot;
use std::collections::VecDeque;

/// An answer to a client that has to wait for a lease.
pub(crate) type Withheld = (Token, Option<Buffer>);

/// What a node knows of leases: those that it needs and that which it gives.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Since when a member that may take over has heard nothing of a primary.
    pub(crate) quiet_since: Nanos,
    /// A primary that has stopped as planned is waited for, by those who would take over by themselves.
    pub(crate) hold_until: Nanos,
    /// Since when we serve without the leases that we need.
    pub(crate) frozen_since: Option<Nanos>,
    /// It was told of.
    pub(crate) frozen_told: bool,
    /// Clients have been sent away for it.
    pub(crate) frozen_out: bool,
    /// What clients are told once there is a lease again.
    pub(crate) withheld: VecDeque<Withheld>,
}

impl Leases {
    /// At a process's start grace begins anew: the one before may have answered a ping.
    pub(crate) fn at(now: Nanos) -> Leases {
        Leases {
            quiet_since: now,
            ..Leases::default()
        }
    }
}

/// What a node knows of the arbiter, and wants of it.
#[derive(Debug, Default)]
pub(crate) struct Arbitration {
    /// A question is on its way.
    pub(crate) asked: bool,
    /// No question before this.
    pub(crate) not_before: Nanos,
    /// Somebody waits to hear that it answers.
    pub(crate) consult: bool,
    /// When it last said what it holds, in this process.
    pub(crate) answered_at: Option<Nanos>,
    /// It is not looked at before this without a reason.
    pub(crate) look_at: Nanos,
    pub(crate) standing: ArbiterStanding,
    /// A handover that begins once the arbiter has answered: to whom, and which command it answers.
    pub(crate) handover: Option<(Option<Slot>, Option<u64>)>,
}
