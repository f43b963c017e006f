//! The end-to-end tests: what the issue tracker calls "it must show", against real processes.
#![forbid(unsafe_code)]

mod client;
mod crash;
mod daemon;
mod devices;
mod events;
mod failback;
mod foreign;
mod full_disk;
mod hooks;
mod http;
mod metadata;
mod split_brain;
mod teardown;
mod volumes;
