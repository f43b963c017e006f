//! `sim`: runs seeds of the simulator and prints what they came to.
#![forbid(unsafe_code)]

use clap::Parser;
use sim::runner::{find, quiet_panics, run, run_many};
use sim::trace::Trace;
use sim::world::planted::{PLANTS, Plant, Saboteur};
use std::process::ExitCode;

/// A run over so many seeds fails if anything that can happen never did.
const SEEDS_TO_COVER_ALL: u64 = 5000;

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
    /// Runs seeds with this planted fault, or with each of them in turn if `all`.
    #[arg(long)]
    planted: Option<String>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Prints the counts of all that was exercised.
    #[arg(long)]
    counts: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ok = match (&arguments.planted, &arguments.seeds, arguments.seed) {
        (Some(name), None, None) => planted(&arguments, name),
        (_, Some(range), _) => many(&arguments, range),
        (_, None, seed) => one(&arguments, seed.unwrap_or(1)),
    };
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn one(arguments: &Arguments, seed: u64) -> bool {
    quiet_panics();
    let trace = if arguments.trace {
        Trace::printed()
    } else {
        Trace::remembered()
    };
    let report = run(seed, saboteur(arguments), trace);
    if report.result.is_err() && !arguments.trace {
        let skipped = report.tail.len().saturating_sub(arguments.tail);
        report
            .tail
            .iter()
            .skip(skipped)
            .for_each(|line| println!("{line}"));
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

/// Who tells the lie that was asked for, if any.
fn saboteur(arguments: &Arguments) -> Saboteur {
    let named = |plant: &&Plant| Some(plant.name) == arguments.planted.as_deref();
    PLANTS
        .iter()
        .find(named)
        .map(|plant| Saboteur::telling(plant.lie))
        .unwrap_or_default()
}

fn planted(arguments: &Arguments, name: &str) -> bool {
    let wanted = |plant: &&Plant| name == "all" || plant.name == name;
    let mut found = 0;
    let plants: Vec<&Plant> = PLANTS.iter().filter(wanted).collect();
    for plant in &plants {
        let finding = find(plant, arguments.threads);
        found += usize::from(finding.found.is_some());
        println!("{:36} {:20} {finding}", plant.name, plant.rule);
    }
    println!("{found} of {} planted faults found", plants.len());
    found == plants.len() && found > 0
}

fn many(arguments: &Arguments, range: &str) -> bool {
    let bounds = range.split_once("..");
    let bounds = bounds.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let Some((from, to)) = bounds else {
        eprintln!("--seeds wants A..B, not {range}");
        return false;
    };
    let started = std::time::Instant::now();
    let summary = run_many(
        from..to,
        arguments.threads,
        || saboteur(arguments),
        |report| {
            if let Err(failure) = &report.result {
                println!("seed {} FAILED {failure}", report.seed);
            }
            false
        },
    );
    let missing = summary.coverage.missing();
    if arguments.counts {
        summary
            .coverage
            .lines()
            .iter()
            .for_each(|line| println!("{line}"));
    }
    println!(
        "{} seeds, {} failed, {:?} operations and faults at least, median {} blackouts, {:.1?}",
        summary.seeds,
        summary.failed.len(),
        summary.least.unwrap_or_default(),
        summary.median_blackouts(),
        started.elapsed()
    );
    missing
        .iter()
        .for_each(|kind| println!("never happened: {kind}"));
    summary.failed.is_empty() && (missing.is_empty() || summary.seeds < SEEDS_TO_COVER_ALL)
}
