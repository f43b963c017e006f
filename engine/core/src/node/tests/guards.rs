//! Moments that a quiet world passes through too fast, brought about by hand: what a line of the core keeps
//! from happening in each.

use super::world::{SIZE, World, slot};
use crate::Settings;
use crate::command::{Answer, Command};
use crate::event::{DiskError, Effect, Effects, Event, Kind, RequestError, SessionId};
use crate::status::ReplicationState;
use format::frame::Frame;
use format::types::{
    BLOCK_BYTES, Configuration, DiskState, EXTENT_BYTES, Generation, NodeSet, Span,
};

/// Two replicas, one of them the primary again after a crash, that differ in block 5; no walk goes on.
fn unequal() -> World {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.run();
    world.crash(0);
    world.machines[0].blocks.insert(5, 99);
    world.start(0);
    world.pause(0, true);
    world.settle();
    world
}

#[test]
fn who_does_not_serve_tells_no_numbers_of_an_earlier_reign() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.settle();
    let node = world.node(1);
    assert!(node.log.stable_through() > 0, "it has heard of some");
    node.ping(slot(0));
    let told = node.out.drain(..).find_map(|effect| match effect {
        Effect::Send {
            frame: Frame::Ping { stable_through, .. },
            ..
        } => Some(stable_through),
        _ => None,
    });
    assert_eq!(told, Some(0));
}

#[test]
fn a_rivals_configuration_is_not_taken_from_the_stream() {
    let mut world = World::new(2);
    world.partition(0, 1);
    world.settle();
    let promoted = world.command(1, Command::Promote { force: true });
    assert_eq!(promoted, Ok(Answer::Done));
    // As long as they are of two sizes there is a session between the two, and no split brain yet.
    let size_bytes = 2 * SIZE;
    let grown = world.command(0, Command::Grow { size_bytes });
    assert_eq!(grown, Ok(Answer::Done));
    world.heal();
    world.settle();
    let ours = world.node(1).configuration;
    let rivals = Configuration {
        epoch: ours.epoch + 1,
        generation: Generation([9; 16]),
        primary: None,
        in_sync: NodeSet::only(slot(0)),
    };
    world.hear(1, 0, Frame::Configuration(rivals), None);
    world.run();
    assert_eq!(world.machines[1].superblock.configuration, ours);
}

#[test]
fn a_failed_disk_is_copied_over_nobody() {
    // Between the failure and the commit by which this replica leaves the set its walk still goes on.
    for (state, reads) in [(DiskState::UpToDate, true), (DiskState::Failed, false)] {
        let mut world = unequal();
        let now = world.now;
        let node = world.node(0);
        node.superblock.disk_state = state;
        node.spawn_chunk(slot(1), 0, None);
        let mut effects = Effects::new();
        node.step(now, Event::Tick, &mut effects);
        let read = |effect: &Effect| matches!(effect, Effect::ReadLocal { .. });
        assert_eq!(effects.iter().any(read), reads, "{state:?}");
    }
}

#[test]
fn who_was_given_up_stays_with_the_rival_that_it_follows() {
    let mut world = World::new(3);
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        world.partition(one, other);
    }
    world.settle();
    for index in [1, 2] {
        let promoted = world.command(index, Command::Promote { force: true });
        assert_eq!(promoted, Ok(Answer::Done));
    }
    (0..3).for_each(|index| {
        world.write(index, 1, 1, 10 + index as u64);
    });
    world.settle();
    world.heal();
    world.settle();
    world.partition(1, 2);
    world.pause(0, true);
    for index in 0..3 {
        let discarded = world.command(index, Command::Discard { slot: slot(2) });
        assert_eq!(discarded, Ok(Answer::Done));
    }
    world.settle();
    world.heal();
    world.settle();
    let peers = world.node(2).status().peers;
    let source = peers
        .iter()
        .find(|peer| peer.replication == ReplicationState::SyncTarget);
    // Another source, of a rival's history, would undo its work.
    assert_eq!(source.map(|peer| peer.slot), Some(slot(0)));
    world.pause(0, false);
    world.settle();
    assert_eq!(world.machines[2].blocks[&1], 10);
}

