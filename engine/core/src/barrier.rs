//! The flush barrier under way, and the flushes that wait for the next.

use crate::event::{RequestError, Token};
use crate::time::Nanos;
use format::types::NodeSet;

/// The barrier under way, and the flushes that wait for the next.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    pub(crate) waiting: Vec<Token>,
    pub(crate) active: Option<Active>,
    /// A barrier is wanted although no client has asked for one.
    pub(crate) wanted: bool,
    pub(crate) next_token: u32,
    /// When the oldest write was sent out that no barrier covers.
    pub(crate) unstable_since: Option<Nanos>,
    /// Clients' tokens of the barrier under way.
    pub(crate) clients: Vec<Token>,
}

/// A barrier under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active {
    pub(crate) token: u32,
    pub(crate) covers: u64,
    /// Everything that had been sent out when it began.
    pub(crate) sent: u64,
    pub(crate) pending: NodeSet,
    /// The local flush has not ended.
    pub(crate) local: bool,
    pub(crate) result: Result<(), RequestError>,
    pub(crate) since: Nanos,
}

impl Barrier {
    /// The clients whose flushes the barrier under way would have answered.
    pub(crate) fn take_clients(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.clients)
    }

    /// Whether nothing is under way and nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.active.is_none() && self.waiting.is_empty() && !self.wanted
    }
}
