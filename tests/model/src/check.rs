//! The search: all states within the bounds, or the shortest way to a broken promise.

use crate::promise::Promise;
use crate::protocol::Protocol;
use crate::state::State;
use crate::step::Step;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::fmt::{self, Display, Formatter};

impl Protocol {
    /// Replays steps until the promise is broken; `None` if one cannot be taken, or it is not broken.
    #[must_use]
    pub fn replay(&self, promise: Promise, steps: &[Step]) -> Option<Counterexample> {
        let holds = promise.property().condition;
        let mut state = State::new(&self.bounds);
        for (step, number) in steps.iter().zip(1..) {
            state = self.take(&state, *step)?;
            if !holds(self, &state) {
                let steps = steps.iter().take(number).copied().collect();
                return Some(Counterexample {
                    promise,
                    steps,
                    state,
                });
            }
        }
        None
    }

    /// The counterexample without the steps that it does not need, one by one or in pairs.
    fn shortest(&self, promise: Promise, steps: &[Step]) -> Option<Counterexample> {
        let mut best = self.replay(promise, steps)?;
        while let Some(shorter) = self.shorter(promise, &best.steps) {
            best = shorter;
        }
        Some(best)
    }

    fn shorter(&self, promise: Promise, steps: &[Step]) -> Option<Counterexample> {
        let count = steps.len();
        let pairs = (0..count).flat_map(|first| (first..count).map(move |second| (first, second)));
        let mut rests = pairs.map(|(first, second)| {
            let numbered = steps.iter().enumerate();
            let kept = numbered.filter(|(index, _)| *index != first && *index != second);
            kept.map(|(_, step)| *step).collect::<Vec<_>>()
        });
        rests.find_map(|rest| self.replay(promise, &rest))
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.candidates(state, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        self.take(state, step).filter(|next| next != state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Promise::ALL.into_iter().map(Promise::property).collect()
    }
}

/// The way to a broken promise.
#[derive(Debug)]
pub struct Counterexample {
    /// What is broken at the end.
    pub promise: Promise,
    /// The steps that lead there.
    pub steps: Vec<Step>,
    /// The state there.
    pub state: State,
}

impl Display for Counterexample {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (step, number) in self.steps.iter().zip(1..) {
            writeln!(out, "{number:>3}  {step}")?;
        }
        writeln!(out, "     broken: {}", self.promise.name())
    }
}

/// What a search has come to.
#[derive(Debug)]
pub struct Summary {
    /// Different states.
    pub states: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// Every promise that was found broken, by its shortest way. If there is one the search was not finished.
    pub found: Vec<Counterexample>,
}

/// Searches all states, or until this promise is found broken; without one, until any is.
///
/// # Panics
///
/// If the checker's own threads do.
#[must_use]
pub fn check(protocol: Protocol, until: Option<Promise>, threads: usize) -> Summary {
    let finish = match until {
        Some(promise) => HasDiscoveries::AnyOf([promise.name()].into()),
        None => HasDiscoveries::Any,
    };
    let checker = protocol
        .checker()
        .threads(threads)
        .finish_when(finish)
        .spawn_bfs()
        .join();
    let found = Promise::ALL.into_iter().filter_map(|promise| {
        let path = checker.discovery(promise.name())?;
        protocol.shortest(promise, &path.into_actions())
    });
    Summary {
        found: found.collect(),
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
    }
}