#[test]
fn who_has_promised_membership_is_suspect_no_more() {
    let mut world = World::new(2);
    world.power_cut(1);
    world.settle();
    world.write(0, 1, 1, 1);
    world.start(1);
    world.pause(0, true);
    world.settle();
    assert!(world.machines[1].superblock.suspect);
    let current = world.node(0).configuration;
    let next = Configuration {
        epoch: current.epoch + 1,
        in_sync: current.in_sync.with(slot(1)),
        ..current
    };
    world.hear(1, 0, Frame::AdmitPrepare(next), None);
    world.run();
    let promised = &world.machines[1].superblock;
    assert!(promised.pending_admission.is_some());
    assert!(
        !promised.suspect,
        "it has been given again what it had lost"
    );
}

#[test]
fn what_an_ended_session_has_left_is_never_issued() {
    let mut world = World::new(2);
    let offset = 9 * EXTENT_BYTES;
    let block = offset / BLOCK_BYTES;
    let payload = world.buffer(1, vec![7]);
    let write = Frame::Write {
        sequence: 50,
        offset,
        length: 4096,
        fua: false,
        stable_through: 0,
    };
    world.hear(1, 0, write, Some(payload));
    // Its extent is on its way to the log when the link breaks.
    world.step(1, Event::TurnEnded);
    let session = world.node(1).session_id(slot(0)).expect("they are linked");
    let peer = slot(0);
    world.step(1, Event::PeerLost { peer, session });
    world.run();
    assert_eq!(world.machines[1].blocks.get(&block), None);
}

#[test]
fn two_reads_of_one_unequal_chunk_make_it_equal_once() {
    let mut world = unequal();
    let whole = Span::chunk(0);
    world.machines[0].notices.clear();
    let reads = [(); 2].map(|()| world.request(0, Kind::Read, whole));
    world.settle();
    let notices = &world.machines[0].notices;
    assert!(notices.is_empty(), "nothing was misunderstood: {notices:?}");
    for read in reads {
        assert_eq!(world.replied(0, read), Some(Ok(())));
    }
    world.pause(0, false);
    world.settle();
    world.assert_protected();
    assert_eq!(world.chunk_data, 1, "block 5 was copied once");
}

#[test]
fn what_a_target_has_done_and_we_have_not_stays_marked() {
    let mut world = World::new(2);
    world.write(0, 1, 1, 1);
    world.settle();
    world.partition(0, 1);
    world.settle();
    world.write(0, 2, 1, 2);
    world.settle();
    world.pause(0, true);
    world.heal();
    world.settle();
    world.machines[0].disk_fails = Some(DiskError::Full);
    let request = world.write(0, 9, 1, 9);
    let failed = world.hold_back(0);
    world.run();
    assert_eq!(
        world.machines[1].blocks.get(&9),
        Some(&9),
        "the target first"
    );
    world.step(0, failed);
    world.run();
    let told = Some(Err(RequestError::NoSpace));
    assert_eq!(world.replied(0, request), told);
    world.machines[0].disk_fails = None;
    world.pause(0, false);
    world.settle();
    world.assert_protected();
}

#[test]
fn a_swap_whose_outcome_was_lost_on_the_way_is_answered_by_it() {
    for committed in [true, false] {
        let mut world = World::new(2);
        let id = 77;
        let command = Command::Swap;
        world.step(1, Event::Command { id, command });
        for _ in 0..100 {
            if !committed || world.node(0).configuration.primary == Some(slot(1)) {
                break;
            }
            world.hop();
        }
        // A new link is there before what the old one has carried last.
        world.lose(if committed { 1 } else { 0 });
        world.partition(0, 1);
        world.heal();
        world.settle();
        let answer = world.machines[1].answers.remove(&id);
        let primary = world.node(0).configuration.primary;
        assert_eq!(primary, Some(slot(usize::from(committed))));
        assert_eq!(answer.map(|answer| answer.is_ok()), Some(committed));
        world.assert_protected();
    }
}

