//! Seeds that have to end well, here with checks for overflow.
//!
//! Most of it is done by the optimized program, in stages of `scripts/test`: the seeds from 0 on, and that each planted fault is found.

use sim::runner::{run, run_many};
use sim::trace::Trace;
use sim::world::planted::{PLANTS, Saboteur};

/// Threads of a test.
const THREADS: usize = 2;
/// So many seeds,
const SEEDS: u64 = 40;
/// from here on, past those of the program's long run.
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
    119, 173, 372, 389, 414, 434, 468, 787, 533, 536, 1280, 1290, 1428, 1837, 2213, 2258, 2393,
    2937, 2991, 3425, 4417, 4514, 4614, 4779, 4828, 13206, 17648,
];

#[test]
fn seeds_that_failed_once_end_well() {
    for seed in ONCE {
        let report = run(*seed, Saboteur::default(), Trace::off());
        assert_eq!(report.result, Ok(()), "seed {seed}");
    }
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
