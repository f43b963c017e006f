//! Links that come and go in any direction, nodes that stop and die, with times as short as they may be: whatever
//! happens, no two primaries answer at once, nothing is lost, and when it is over the volume is protected again.
//! Network namespaces need root: elsewhere these tests say so and do nothing.

use e2e::arbiter::Kind;
use e2e::checks::{assert_copies, assert_holds, event_names};
use e2e::journal::Journal;
use e2e::load::Plan;
use e2e::random::Random;
use e2e::rounds;
use e2e::roving::Trace;
use e2e::scene::{Fault, Moment, Scene, VOLUME};
use e2e::timeline::{by_reign, handovers};
use e2e::verdict::differing_blocks;
use std::time::Duration;

/// 64 MiB.
const BLOCKS: u64 = 16 << 10;
/// Events are stamped by a thread that may have to wait for its turn.
const EVENT_SLACK: Duration = Duration::from_millis(200);

/// How often a primary is stopped before all is looked at.
const STOPS: usize = 4;

fn scene(kind: Kind, nodes: &[&str]) -> Option<Scene> {
    let scene = Scene::with(kind, nodes, |cluster| {
        cluster.set_times(300, 450);
    })?;
    scene.cluster.create(VOLUME, "64M");
    Some(scene)
}

fn plan(seed: u64, reads_percent: u64) -> Plan {
    Plan {
        connections: 2,
        depth: 8,
        reads_percent,
        pause: Duration::from_millis(1),
        seed,
        ..Plan::default()
    }
}

/// Between these, in milliseconds.
fn some_time(random: &mut Random, least: u64, most: u64) -> Duration {
    Duration::from_millis(least + random.below(most - least))
}

/// Fails if two reigns overlap, or anything else was answered that must not have been.
fn assert_no_overlap(scene: &Scene, first: usize, trace: &Trace, begin: Moment) {
    let reigns = scene.reigns(first, begin);
    let answers = by_reign(&trace.answers, &reigns, EVENT_SLACK);
    let changes = handovers(&answers).unwrap_or_else(|overlap| {
        panic!("two primaries: {overlap}; reigns {reigns:?}");
    });
    assert_eq!(trace.wrongly_answered, [], "another node had taken over");
    assert_eq!(trace.unanswered, [], "never answered; {:?}", trace.losses);
    let first = trace.findings.first().map(ToString::to_string);
    assert!(
        first.is_none(),
        "{} wrong reads: {first:?}",
        trace.findings.len()
    );
    println!(
        "{} reigns, {} of which answered; {} answers, {} asked in vain, {} errors, {} losses",
        reigns.len(),
        changes.len() + 1,
        trace.answers.len(),
        trace.in_vain,
        trace.errors.len(),
        trace.losses.len()
    );
}

/// When all is well again: protected, with nothing typed, and everything there. Returns who is the primary.
fn assert_recovers(scene: &Scene, mut journal: Journal) -> (Journal, usize) {
    let primary = e2e::wait_for("a primary", e2e::PATIENCE, || {
        let nodes = scene.cluster.nodes.iter();
        let roles = nodes.map(|node| {
            node.status(VOLUME)
                .map(|status| status["role"] == "Primary")
        });
        roles
            .collect::<Vec<_>>()
            .iter()
            .position(|is| *is == Some(true))
    });
    let node = &scene.cluster.nodes[primary];
    node.wait_state(VOLUME, "Protected");
    assert_holds(&mut node.open(VOLUME), &journal).settle(&mut journal);
    assert_copies(&scene.cluster, VOLUME, &journal);
    for other in &scene.cluster.nodes {
        let differing = differing_blocks(&node.data(VOLUME), &other.data(VOLUME));
        assert_eq!(differing.expect("both are read"), 0, "{}", other.name());
    }
    for node in &scene.cluster.nodes {
        let names = event_names(node);
        assert!(!names.contains(&"split-brain".to_owned()), "{}", node.log());
    }
    (journal, primary)
}

/// Stopped for about as long as its lease and the other's patience last: whether it stays primary or not is a matter
/// of milliseconds.
fn stopped_about_as_long(reads_percent: u64) {
    let Some(mut scene) = scene(Kind::Witness, &["alpha", "beta"]) else {
        return;
    };
    let mut random = Random::new(reads_percent);
    let mut journal = Journal::new(1, BLOCKS);
    let mut primary = 0;
    for round in 0..rounds(3, 60) {
        let begin = Moment::now();
        let first = primary;
        let load = scene.load(first, journal, &plan(round as u64, reads_percent));
        for _ in 0..STOPS {
            load.wait_for_any_answers(50);
            primary = scene
                .reigns(first, begin)
                .last()
                .map_or(first, |(node, _)| *node);
            scene.inflict(Fault::Stop, primary);
            std::thread::sleep(some_time(&mut random, 250, 550));
            scene.repair(Fault::Stop, primary);
            // The one that was left behind is to be back before the other is stopped.
            for node in &scene.cluster.nodes {
                node.wait_status(VOLUME, "protected or secondary", |status| {
                    status["state"] == "Protected" || status["role"] == "Secondary"
                });
            }
        }
        let trace = load.stop();
        assert_no_overlap(&scene, first, &trace, begin);
        (journal, primary) = assert_recovers(&scene, trace.journal);
    }
}

#[test]
fn stopped_for_about_the_grace_under_writes() {
    stopped_about_as_long(10);
}

#[test]
fn stopped_for_about_the_grace_under_reads() {
    stopped_about_as_long(100);
}

#[test]
fn links_come_and_go_between_two_and_a_witness() {
    links_come_and_go(Kind::Witness, &["alpha", "beta"]);
}

#[test]
fn links_come_and_go_between_two_and_etcd() {
    links_come_and_go(Kind::Etcd, &["alpha", "beta"]);
}

#[test]
fn links_come_and_go_between_three_and_a_witness() {
    links_come_and_go(Kind::Witness, &["alpha", "beta", "gamma"]);
}

fn links_come_and_go(kind: Kind, nodes: &[&str]) {
    let Some(mut scene) = scene(kind, nodes) else {
        return;
    };
    let mut random = Random::new(7);
    let begin = Moment::now();
    let load = scene.load(0, Journal::new(1, BLOCKS), &plan(2, 20));
    for _ in 0..rounds(12, 300) {
        happen(&mut scene, &mut random);
    }
    // Whoever has been left behind catches up, and requests go on.
    load.wait_for_any_answers(200);
    let trace = load.stop();
    assert_no_overlap(&scene, 0, &trace, begin);
    assert_recovers(&scene, trace.journal);
}

/// Something befalls a link or a node, lasts for a while, and is over.
fn happen(scene: &mut Scene, random: &mut Random) {
    let hosts = scene.hosts.all().len();
    let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap_or(0);
    let (one, node) = (below(hosts), below(hosts - 1));
    let other = (one + 1 + below(hosts - 1)) % hosts;
    let fault = match below(8) {
        0..=2 => {
            scene.hosts.cut_one_way(one, other);
            None
        }
        3 => {
            scene.hosts.cut(one, other);
            None
        }
        4 => Some(Fault::Mute),
        5 => Some(Fault::Deaf),
        6 => Some(Fault::Stop),
        _ => Some(Fault::Kill),
    };
    if let Some(fault) = fault {
        scene.inflict(fault, node);
    }
    std::thread::sleep(some_time(random, 50, 900));
    scene.hosts.mend();
    if let Some(fault) = fault {
        scene.repair(fault, node);
    }
    std::thread::sleep(some_time(random, 0, 600));
}
