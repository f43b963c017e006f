//! The replication core: a deterministic state machine without clock, socket, disk or thread.
//!
//! [`event`] is the whole contract with the shell that drives it. Inside, [`node`] dispatches; a
//! client's request goes through `request` and `write` or `flush`, a peer's through `apply`; `session`
//! and `handshake` join two replicas by the table in [`reconcile`]; `walk` and `chunk` make them equal,
//! `follow` is the other side of that; `configuration`, `lifecycle` and `stop` decide who serves, and
//! `arbitration` and `lease` do so with an arbiter.
#![forbid(unsafe_code)]

pub mod activity_log;
mod apply;
pub mod arbiter;
mod arbitration;
mod barrier;
mod change;
mod chunk;
pub mod command;
mod configuration;
pub mod dirty;
pub mod event;
mod flush;
mod follow;
mod handshake;
pub mod inflight;
mod lease;
mod lifecycle;
pub mod limits;
mod lineage;
mod metadata;
pub mod node;
pub mod notice;
mod opening;
mod operation;
mod operator;
mod pace;
mod peer;
mod progress;
mod quorum;
mod random;
pub mod reconcile;
mod replicas;
mod report;
mod request;
mod role;
pub mod sequence;
mod session;
mod settings;
mod slow;
pub mod status;
mod stop;
pub mod time;
mod walk;
mod write;

pub use node::{Node, Opening};
pub use settings::{Failover, Lease, Settings};
