//! The arbiter is lost, alone and with a node, on hosts of their own; the volume changes places under load; three
//! copies lose two. Network namespaces need root: elsewhere these tests say so and do nothing.

use e2e::arbiter::Kind;
use e2e::checks::{assert_copies, assert_holds, event_names, receipt, replica};
use e2e::journal::Journal;
use e2e::load::Plan;
use e2e::rounds;
use e2e::scene::{Fault, Moment, Scene, VOLUME, events_after};
use e2e::timeline::{Stamp, median_and_max};
use e2e::verdict::differing_blocks;
use rustix::process::Signal;
use std::time::Duration;

/// 64 MiB.
const BLOCKS: u64 = 16 << 10;
/// How long a volume that nobody may serve is watched: longer than any time that it could be waiting for.
const WATCHED: Duration = Duration::from_secs(4);
/// Throughput is measured in windows of this length.
const WINDOW: Duration = Duration::from_millis(1_000);
/// Before each of them, what changed the rules between hosts is out of the way: a reactor does not spin for a while after
/// others have had its core.
const SETTLED: Duration = Duration::from_millis(500);
const BLACKOUT_MEDIAN_MAX: Duration = Duration::from_millis(250);
/// Swaps follow each other this quickly.
const BETWEEN_SWAPS: Duration = Duration::from_secs(2);
/// From a good line between two houses to a bad one, which takes seconds for what a client has in flight.
const MBITS_PER_S: [u32; 3] = [200, 50, 10];
/// Events of a node that another seems dead to.
const SEEMS_DEAD: [&str; 3] = ["disconnected", "frozen", "failover-started"];
/// A standstill longer than the lease, and shorter than the other's patience.
const LONGER_THAN_THE_LEASE: Duration = Duration::from_millis(2_400);
const PAIR: [&str; 2] = ["alpha", "beta"];

fn is_long() -> bool {
    rounds(0, 1) == 1
}

fn plan(seed: u64) -> Plan {
    Plan {
        connections: 2,
        depth: 16,
        pause: Duration::from_micros(500),
        seed,
        ..Plan::default()
    }
}

#[test]
fn throughput_goes_on_without_a_witness() {
    throughput_goes_on(Kind::Witness);
}

#[test]
fn throughput_goes_on_without_etcd() {
    throughput_goes_on(Kind::Etcd);
}

fn throughput_goes_on(kind: Kind) {
    let Some(scene) = Scene::set(kind, &PAIR) else {
        return;
    };
    scene.cluster.create(VOLUME, "64M");
    let plan = Plan {
        pause: Duration::ZERO,
        ..plan(1)
    };
    let load = scene.load(0, Journal::new(1, BLOCKS), &plan);
    load.wait_for_answers(0, 1_000);
    let window = || {
        std::thread::sleep(SETTLED);
        let begin = load.answered_by(0);
        std::thread::sleep(WINDOW);
        load.answered_by(0) - begin
    };
    // Side by side, so that what else the machine does meets both.
    let (mut with, mut without) = (0, 0);
    for _ in 0..rounds(3, 30) {
        with += window();
        scene.lose_arbiter();
        without += window();
        scene.hosts.mend();
    }
    let percent = without * 100 / with;
    println!("{kind:?}: {with} answers with, {without} without: {percent}%");
    assert!(!is_long() || percent >= 95, "{percent}%");
    assert!(without > 0, "requests go on");
    let trace = load.stop();
    assert_eq!(trace.assert_one_at_a_time(), []);
    assert!(
        trace.errors.is_empty() && trace.losses.is_empty(),
        "{:?}",
        trace.losses
    );
    scene.cluster.nodes[0].wait_state(VOLUME, "Protected");
    assert_copies(&scene.cluster, VOLUME, &trace.journal);
}

