//! The project lint: reads the files that git tracks and says where they break the house's rules.
//!
//! [`tree`] finds the files, [`rust`] looks at one Rust file's tokens, [`modules`] at the order
//! among a crate's modules, [`manifest`] at the order among crates, [`prose`] at text of any kind. The
//! rules themselves are in `tests/rules.rs`, each a test of its own.
#![forbid(unsafe_code)]

pub mod manifest;
pub mod modules;
pub mod prose;
pub mod rust;
pub mod tree;
