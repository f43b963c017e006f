//! Drives the replication core on a real ring: the shell around [`replica::Node`].
//!
//! [`volume`] is what the control plane sees, [`frontend`] what a front end such as NBD implements.
//! Within, the reactor's loop moves completions, as events, into the core, and its effects, as
//! submissions, into the ring; the store, the transport and the clients are the three ends where
//! bytes come and go.
#![forbid(unsafe_code)]

mod client;
mod config;
pub mod frontend;
mod hasher;
mod mailbox;
mod memory;
mod metrics;
mod outgoing;
mod reactor;
mod report;
mod shell;
mod socket;
mod spin;
mod step;
mod store;
#[cfg(test)]
mod testing;
mod transport;
pub mod volume;
