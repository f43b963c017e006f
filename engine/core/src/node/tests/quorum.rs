//! Takeovers, leases, and what is done without a quorum.

use super::world::{World, slot};
use crate::arbiter::Question;
use crate::command::{Answer, Command};
use crate::event::{Event, Kind, RequestError};
use crate::notice::Notice;
use crate::status::{ArbiterStanding, Role};
use crate::{Failover, Lease, Settings};
use format::types::{DiskState, NodeSet, Span};

pub(super) fn automatic() -> Settings {
    let lease = Lease::new(2_000_000_000, 3_000_000_000).expect("grace is long enough");
    Settings {
        failover: Failover::Automatic(lease),
        suspect_promotes_after: Some(10_000_000_000),
        restart_hold: 20_000_000_000,
        ..Settings::default()
    }
}

pub(super) fn serves(world: &mut World, index: usize) -> bool {
    world.node(index).serving().is_ok()
}

#[test]
fn a_member_takes_over_by_itself_and_the_dead_one_rejoins() {
    let mut world = World::with(2, automatic());
    world.write(0, 1, 1, 1);
    world.settle();
    world.crash(0);
    world.settle();
    assert!(serves(&mut world, 1), "nobody typed anything");
    assert_eq!(world.read(1, 1), Ok(1));
    world.write(1, 2, 1, 2);
    world.settle();
    world.start(0);
    world.settle();
    world.assert_protected();
    assert_eq!(world.node(0).status().role, Role::Secondary);
}

#[test]
fn an_empty_register_is_filled_by_all_and_by_nobody_else() {
    let mut world = World::with(2, automatic());
    let configuration = world.node(0).configuration;
    assert_eq!(world.arbiter.held, Some(configuration));
    world.arbiter.held = None;
    world.crash(0);
    world.settle();
    assert!(!serves(&mut world, 1), "an empty register is no permission");
    assert_eq!(world.node(1).status().arbiter, Some(ArbiterStanding::Empty));
    world.start(0);
    world.settle();
    assert!(serves(&mut world, 0));
    let configuration = world.node(0).configuration;
    assert_eq!(world.arbiter.held, Some(configuration));
}

#[test]
fn a_primary_that_is_cut_off_answers_nobody_until_it_knows() {
    let mut world = World::with(2, automatic());
    world.write(0, 1, 1, 1);
    world.settle();
    world.partition(0, 1);
    world.arbiter.cut_off = Some(0);
    world.pass(2_500_000_000);
    let write = world.write(0, 1, 1, 9);
    let read = world.request(0, Kind::Read, Span::new(4096, 4096));
    world.settle();
    assert!(serves(&mut world, 1));
    assert_eq!(world.replied(0, write), None, "it is held");
    assert_eq!(world.replied(0, read), None, "a read as well");
    assert!(world.node(0).status().frozen);
    world.arbiter.cut_off = None;
    world.settle();
    assert_eq!(world.replied(0, write), Some(Err(RequestError::NotPrimary)));
    assert_eq!(world.replied(0, read), Some(Err(RequestError::NotPrimary)));
    world.heal();
    world.settle();
    world.assert_protected();
    assert_eq!(world.read(1, 1), Ok(1));
}

#[test]
fn without_an_arbiter_work_goes_on_and_only_changes_wait() {
    let mut world = World::with(2, automatic());
    world.settle();
    world.arbiter.away = true;
    let write = world.write(0, 1, 1, 1);
    world.settle();
    assert_eq!(world.replied(0, write), Some(Ok(())));
    world.crash(1);
    let write = world.write(0, 1, 1, 2);
    world.settle();
    assert_eq!(world.replied(0, write), None, "frozen, not failed");
    assert!(world.machines[0].notices.contains(&Notice::Frozen));
    world.arbiter.away = false;
    world.settle();
    assert_eq!(world.replied(0, write), Some(Ok(())));
    assert!(world.machines[0].notices.contains(&Notice::Thawed));
    world.start(1);
    world.settle();
    world.assert_protected();
}

