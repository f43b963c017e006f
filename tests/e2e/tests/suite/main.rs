//! The end-to-end tests.
#![forbid(unsafe_code)]

mod client;
