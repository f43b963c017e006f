//! `twinblk`: a volume that two machines keep identical, served over NBD.
#![forbid(unsafe_code)]

mod api;
mod as_text;
mod config;
mod event_log;
mod failure;
mod files;
mod hexadecimal;
mod key;
mod registry;
mod units;
mod view;

fn main() {}
