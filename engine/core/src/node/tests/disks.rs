//! Disks that fail, the primary's, a member's and all of them, and what one replica alone has then.

use super::quorum::{automatic, serves};
use super::world::{World, slot};
use crate::Settings;
use crate::command::{Answer, Command};
use crate::event::{DiskError, Event, Kind, RequestError};
use crate::notice::Notice;
use format::types::{DiskState, Generation, NodeSet, Span};

/// The one has lost its power, and the other's disk fails before it is back, with a disk that works or does not.
fn power_and_disk_lost(settings: Settings, disk: DiskState) -> World {
    let mut world = World::with(2, settings);
    world.write(0, 1, 1, 1);
    world.settle();
    world.machines[1].disk_fails = Some(DiskError::Io);
    world.write(0, 2, 1, 2);
    world.step(0, Event::TurnEnded);
    world.power_cut(0);
    world.pass(1_000_000_000);
    assert_eq!(world.node(1).status().disk_state, DiskState::Failed);
    world.machines[1].disk_fails = None;
    world.machines[0].superblock.disk_state = disk;
    world.start(0);
    world.machines[0].notices.clear();
    world
}

const RESYNC: Command = Command::Resync {
    full: false,
    to: None,
};

#[test]
fn a_failed_disk_may_have_all_and_is_waited_for() {
    let lost = || power_and_disk_lost(automatic(), DiskState::UpToDate);
    let told = |world: &World| world.machines[0].notices.contains(&Notice::ServesFlushed);
    let mut world = lost();
    world.pass(8_000_000_000);
    assert!(!serves(&mut world, 0) && !told(&world));
    world.pass(4_000_000_000);
    assert!(serves(&mut world, 0) && told(&world));

    // Who says that the copy is to be written anew has given up what it held.
    let mut world = lost();
    world.pass(1_000_000_000);
    assert!(!serves(&mut world, 0));
    assert_eq!(world.command(1, RESYNC), Ok(Answer::Done));
    assert!(serves(&mut world, 0) && told(&world));
    world.assert_protected();
}

#[test]
fn a_side_whose_disk_has_failed_can_be_given_up() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.settle();
    world.partition(0, 1);
    world.settle();
    let promoted = world.command(1, Command::Promote { force: true });
    assert_eq!(promoted, Ok(Answer::Done));
    world.write(0, 1, 1, 2);
    world.write(1, 1, 1, 3);
    world.settle();
    world.crash(1);
    world.machines[1].superblock.disk_state = DiskState::Failed;
    world.start(1);
    world.heal();
    world.settle();
    assert_eq!(world.machines[1].rows().last(), Some(&"split-brain"));
    let kept = world.command(0, Command::Discard { slot: slot(0) });
    assert!(kept.is_err(), "nothing would be left: {kept:?}");
    for index in [0, 1] {
        let given_up = world.command(index, Command::Discard { slot: slot(1) });
        assert_eq!(given_up, Ok(Answer::Done));
    }
    world.settle();
    assert_eq!(world.read(0, 1), Ok(2));
    world.assert_protected();
}

/// Longer than a disk may take while another could go on.
const HUNG_NANOS: u64 = 40_000_000_000;

#[test]
fn a_disk_that_hangs_has_failed_where_another_can_go_on() {
    let mut world = World::with(2, automatic());
    world.write(0, 1, 1, 1);
    world.settle();
    world.machines[0].disk_hangs = true;
    world.write(0, 1, 1, 2);
    world.pass(HUNG_NANOS);
    assert_eq!(world.node(0).status().disk_state, DiskState::Failed);
    // Nor can it hand over.
    world.pass(HUNG_NANOS);
    assert!(serves(&mut world, 1));
    assert_eq!(world.read(1, 1), Ok(2));
    world.write(1, 1, 1, 3);
    world.settle();
    world.machines[0].disk_answers();
    world.settle();
    assert!(!serves(&mut world, 0));
    assert_eq!(world.command(0, RESYNC), Ok(Answer::Done));
    assert_eq!(world.read(1, 1), Ok(3));
    world.assert_protected();
}

