//! What has to be possible: a search that never gets there proves nothing.

use crate::protocol::Protocol;
use crate::state::State;
use crate::step::Step;
use crate::types::Slot;
use stateright::{Checker, Model, Property};

/// Something that the protocol gets done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Example {
    /// A promoted member has acknowledged a write.
    Promoted,
    /// A member that was handed the volume has acknowledged a write.
    HandedOver,
    /// A replica that was dropped is a member again, and what was flushed is on it.
    Admitted,
    /// After a power cut of all, what was flushed is served by both.
    AllSuspect,
    /// A member that was cut off from its power is made equal, and acknowledges with the primary.
    Equalised,
}

impl Example {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Promoted,
        Self::HandedOver,
        Self::Admitted,
        Self::AllSuspect,
        Self::Equalised,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promoted => "acknowledge after a promotion",
            Self::HandedOver => "acknowledge after a handover",
            Self::Admitted => "admit a replica that was dropped",
            Self::AllSuspect => "serve after a power cut of all",
            Self::Equalised => "acknowledge with a member that was suspect",
        }
    }

    /// The checker's property.
    pub(crate) fn property(self) -> Property<Sought> {
        let condition = match self {
            Self::Promoted => promoted,
            Self::HandedOver => handed_over,
            Self::Admitted => admitted,
            Self::AllSuspect => all_suspect,
            Self::Equalised => equalised,
        };
        Property::sometimes(self.name(), condition)
    }
}

fn second_serves(protocol: &Protocol, state: &State) -> bool {
    state.serves(&protocol.rules, protocol.bounds.arbiter, Slot(1))
}

fn promoted(Sought(protocol): &Sought, state: &State) -> bool {
    let minted = state.register.generation == (2, Slot(1));
    second_serves(protocol, state) && minted && state.observed == 1
}

fn handed_over(Sought(protocol): &Sought, state: &State) -> bool {
    let whole = state.register.generation.0 == 1;
    second_serves(protocol, state) && whole && state.observed == 1
}

fn admitted(Sought(protocol): &Sought, state: &State) -> bool {
    let all = state.register.in_sync == protocol.replicas();
    let dropped = state.register.generation == (2, Slot(0));
    all && dropped && state.flushed == 1
}

fn all_suspect(Sought(protocol): &Sought, state: &State) -> bool {
    let serves = state.serves(&protocol.rules, protocol.bounds.arbiter, Slot(0));
    let all = state.register.in_sync == protocol.replicas() && !state.node(Slot(1)).suspect;
    serves && all && state.power_cuts == 2 && state.flushed == 1
}

fn equalised(Sought(protocol): &Sought, state: &State) -> bool {
    let serves = state.serves(&protocol.rules, protocol.bounds.arbiter, Slot(0));
    let same = state.register.epoch == 1 && state.node(Slot(0)).operation.is_none();
    serves && same && state.power_cuts == 1 && state.observed == 1 && state.flushed == 0
}

/// The protocol, searched for examples.
pub(crate) struct Sought(Protocol);

impl Model for Sought {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.0.init_states()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.0.actions(state, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        self.0.next_state(state, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Example::ALL.into_iter().map(Example::property).collect()
    }
}

/// Searches for a way to everything that has to be possible.
#[must_use]
pub fn examples(protocol: Protocol, threads: usize) -> Vec<(Example, Vec<Step>)> {
    let checker = Sought(protocol)
        .checker()
        .threads(threads)
        .spawn_bfs()
        .join();
    let ways = Example::ALL.into_iter().filter_map(|example| {
        let path = checker.discovery(example.name())?;
        Some((example, path.into_actions()))
    });
    ways.collect()
}
