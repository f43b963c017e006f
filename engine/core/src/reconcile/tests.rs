//! Every combination of facts, and the rules that all verdicts keep.

use super::facts::{Disk, Facts, Half, Lineage, Primary, Volume};
use super::{ROWS, Scope, Side, Verdict, decide, may_adopt};
use std::collections::BTreeSet;

mod identities;

fn halves() -> Vec<Half> {
    let mut halves = Vec::new();
    for disk in [Disk::Consistent, Disk::Inconsistent, Disk::Unusable] {
        for bits in 0..16u8 {
            let bit = |n: u8| bits & 1 << n != 0;
            let (member, suspect, discarded, marks_valid) = (bit(0), bit(1), bit(2), bit(3));
            halves.push(Half {
                member,
                disk,
                suspect,
                discarded,
                marks_valid,
            });
        }
    }
    halves
}

/// Everything but the two sides' own facts.
fn pairs() -> Vec<Facts> {
    let half = halves()[0];
    let mut all = Vec::new();
    let lineages = [
        Lineage::Same,
        Lineage::Behind,
        Lineage::Ahead,
        Lineage::Diverged,
        Lineage::Unknown,
        Lineage::Unrelated,
        Lineage::MineLost,
        Lineage::TheirsLost,
        Lineage::BothLost,
    ];
    for volume in [
        Volume::Same,
        Volume::Other,
        Volume::Resized,
        Volume::OtherLease,
    ] {
        for lineage in lineages {
            for primary in [
                Primary::Mine,
                Primary::Theirs,
                Primary::Other,
                Primary::Nobody,
            ] {
                for bits in 0..32u8 {
                    let bit = |n: u8| bits & 1 << n != 0;
                    let (undecided, conflict, lower) = (bit(0), bit(1), bit(2));
                    let (marks, known, mine, theirs) = (bit(3), bit(4), half, half);
                    all.push(Facts {
                        volume,
                        undecided,
                        lineage,
                        conflict,
                        primary,
                        lower,
                        marks,
                        known,
                        mine,
                        theirs,
                    });
                }
            }
        }
    }
    all
}

fn for_all_facts(mut check: impl FnMut(&Facts)) {
    for pair in pairs() {
        for mine in halves() {
            for theirs in halves() {
                check(&Facts {
                    mine,
                    theirs,
                    ..pair
                });
            }
        }
    }
}

/// The two sides of a copy, from the source's verdict.
fn source_and_target(facts: &Facts, source: Side) -> (Half, Half) {
    match source {
        Side::Local => (facts.mine, facts.theirs),
        Side::Remote => (facts.theirs, facts.mine),
    }
}

/// What no verdict may do, whichever row it comes from.
fn check_rules(facts: &Facts, row: &str, verdict: Verdict) {
    match verdict {
        Verdict::Resume | Verdict::InSync => {
            check_members(facts, row);
            assert!(!uncertain(facts), "{row} infers past a mark: {facts:?}");
        }
        Verdict::Equalise { source } => {
            check_members(facts, row);
            let (source, target) = source_and_target(facts, source);
            assert!(uncertain(facts), "{row} has nothing to equalise: {facts:?}");
            assert!(
                !source.suspect || target.suspect,
                "{row} trusts a suspect: {facts:?}"
            );
            assert!(
                facts.primary != Primary::Other,
                "{row} undoes the primary's: {facts:?}"
            );
        }
        Verdict::Resync { source, scope } => {
            check_related(facts, row);
            check_resync(facts, row, source, scope);
        }
        Verdict::Idle | Verdict::SplitBrain | Verdict::Refuse(_) => {}
    }
    for stays in [false, true] {
        if may_adopt(facts, stays, verdict) && facts.mine.member {
            let good = facts.mine.disk == Disk::Consistent;
            let as_before = stays && facts.mine.disk == Disk::Unusable;
            assert!(facts.lineage == Lineage::Same && (good || as_before));
        }
    }
}