#[test]
fn who_cannot_write_its_metadata_is_followed_and_comes_back_by_itself() {
    let mut world = World::with(2, automatic());
    world.settle();
    world.machines[0].disk_hangs = true;
    // Its place in the activity log is not on the disk: it goes nowhere.
    let write = world.write(0, 1, 1, 1);
    world.pass(HUNG_NANOS);
    assert!(serves(&mut world, 1));
    world.write(1, 1, 1, 2);
    world.settle();
    assert_eq!(world.replied(0, write), Some(Err(RequestError::NotPrimary)));
    world.machines[0].disk_answers();
    world.settle();
    assert_eq!(world.read(1, 1), Ok(2));
    world.assert_protected();
}

/// A configuration that has been gone past when it is durable at last binds nobody.
#[test]
fn what_was_committed_before_the_disk_hung_is_not_gone_back_to() {
    let mut world = World::with(3, automatic());
    world.write(0, 1, 1, 1);
    world.settle();
    world.arbiter.deaf = true;
    world.crash(2);
    world.settle();
    world.machines[0].disk_hangs = true;
    world.arbiter.deaf = false;
    world.pass(HUNG_NANOS);
    assert!(serves(&mut world, 1));
    world.write(1, 1, 1, 2);
    world.settle();
    world.machines[0].disk_answers();
    world.settle();
    let bound = [0, 1].map(|index| world.node(index).status().configuration);
    assert_eq!(bound[0], bound[1]);
    assert!(bound[0].in_sync.contains(slot(0)), "{bound:?}");
    world.start(2);
    world.settle();
    world.assert_protected();
}

/// The same of one that came from the primary.
#[test]
fn what_was_told_before_the_disk_hung_is_not_gone_back_to() {
    let mut world = World::with(3, automatic());
    world.settle();
    world.machines[1].disk_hangs = true;
    world.crash(2);
    world.settle();
    world.partition(0, 1);
    world.settle();
    let latest = world.node(0).status().configuration;
    assert_eq!(latest.in_sync, NodeSet::only(slot(0)));
    world.machines[1].disk_answers();
    world.run();
    assert_eq!(world.node(1).status().configuration, latest);
    world.heal();
    world.start(2);
    world.settle();
    world.assert_protected();
}

#[test]
fn a_disk_that_hangs_is_waited_for_where_nobody_else_could_go_on() {
    // The other is not there, or has the same storage, which stands still.
    for settings in [Settings::default(), automatic()] {
        for (dies, hot) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut world = World::with(2, settings);
            if hot {
                // The data hangs, and else the activity log's block before it.
                world.write(0, 1, 1, 9);
            }
            world.settle();
            (0..2).for_each(|index| world.machines[index].disk_hangs = true);
            let write = world.write(0, 1, 1, 1);
            if dies {
                world.crash(1);
            }
            world.pass(HUNG_NANOS);
            assert_eq!(world.node(0).status().disk_state, DiskState::UpToDate);
            (0..2).for_each(|index| world.machines[index].disk_answers());
            if dies {
                world.start(1);
            }
            world.settle();
            assert!((0..2).any(|index| serves(&mut world, index)));
            world.assert_protected();
            let told = world.replied(0, write);
            // Whose disk answers first goes on.
            let moved = Some(Err(RequestError::NotPrimary));
            assert!(told == Some(Ok(())) || !dies && told == moved, "{told:?}");
        }
    }
}

#[test]
fn where_all_disks_have_failed_the_primary_s_can_be_taken_again() {
    for settings in [Settings::default(), automatic()] {
        let mut world = power_and_disk_lost(settings, DiskState::Failed);
        world.settle();
        let members = world.node(0).configuration.in_sync;
        assert_eq!(members.len(), 2, "no disk is better than the other");
        assert_eq!(world.command(1, RESYNC), Ok(Answer::Done));
        assert_eq!(world.command(0, RESYNC), Ok(Answer::Done));
        world.settle();
        assert_eq!(world.read(0, 1), Ok(1));
        world.assert_protected();
    }
}

