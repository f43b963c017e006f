//! Scenarios in a world where nothing fails but what the scenario says.

mod disks;
mod guards;
mod machine;
mod quorum;
mod register;
mod replicas;
mod world;

use self::world::{SIZE, World, slot};
use crate::command::{Answer, Command, Refusal};
use crate::event::{DiskError, Kind, RequestError};
use format::types::{BLOCK_BYTES, DiskState, Span};

#[test]
fn a_write_is_on_both_replicas_before_its_answer() {
    let mut world = World::new(2);
    let request = world.write(0, 5, 2, 77);
    assert_eq!(
        world.replied(0, request),
        None,
        "nothing has reached a disk yet"
    );
    world.run();
    assert_eq!(world.replied(0, request), Some(Ok(())));
    assert_eq!(world.machines[1].blocks[&6], 77);
    assert_eq!(world.read(0, 6), Ok(77));
    world.settle();
    world.assert_protected();
}

#[test]
fn a_secondary_refuses_clients() {
    let mut world = World::new(2);
    let request = world.request(1, Kind::Read, Span::new(0, BLOCK_BYTES));
    assert_eq!(
        world.replied(1, request),
        Some(Err(RequestError::NotPrimary))
    );
}

#[test]
fn a_request_past_the_end_is_refused() {
    let mut world = World::new(2);
    let request = world.request(0, Kind::Read, Span::new(SIZE, BLOCK_BYTES));
    assert_eq!(
        world.replied(0, request),
        Some(Err(RequestError::OutOfRange))
    );
}

#[test]
fn a_dead_secondary_is_dropped_and_brought_back_by_what_it_missed() {
    let mut world = World::new(2);
    world.crash(1);
    let request = world.write(0, 9, 1, 3);
    world.run();
    assert_eq!(world.replied(0, request), None, "it waits for the member");
    world.settle();
    assert_eq!(
        world.replied(0, request),
        Some(Ok(())),
        "the member was dropped"
    );
    world.write(0, 4000, 8, 4);
    world.start(1);
    world.settle();
    world.assert_protected();
    assert_eq!(world.machines[1].blocks[&4007], 4);
    assert!(world.machines[1].rows().contains(&"behind"));
}

#[test]
fn a_link_that_breaks_for_a_moment_changes_no_configuration() {
    let mut world = World::new(2);
    world.partition(0, 1);
    let request = world.write(0, 1, 1, 8);
    world.pass(500_000_000);
    assert_eq!(world.replied(0, request), None);
    world.heal();
    world.pass(500_000_000);
    assert_eq!(world.replied(0, request), Some(Ok(())));
    world.settle();
    world.assert_protected();
    let epoch = world.machines[0].superblock.configuration.epoch;
    assert_eq!(epoch, 1, "nobody was dropped");
    assert!(world.machines[1].rows().contains(&"resume"));
}

#[test]
fn a_forced_promotion_serves_and_the_old_primary_comes_back_as_a_copy() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.run();
    world.crash(0);
    world.settle();
    let refused = world.command(1, Command::Promote { force: false });
    assert!(matches!(refused, Err(Refusal::ProtectsData(_))));
    assert_eq!(
        world.command(1, Command::Promote { force: true }),
        Ok(Answer::Done)
    );
    assert_eq!(world.read(1, 1), Ok(1));
    world.write(1, 2, 1, 2);
    world.settle();
    world.start(0);
    world.settle();
    world.assert_protected();
    assert_eq!(world.machines[0].blocks[&2], 2);
}

#[test]
fn a_crashed_primary_resumes_and_equalises() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.run();
    world.crash(0);
    // What the primary had written and sent to nobody.
    world.machines[0].blocks.insert(1, 99);
    world.pass(500_000_000);
    world.start(0);
    world.settle();
    assert_eq!(world.read(0, 1), Ok(99));
    world.settle();
    world.assert_protected();
    assert!(world.machines[0].rows().contains(&"equalise"));
}