#[test]
fn without_arbiter_and_peer_requests_wait_until_the_arbiter_is_back() {
    let Some(mut scene) = Scene::set(Kind::Witness, &PAIR) else {
        return;
    };
    scene.cluster.create(VOLUME, "64M");
    let mut journal = Journal::new(1, BLOCKS);
    for round in 0..rounds(1, 30) {
        let load = scene.load(0, journal, &plan(round as u64));
        load.wait_for_answers(0, 500);
        scene.lose_arbiter();
        load.wait_for_answers(0, 500);
        scene.inflict(Fault::Kill, 1);
        scene.cluster.nodes[0].wait_state(VOLUME, "Frozen");
        let held_at = load.answered();
        std::thread::sleep(WATCHED);
        assert_eq!(load.answered(), held_at, "nothing is answered");
        scene.hosts.mend();
        load.wait_for_answers(0, 500);
        let trace = load.stop();
        assert_eq!(trace.assert_one_at_a_time(), []);
        assert!(
            trace.errors.is_empty(),
            "held, not failed: {:?}",
            trace.errors
        );
        journal = trace.journal;
        scene.cluster.nodes[0].wait_state(VOLUME, "Alone");
        assert_holds(&mut scene.cluster.nodes[0].open(VOLUME), &journal).settle(&mut journal);
        scene.repair(Fault::Kill, 1);
        scene.cluster.nodes[0].wait_state(VOLUME, "Protected");
        assert_copies(&scene.cluster, VOLUME, &journal);
    }
}

#[test]
fn without_arbiter_nobody_takes_over_until_it_is_back() {
    let Some(mut scene) = Scene::set(Kind::Witness, &PAIR) else {
        return;
    };
    scene.cluster.create(VOLUME, "64M");
    let mut journal = Journal::new(1, BLOCKS);
    for round in 0..rounds(1, 30) {
        let (primary, survivor) = (round % 2, 1 - round % 2);
        let load = scene.load(primary, journal, &plan(round as u64));
        load.wait_for_answers(primary, 500);
        scene.lose_arbiter();
        load.wait_for_answers(primary, 500);
        scene.inflict(Fault::Kill, primary);
        std::thread::sleep(WATCHED);
        assert_eq!(load.answered_by(survivor), 0, "the arbiter was not asked");
        scene.hosts.mend();
        load.wait_for_answers(survivor, 500);
        let trace = load.stop();
        assert_eq!(trace.assert_one_at_a_time().len(), 1);
        journal = trace.journal;
        let mut client = scene.cluster.nodes[survivor].open(VOLUME);
        assert_holds(&mut client, &journal).settle(&mut journal);
        scene.repair(Fault::Kill, primary);
        scene.cluster.nodes[survivor].wait_state(VOLUME, "Protected");
        assert_copies(&scene.cluster, VOLUME, &journal);
    }
}

/// The primary has stood still for longer than its lease and wants to drop the other, which is back before the
/// arbiter has answered: whether it is dropped or not, it has its place in the end.
#[test]
fn a_member_that_is_back_before_the_arbiter_answers_is_there_in_the_end() {
    let Some(mut scene) = Scene::set(Kind::Witness, &PAIR) else {
        return;
    };
    scene.cluster.create(VOLUME, "64M");
    let mut journal = Journal::new(1, BLOCKS);
    for round in 0..rounds(2, 30) {
        let load = scene.load(0, journal, &plan(round as u64));
        load.wait_for_answers(0, 500);
        scene.inflict(Fault::Stop, 0);
        std::thread::sleep(LONGER_THAN_THE_LEASE);
        scene.arbiter.signal(Signal::STOP);
        scene.repair(Fault::Stop, 0);
        std::thread::sleep(WINDOW / 4);
        scene.arbiter.signal(Signal::CONT);
        load.wait_for_answers(0, 500);
        scene.cluster.nodes[0].wait_state(VOLUME, "Protected");
        let trace = load.stop();
        assert_eq!(trace.assert_one_at_a_time(), []);
        journal = trace.journal;
        assert_holds(&mut scene.cluster.nodes[0].open(VOLUME), &journal).settle(&mut journal);
        assert_copies(&scene.cluster, VOLUME, &journal);
    }
}