#[test]
fn what_was_said_of_a_configuration_that_was_left_is_no_verdict() {
    let mut world = World::new(3);
    world.partition(0, 1);
    world.partition(1, 2);
    // What one of them says is long on its way.
    let identity = Box::new(world.node(2).identity_for(slot(1)));
    world.write(0, 1, 1, 1);
    world.settle();
    assert!(!world.node(0).configuration.in_sync.contains(slot(1)));
    let (peer, session) = (slot(2), SessionId(999));
    world.step(1, Event::PeerConnected { peer, session });
    world.run();
    // The other is faster, and its news later.
    world.pause(0, true);
    world.cut.retain(|pair| *pair != (0, 1));
    world.pass(200_000_000);
    assert_eq!(world.node(1).configuration.epoch, 2);
    world.machines[1].notices.clear();
    let event = Event::Frame {
        peer,
        session,
        frame: Frame::Identity(identity),
        epoch: 1,
        payload: None,
    };
    world.step(1, event);
    world.run();
    let rows = world.machines[1].rows();
    assert!(rows.is_empty(), "{rows:?}, and it lacks block 1");
    world.pause(0, false);
    world.heal();
    world.settle();
    world.assert_protected();
}

#[test]
fn a_resync_copies_nothing_before_its_turn_and_all_that_is_written_meanwhile() {
    let mut world = World::with(
        2,
        Settings {
            takes_turns: true,
            ..Settings::default()
        },
    );
    world.partition(0, 1);
    world.settle();
    world.write(0, 1, 1, 1);
    world.settle();
    world.heal();
    world.settle();
    let status = world.node(0).status();
    assert!(status.resyncing && !status.has_turn);
    world.write(0, 2, 1, 2);
    world.settle();
    let held = |world: &World, block| world.machines[1].blocks.get(&block).copied();
    assert_eq!((held(&world, 1), held(&world, 2)), (None, Some(2)));
    assert_eq!(world.command(0, Command::Turn(true)), Ok(Answer::Done));
    world.assert_protected();
    assert!(!world.node(0).status().resyncing);
}

#[test]
fn a_ping_goes_along_with_an_answer_if_it_is_due_soon() {
    let mut world = World::new(2);
    world.settle();
    let interval = world.node(1).settings.ping_interval;
    let pings_at = |world: &mut World, after: u64| {
        let node = world.node(1);
        let now = node.now + after;
        let peer = slot(0);
        let frame = Frame::Ping {
            sent_at: 1,
            stable_through: 0,
        };
        let event = Event::Frame {
            peer,
            session: node.session_id(peer).expect("they are linked"),
            frame,
            epoch: node.configuration.epoch,
            payload: None,
        };
        let mut effects = Effects::new();
        node.step(now, event, &mut effects);
        let sent = |wanted: fn(&Frame) -> bool| {
            let sends =
                |effect: &&Effect| matches!(effect, Effect::Send { frame, .. } if wanted(frame));
            effects.iter().filter(sends).count()
        };
        assert_eq!(sent(|frame| matches!(frame, Frame::Pong { echo: 1 })), 1);
        sent(|frame| matches!(frame, Frame::Ping { .. }))
    };
    // It has pinged by itself, and then does so only in answers, as long as there are any.
    let now = world.now;
    world.node(1).step(now, Event::Tick, &mut Effects::new());
    pings_at(&mut world, interval);
    for _ in 0..5 {
        assert_eq!(pings_at(&mut world, 0), 0, "it was just sent");
        assert_eq!(pings_at(&mut world, interval / 4), 0, "it is not due soon");
        assert_eq!(pings_at(&mut world, interval * 3 / 4), 1);
    }
    let due = world.node(1).deadline().expect("it will ping");
    assert!(due > world.node(1).now + interval);
}
