//! `twinblk`: a volume that two machines keep identical, served over NBD.
#![forbid(unsafe_code)]

mod as_text;
mod config;
mod failure;
mod files;
mod hexadecimal;
mod key;
mod registry;
mod units;

fn main() {}