#[test]
fn a_failed_disk_is_taken_again_only_with_the_word_of_the_others() {
    // Heard once, and not to be asked now.
    let mut world = power_and_disk_lost(Settings::default(), DiskState::Failed);
    world.settle();
    world.partition(0, 1);
    world.settle();
    assert!(world.command(0, RESYNC).is_err());
    assert_eq!(world.node(0).status().disk_state, DiskState::Failed);

    // Another has served since, and its disk has failed as well.
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.settle();
    world.crash(0);
    world.machines[0].superblock.disk_state = DiskState::Failed;
    world.settle();
    let promoted = world.command(1, Command::Promote { force: true });
    assert_eq!(promoted, Ok(Answer::Done));
    world.write(1, 1, 1, 9);
    world.settle();
    world.machines[1].disk_fails = Some(DiskError::Io);
    world.write(1, 2, 1, 2);
    world.settle();
    assert_eq!(world.node(1).status().disk_state, DiskState::Failed);
    world.machines[1].disk_fails = None;
    world.start(0);
    world.settle();
    let _ = world.command(0, RESYNC);
    assert!(!serves(&mut world, 0), "its data is of before");
    assert_eq!(world.command(1, RESYNC), Ok(Answer::Done));
    world.settle();
    assert_eq!(world.read(1, 1), Ok(9));
    world.assert_protected();
}

#[test]
fn what_one_member_alone_has_is_marked_before_another_primary_s_numbers_are_heeded() {
    let mut world = World::with(3, automatic());
    world.settle();
    // A write reaches one other member; then that member's disk fails, and the primary dies.
    world.partition(0, 1);
    world.write(0, 5, 1, 50);
    world.run();
    world.machines[2].disk_fails = Some(DiskError::Io);
    world.write(0, 6, 1, 60);
    world.run();
    assert_eq!(world.machines[2].blocks.get(&5), Some(&50));
    world.crash(0);
    world.settle();
    assert!(serves(&mut world, 1));
    // The next primary's writes become stable while the failed one listens.
    for block in 20..24 {
        world.write(1, block, 1, block);
        world.request(1, Kind::Flush, Span::new(0, 0));
        world.settle();
    }
    world.machines[2].disk_fails = None;
    assert_eq!(world.command(2, RESYNC), Ok(Answer::Done));
    world.settle();
    assert_eq!(world.machines[2].blocks, world.machines[1].blocks);
    world.heal();
    world.start(0);
    world.settle();
    world.assert_protected();
}

#[test]
fn what_one_of_two_followers_alone_has_is_marked_before_the_primary_s_numbers_are_heeded() {
    let mut world = World::with(3, automatic());
    world.settle();
    // A write reaches one other member, and the primary dies. It is back, and its writes become stable before it has made
    // the others equal.
    world.partition(0, 2);
    world.write(0, 5, 1, 50);
    world.run();
    assert_eq!(world.machines[1].blocks.get(&5), Some(&50));
    assert_eq!(world.machines[2].blocks.get(&5), None);
    world.crash(0);
    world.heal();
    world.start(0);
    for _ in 0..100 {
        world.pause(0, true);
        world.pass(10_000_000);
    }
    assert!(serves(&mut world, 0));
    world.request(0, Kind::Flush, Span::new(0, 0));
    world.pass(1_500_000_000);
    assert_eq!(
        world.machines[2].blocks.get(&5),
        None,
        "it is equal already"
    );
    world.crash(0);
    world.settle();
    assert_eq!(
        world.machines[1].blocks_set(),
        world.machines[2].blocks_set()
    );
    world.start(0);
    world.settle();
    world.assert_protected();
}

#[test]
fn what_one_of_two_followers_was_made_equal_in_is_not_forgotten_before_the_other_is() {
    let mut world = World::with(3, automatic());
    world.settle();
    // A write reaches nobody, and the primary dies. It is back, has made one member equal and not yet the other, and its
    // writes become stable.
    world.partition(0, 1);
    world.partition(0, 2);
    world.write(0, 5, 1, 50);
    world.run();
    assert_eq!(world.machines[0].blocks.get(&5), Some(&50));
    world.crash(0);
    world.heal();
    world.start(0);
    for _ in 0..100 {
        world.pause(0, true);
        world.pass(10_000_000);
    }
    world.pause(0, false);
    world.partition(0, 2);
    world.pass(300_000_000);
    world.pause(0, true);
    assert_eq!(world.machines[1].blocks.get(&5), Some(&50));
    assert_eq!(
        world.machines[2].blocks.get(&5),
        None,
        "it is equal already"
    );
    world.heal();
    world.request(0, Kind::Flush, Span::new(0, 0));
    world.pass(1_500_000_000);
    assert_eq!(
        world.machines[2].blocks.get(&5),
        None,
        "it is equal already"
    );
    assert!(world.node(0).log.stable_through() > 0);
    world.crash(0);
    world.settle();
    assert_eq!(
        world.machines[1].blocks_set(),
        world.machines[2].blocks_set()
    );
    world.start(0);
    world.settle();
    world.assert_protected();
}

