//! How identities become facts: the stories that replicas tell each other, and random ones.

use crate::reconcile::{Outcome, Scope, Side, Verdict, reconcile};
use format::frame::Identity;
use format::types::{
    BootId, Configuration, DiskState, Generation, NodeId, NodeSet, Slot, VolumeId,
};
use proptest::prelude::*;

fn slot(index: u8) -> Slot {
    Slot::new(index).expect("a slot")
}

fn set(slots: &[u8]) -> NodeSet {
    slots.iter().map(|index| slot(*index)).collect()
}

fn generation(number: u8) -> Generation {
    Generation([number; 16])
}

fn configuration(epoch: u64, number: u8, primary: Option<u8>, in_sync: &[u8]) -> Configuration {
    let (generation, primary) = (generation(number), primary.map(slot));
    Configuration {
        epoch,
        generation,
        primary,
        in_sync: set(in_sync),
    }
}

/// A member of {0, 1} under generation 1, served by 0.
fn replica(index: u8) -> Identity {
    Identity {
        volume: VolumeId([9; 16]),
        size_bytes: 1 << 30,
        node: NodeId([index + 1; 16]),
        boot: BootId([index + 1; 16]),
        incarnation: 100 + u64::from(index),
        known_incarnation: 0,
        configuration: configuration(1, 1, Some(0), &[0, 1]),
        data_generation: generation(1),
        history: vec![],
        history_complete: true,
        pending_admission: None,
        proposal: None,
        disk_state: DiskState::UpToDate,
        suspect: false,
        crashed_primary: false,
        discarded: false,
        forced: false,
        arbitrated: false,
        lease_ms: 0,
        marked_blocks: 0,
        marks_valid: true,
    }
}

/// Moves a replica's configuration and data on to a generation of their own.
fn advance(identity: &mut Identity, next: Configuration) {
    identity.configuration = next;
    identity.history.insert(0, identity.data_generation);
    identity.data_generation = next.generation;
}

/// The outcome between replica 0 and replica 1, which is the same seen from either.
fn outcome(zero: &Identity, one: &Identity) -> Outcome {
    let outcome = reconcile(zero, slot(0), one, slot(1));
    let mirrored = Outcome {
        row: outcome.row,
        verdict: outcome.verdict.mirrored(),
        adopt: outcome.adopt.map(Side::other),
    };
    assert_eq!(reconcile(one, slot(1), zero, slot(0)), mirrored);
    outcome
}

#[track_caller]
fn expect(pair: &(Identity, Identity), row: &str, verdict: Verdict, adopt: Option<Side>) {
    let found = outcome(&pair.0, &pair.1);
    assert_eq!(
        (found.row, found.verdict, found.adopt),
        (row, verdict, adopt)
    );
}

const FROM_ZERO: Verdict = Verdict::Resync {
    source: Side::Local,
    scope: Scope::Marked,
};
const EQUAL_TO_ZERO: Verdict = Verdict::Equalise {
    source: Side::Local,
};
const EQUAL_TO_ONE: Verdict = Verdict::Equalise {
    source: Side::Remote,
};

/// Two members, neither of which has done anything yet.
fn pair() -> (Identity, Identity) {
    (replica(0), replica(1))
}

/// Replica 0 has dropped replica 1 and gone on.
fn dropped() -> (Identity, Identity) {
    let mut pair = pair();
    advance(&mut pair.0, configuration(2, 2, Some(0), &[0]));
    pair.0.marked_blocks = 10;
    pair
}

/// Both have been promoted, by force.
fn split() -> (Identity, Identity) {
    let mut pair = dropped();
    advance(&mut pair.1, configuration(2, 3, Some(1), &[1]));
    pair
}

