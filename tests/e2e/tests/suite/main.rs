//! The end-to-end tests: what the issue tracker calls "it must show", against real processes.
#![forbid(unsafe_code)]

mod arbiter;
mod attach;
mod attach_kernel;
mod client;
mod crash;
mod daemon;
mod devices;
mod docker;
mod docker_databases;
mod docker_engine;
mod events;
mod failback;
mod failover;
mod flapping;
mod foreign;
mod full_disk;
mod guests;
mod hook_examples;
mod hooks;
mod hosts;
mod http;
mod images;
mod installed;
mod metadata;
mod nodes;
mod quorum;
mod replicas;
mod service_manager;
mod split_brain;
mod takeover;
mod teardown;
mod virtual_ip;
mod volumes;
