//! Every byte that twinblk writes to a disk or sends to a peer, and nothing that does I/O.
//!
//! [`types`] is the vocabulary shared by all crates; [`superblock`], [`log_block`] and
//! [`bitmap_page`] are what lies in a replica's metadata file, at the places that [`layout`] tells;
//! [`frame`] is what peers say.
#![forbid(unsafe_code)]

pub mod bitmap_page;
mod damage;
pub mod frame;
pub mod layout;
pub mod log_block;
#[cfg(test)]
mod samples;
pub mod superblock;
pub mod types;
mod wire;

pub use damage::Damage;