#[test]
fn members_resume_or_are_made_equal() {
    let mut pair = pair();
    expect(&pair, "in-sync", Verdict::InSync, None);
    pair.0.known_incarnation = 101;
    expect(&pair, "in-sync", Verdict::InSync, None);
    pair.1.known_incarnation = 100;
    expect(&pair, "resume", Verdict::Resume, None);
    (pair.0.incarnation, pair.1.known_incarnation) = (0, 0);
    expect(&pair, "in-sync", Verdict::InSync, None);
    pair.1.marked_blocks = 1;
    expect(&pair, "equalise", EQUAL_TO_ZERO, None);
    pair.0.suspect = true;
    expect(&pair, "suspect", EQUAL_TO_ONE, None);
    pair.1.suspect = true;
    expect(&pair, "equalise", EQUAL_TO_ZERO, None);
    for identity in [&mut pair.0, &mut pair.1] {
        identity.configuration.primary = None;
    }
    expect(&pair, "equalise-by-slot", EQUAL_TO_ZERO, None);
    for identity in [&mut pair.0, &mut pair.1] {
        identity.configuration = configuration(1, 1, Some(2), &[0, 1, 2]);
    }
    expect(&pair, "equalised-by-primary", Verdict::Idle, None);
}

#[test]
fn suspect_without_marks_is_made_equal_too() {
    let mut pair = pair();
    pair.0.suspect = true;
    expect(&pair, "suspect", EQUAL_TO_ONE, None);
}

#[test]
fn dropped_member_is_brought_up_to_date() {
    let mut pair = dropped();
    expect(&pair, "behind", FROM_ZERO, Some(Side::Remote));
    pair.1.configuration = pair.0.configuration;
    pair.1.disk_state = DiskState::Inconsistent;
    expect(&pair, "behind", FROM_ZERO, None);
    pair.1.suspect = true;
    pair.1.crashed_primary = true;
    expect(&pair, "behind", FROM_ZERO, None);
    pair.0.suspect = true;
    expect(&pair, "source-suspect", Verdict::Idle, None);
    pair.0.suspect = false;
    pair.0.marks_valid = false;
    let scope = Scope::Full("the source has no complete marks for the target");
    expect(
        &pair,
        "behind",
        Verdict::Resync {
            source: Side::Local,
            scope,
        },
        None,
    );
    pair.0.marks_valid = true;
    pair.1.disk_state = DiskState::Failed;
    expect(&pair, "no-disk", Verdict::Idle, None);
    pair.1.disk_state = DiskState::Outdated;
    pair.0.proposal = Some(configuration(3, 4, Some(0), &[0]));
    expect(&pair, "undecided", Verdict::Idle, None);
}

/// A member need not have heard of the drop of a third, nor of a swap, nor of a promotion.
#[test]
fn member_that_missed_a_message_is_still_one() {
    let mut pair = pair();
    advance(&mut pair.0, configuration(2, 2, Some(0), &[0, 1]));
    expect(&pair, "in-sync", Verdict::InSync, Some(Side::Remote));
    (pair.0.known_incarnation, pair.1.known_incarnation) = (101, 100);
    expect(&pair, "resume", Verdict::Resume, Some(Side::Remote));
    pair.1.disk_state = DiskState::Failed;
    expect(&pair, "no-disk", Verdict::Idle, Some(Side::Remote));
    pair.1.disk_state = DiskState::Inconsistent;
    expect(&pair, "behind-member", Verdict::Idle, None);
}

/// The old primary comes back, and the new one still counts on it: what it did not get acknowledged
/// is undone.
#[test]
fn crashed_primary_is_made_equal_to_its_successor() {
    let mut pair = pair();
    advance(&mut pair.1, configuration(2, 2, Some(1), &[0, 1]));
    pair.0.crashed_primary = true;
    pair.0.marked_blocks = 40;
    expect(&pair, "equalise", EQUAL_TO_ONE, Some(Side::Local));
}

