//! The arbiter of the world in miniature.

use crate::arbiter::{Question, Register};
use format::types::Configuration;

/// The register, and who reaches it.
#[derive(Default)]
pub(super) struct Arbiter {
    pub(super) held: Option<Configuration>,
    pub(super) away: bool,
    /// It hears no proposals.
    pub(super) deaf: bool,
    pub(super) cut_off: Option<usize>,
    pub(super) asked: Vec<(usize, Question)>,
}

impl Arbiter {
    /// What the register says to a machine, after what it was asked to do.
    pub(super) fn answers(&mut self, index: usize, question: Question) -> Register {
        let Arbiter {
            held,
            away,
            deaf,
            cut_off,
            asked,
        } = self;
        asked.push((index, question));
        let proposes = matches!(question, Question::Propose(_));
        let reached = !*away && *cut_off != Some(index) && !(*deaf && proposes);
        match (question, *held) {
            _ if !reached => Register::Unreachable,
            (Question::Seed(first), None) => Register::Holds(*held.insert(first)),
            (_, None) => Register::Empty,
            (Question::Propose(next), Some(now)) if now.epoch + 1 == next.epoch => {
                Register::Holds(*held.insert(next))
            }
            (_, Some(now)) => Register::Holds(now),
        }
    }
}
