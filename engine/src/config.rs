//! What a replica is made from and how it is driven.

use format::superblock::Replica;
use format::types::{Generation, Name, REPLICAS_MAX, Slot, VolumeId};
use replica::Settings;
use std::path::PathBuf;

/// Where a replica's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// The data file or block device: exactly the volume's bytes.
    pub data: PathBuf,
    /// The metadata file.
    pub meta: PathBuf,
}

/// What a new replica is made from; the same on all of the volume's nodes but for `slot`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Creation {
    /// The volume.
    pub volume: VolumeId,
    /// Its name.
    pub name: Name,
    /// Its size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// This replica's slot.
    pub slot: Slot,
    /// All replicas; all are in sync from the start, since all are known to be zero.
    pub replicas: [Option<Replica>; REPLICAS_MAX],
    /// The first generation.
    pub generation: Generation,
    /// The first primary.
    pub primary: Slot,
    /// The data file has all its space from the beginning.
    pub thick: bool,
}

/// How a replica is driven; from the configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The core's timings.
    pub settings: Settings,
    /// The arena's size in bytes.
    pub arena_bytes: usize,
    /// How long the reactor spins for completions before it sleeps, at most, in nanoseconds.
    pub spin_nanos_max: u64,
}