#[test]
fn promise_kept_by_one_side_holds_for_both() {
    let mut pair = dropped();
    pair.1.configuration = pair.0.configuration;
    pair.1.disk_state = DiskState::Inconsistent;
    pair.0.configuration = configuration(3, 2, Some(0), &[0, 1]);
    pair.0.marked_blocks = 0;
    expect(&pair, "behind-member", Verdict::Idle, None);
    pair.1.pending_admission = Some((3, generation(2)));
    expect(&pair, "in-sync", Verdict::InSync, Some(Side::Remote));
    for other in [(4, generation(2)), (3, generation(9))] {
        pair.1.pending_admission = Some(other);
        expect(&pair, "behind-member", Verdict::Idle, None);
    }
    // It was admitted, and dropped again at once.
    pair.1.pending_admission = Some((3, generation(2)));
    advance(&mut pair.0, configuration(4, 3, Some(0), &[0]));
    expect(&pair, "behind", FROM_ZERO, Some(Side::Remote));
}

/// Whom a configuration takes in has promised it, or was a member before.
#[test]
fn nobody_is_admitted_without_a_promise() {
    let mut pair = dropped();
    pair.1.configuration = pair.0.configuration;
    pair.1.disk_state = DiskState::Outdated;
    pair.0.configuration = configuration(3, 2, Some(0), &[0, 1]);
    expect(&pair, "behind-member", Verdict::Idle, None);
    // It has promised, and has heard since from a third replica that it was dropped again. Zero has that from
    // one whose data does not tell whether it is of zero's history or of a rival's.
    pair.1.pending_admission = Some((3, generation(2)));
    pair.1.configuration = configuration(4, 4, Some(2), &[2]);
    expect(&pair, "no-member", Verdict::Idle, None);
}

/// The promise of a side that was given up, or that had lost its metadata, is as good as any.
#[test]
fn promise_outweighs_what_was_before_it() {
    let mut pair = split();
    pair.1.discarded = true;
    pair.1.disk_state = DiskState::Inconsistent;
    pair.1.configuration = pair.0.configuration;
    pair.1.pending_admission = Some((3, generation(2)));
    pair.0.configuration = configuration(3, 2, Some(0), &[0, 1]);
    pair.0.marked_blocks = 0;
    expect(&pair, "in-sync", Verdict::InSync, Some(Side::Remote));
    pair.1.data_generation = Generation::NONE;
    pair.1.history.clear();
    expect(&pair, "in-sync", Verdict::InSync, Some(Side::Remote));
    pair.1.pending_admission = None;
    expect(&pair, "lost-member", Verdict::Idle, None);
}

#[test]
fn split_brain_waits_for_an_operator() {
    let mut pair = split();
    expect(&pair, "split-brain", Verdict::SplitBrain, None);
    pair.1.discarded = true;
    expect(&pair, "discarded", FROM_ZERO, Some(Side::Remote));
    pair.0.suspect = true;
    expect(&pair, "discarded-waits", Verdict::Idle, Some(Side::Remote));
    pair.0.suspect = false;
    pair.0.configuration.in_sync = set(&[0, 1]);
    expect(&pair, "discarded-member", Verdict::Idle, None);
    pair.0.discarded = true;
    let both = Verdict::Refuse("both sides were given up: promote one with --force");
    expect(&pair, "both-discarded", both, None);
}

#[test]
fn side_that_was_given_up_must_not_be_the_newer() {
    let mut pair = dropped();
    pair.0.discarded = true;
    let verdict = Verdict::Refuse("the side that was given up is the newer one");
    expect(&pair, "discarded-ahead", verdict, None);
}

#[test]
fn epochs_do_not_order_histories() {
    let mut pair = dropped();
    // Replica 1 was demoted twice while replica 0 was promoted by force: its epoch is higher, but
    // replica 0's generation descends from its own.
    pair.1.configuration = configuration(7, 1, None, &[0, 1]);
    expect(&pair, "behind", FROM_ZERO, Some(Side::Remote));
    // Of one generation, the later epoch is the later configuration.
    pair = self::pair();
    pair.1.configuration = configuration(3, 1, Some(1), &[0, 1]);
    expect(&pair, "in-sync", Verdict::InSync, Some(Side::Local));
    pair.0.configuration = configuration(3, 1, Some(0), &[0, 1]);
    expect(&pair, "forked", Verdict::SplitBrain, None);
}