/// Two replicas that do anything together.
fn check_related(facts: &Facts, row: &str) {
    assert!(
        facts.volume == Volume::Same && !facts.undecided,
        "{row}: {facts:?}"
    );
    let unusable = [facts.mine.disk, facts.theirs.disk].contains(&Disk::Unusable);
    assert!(!unusable, "{row} uses a disk that is not there: {facts:?}");
    let related = !matches!(facts.lineage, Lineage::Unrelated | Lineage::BothLost);
    assert!(related, "{row} mixes unrelated data: {facts:?}");
    if matches!(facts.lineage, Lineage::Diverged | Lineage::Unknown) {
        let one = facts.mine.discarded != facts.theirs.discarded;
        assert!(one, "{row} chooses a side that nobody chose: {facts:?}");
    }
}

/// Two replicas whose membership stands.
fn check_members(facts: &Facts, row: &str) {
    check_related(facts, row);
    let members = facts.mine.member && facts.theirs.member && facts.lineage == Lineage::Same;
    let consistent = facts.mine.disk == Disk::Consistent && facts.theirs.disk == Disk::Consistent;
    assert!(members && consistent, "{row}: {facts:?}");
}

fn check_resync(facts: &Facts, row: &str, side: Side, scope: Scope) {
    let (source, target) = source_and_target(facts, side);
    assert!(
        source.member && !target.member,
        "{row} overwrites a member: {facts:?}"
    );
    let good = source.disk == Disk::Consistent && !source.suspect;
    assert!(good, "{row} copies what may be bad: {facts:?}");
    assert!(
        facts.primary != Primary::Other,
        "{row} is a second source: {facts:?}"
    );
    let backwards = match side {
        Side::Local => [Lineage::Behind, Lineage::MineLost],
        Side::Remote => [Lineage::Ahead, Lineage::TheirsLost],
    };
    assert!(
        !backwards.contains(&facts.lineage),
        "{row} goes back in time: {facts:?}"
    );
    if scope == Scope::Marked {
        let lost = [Lineage::MineLost, Lineage::TheirsLost, Lineage::Unknown];
        let complete = source.marks_valid && target.marks_valid && !lost.contains(&facts.lineage);
        assert!(complete, "{row} trusts marks that are not there: {facts:?}");
    }
}

/// There is a mark, or what a mark cannot tell.
fn uncertain(facts: &Facts) -> bool {
    facts.marks || facts.mine.suspect || facts.theirs.suspect
}

#[test]
fn every_combination_keeps_the_rules_and_mirrors() {
    let mut reached = BTreeSet::new();
    for_all_facts(|facts| {
        let (row, verdict) = decide(facts);
        reached.insert(row);
        check_rules(facts, row, verdict);
        let mirrored = decide(&facts.mirrored());
        assert_eq!(
            mirrored,
            (row, verdict.mirrored()),
            "seen from the other side: {facts:?}"
        );
    });
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(rows.len(), ROWS.len(), "two rows have one name");
    assert_eq!(reached, rows);
}

/// Where nothing stands in the way two replicas do end up equal: a verdict to stay idle is only for
/// what time, a drop, or a third replica mends.
#[test]
fn idle_only_where_something_else_will_help() {
    for_all_facts(|facts| {
        let (row, verdict) = decide(facts);
        let member = facts.mine.member || facts.theirs.member;
        let suspect = facts.mine.suspect || facts.theirs.suspect;
        let plain = facts.volume == Volume::Same
            && !facts.undecided
            && !facts.conflict
            && facts.mine.disk == Disk::Consistent
            && facts.theirs.disk == Disk::Consistent
            && !facts.mine.discarded
            && !facts.theirs.discarded
            && facts.primary != Primary::Other;
        if plain && facts.lineage == Lineage::Same && member && !suspect {
            assert!(verdict != Verdict::Idle, "{row}: {facts:?}");
        }
        if plain && facts.lineage == Lineage::Behind && facts.theirs.member && !suspect {
            let dropped = facts.mine.member;
            assert_eq!(verdict == Verdict::Idle, dropped, "{row}: {facts:?}");
        }
    });
}

#[test]
fn facts_mirror_twice_to_themselves() {
    for facts in pairs() {
        assert_eq!(facts.mirrored().mirrored(), facts);
    }
}