#[test]
fn a_link_that_comes_back_needs_no_arbiter() {
    let mut world = World::with(2, automatic());
    world.arbiter.away = true;
    world.partition(0, 1);
    let write = world.write(0, 1, 1, 1);
    world.settle();
    assert_eq!(world.replied(0, write), None);
    world.heal();
    world.settle();
    assert_eq!(world.replied(0, write), Some(Ok(())));
    assert_eq!(world.node(0).configuration.epoch, 1, "nothing was proposed");
    world.assert_protected();
}

#[test]
fn a_proposal_is_open_until_the_epoch_moves() {
    let mut world = World::with(2, automatic());
    world.settle();
    world.crash(1);
    world.arbiter.deaf = true;
    world.settle();
    let proposed = world.arbiter.asked.last().copied();
    assert!(
        matches!(proposed, Some((0, Question::Propose(_)))),
        "{proposed:?}"
    );
    world.crash(0);
    world.arbiter.asked.clear();
    world.start(0);
    world.settle();
    assert!(
        !serves(&mut world, 0),
        "only the register can tell what binds"
    );
    assert!(
        world
            .arbiter
            .asked
            .iter()
            .all(|asked| Some(*asked) == proposed),
        "the same bytes"
    );
    world.arbiter.deaf = false;
    world.settle();
    assert!(serves(&mut world, 0));
    assert_eq!(world.node(0).configuration.in_sync, NodeSet::only(slot(0)));
}

#[test]
fn a_handover_that_comes_while_a_replica_stops_does_not_keep_it() {
    let mut world = World::new(2);
    world.step(
        1,
        Event::Command {
            id: 900,
            command: Command::Swap,
        },
    );
    while world.node(1).superblock.configuration.primary != Some(slot(1)) {
        world.hop();
    }
    world.step(
        1,
        Event::Command {
            id: 901,
            command: Command::Stop,
        },
    );
    world.settle();
    assert_eq!(world.machines[1].answers.get(&901), Some(&Ok(Answer::Done)));
    assert_eq!(world.node(1).status().role, Role::Stopped);
}

#[test]
fn without_an_arbiter_every_member_confirms_a_returning_primary() {
    let mut world = World::new(3);
    world.crash(0);
    world.partition(1, 2);
    world.settle();
    let promoted = world.command(2, Command::Promote { force: true });
    assert_eq!(promoted, Ok(Answer::Done));
    world.partition(0, 2);
    world.start(0);
    world.settle();
    assert!(
        !serves(&mut world, 0),
        "the one member that it reaches does not know"
    );
    assert!(serves(&mut world, 2));
}

#[test]
fn a_planned_stop_is_waited_for() {
    let mut world = World::with(2, automatic());
    world.settle();
    let stopped = world.command(0, Command::Stop);
    assert_eq!(stopped, Ok(Answer::Done));
    world.crash(0);
    world.start(0);
    world.settle();
    assert!(serves(&mut world, 0), "it was back in time");
    assert_eq!(world.node(0).configuration.epoch, 1);
}

#[test]
fn a_swap_is_refused_while_nobody_could_decide_on_it() {
    let mut world = World::with(2, automatic());
    world.settle();
    world.arbiter.away = true;
    let swapped = world.command(1, Command::Swap);
    assert!(swapped.is_err(), "{swapped:?}");
    assert!(serves(&mut world, 0), "and clients notice nothing");
    world.arbiter.away = false;
    world.settle();
    assert_eq!(world.command(1, Command::Swap), Ok(Answer::Done));
    assert!(serves(&mut world, 1));
}

#[test]
fn a_suspect_member_waits_for_one_that_is_not_and_then_serves_what_was_flushed() {
    let mut world = World::with(2, automatic());
    world.write(0, 1, 1, 1);
    world.settle();
    world.power_cut(0);
    world.power_cut(1);
    world.start(1);
    world.settle();
    assert!(!serves(&mut world, 1), "the other may have more");
    world.settle();
    assert!(world.machines[1].notices.contains(&Notice::ServesFlushed));
    assert!(serves(&mut world, 1));
    world.start(0);
    world.settle();
    world.assert_protected();
}

