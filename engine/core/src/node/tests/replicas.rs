//! Replicas that come and go while the volume is used.

use super::machine::Machine;
use super::world::{World, slot, superblock};
use crate::command::{Answer, Command, Refusal};
use crate::event::{Event, SessionId};
use crate::{Failover, Lease, Settings};
use format::types::{Configuration, DiskState, Generation, NodeSet};

/// A third machine, whose replica knows nothing but who the others are. It does not run.
fn prepare(world: &mut World) {
    let mut third = superblock(2, 3);
    third.configuration = Configuration {
        epoch: 0,
        generation: Generation::NONE,
        primary: None,
        in_sync: NodeSet::EMPTY.with(slot(0)).with(slot(1)),
    };
    third.data_generation = Generation::NONE;
    third.history_complete = false;
    third.disk_state = DiskState::Inconsistent;
    third.marks_valid = NodeSet::EMPTY;
    world.machines.push(Machine::of(third));
}

fn add(world: &mut World, index: usize) -> Result<Answer, Refusal> {
    let replica = superblock(2, 3).replicas[2].clone().expect("a third one");
    let replica = Box::new(replica);
    let slot = slot(2);
    world.command(index, Command::AddReplica { slot, replica })
}

fn remove(world: &mut World, index: usize, which: usize) -> Result<Answer, Refusal> {
    let slot = slot(which);
    world.command(index, Command::RemoveReplica { slot })
}

fn automatic() -> Settings {
    let lease = Lease::new(2_000_000_000, 3_000_000_000).expect("grace is long enough");
    Settings {
        failover: Failover::Automatic(lease),
        ..Settings::default()
    }
}

/// Two replicas and a third that has been added to them.
fn three(settings: Settings) -> World {
    let mut world = World::with(2, settings);
    world.write(0, 5, 3, 50);
    world.settle();
    prepare(&mut world);
    for index in [1, 0] {
        assert_eq!(add(&mut world, index), Ok(Answer::Done));
    }
    world.start(2);
    world.settle();
    world
}

#[test]
fn a_third_copy_is_brought_up_to_date_and_becomes_a_member() {
    let mut world = three(Settings::default());
    world.assert_protected();
    assert!(world.machines[2].rows().contains(&"lost"));
    assert_eq!(world.machines[2].blocks[&7], 50);
    let request = world.write(0, 9, 1, 90);
    world.settle();
    assert_eq!(world.replied(0, request), Some(Ok(())));
    assert_eq!(world.machines[2].blocks[&9], 90);
}

#[test]
fn a_new_copy_counts_as_nothing_before_its_resync() {
    let mut world = World::new(2);
    world.pause(0, true);
    prepare(&mut world);
    for index in [1, 0] {
        assert_eq!(add(&mut world, index), Ok(Answer::Done));
    }
    world.start(2);
    world.settle();
    let in_sync = world.node(0).configuration.in_sync;
    assert!(!in_sync.contains(slot(2)));
    let refused = world.command(2, Command::Promote { force: false });
    assert!(matches!(refused, Err(Refusal::ProtectsData(_))));
    world.crash(0);
    world.crash(1);
    world.settle();
    let refused = world.command(2, Command::Promote { force: false });
    assert!(matches!(refused, Err(Refusal::ProtectsData(_))));
}

#[test]
fn a_new_copy_takes_over_after_both_others_have_died_in_turn() {
    let mut world = three(automatic());
    world.assert_protected();
    world.write(0, 1, 1, 11);
    world.settle();
    world.crash(0);
    world.settle();
    world.write(1, 2, 1, 12);
    world.settle();
    world.crash(1);
    world.settle();
    assert_eq!(world.read(2, 1), Ok(11));
    assert_eq!(world.read(2, 2), Ok(12));
    world.start(0);
    world.start(1);
    world.settle();
    world.assert_protected();
}

#[test]
fn whoever_serves_after_an_addition_compares_everything_with_the_new_copy() {
    let mut world = World::with(2, automatic());
    world.write(0, 5, 3, 50);
    world.settle();
    prepare(&mut world);
    // The primary dies before it is told.
    assert_eq!(add(&mut world, 1), Ok(Answer::Done));
    world.crash(0);
    world.settle();
    world.start(2);
    world.settle();
    assert_eq!(world.read(1, 5), Ok(50));
    assert_eq!(world.machines[2].blocks[&5], 50);
    // The old primary knows nothing of the new member, and is out until it is told.
    world.start(0);
    world.settle();
    assert!(!world.node(1).configuration.in_sync.contains(slot(0)));
    assert_eq!(add(&mut world, 0), Ok(Answer::Done));
    world.settle();
    world.assert_protected();
}

