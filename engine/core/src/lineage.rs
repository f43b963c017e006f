//! Where a replica's data comes from: its generation and those before it.

use format::frame::HISTORY_MAX;
use format::superblock::Superblock;
use format::types::Generation;

/// A generation and its ancestors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lineage {
    pub(crate) generation: Generation,
    pub(crate) history: Vec<Generation>,
    pub(crate) complete: bool,
}

impl Lineage {
    /// The next step of history.
    pub(crate) fn advance(&mut self, generation: Generation) {
        if generation != self.generation {
            step(
                &mut self.generation,
                &mut self.history,
                &mut self.complete,
                generation,
            );
        }
    }
}

/// The superblock's own lineage steps on.
pub(crate) trait Advance {
    /// The data descends from a new generation.
    fn advance(&mut self, generation: Generation);
}

impl Advance for Superblock {
    fn advance(&mut self, generation: Generation) {
        let (now, history) = (&mut self.data_generation, &mut self.history);
        step(now, history, &mut self.history_complete, generation);
    }
}

fn step(
    now: &mut Generation,
    history: &mut Vec<Generation>,
    complete: &mut bool,
    next: Generation,
) {
    if !now.is_none() {
        history.insert(0, *now);
    }
    *now = next;
    if history.len() > HISTORY_MAX {
        history.truncate(HISTORY_MAX);
        *complete = false;
    }
}
