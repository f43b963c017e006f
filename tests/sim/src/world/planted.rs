//! Planted faults: lies told between a core and its shell, each of which a checker must find.

use crate::world::World;
use replica::event::{Effect, Event};

/// What is told falsely.
#[derive(Default, Debug)]
pub struct Saboteur {}

impl World {
    /// What a node is told instead of an event, if anything.
    pub(crate) fn sabotage_event(&mut self, _host: usize, event: Event) -> Option<Event> {
        Some(event)
    }

    /// What is done instead of an effect, if anything.
    pub(crate) fn sabotage_effect(&mut self, _host: usize, effect: Effect) -> Option<Effect> {
        Some(effect)
    }
}