#[test]
fn lost_metadata_costs_a_full_comparison() {
    let mut pair = dropped();
    pair.1.data_generation = Generation::NONE;
    pair.1.configuration = configuration(0, 0, None, &[]);
    let scope = Scope::Full("the target's metadata was lost or given up");
    expect(
        &pair,
        "lost",
        Verdict::Resync {
            source: Side::Local,
            scope,
        },
        Some(Side::Remote),
    );
    pair.0.configuration.in_sync = set(&[0, 1]);
    expect(&pair, "lost-member", Verdict::Idle, None);
    pair.0.data_generation = Generation::NONE;
    let both = Verdict::Refuse("both replicas have lost their metadata");
    expect(&pair, "both-lost", both, None);
}

#[test]
fn history_that_does_not_reach_back_proves_nothing() {
    let mut pair = split();
    (pair.0.history, pair.1.history) = (vec![generation(5)], vec![generation(6)]);
    let unrelated = Verdict::Refuse("its data has no common past with ours");
    expect(&pair, "unrelated", unrelated, None);
    pair.1.history_complete = false;
    expect(&pair, "history-too-short", Verdict::SplitBrain, None);
    pair.1.discarded = true;
    let scope = Scope::Full("the histories do not reach back to where the two parted");
    let full = Verdict::Resync {
        source: Side::Local,
        scope,
    };
    expect(&pair, "discarded-in-full", full, Some(Side::Remote));
}

#[test]
fn others_have_no_business_here() {
    let mut pair = pair();
    pair.1.size_bytes += 4096;
    expect(&pair, "other-size", Verdict::Idle, None);
    pair.1.volume = VolumeId([8; 16]);
    let volume = Verdict::Refuse("it has another volume of this name");
    expect(&pair, "other-volume", volume, None);
}

/// With a third replica: who is outside waits for the primary, and two who are outside for anybody.
#[test]
fn third_replica_brings_both_up_to_date() {
    let mut pair = dropped();
    pair.0.configuration = configuration(2, 2, Some(2), &[0, 2]);
    expect(
        &pair,
        "resynced-by-primary",
        Verdict::Idle,
        Some(Side::Remote),
    );
    // What one has heard since may be of a rival's history.
    pair.1.configuration = configuration(3, 4, Some(2), &[2]);
    expect(&pair, "no-member", Verdict::Idle, None);
    pair = self::pair();
    for identity in [&mut pair.0, &mut pair.1] {
        identity.configuration = configuration(3, 1, None, &[0]);
    }
    expect(&pair, "behind", FROM_ZERO, None);
    pair.0.disk_state = DiskState::Inconsistent;
    expect(&pair, "inconsistent-member", Verdict::Idle, None);
}