#[test]
fn a_primary_that_lost_power_is_made_equal_to_the_member_that_did_not() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.run();
    world.power_cut(0);
    world.machines[0].blocks.remove(&1);
    world.start(0);
    world.settle();
    assert_eq!(world.read(0, 1), Ok(1));
    world.assert_protected();
    assert!(world.machines[0].rows().contains(&"suspect"));
}

#[test]
fn both_lose_power_and_the_recorded_primary_serves_what_it_has() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.run();
    world.power_cut(0);
    world.power_cut(1);
    world.machines[1].blocks.remove(&1);
    world.start(0);
    world.start(1);
    world.settle();
    assert_eq!(world.read(0, 1), Ok(1));
    world.settle();
    world.assert_protected();
}

#[test]
fn a_swap_moves_the_primary_and_nothing_else() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.run();
    assert_eq!(world.command(1, Command::Swap), Ok(Answer::Done));
    assert_eq!(world.read(1, 1), Ok(1));
    let request = world.write(1, 1, 1, 2);
    world.settle();
    assert_eq!(world.replied(1, request), Some(Ok(())));
    world.assert_protected();
    assert_eq!(world.chunk_data, 0, "no block was copied");
}

#[test]
fn a_demoted_volume_is_promoted_without_force_while_all_are_connected() {
    let mut world = World::new(2);
    assert_eq!(world.command(0, Command::Demote), Ok(Answer::Done));
    for index in [1, 0] {
        assert_eq!(
            world.command(index, Command::Promote { force: false }),
            Ok(Answer::Done)
        );
        world.write(index, 3, 1, 5 + index as u64);
        world.settle();
        world.assert_protected();
        assert_eq!(world.command(index, Command::Demote), Ok(Answer::Done));
    }
}

#[test]
fn split_brain_is_found_and_healed() {
    let mut world = World::new(2);
    world.partition(0, 1);
    world.settle();
    world.write(0, 1, 1, 1);
    assert_eq!(
        world.command(1, Command::Promote { force: true }),
        Ok(Answer::Done)
    );
    world.write(1, 2, 1, 2);
    world.settle();
    world.heal();
    world.settle();
    for machine in &world.machines {
        assert!(machine.rows().contains(&"split-brain"));
    }
    assert_eq!(
        world.command(0, Command::Discard { slot: slot(0) }),
        Ok(Answer::Done)
    );
    assert_eq!(
        world.command(1, Command::Discard { slot: slot(0) }),
        Ok(Answer::Done)
    );
    world.settle();
    world.assert_protected();
    assert_eq!(world.machines[0].blocks.get(&1).copied().unwrap_or(0), 0);
    assert_eq!(world.machines[0].blocks[&2], 2);
}

#[test]
fn a_clean_restart_of_both_copies_nothing() {
    let mut world = World::new(2);
    world.write(0, 1, 4, 1);
    world.settle();
    assert_eq!(world.command(0, Command::Stop), Ok(Answer::Done));
    assert_eq!(world.command(1, Command::Stop), Ok(Answer::Done));
    world.crash(0);
    world.crash(1);
    world.start(0);
    world.start(1);
    world.settle();
    world.assert_protected();
    assert!(world.machines[0].rows().contains(&"in-sync"));
    assert_eq!(world.chunk_data, 0);
}

#[test]
fn a_failed_disk_of_the_primary_is_hidden_by_its_peer() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.run();
    world.machines[0].disk_fails = Some(DiskError::Io);
    let request = world.write(0, 2, 1, 2);
    world.settle();
    assert_eq!(world.replied(0, request), Some(Ok(())));
    assert_eq!(world.read(1, 1), Ok(1), "the volume was handed over");
    assert_eq!(world.read(1, 2), Ok(2));
    world.machines[0].disk_fails = None;
    assert_eq!(world.machines[0].superblock.disk_state, DiskState::Failed);
    let resync = Command::Resync {
        full: false,
        to: None,
    };
    assert_eq!(world.command(0, resync), Ok(Answer::Done));
    world.settle();
    world.assert_protected();
}

