//! The seeded simulator: two or three nodes that run the real core, on disks that forget, over
//! networks that break, under clients that check what they are told.
//!
//! All of a run follows from its seed: `cargo run --release -p sim -- --seed N` repeats it.
#![forbid(unsafe_code)]

pub mod arena;
pub mod content;
pub mod coverage;
pub mod disk;
pub mod failure;
pub mod host;
pub mod lineage;
pub mod meta;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod rng;
pub mod runner;
pub mod trace;
pub mod world;