/// Large writes on a slow link, in both directions: they take their time, and nobody is taken for dead because his
/// pings wait behind them.
#[test]
fn a_slow_link_makes_nobody_seem_dead() {
    let Some(scene) = Scene::set(Kind::Witness, &PAIR) else {
        return;
    };
    scene.cluster.create(VOLUME, "64M");
    let mut journal = Journal::new(1, BLOCKS);
    for mbit_per_s in MBITS_PER_S {
        scene.slow_down(mbit_per_s);
        let load = scene.load(0, journal, &large_writes(u64::from(mbit_per_s)));
        std::thread::sleep(Duration::from_secs(if is_long() { 60 } else { 8 }));
        let trace = load.stop();
        assert_eq!(trace.assert_one_at_a_time(), []);
        assert!(trace.errors.is_empty(), "{:?}", trace.errors);
        println!(
            "{mbit_per_s} Mbit/s: {} answers, {:?} without one",
            trace.answers.len(),
            trace.longest_gap()
        );
        journal = trace.journal;
    }
    for node in &scene.cluster.nodes {
        let names = event_names(node);
        for name in SEEMS_DEAD {
            assert!(!names.contains(&name.to_owned()), "{name}: {}", node.log());
        }
    }
    scene.cluster.nodes[0].wait_state(VOLUME, "Protected");
    assert_copies(&scene.cluster, VOLUME, &journal);
}

/// As much in flight as one client may have: 32 writes of up to 256 KiB.
fn large_writes(seed: u64) -> Plan {
    Plan {
        connections: 1,
        depth: 32,
        blocks_max: 64,
        pause: Duration::ZERO,
        ..plan(seed)
    }
}

/// A node that was away is brought up to date over a bad line while clients write as much as they can: its session lasts
/// until it is, also while it is taken in again.
#[test]
fn a_node_comes_back_over_a_slow_link() {
    let Some(mut scene) = Scene::set(Kind::Witness, &PAIR) else {
        return;
    };
    scene.cluster.create(VOLUME, "16M");
    let mut journal = Journal::new(1, BLOCKS / 4);
    for round in 0..rounds(1, 5) {
        let load = scene.load(0, journal, &large_writes(round as u64));
        load.wait_for_answers(0, 200);
        scene.inflict(Fault::Kill, 1);
        load.wait_for_answers(0, 500);
        scene.slow_down(MBITS_PER_S[2]);
        scene.repair(Fault::Kill, 1);
        let moment = Moment::now();
        scene.cluster.nodes[0].wait_state(VOLUME, "Protected");
        println!("{:?} until it is in sync", Stamp::now().since(moment.stamp));
        load.wait_for_answers(0, 100);
        for node in &scene.cluster.nodes {
            for name in SEEMS_DEAD {
                let after = events_after(node, name, moment);
                assert_eq!(after, [], "{name}: {}", node.log());
            }
        }
        let trace = load.stop();
        assert_eq!(trace.assert_one_at_a_time(), []);
        journal = trace.journal;
        assert_copies(&scene.cluster, VOLUME, &journal);
        scene.slow_down(MBITS_PER_S[0]);
    }
}

/// From one node to the other and back, each time after so long a while under QD32: nothing is lost, all is answered,
/// and writes wait for no longer than a moment.
fn changes_places(between: Duration, count: usize) {
    let Some(scene) = Scene::set(Kind::Witness, &PAIR) else {
        return;
    };
    scene.cluster.create(VOLUME, "64M");
    let mut journal = Journal::new(1, BLOCKS);
    let mut blackouts = Vec::new();
    for round in 0..count {
        let (from, to) = (round % 2, 1 - round % 2);
        let plan = Plan {
            connections: 1,
            depth: 32,
            pause: Duration::ZERO,
            ..plan(round as u64)
        };
        let load = scene.load(from, journal, &plan);
        load.wait_for_answers(from, 1_000);
        std::thread::sleep(between);
        let moment = Moment::now();
        scene.cluster.nodes[from].ok(&["volume", "swap", VOLUME]);
        load.wait_for_answers(to, 500);
        let trace = load.stop();
        let handovers = trace.assert_one_at_a_time();
        let ways: Vec<_> = handovers.iter().map(|one| (one.from, one.to)).collect();
        assert_eq!(ways, [(from, to)], "{:?}", trace.losses);
        // To writes: reads need nobody else, and are answered sooner.
        let first = trace.first_of(to).expect("it has answered");
        blackouts.push(first.since(handovers[0].last));
        println!(
            "last answer {:?} after the command, demoted {:?}, promoted {:?}, first answer {:?}, to a write {:?}",
            handovers[0].last.since(moment.stamp),
            events_after(&scene.cluster.nodes[from], "demoted", moment),
            events_after(&scene.cluster.nodes[to], "promoted", moment),
            handovers[0].first.since(moment.stamp),
            first.since(moment.stamp)
        );
        journal = trace.journal;
        scene.cluster.nodes[to].wait_state(VOLUME, "Protected");
        assert_holds(&mut scene.cluster.nodes[to].open(VOLUME), &journal).settle(&mut journal);
        assert_copies(&scene.cluster, VOLUME, &journal);
    }
    let (median, longest) = median_and_max(&blackouts);
    println!("{count} times: {median:?} without an answer to a write, at most {longest:?}");
    assert!(!is_long() || median <= BLACKOUT_MEDIAN_MAX, "{median:?}");
}

