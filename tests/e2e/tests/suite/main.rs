//! The end-to-end tests: what the issue tracker calls "it must show", against real processes.
#![forbid(unsafe_code)]

mod arbiter;
mod client;
mod crash;
mod daemon;
mod devices;
mod failback;
mod failover;
mod flapping;
mod foreign;
mod full_disk;
mod hosts;
mod metadata;
mod quorum;
mod split_brain;
mod takeover;
mod teardown;
mod volumes;
