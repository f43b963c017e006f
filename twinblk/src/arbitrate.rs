//! `twinblk arbiter`: what the arbiter holds, another one on all nodes, and the way back after its loss.

mod reset;
mod set;
mod show;

pub(crate) use reset::reset;
pub(crate) use set::{commit, prepare, set, settle};
pub(crate) use show::show;
