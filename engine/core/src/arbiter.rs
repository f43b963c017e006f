//! What is asked of the arbiter, and what it answers.
//!
//! The arbiter is a register outside that holds a volume's latest [`Configuration`]. It is asked only when that
//! is to change, by a primary that keeps the last copy, and by a replica that has nobody else to ask. The
//! shell puts one question at a time, once, and brings one answer back, however long that takes; the
//! core asks again.

use format::types::Configuration;

/// A question to the register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// What does it hold?
    Read,
    /// Put this in the place of the configuration before it, the one with the epoch below; and then, what
    /// does it hold? Asked again, with the same configuration, until the register's epoch has moved.
    Propose(Configuration),
    /// Put this where there is nothing; and then, what does it hold?
    Seed(Configuration),
}

/// What the register holds, once the question's change was made or was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// The latest configuration.
    Holds(Configuration),
    /// Nothing.
    Empty,
    /// It did not answer in time, or cannot say. What was asked for may still be done.
    Unreachable,
}
