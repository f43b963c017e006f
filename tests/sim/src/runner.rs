//! Runs seeds, alone or many at a time.

use crate::coverage::Coverage;
use crate::failure::{Checker, Failure};
use crate::trace::Trace;
use crate::world::planted::{Plant, Saboteur};
use crate::world::{Outcome, World};
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a seed came to.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What went wrong, if anything.
    pub result: Result<(), Failure>,
    /// How much was done.
    pub outcome: Outcome,
    /// What was exercised.
    pub coverage: Coverage,
    /// The end of the trace, if it was remembered.
    pub tail: Vec<String>,
}

/// Runs a seed.
pub fn run(seed: u64, saboteur: Saboteur, trace: Trace) -> Report {
    run_world(seed, World::new(seed, saboteur, trace))
}

/// Runs a world.
pub fn run_world(seed: u64, mut world: World) -> Report {
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|panic| {
        let message = format!("{} at {}", panic_message(&*panic), last_panic());
        Err(Failure {
            checker: Checker::Invariant,
            message,
        })
    });
    Report {
        seed,
        result,
        outcome: world.outcome(),
        coverage: world.coverage().clone(),
        tail: world.trace().tail(400).map(str::to_owned).collect(),
    }
}

thread_local! {
    static LAST_PANIC: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// Keeps panics of the core quiet: they are reported as failures, with their place.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        LAST_PANIC.with_borrow_mut(|last| *last = place);
    }));
}

fn last_panic() -> String {
    LAST_PANIC.with_borrow(Clone::clone)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// What many seeds came to.
#[derive(Default, Debug)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Those that failed.
    pub failed: Vec<(u64, Failure)>,
    /// What was exercised by all of them.
    pub coverage: Coverage,
    /// Blackouts of each seed.
    pub blackouts: Vec<u64>,
    /// The fewest operations and faults of any seed that ended well.
    pub least: Option<(u64, u64)>,
}

impl Summary {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.coverage.add(&report.coverage);
        self.blackouts.push(report.outcome.blackouts);
        match report.result {
            Ok(()) => {
                let (operations, faults) = (report.outcome.operations, report.outcome.faults);
                let least = self.least.unwrap_or((operations, faults));
                self.least = Some((least.0.min(operations), least.1.min(faults)));
            }
            Err(failure) => self.failed.push((report.seed, failure)),
        }
    }

    /// The median of the blackouts.
    pub fn median_blackouts(&self) -> u64 {
        let mut blackouts = self.blackouts.clone();
        blackouts.sort_unstable();
        blackouts.get(blackouts.len() / 2).copied().unwrap_or(0)
    }
}

/// Runs seeds on so many threads, until `stop` says so of a report.
pub fn run_many(
    seeds: Range<u64>,
    threads: usize,
    saboteur: impl Fn() -> Saboteur + Sync,
    stop: impl Fn(&Report) -> bool + Sync,
) -> Summary {
    quiet_panics();
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(seed, saboteur(), Trace::off());
                    if stop(&report) {
                        next.fetch_max(seeds.end, Ordering::Relaxed);
                    }
                    summary
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(report);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Seeds within which a planted fault must be found.
pub const SEEDS_OF_A_PLANT: u64 = 500;

/// How a planted fault was found.
#[derive(Debug)]
pub struct Finding {
    /// The first seed that was seen to find it, and what its checker said.
    pub found: Option<(u64, Failure)>,
    /// Seeds that were run.
    pub seeds: u64,
    /// Other checkers that complained first in some seed.
    pub others: Vec<Checker>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.found {
            Some((seed, failure)) => write!(f, "found in seed {seed}: {}", failure.checker.name()),
            None => write!(
                f,
                "NOT FOUND in {} seeds; others: {:?}",
                self.seeds, self.others
            ),
        }
    }
}

/// Looks for a seed in which a checker that is named for a planted fault finds it.
pub fn find(plant: &Plant, threads: usize) -> Finding {
    // What fails without the plant says nothing about it.
    let sound = |seed: u64| run(seed, Saboteur::default(), Trace::off()).result.is_ok();
    let named = |failure: &Failure| plant.finders.contains(&failure.checker);
    let finds = |report: &Report| report.result.as_ref().is_err_and(named) && sound(report.seed);
    let telling = || Saboteur::telling(plant.lie);
    let summary = run_many(1..SEEDS_OF_A_PLANT + 1, threads, telling, finds);
    let (found, others): (Vec<_>, Vec<_>) = summary
        .failed
        .into_iter()
        .partition(|(_, failure)| named(failure));
    let others: std::collections::BTreeSet<Checker> = others
        .into_iter()
        .map(|(_, failure)| failure.checker)
        .collect();
    Finding {
        found: found.into_iter().find(|(seed, _)| sound(*seed)),
        seeds: summary.seeds,
        others: others.into_iter().collect(),
    }
}