#[test]
fn one_that_asks_no_arbiter_has_nothing_to_say_to_one_that_does() {
    let mut world = World::new(2);
    let arbitrated = world.command(0, Command::Arbitrate(automatic().failover));
    assert_eq!(arbitrated, Ok(Answer::Done));
    assert!(world.machines[0].rows().contains(&"other-lease"));
    let arbitrated = world.command(1, Command::Arbitrate(automatic().failover));
    assert_eq!(arbitrated, Ok(Answer::Done));
    world.settle();
    assert!(serves(&mut world, 0));
    world.assert_protected();
    let configuration = world.node(0).configuration;
    assert_eq!(world.arbiter.held, Some(configuration));
    assert_eq!(world.node(1).superblock.disk_state, DiskState::UpToDate);
}

#[test]
fn a_member_that_answers_too_slowly_is_dropped_and_comes_back() {
    let settings = Settings {
        slow_peer: Some(500_000_000),
        ..automatic()
    };
    let mut world = World::with(2, settings);
    world.settle();
    world.unacknowledged = true;
    let write = world.write(0, 1, 1, 1);
    world.pass(400_000_000);
    assert_eq!(world.replied(0, write), None, "it may still answer");
    world.pass(400_000_000);
    assert_eq!(world.replied(0, write), Some(Ok(())));
    let slow = Notice::SlowPeer { peer: slot(1) };
    assert!(world.machines[0].notices.contains(&slow));
    world.unacknowledged = false;
    world.settle();
    world.assert_protected();
}

#[test]
fn a_grace_that_is_counted_against_another_lease_is_not_relied_on() {
    let mut world = World::with(2, automatic());
    world.settle();
    world.crash(1);
    let long = Lease::new(30_000_000_000, 45_000_000_000).expect("grace is long enough");
    world.settings.failover = Failover::Automatic(long);
    world.start(1);
    world.settle();
    assert!(world.machines[0].rows().contains(&"other-lease"));
    assert!(serves(&mut world, 0), "it goes on alone");
    let members = world.node(0).configuration.in_sync;
    assert_eq!(members, NodeSet::only(slot(0)));
}

#[test]
fn an_operator_need_not_wait_for_a_primary_that_has_said_that_it_stops() {
    let mut world = World::with(2, automatic());
    world.settle();
    assert_eq!(world.command(0, Command::Stop), Ok(Answer::Done));
    world.crash(0);
    assert!(!serves(&mut world, 1), "by itself it waits");
    let promoted = world.command(1, Command::Promote { force: false });
    assert_eq!(promoted, Ok(Answer::Done));
    assert!(serves(&mut world, 1));
}

#[test]
fn nothing_is_served_before_the_members_have_told_in_what_they_differ() {
    let mut world = World::new(3);
    world.write(0, 5, 1, 1);
    world.settle();
    world.crash(0);
    world.settle();
    let promote = Command::Promote { force: true };
    world.step(
        1,
        Event::Command {
            id: 900,
            command: promote,
        },
    );
    world.run();
    let members = world.node(1).configuration.in_sync;
    assert_eq!(members, [slot(1), slot(2)].into_iter().collect());
    assert!(
        serves(&mut world, 1),
        "and the other member's session is not up again"
    );
    let span = Span::new(5 * 4096, 4096);
    let read = world.request(1, Kind::Read, span);
    world.run();
    assert_eq!(world.replied(1, read), None);
    world.pass(200_000_000);
    assert_eq!(world.replied(1, read), Some(Ok(())));
}

#[test]
fn a_primary_that_has_proposed_to_hand_over_serves_nobody_before_it_knows() {
    let mut world = World::with(2, automatic());
    world.write(0, 1, 1, 1);
    world.settle();
    world.power_cut(0);
    world.arbiter.deaf = true;
    world.start(0);
    // Before it is equal again it waits, and is asked to hand over.
    for _ in 0..60 {
        world.pause(0, true);
        world.pass(10_000_000);
    }
    assert!(!serves(&mut world, 0));
    let swap = Event::Command {
        id: 77,
        command: Command::Swap,
    };
    world.step(1, swap);
    world.run();
    let proposed = |(index, question): &(usize, Question)| {
        *index == 0 && matches!(question, Question::Propose(_))
    };
    assert!(world.arbiter.asked.iter().any(proposed));
    world.pause(0, false);
    world.pass(1_000_000_000);
    assert!(!serves(&mut world, 0), "its proposal may be committed");
    world.arbiter.deaf = false;
    world.settle();
    assert!(serves(&mut world, 1));
    assert_eq!(world.read(1, 1), Ok(1));
    world.assert_protected();
}
