//! The configuration protocol as an explicit-state model: R1 to R5a of the replication model, suspicion after a
//! power cut, open proposals, equal before served, admission. `docs/MODEL.md` says what is in it and what is not.
//!
//! [`State`] is all replicas, the register and what clients have been told; [`Step`] is what may happen next;
//! [`Rules`] are the protocol's rules, each of which can be taken out; [`Promise`] is what must hold in every
//! state. The names are those of the core where the core has the thing.
#![forbid(unsafe_code)]

mod check;
mod configuration;
mod data;
mod example;
mod fault;
mod promise;
mod protocol;
mod rules;
mod state;
mod step;
mod table;
mod types;

pub use check::{Counterexample, Summary, check};
pub use example::{Example, examples};
pub use promise::Promise;
pub use protocol::Protocol;
pub use rules::Rules;
pub use state::{Arbiter, Bounds, Kind, Node, Operation, Role, State};
pub use step::Step;
pub use table::{RULES, Rule};
pub use types::{Configuration, NodeSet, Slot};
