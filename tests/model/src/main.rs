//! Searches the protocol with rules taken out, and prints the ways to broken promises as steps.
#![forbid(unsafe_code)]

use clap::Parser;
use model::{Arbiter, Bounds, Protocol, RULES, Rules, check};
use std::time::Instant;

/// Searches the model of the configuration protocol.
#[derive(Parser)]
struct Arguments {
    /// Take this rule out, within the bounds of its own.
    #[arg(long)]
    without: Option<String>,
    /// Take every rule out in turn.
    #[arg(long)]
    all: bool,
    /// Replicas: 2 or 3.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    replicas: u8,
    /// No register: an operator promotes.
    #[arg(long)]
    manual: bool,
    /// The last epoch.
    #[arg(long, default_value_t = 3)]
    epochs: u8,
    /// Clients' writes.
    #[arg(long, default_value_t = 1)]
    writes: u8,
    /// Crashes.
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Power cuts.
    #[arg(long, default_value_t = 1)]
    power_cuts: u8,
    /// Disks that fail.
    #[arg(long, default_value_t = 0)]
    disk_failures: u8,
    /// Threads of the search.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() {
    let arguments = Arguments::parse();
    if !arguments.all && arguments.without.is_none() {
        let Arguments {
            replicas,
            epochs,
            writes,
            crashes,
            power_cuts,
            disk_failures,
            ..
        } = arguments;
        let arbiter = if arguments.manual {
            Arbiter::Manual
        } else {
            Arbiter::Register
        };
        let bounds = Bounds {
            replicas,
            arbiter,
            epochs,
            writes,
            crashes,
            power_cuts,
            disk_failures,
        };
        let begin = Instant::now();
        let summary = check(
            Protocol {
                rules: Rules::ALL,
                bounds,
            },
            None,
            arguments.threads,
        );
        println!(
            "{} states, depth {}, {:.1?}",
            summary.states,
            summary.depth,
            begin.elapsed()
        );
        for found in &summary.found {
            println!("{found}\n{:#?}", found.state);
        }
        return;
    }
    let wanted = |name: &str| {
        arguments
            .without
            .as_deref()
            .is_none_or(|without| without == name)
    };
    for rule in RULES.iter().filter(|rule| wanted(rule.name)) {
        let mut rules = Rules::ALL;
        (rule.take_out)(&mut rules);
        let protocol = Protocol {
            rules,
            bounds: rule.bounds,
        };
        let summary = check(protocol, Some(rule.breaks), arguments.threads);
        println!("{} {} ({} states)", rule.number, rule.name, summary.states);
        for found in summary
            .found
            .iter()
            .filter(|found| found.promise == rule.breaks)
        {
            println!("{found}");
        }
    }
}