#[test]
fn a_volume_changes_places_under_load() {
    changes_places(BETWEEN_SWAPS, rounds(2, 30));
}

/// One swap as soon as the last is over: the nodes link again at once all the same.
#[test]
fn a_volume_changes_places_again_and_again() {
    changes_places(Duration::ZERO, rounds(4, 30));
}

/// Of three copies any two are killed, in any order, and requests go on in between; what comes back is brought up to
/// date by what differs.
#[test]
fn of_three_copies_any_two_may_die() {
    let Some(mut scene) = Scene::set(Kind::Witness, &["alpha", "beta", "gamma"]) else {
        return;
    };
    scene.cluster.create(VOLUME, "64M");
    let mut journal = Journal::new(1, BLOCKS);
    let mut primary = 0;
    // Counted from the primary on.
    let orders = [(0, 1), (1, 0), (1, 2), (0, 2), (2, 0), (2, 1)];
    for (round, (first, second)) in orders.iter().take(rounds(3, 6)).enumerate() {
        let (first, second) = ((primary + first) % 3, (primary + second) % 3);
        let last = 3 - first - second;
        println!("node {primary} serves; {first} dies, then {second}");
        let load = scene.load(primary, journal, &plan(round as u64));
        load.wait_for_any_answers(500);
        scene.inflict(Fault::Kill, first);
        load.wait_for_any_answers(500);
        scene.inflict(Fault::Kill, second);
        load.wait_for_answers(last, 500);
        let trace = load.stop();
        let handovers = trace.assert_one_at_a_time();
        println!("{handovers:?}");
        journal = trace.journal;
        let mut client = scene.cluster.nodes[last].open(VOLUME);
        assert_holds(&mut client, &journal).settle(&mut journal);
        drop(client);
        for node in [second, first] {
            fail_back(&mut scene, node, last);
        }
        primary = last;
        scene.cluster.nodes[last].wait_state(VOLUME, "Protected");
        assert_copies(&scene.cluster, VOLUME, &journal);
        let files = [first, last].map(|node| scene.cluster.nodes[node].data(VOLUME));
        let differing = differing_blocks(&files[0], &files[1]).expect("both files are read");
        assert_eq!(differing, 0);
    }
}

/// A node comes back to the one that serves, and no more moves than what differs between the two.
fn fail_back(scene: &mut Scene, node: usize, primary: usize) {
    let files = [node, primary].map(|node| scene.cluster.nodes[node].data(VOLUME));
    let differing = differing_blocks(&files[0], &files[1]).expect("both files are read");
    scene.repair(Fault::Kill, node);
    let name = scene.cluster.nodes[node].name().to_owned();
    let what = format!("in sync with {name}");
    scene.cluster.nodes[primary].wait_status(VOLUME, &what, |status| {
        replica(status, &name)["in_sync"] == true
    });
    let receipt = receipt(&scene.cluster.nodes[primary], VOLUME);
    println!("{name}: {differing} blocks differed; {receipt:?}");
    assert!(
        receipt.bytes_moved * 100 <= differing * 4096 * 105,
        "{receipt:?}"
    );
}