#[test]
fn who_hears_in_a_handshake_that_it_is_a_member_says_what_its_disk_is_then() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.settle();
    world.partition(0, 1);
    world.settle();
    // It has promised its admission, which was committed after the link had ended. Then the primary's disk has failed.
    (0..2).for_each(|index| world.crash(index));
    let alone = world.machines[0].superblock.configuration;
    let left = &mut world.machines[0].superblock;
    left.configuration.epoch = alone.epoch + 2;
    left.configuration.in_sync = NodeSet::only(slot(1));
    left.disk_state = DiskState::Failed;
    let joined = &mut world.machines[1].superblock;
    joined.configuration = alone;
    joined.data_generation = alone.generation;
    joined.disk_state = DiskState::Inconsistent;
    joined.pending_admission = Some((alone.epoch + 1, alone.generation));
    (0..2).for_each(|index| world.start(index));
    world.heal();
    world.settle();
    assert_eq!(world.command(1, Command::Swap), Ok(Answer::Done));
    assert!(serves(&mut world, 1));
}

#[test]
fn where_the_last_member_s_disk_has_failed_too_an_operator_says_so_and_it_serves() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.settle();
    // The primary's disk has failed, and while it handed over the other's did.
    (0..2).for_each(|index| world.crash(index));
    let left = &mut world.machines[0].superblock;
    left.configuration.epoch += 1;
    left.configuration.generation = Generation([77; 16]);
    left.configuration.in_sync = NodeSet::only(slot(1));
    let handed_over = left.configuration;
    (0..2).for_each(|index| {
        world.machines[index].superblock.disk_state = DiskState::Failed;
        world.start(index);
    });
    world.settle();
    assert_eq!(world.node(1).configuration, handed_over);
    assert_eq!(world.command(1, RESYNC), Ok(Answer::Done));
    world.settle();
    assert_eq!(world.command(1, Command::Swap), Ok(Answer::Done));
    let request = world.write(1, 2, 1, 2);
    world.settle();
    assert_eq!(world.replied(1, request), Some(Ok(())));
    assert_eq!(world.command(0, RESYNC), Ok(Answer::Done));
    world.settle();
    assert_eq!(world.read(1, 2), Ok(2));
    world.assert_protected();
}

#[test]
fn a_member_whose_disk_has_failed_is_sent_nothing_and_stays_connected() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.settle();
    (0..2).for_each(|index| world.machines[index].disk_fails = Some(DiskError::Io));
    world.write(0, 2, 1, 2);
    world.settle();
    let ended = |world: &World| {
        let notices = world.machines[0].notices.iter();
        notices
            .filter(|notice| matches!(notice, Notice::Disconnected { .. }))
            .count()
    };
    let before = ended(&world);
    world.write(0, 3, 1, 3);
    world.settle();
    assert!(world.node(0).is_up(slot(1)));
    assert_eq!(ended(&world), before, "sessions end again and again");
}

#[test]
fn with_a_failed_disk_among_three_two_suspects_wait_no_longer_than_for_nobody() {
    let mut world = World::with(3, automatic());
    world.write(0, 1, 1, 1);
    world.settle();
    world.crash(1);
    world.machines[1].superblock.disk_state = DiskState::Failed;
    world.machines[1].superblock.clean = true;
    world.power_cut(0);
    world.power_cut(2);
    (0..3).for_each(|index| world.start(index));
    world.pass(8_000_000_000);
    assert!((0..3).all(|index| !serves(&mut world, index)));
    world.pass(12_000_000_000);
    assert!((0..3).any(|index| serves(&mut world, index)));
    assert_eq!(world.command(1, RESYNC), Ok(Answer::Done));
    world.settle();
    world.assert_protected();
}
