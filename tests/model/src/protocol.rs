//! The protocol within bounds: what is searched.

use crate::rules::Rules;
use crate::state::Bounds;
use crate::types::NodeSet;

/// The protocol within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Which rules hold.
    pub rules: Rules,
    /// How far the search goes.
    pub bounds: Bounds,
}

impl Protocol {
    /// All replicas.
    #[must_use]
    pub const fn replicas(&self) -> NodeSet {
        NodeSet::first_of(self.bounds.replicas)
    }
}
