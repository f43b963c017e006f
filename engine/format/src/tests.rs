//! What the tests of this crate share, and the tests that concern all formats at once.

pub(crate) mod document;
pub(crate) mod flips;
mod golden;
pub(crate) mod samples;
pub(crate) mod strategy;
