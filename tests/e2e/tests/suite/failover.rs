//! Failover by itself: the primary is killed under a client, the arbiter is lost, and both.

use e2e::arbiter::{Arbiter, Kind};
use e2e::checks::{assert_copies, assert_holds};
use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::{PATIENCE, rounds};
use std::time::{Duration, Instant};

/// 64 MiB.
const BLOCKS: u64 = 16 << 10;
/// From the primary's death to the first write on the survivor, with the default timings: grace and a handshake.
const FAILOVER_MAX: Duration = Duration::from_secs(5);
/// The same for all volumes of a pair.
const ALL_MAX: Duration = Duration::from_secs(10);
/// How long a frozen volume is watched.
const WATCHED: Duration = Duration::from_secs(6);

#[test]
fn a_survivor_takes_over_by_itself_with_a_witness() {
    takes_over(Kind::Witness);
}

#[test]
fn a_survivor_takes_over_by_itself_with_etcd() {
    takes_over(Kind::Etcd);
}

fn takes_over(kind: Kind) {
    let (mut cluster, mut arbiter) = Cluster::arbitrated_pair(kind);
    cluster.create("main", "64M");
    let mut journal = Journal::new(1, BLOCKS);
    let mut primary = 0;
    for round in 0..rounds(2, 30) {
        let plan = Plan {
            seed: round as u64,
            ..Plan::default()
        };
        let load = Load::start(&cluster.nodes[primary].endpoint(), "main", journal, &plan);
        let load = load.expect("the primary serves");
        load.wait_for_acknowledged(5_000);
        let killed_at = Instant::now();
        cluster.nodes[primary].kill();
        let report = load.wait();
        report.assert_reads();
        journal = report.journal;

        let survivor = 1 - primary;
        let mut client = cluster.nodes[survivor].open("main");
        let took = killed_at.elapsed();
        println!("round {round}: open on the survivor after {took:?}");
        assert!(took < FAILOVER_MAX, "{took:?}");
        assert_holds(&mut client, &journal).settle(&mut journal);
        drop(client);

        cluster.nodes[primary].start();
        cluster.nodes[survivor].wait_state("main", "Protected");
        let mut client = cluster.nodes[survivor].open("main");
        assert_holds(&mut client, &journal);
        assert_copies(&cluster, "main", &journal);
        primary = survivor;
        // What it has answered it knows in its next life too.
        arbiter.kill();
        arbiter.start();
    }
}

#[test]
fn opening_a_volume_brings_it_here_on_demand() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, "on-demand");
    witness.start();
    cluster.start();
    cluster.create("main", "64M");
    // In use where it is, it stays there.
    let user = cluster.nodes[0].open("main");
    let refused = cluster.nodes[1].try_open("main").map(|_| ());
    assert!(refused.is_err(), "alpha's client uses it");
    drop(user);
    // Unused, it comes; from a primary that is there as from one that is not.
    cluster.nodes[1].open("main");
    assert_eq!(
        cluster.nodes[1].status("main").expect("a status")["role"],
        "Primary"
    );
    let journal = Journal::new(1, BLOCKS);
    let plan = Plan::requests(500);
    let report = Load::complete(&cluster.nodes[1].endpoint(), "main", journal, &plan);
    cluster.beta().kill();
    std::thread::sleep(WATCHED);
    let status = cluster.nodes[0].status("main").expect("a status");
    assert_eq!(
        status["role"], "Secondary",
        "nobody has opened it: {status}"
    );
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &report.journal);
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn without_witness_io_goes_on_and_without_both_it_waits() {
    freezes_and_thaws(Kind::Witness);
}

#[test]
fn without_etcd_io_goes_on_and_without_both_it_waits() {
    freezes_and_thaws(Kind::Etcd);
}

fn freezes_and_thaws(kind: Kind) {
    let (mut cluster, mut arbiter) = Cluster::arbitrated_pair(kind);
    cluster.create("main", "64M");
    let plan = Plan::default();
    let journal = Journal::new(1, BLOCKS);
    let load = Load::start(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    let load = load.expect("the primary serves");
    load.wait_for_acknowledged(2_000);
    arbiter.kill();
    load.wait_for_acknowledged(load.acknowledged() + 10_000);
    assert!(!load.has_ended(), "I/O goes on without the arbiter");
    cluster.nodes[0].wait_state("main", "Protected");

    cluster.beta().kill();
    cluster.nodes[0].wait_state("main", "Frozen");
    let frozen_at = load.acknowledged();
    std::thread::sleep(WATCHED);
    assert_eq!(load.acknowledged(), frozen_at, "nothing is acknowledged");
    assert!(!load.has_ended(), "requests are held, not failed");
    cluster.nodes[0].wait_state("main", "Frozen");

    arbiter.start();
    load.wait_for_acknowledged(frozen_at + 5_000);
    let report = load.stop();
    report.assert_clean();
    cluster.nodes[0].wait_state("main", "Alone");
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &report.journal);
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn clients_are_sent_away_where_requests_are_not_to_wait_for_ever() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, "automatic");
    cluster.failover_with("on_no_quorum = \"error\"\nfreeze_max_ms = 1000\n");
    witness.start();
    cluster.start();
    cluster.create("main", "64M");
    let journal = Journal::new(1, BLOCKS);
    let load = Load::start(
        &cluster.nodes[0].endpoint(),
        "main",
        journal,
        &Plan::default(),
    );
    let load = load.expect("the primary serves");
    load.wait_for_acknowledged(2_000);
    witness.kill();
    cluster.beta().kill();
    let report = load.wait();
    report.assert_reads();
    let mut journal = report.journal;
    assert!(
        cluster.nodes[0].try_open("main").is_err(),
        "it serves nobody"
    );
    witness.start();
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &journal).settle(&mut journal);
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &journal);
}

#[test]
fn all_volumes_of_a_pair_fail_over_together() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, "automatic");
    cluster.append("[io]\narena = \"4M\"\n");
    witness.start();
    cluster.start();
    let count = rounds(16, 64);
    for number in 0..count {
        cluster.nodes[0].ok(&["volume", "create", &format!("v{number}"), "--size", "16M"]);
    }
    cluster.nodes[0].kill();
    let killed_at = Instant::now();
    e2e::wait_for("beta to serve them all", PATIENCE, || {
        let volumes = cluster.nodes[1].ok(&["volume", "ls", "--json"]);
        let volumes: serde_json::Value = serde_json::from_str(&volumes).expect("it prints JSON");
        let volumes = volumes.as_array().map_or(&[][..], Vec::as_slice);
        let serving = volumes.iter().filter(|volume| volume["role"] == "Primary");
        (serving.count() == count).then_some(())
    });
    let took = killed_at.elapsed();
    println!("{count} volumes after {took:?}");
    assert!(took < ALL_MAX, "{took:?}");
}
