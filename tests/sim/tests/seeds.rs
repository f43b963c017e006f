//! Seeds that have to end well, and the planted faults that have to be found.
//!
//! The long run is `cargo run --release -p sim -- --seeds 0..10000`.

use sim::runner::{find, run, run_many};
use sim::trace::Trace;
use sim::world::planted::{PLANTS, Saboteur};

/// Threads of a test.
const THREADS: usize = 2;
/// Seeds of the short run.
const SEEDS: u64 = 200;
/// Where they begin, past those of the long run.
const FIRST: u64 = 10_000;

#[test]
fn seeds_end_well() {
    let seeds = FIRST..FIRST + SEEDS;
    let summary = run_many(seeds, THREADS, Saboteur::default, |_| false);
    let failed: Vec<String> = summary
        .failed
        .iter()
        .map(|(seed, failure)| format!("seed {seed}: {failure}"))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let (operations, faults) = summary.least.expect("all seeds ended well");
    assert!(
        operations >= 5000,
        "a seed ran only {operations} operations"
    );
    assert!(faults >= 20, "a seed had only {faults} faults");
    assert!(
        summary.median_blackouts() >= 1,
        "the median seed never lost all power"
    );
}

/// Seeds that have shown a fault of the core, or of the simulator, once.
const ONCE: &[u64] = &[
    119, 173, 372, 389, 414, 434, 468, 787, 533, 536, 1280, 1290, 1837, 2213, 2258, 2393, 2937,
    2991, 3425, 4417, 4514, 4614, 4779, 4828,
];

#[test]
fn seeds_that_failed_once_end_well() {
    for seed in ONCE {
        let report = run(*seed, Saboteur::default(), Trace::off());
        assert_eq!(report.result, Ok(()), "seed {seed}");
    }
}

#[test]
fn planted_faults_are_found() {
    let missed: Vec<String> = PLANTS
        .iter()
        .map(|plant| (plant, find(plant, THREADS)))
        .filter(|(_, finding)| finding.found.is_none())
        .map(|(plant, finding)| format!("{}: {finding}", plant.name))
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn planted_faults_cover_every_rule() {
    assert!(PLANTS.len() >= 20);
    for number in 1..=10 {
        let rule = format!("R{number}");
        assert!(
            PLANTS.iter().any(|plant| plant.rule == rule),
            "nothing breaks {rule}"
        );
    }
}

#[test]
fn a_seed_repeats_itself() {
    let [first, second] = [(); 2].map(|()| run(20_001, Saboteur::default(), Trace::remembered()));
    assert!(!first.tail.is_empty());
    assert_eq!(first.tail, second.tail);
}
