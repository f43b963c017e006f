//! Which frames may leave before others that wait in the same stream.
//!
//! A frame means what it says behind all that was sent before it, but whether somebody is there must not be a question of how much
//! data waits on a slow line: pings and their answers need not queue behind it.
//!
//! - What a ping says of stable writes holds for the members of the configuration that was told before: where a member
//!   has been dropped since, marks for it would be lost. So a ping that overtakes says nothing of them.
//! - An answer tells a primary that it may serve. Whoever has become the primary in its place says so first: an answer never
//!   overtakes a configuration. A ping may: who hears it later in one that binds him counts his grace from there.
//! - A session begins with identities; nothing overtakes those.

use super::Frame;

/// What may not leave before a frame that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// Pings and answers may.
    Nothing,
    /// Answers may not.
    Answers,
    /// Neither may.
    All,
}

impl Frame {
    /// What may not leave before this one.
    pub fn holds(&self) -> Holds {
        match self {
            Frame::Identity(_) => Holds::All,
            Frame::Configuration(_) => Holds::Answers,
            _ => Holds::Nothing,
        }
    }

    /// What of this frame may leave before others that wait: an answer, and of a ping the question.
    pub fn urgent(&self) -> Option<Frame> {
        match *self {
            Frame::Ping { sent_at, .. } => Some(Frame::Ping {
                sent_at,
                stable_through: 0,
            }),
            Frame::Pong { echo } => Some(Frame::Pong { echo }),
            _ => None,
        }
    }

    /// Whether this frame, an urgent one, may leave before one that waits.
    pub fn may_overtake(&self, waiting: Holds) -> bool {
        match self {
            Frame::Ping {
                stable_through: 0, ..
            } => waiting != Holds::All,
            Frame::Pong { .. } => waiting == Holds::Nothing,
            _ => false,
        }
    }
}
