//! `twinblk`: a volume that two machines keep identical, served over NBD.
#![forbid(unsafe_code)]

mod config;
mod failure;
mod hexadecimal;
mod key;
mod units;

fn main() {}
