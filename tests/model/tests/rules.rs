//! The protocol holds within the bounds, and every rule is needed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use model::{Arbiter, Bounds, Example, Promise, Protocol, RULES, Rules, check, examples};
use std::collections::BTreeSet;
use std::time::Instant;

/// Threads of a search.
const THREADS: usize = 1;

const fn bounds(replicas: u8, epochs: u8, writes: u8, crashes: u8, power_cuts: u8) -> Bounds {
    let arbiter = Arbiter::Register;
    Bounds {
        replicas,
        arbiter,
        epochs,
        writes,
        crashes,
        power_cuts,
        disk_failures: 0,
    }
}

const fn with_disk_failure(bounds: Bounds) -> Bounds {
    Bounds {
        disk_failures: 1,
        ..bounds
    }
}

const fn manual(bounds: Bounds) -> Bounds {
    Bounds {
        arbiter: Arbiter::Manual,
        ..bounds
    }
}

/// Searches all states and finds nothing.
fn exhaust(all: &[Bounds]) {
    for bounds in all {
        let begin = Instant::now();
        let summary = check(
            Protocol {
                rules: Rules::ALL,
                bounds: *bounds,
            },
            None,
            THREADS,
        );
        println!(
            "{bounds:?}: {} states, depth {}, {:.1?}",
            summary.states,
            summary.depth,
            begin.elapsed()
        );
        let found: Vec<String> = summary.found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{bounds:?}\n{}", found.join("\n"));
    }
}

#[test]
fn nothing_is_found_within_small_bounds() {
    exhaust(&[
        bounds(2, 3, 1, 1, 1),
        bounds(2, 2, 2, 1, 1),
        with_disk_failure(bounds(2, 3, 1, 1, 0)),
        manual(bounds(2, 3, 2, 1, 1)),
        bounds(3, 2, 1, 0, 0),
        manual(bounds(3, 2, 1, 1, 1)),
    ]);
}

/// Searches large bounds in the long run; a test each, so that two cores carry two of them.
fn exhaust_if_long(all: &[Bounds]) {
    if std::env::var_os("TWINBLK_LONG").is_some() {
        exhaust(all);
    }
}

#[test]
fn nothing_is_found_with_two_replicas() {
    exhaust_if_long(&[
        bounds(2, 4, 2, 1, 1),
        bounds(2, 3, 2, 2, 2),
        bounds(2, 4, 2, 2, 1),
        with_disk_failure(bounds(2, 3, 2, 1, 1)),
    ]);
}

#[test]
fn nothing_is_found_without_a_register() {
    exhaust_if_long(&[manual(bounds(2, 4, 2, 2, 2)), manual(bounds(3, 4, 1, 2, 1))]);
}

#[test]
fn nothing_is_found_with_three_replicas_that_lose_power() {
    exhaust_if_long(&[
        bounds(3, 2, 1, 1, 1),
        with_disk_failure(bounds(3, 2, 1, 0, 0)),
    ]);
}

#[test]
fn nothing_is_found_with_three_replicas_and_more_epochs() {
    exhaust_if_long(&[bounds(3, 3, 1, 1, 0)]);
}

/// A search that never gets anywhere finds nothing either.
#[test]
fn what_should_be_possible_is_possible() {
    let ways = examples(
        Protocol {
            rules: Rules::ALL,
            bounds: bounds(2, 3, 1, 1, 2),
        },
        THREADS,
    );
    for example in Example::ALL {
        let way = ways.iter().find(|(reached, _)| *reached == example);
        assert!(way.is_some(), "there is no way to: {}", example.name());
    }
}

#[test]
fn every_rule_is_needed() {
    for rule in RULES {
        let mut rules = Rules::ALL;
        (rule.take_out)(&mut rules);
        assert_ne!(rules, Rules::ALL, "{} takes nothing out", rule.name);
        let protocol = Protocol {
            rules,
            bounds: rule.bounds,
        };
        let summary = check(protocol, Some(rule.breaks), THREADS);
        let found = summary
            .found
            .iter()
            .find(|found| found.promise == rule.breaks);
        let Some(found) = found else {
            panic!("without {} {} is not broken", rule.name, rule.breaks.name());
        };
        println!("without {} {}:\n{found}", rule.number, rule.name);
        let again = protocol.replay(found.promise, &found.steps);
        assert!(
            again.is_some_and(|again| again.state == found.state),
            "{}",
            rule.name
        );
        // The same way is closed with the rule: a step is not possible, or nothing is broken.
        let whole = Protocol {
            rules: Rules::ALL,
            ..protocol
        };
        assert!(
            whole.replay(found.promise, &found.steps).is_none(),
            "{}",
            rule.name
        );
    }
}

#[test]
fn every_promise_is_kept_by_some_rule() {
    for promise in Promise::ALL {
        let kept = RULES.iter().any(|rule| rule.breaks == promise);
        assert!(kept, "no rule taken out breaks: {}", promise.name());
    }
}

#[test]
fn every_rule_has_its_row() {
    let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    let fields = format!("{:?}", Rules::ALL).matches(": true").count();
    assert_eq!(names.len(), fields);
    assert_eq!(RULES.len(), fields);
}

/// The document names every rule with the promise that it keeps.
#[test]
fn the_document_has_every_rule() {
    let document = include_str!("../../../docs/MODEL.md");
    let missing: Vec<&str> = RULES
        .iter()
        .filter(|rule| {
            let row = document
                .lines()
                .find(|line| line.contains(&format!("`{}`", rule.name)));
            !row.is_some_and(|row| row.contains(rule.number) && row.contains(rule.breaks.name()))
        })
        .map(|rule| rule.name)
        .collect();
    assert!(missing.is_empty(), "docs/MODEL.md lacks {missing:?}");
}
