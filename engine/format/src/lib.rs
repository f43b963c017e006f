//! Every byte that twinblk writes to a disk or sends to a peer, and nothing that does I/O.
//!
//! [`types`] is the vocabulary shared by all crates; [`superblock`], [`log_block`] and
//! [`bitmap_page`] are what lies in a replica's metadata file, at the places that [`layout`] tells;
//! [`hello`] is how peers come to trust a link, and [`frame`] what they say on it.
#![forbid(unsafe_code)]

pub mod bitmap_page;
mod block;
mod damage;
pub mod frame;
pub mod hello;
pub mod layout;
pub mod log_block;
pub mod superblock;
#[cfg(test)]
mod tests;
pub mod types;
mod wire;

pub use damage::Damage;
