//! `sim`: runs seeds of the simulator and prints what they came to.
#![forbid(unsafe_code)]

use clap::Parser;
use sim::world::planted::Saboteur;
use sim::runner::{quiet_panics, run, run_many};
use sim::trace::Trace;
use std::process::ExitCode;

/// The seeded simulator of the replication core.
#[derive(Parser)]
struct Arguments {
    /// Runs this seed and prints the end of its trace if it fails.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the whole trace of the seed.
    #[arg(long)]
    trace: bool,
    /// Lines of the trace that a failure prints.
    #[arg(long, default_value_t = 60)]
    tail: usize,
    /// Runs these seeds: `A..B`.
    #[arg(long)]
    seeds: Option<String>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Prints the counts of all that was exercised.
    #[arg(long)]
    counts: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ok = match (&arguments.seeds, arguments.seed) {
        (Some(range), _) => many(&arguments, range),
        (None, seed) => one(&arguments, seed.unwrap_or(1)),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(arguments: &Arguments, seed: u64) -> bool {
    quiet_panics();
    let trace = if arguments.trace { Trace::printed() } else { Trace::remembered() };
    let report = run(seed, Saboteur::default(), trace);
    if report.result.is_err() && !arguments.trace {
        let skipped = report.tail.len().saturating_sub(arguments.tail);
        report.tail.iter().skip(skipped).for_each(|line| println!("{line}"));
    }
    let outcome = report.outcome;
    println!(
        "seed {seed}: {} operations, {} faults, {} blackouts, {} ms",
        outcome.operations,
        outcome.faults,
        outcome.blackouts,
        outcome.nanos / 1_000_000
    );
    if let Err(failure) = &report.result {
        println!("seed {seed} FAILED {failure}");
    }
    report.result.is_ok()
}

fn many(arguments: &Arguments, range: &str) -> bool {
    let bounds = range.split_once("..");
    let bounds = bounds.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let Some((from, to)) = bounds else {
        eprintln!("--seeds wants A..B, not {range}");
        return false;
    };
    let started = std::time::Instant::now();
    let summary = run_many(from..to, arguments.threads, Saboteur::default, |report| {
        if let Err(failure) = &report.result {
            println!("seed {} FAILED {failure}", report.seed);
        }
        false
    });
    let missing = summary.coverage.missing();
    if arguments.counts {
        summary.coverage.lines().iter().for_each(|line| println!("{line}"));
    }
    println!(
        "{} seeds, {} failed, {:?} operations and faults at least, median {} blackouts, {:.1?}",
        summary.seeds,
        summary.failed.len(),
        summary.least.unwrap_or_default(),
        summary.median_blackouts(),
        started.elapsed()
    );
    missing.iter().for_each(|kind| println!("never happened: {kind}"));
    summary.failed.is_empty() && missing.is_empty()
}
