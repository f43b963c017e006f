//! `twinblk`: a volume that two machines keep identical, served over NBD.
#![forbid(unsafe_code)]

mod actions;
mod admin;
mod agent;
mod api;
mod arbiter;
mod arbitrate;
mod arbitration;
mod as_text;
mod attach;
mod backoff;
mod cli;
mod client;
mod commands;
mod complaints;
mod config;
mod control;
mod control_links;
mod daemon;
mod data_links;
mod demo;
mod docker;
mod duties;
mod duty;
mod event_log;
mod exports;
mod failure;
mod files;
mod framing;
mod generate;
mod handlers;
mod happenings;
mod hexadecimal;
mod hook_report;
mod http;
mod image;
mod key;
mod link;
mod links;
mod listener;
mod logging;
mod maintenance;
mod metrics;
mod nbd;
mod nodes;
mod registry;
mod serve;
mod state_folder;
mod trust;
mod turns;
mod units;
mod view;
mod volumes;
mod watchdog;
mod watching;
mod witness;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("twinblk: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
