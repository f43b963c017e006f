//! What the parts of a reactor share, and the tokens by which completions find their part again.

use crate::memory::Buffers;
use crate::step::Step;
use replica::event::{Event, Nanos, SessionId};
use ring::Ring;
use std::collections::VecDeque;

/// The ring, the core's buffers and the events that wait for the core.
pub(crate) struct Shell {
    pub(crate) ring: Ring<Token>,
    pub(crate) buffers: Buffers,
    pub(crate) events: VecDeque<Event>,
    /// The time at which the current turn began.
    pub(crate) now: Nanos,
}

/// Whose operation it was.
#[derive(Debug)]
pub(crate) enum Token {
    /// The store's.
    Store(Step),
    /// A peer's socket's.
    Link(SessionId),
    /// A client's socket's.
    Client(u32),
}

/// CLOCK_BOOTTIME, which also counts while the machine sleeps.
pub(crate) fn now() -> Nanos {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