#[test]
fn a_member_is_dropped_before_it_is_forgotten() {
    for settings in [Settings::default(), automatic()] {
        let mut world = World::with(3, settings);
        world.write(0, 1, 1, 1);
        world.settle();
        let early = remove(&mut world, 1, 2);
        assert!(matches!(early, Err(Refusal::NotNow(_))), "{early:?}");
        assert_eq!(remove(&mut world, 0, 2), Ok(Answer::Done));
        assert_eq!(remove(&mut world, 1, 2), Ok(Answer::Done));
        assert_eq!(remove(&mut world, 1, 2), Ok(Answer::Done), "again");
        let members = NodeSet::EMPTY.with(slot(0)).with(slot(1));
        assert_eq!(world.machines[1].superblock.configuration.in_sync, members);
        let request = world.write(0, 2, 1, 2);
        world.settle();
        assert_eq!(world.replied(0, request), Some(Ok(())));
        // It is still there, and nobody talks to it.
        assert_eq!(world.machines[2].blocks.get(&2), None);
        let refused = world.command(2, Command::Promote { force: false });
        assert!(refused.is_err());
        world.machines.truncate(2);
        for index in [0, 1] {
            world.crash(index);
            world.start(index);
        }
        world.settle();
        world.assert_protected();
        assert_eq!(world.read(0, 2), Ok(2));
    }
}

#[test]
fn a_primary_or_the_best_copy_is_not_removed() {
    let mut world = World::new(3);
    for index in [1, 2] {
        let refused = remove(&mut world, index, 0);
        assert!(matches!(refused, Err(Refusal::ProtectsData(_))));
    }
    assert!(remove(&mut world, 0, 0).is_err());
}

#[test]
fn a_copy_that_died_is_removed_without_it() {
    let mut world = World::new(3);
    world.crash(2);
    for index in [0, 1] {
        assert_eq!(remove(&mut world, index, 2), Ok(Answer::Done));
    }
    world.write(0, 3, 1, 3);
    world.settle();
    // It comes back, and finds nobody who knows it.
    world.start(2);
    world.settle();
    assert!(world.node(2).serving().is_err());
    assert!(!world.node(0).configuration.in_sync.contains(slot(2)));
}

#[test]
fn a_place_is_not_used_again() {
    let mut world = three(Settings::default());
    let again = add(&mut world, 0);
    assert_eq!(again, Ok(Answer::Done), "the same again is no harm");
    for index in [0, 1] {
        assert_eq!(remove(&mut world, index, 2), Ok(Answer::Done));
    }
    let refused = add(&mut world, 0);
    assert!(matches!(refused, Err(Refusal::ProtectsData(_))));
    world.crash(0);
    world.start(0);
    world.settle();
    let refused = add(&mut world, 0);
    assert!(matches!(refused, Err(Refusal::ProtectsData(_))));
}

#[test]
fn without_the_arbiter_nobody_is_sent_away() {
    let mut world = World::with(3, automatic());
    world.arbiter.away = true;
    world.pass(3_000_000_000);
    let node = world.node(0);
    let mut effects = Vec::new();
    let now = node.now;
    let slot = slot(2);
    let command = Command::RemoveReplica { slot };
    node.step(now, Event::Command { id: 900, command }, &mut effects);
    world.settle();
    let request = world.write(0, 2, 1, 2);
    world.settle();
    assert_eq!(
        world.replied(0, request),
        Some(Ok(())),
        "it is still a member"
    );
    assert_eq!(world.machines[2].blocks[&2], 2);
    world.arbiter.away = false;
    world.settle();
    assert_eq!(world.machines[0].answers.get(&900), Some(&Ok(Answer::Done)));
    assert!(!world.node(0).configuration.in_sync.contains(slot));
}

#[test]
fn who_promises_its_membership_tells_what_its_data_is_anew() {
    let mut world = World::new(2);
    prepare(&mut world);
    for index in [1, 0] {
        assert_eq!(add(&mut world, index), Ok(Answer::Done));
    }
    world.pause(0, true);
    world.partition(1, 2);
    world.start(2);
    world.settle();
    let now = world.now;
    let next = Configuration {
        epoch: 2,
        in_sync: NodeSet::from_bits(0b111),
        ..world.node(0).configuration
    };
    let node = world.node(2);
    let (peer, session) = (slot(1), SessionId(99));
    let mut effects = Vec::new();
    node.step(now, Event::PeerConnected { peer, session }, &mut effects);
    node.step(now, Event::TurnEnded, &mut effects);
    let greets = node.peer(peer).session.is_some();
    assert!(greets, "it has said that it knows nothing of its data");
    node.admission_asked(slot(0), next);
    assert!(node.superblock.pending_admission.is_some());
    assert!(node.peer(peer).session.is_none(), "which is so no more");
}