/// Identities out of a small world, so that their histories meet.
fn identities() -> impl Strategy<Value = Identity> {
    let number = || 0u8..5;
    let configuration = (1u64..4, 1u8..5, prop::option::of(0u8..3), 1u8..8).prop_map(
        |(epoch, number, primary, bits)| {
            let in_sync = NodeSet::from_bits(bits);
            Configuration {
                in_sync,
                ..configuration(epoch, number, primary, &[])
            }
        },
    );
    let disk = prop_oneof![
        4 => Just(DiskState::UpToDate),
        1 => Just(DiskState::Outdated),
        2 => Just(DiskState::Inconsistent),
        1 => Just(DiskState::Failed),
    ];
    let history = prop::collection::vec(number().prop_map(generation), 0..4);
    let pending = prop::option::of((1u64..4, number().prop_map(generation)));
    (
        configuration,
        number(),
        history,
        pending,
        disk,
        any::<[bool; 6]>(),
    )
        .prop_map(
            |(configuration, data, history, pending_admission, disk_state, flags)| Identity {
                configuration,
                data_generation: if data == 0 {
                    Generation::NONE
                } else {
                    generation(data)
                },
                history,
                history_complete: flags[0],
                pending_admission,
                disk_state,
                suspect: flags[1] && flags[2],
                discarded: flags[2] && flags[3],
                marked_blocks: u64::from(flags[4]),
                marks_valid: flags[5],
                ..replica(0)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_two_identities_agree_on_the_verdict(zero in identities(), one in identities()) {
        let Outcome { row, verdict, adopt } = outcome(&zero, &one);
        if let Verdict::Resync { source, .. } = verdict {
            // The target leaves its own configuration for one of which it is no member.
            let (source_slot, target_slot, winner, loser) = match source {
                Side::Local => (slot(0), slot(1), &zero, &one),
                Side::Remote => (slot(1), slot(0), &one, &zero),
            };
            let latest = match adopt {
                Some(side) if side == source => loser.configuration,
                _ => winner.configuration,
            };
            prop_assert!(latest.in_sync.contains(source_slot), "{row}");
            prop_assert!(!latest.in_sync.contains(target_slot), "{row}");
        }
        prop_assert!(adopt.is_none() || zero.configuration != one.configuration);
    }
}

/// Zero has handed the volume to one, who has not heard of it and was promoted by force since: nothing was ever
/// acknowledged under the handover.
#[test]
fn handover_that_never_was_in_force_is_no_fork() {
    let mut pair = pair();
    pair.0.configuration = configuration(2, 2, Some(1), &[1]);
    pair.0.disk_state = DiskState::Inconsistent;
    advance(&mut pair.1, configuration(2, 3, Some(1), &[1]));
    let from_one = Verdict::Resync {
        source: Side::Remote,
        scope: Scope::Marked,
    };
    expect(&pair, "behind", from_one, Some(Side::Local));
}

/// The same with a third replica, whom one has made equal to itself since.
#[test]
fn handover_to_two_that_never_was_in_force_is_no_fork() {
    let mut pair = pair();
    pair.0.configuration = configuration(2, 2, Some(1), &[1, 2]);
    pair.0.disk_state = DiskState::Inconsistent;
    advance(&mut pair.1, configuration(2, 3, Some(1), &[1, 2]));
    advance(&mut pair.1, configuration(4, 4, Some(1), &[1, 2]));
    let from_one = Verdict::Resync {
        source: Side::Remote,
        scope: Scope::Marked,
    };
    expect(&pair, "behind", from_one, Some(Side::Local));
    // Who knows its own configuration by hearsay only cannot tell.
    pair.1.configuration = configuration(5, 5, Some(1), &[1, 2]);
    expect(&pair, "no-member", Verdict::Idle, None);
    // Nor can one that was not to serve.
    pair.1.configuration = configuration(4, 4, Some(1), &[1, 2]);
    pair.0.configuration = configuration(2, 2, Some(2), &[1, 2]);
    expect(&pair, "no-member", Verdict::Idle, None);
}

/// Zero, whose disk has failed, has handed the volume to one, whose disk has failed as well: it is a member as before, and
/// has to know that it is the only one.
#[test]
fn member_with_a_failed_disk_hears_that_it_is_the_only_one() {
    let mut pair = pair();
    pair.0.configuration = configuration(2, 2, Some(0), &[1]);
    pair.0.disk_state = DiskState::Failed;
    pair.1.disk_state = DiskState::Failed;
    expect(&pair, "no-disk", Verdict::Idle, Some(Side::Remote));
    // Who was no member, and has promised to be one, is none before its disk is good.
    pair.1.configuration = configuration(1, 1, Some(0), &[0]);
    pair.1.pending_admission = Some((2, generation(2)));
    expect(&pair, "no-disk", Verdict::Idle, None);
}

/// One was given up and has taken a rival's configuration, which is none of zero's business.
#[test]
fn who_was_given_up_leads_nobody() {
    let mut pair = pair();
    pair.1.discarded = true;
    pair.1.disk_state = DiskState::Inconsistent;
    pair.1.configuration = configuration(9, 4, Some(2), &[0, 2]);
    let found = outcome(&pair.0, &pair.1);
    assert_ne!(found.adopt, Some(Side::Local));
}
