//! Drives the replication core on a real ring: the shell around [`replica::Node`].
#![forbid(unsafe_code)]

pub mod frontend;
pub mod volume;
