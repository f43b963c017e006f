//! The replication core: a deterministic state machine without clock, socket, disk or thread.
#![forbid(unsafe_code)]

pub mod activity_log;
pub mod command;
pub mod dirty;
pub mod event;
pub mod inflight;
pub mod limits;
pub mod node;
pub mod notice;
pub mod sequence;
pub mod status;

pub use node::{Node, Opening, Settings};