#[test]
fn a_full_disk_of_the_primary_is_hidden_by_its_peer() {
    let mut world = World::new(2);
    world.machines[0].disk_fails = Some(DiskError::Full);
    let request = world.write(0, 2, 1, 2);
    world.settle();
    assert_eq!(world.replied(0, request), Some(Ok(())));
    assert_eq!(world.read(1, 2), Ok(2), "the volume was handed over");
}

#[test]
fn a_full_disk_is_not_given_up_for_a_peer_that_has_died() {
    for silently in [true, false] {
        let mut world = World::new(2);
        world.write(0, 2, 1, 1);
        world.settle();
        world.machines[0].disk_fails = Some(DiskError::Full);
        if silently {
            world.fall_silent(1);
        } else {
            world.crash(1);
        }
        let request = world.write(0, 2, 1, 2);
        world.run();
        assert_eq!(world.replied(0, request), None, "the peer is a member yet");
        world.settle();
        let told = Some(Err(RequestError::NoSpace));
        assert_eq!(world.replied(0, request), told, "silently: {silently}");
        world.machines[0].disk_fails = None;
        assert_eq!(world.read(0, 2), Ok(1));
        let request = world.write(0, 3, 1, 3);
        world.run();
        assert_eq!(world.replied(0, request), Some(Ok(())));
        world.start(1);
        world.settle();
        world.assert_protected();
    }
}

#[test]
fn a_verify_finds_what_differs_and_repairs_it() {
    let mut world = World::new(2);
    world.write(0, 1, 4, 1);
    world.settle();
    world.machines[1].blocks.insert(2, 9);
    let verify = Command::Verify { repair: true };
    let blocks = SIZE / BLOCK_BYTES;
    assert_eq!(
        world.command(0, verify.clone()),
        Ok(Answer::Verified {
            blocks,
            differing: 1
        })
    );
    world.assert_protected();
    assert_eq!(
        world.command(0, verify.clone()),
        Ok(Answer::Verified {
            blocks,
            differing: 0
        })
    );
}

#[test]
fn three_copies_survive_the_primary_and_take_it_back() {
    let mut world = World::new(3);
    world.write(0, 1, 4, 1);
    world.settle();
    world.crash(0);
    world.settle();
    assert_eq!(
        world.command(1, Command::Promote { force: true }),
        Ok(Answer::Done)
    );
    world.write(1, 2, 1, 7);
    world.settle();
    world.start(0);
    world.settle();
    world.assert_protected();
    assert_eq!(world.machines[2].blocks[&2], 7);
}

#[test]
fn a_grow_that_reached_one_replica_is_finished_later() {
    let mut world = World::new(2);
    let grow = Command::Grow {
        size_bytes: SIZE + BLOCK_BYTES,
    };
    assert_eq!(world.command(1, grow.clone()), Ok(Answer::Done));
    world.crash(1);
    world.start(1);
    world.settle();
    assert!(world.machines[0].rows().contains(&"other-size"));
    assert_eq!(world.command(0, grow), Ok(Answer::Done));
    world.settle();
    world.assert_protected();
    let request = world.write(0, SIZE / BLOCK_BYTES, 1, 4);
    world.settle();
    assert_eq!(world.replied(0, request), Some(Ok(())));
    assert_eq!(world.machines[1].blocks[&(SIZE / BLOCK_BYTES)], 4);
}

#[test]
fn what_one_member_was_copied_the_third_is_given_too() {
    let mut world = World::new(3);
    world.write(0, 1, 1, 1);
    world.run();
    world.crash(0);
    // What the primary had written and sent to nobody.
    world.machines[0].blocks.insert(5, 99);
    world.partition(0, 2);
    world.start(0);
    world.pass(400_000_000);
    assert_eq!(world.machines[1].blocks[&5], 99, "it was made equal");
    world.crash(0);
    world.run();
    let promoted = world.command(1, Command::Promote { force: true });
    assert_eq!(promoted, Ok(Answer::Done));
    world.settle();
    assert_eq!(world.read(1, 5), Ok(99));
    assert_eq!(world.machines[2].blocks[&5], 99);
}
