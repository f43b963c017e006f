//! Processes that die in the middle of writing.

use e2e::checks::{assert_copies, assert_holds, assert_loss_is_found, event_names, receipt};
use e2e::cluster::{Cluster, LEASE_MS};
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::random::Random;
use e2e::rounds;
use e2e::verdict::differing_blocks;
use std::time::Duration;

/// 64 MiB: small enough for regions to be written again and again.
const BLOCKS: u64 = 16 << 10;
const WRITES_MIN: u64 = 20_000;
/// What a resync may send for a block that it need not copy: its hash, and its share of the frames.
const HASH_BYTES_MAX: u64 = 64;

#[test]
fn nothing_acknowledged_is_lost_with_the_primary() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    let mut journal = Journal::new(1, BLOCKS);
    let mut random = Random::new(20);
    let mut primary = 0;
    for round in 0..rounds(3, 30) {
        let plan = Plan {
            seed: round as u64,
            ..Plan::default()
        };
        let load = Load::start(&cluster.nodes[primary].endpoint(), "main", journal, &plan);
        let load = load.expect("the primary serves");
        load.wait_for_acknowledged(WRITES_MIN + random.below(5_000));
        cluster.nodes[primary].kill();
        let report = load.wait();
        report.assert_reads();
        assert!(
            report.acknowledged >= WRITES_MIN,
            "{} writes: {:?}",
            report.acknowledged,
            report.broken
        );
        journal = report.journal;
        assert!(
            journal.rewritten() > BLOCKS / 16,
            "{} blocks rewritten",
            journal.rewritten()
        );

        let (acknowledged, unsettled) = (report.acknowledged, journal.unsettled());
        println!("round {round}: {acknowledged} writes, {unsettled} blocks with writes in flight");
        assert!(unsettled > 0, "killed in the middle of writing");

        let survivor = 1 - primary;
        cluster.nodes[survivor].ok(&["volume", "promote", "main", "--force"]);
        let mut client = cluster.nodes[survivor].open("main");
        assert_holds(&mut client, &journal).settle(&mut journal);
        assert_loss_is_found(&mut client, &mut journal, random.bits() >> 32);
        fail_back(&mut cluster, primary);
        assert_holds(&mut client, &journal);
        assert_copies(&cluster, "main", &journal);
        primary = survivor;
    }
}

/// Starts the killed node again and checks that no more moves than what differs.
fn fail_back(cluster: &mut Cluster, killed: usize) {
    let files = [cluster.nodes[0].data("main"), cluster.nodes[1].data("main")];
    let differing = differing_blocks(&files[0], &files[1]).expect("both files are read");
    cluster.nodes[killed].start();
    cluster.nodes[1 - killed].wait_state("main", "Protected");
    let receipt = receipt(&cluster.nodes[1 - killed], "main");
    let differing_bytes = differing * 4096;
    println!("{differing} blocks differed; {receipt:?}");
    assert!(
        receipt.bytes_moved * 100 <= differing_bytes * 105,
        "{receipt:?}, {differing_bytes} differed"
    );
    let hashes = receipt.blocks_dirty * HASH_BYTES_MAX;
    assert!(
        receipt.bytes_on_wire * 100 <= (differing_bytes + hashes) * 105,
        "{receipt:?}, {differing_bytes} differed"
    );
}

#[test]
fn clients_do_not_notice_that_the_secondary_dies() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    let plan = Plan::default();
    let load = Load::start(
        &cluster.nodes[0].endpoint(),
        "main",
        Journal::new(1, BLOCKS),
        &plan,
    );
    let load = load.expect("the primary serves");
    load.wait_for_acknowledged(5_000);
    cluster.beta().kill();
    load.wait_for_acknowledged(load.acknowledged() + 5_000);
    let report = load.stop();
    report.assert_clean();
    println!("the longest request took {:?}", report.latency_max);
    assert!(
        report.latency_max < Duration::from_millis(LEASE_MS),
        "{:?}",
        report.latency_max
    );
    cluster.nodes[0].wait_state("main", "Alone");

    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &report.journal);
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn a_secondary_that_hangs_is_left_behind_and_comes_back() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    let plan = Plan::default();
    let load = Load::start(
        &cluster.nodes[0].endpoint(),
        "main",
        Journal::new(1, BLOCKS),
        &plan,
    );
    let load = load.expect("the primary serves");
    load.wait_for_acknowledged(2_000);
    cluster.nodes[1].signal(rustix::process::Signal::STOP);
    load.wait_for_acknowledged(load.acknowledged() + 5_000);
    let report = load.stop();
    cluster.nodes[1].signal(rustix::process::Signal::CONT);
    report.assert_clean();
    assert!(
        report.latency_max < Duration::from_millis(2 * LEASE_MS),
        "{:?}",
        report.latency_max
    );
    cluster.nodes[0].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn restarting_both_moves_nothing() {
    let mut cluster = Cluster::linked_pair();
    cluster.create("main", "64M");
    let journal = Journal::new(1, BLOCKS);
    let plan = Plan::requests(1_000);
    let report = Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    for first in [0, 1] {
        cluster.nodes[first].stop();
        cluster.nodes[1 - first].stop();
        let before = cluster.link_bytes();
        cluster.nodes[1 - first].launch();
        cluster.nodes[first].start();
        cluster.nodes[0].wait_state("main", "Protected");
        assert_eq!(receipt(&cluster.nodes[0], "main").bytes_moved, 0);
        assert_eq!(receipt(&cluster.nodes[1], "main").bytes_moved, 0);
        let crossed = cluster.link_bytes() - before;
        assert!(
            crossed < 64 << 10,
            "{crossed} bytes crossed the link for a handshake and pings"
        );
    }
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &report.journal);
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn killing_the_client_a_hundred_times_moves_nothing() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    let epoch = cluster.nodes[0].status("main").expect("a status")["epoch"].clone();
    let mut journal = Journal::new(1, BLOCKS);
    for round in 0..100 {
        let plan = Plan {
            seed: round,
            ..Plan::default()
        };
        let load =
            Load::start(&cluster.nodes[0].endpoint(), "main", journal, &plan).expect("it serves");
        load.wait_for_acknowledged(50);
        let report = load.abandon();
        report.assert_reads();
        journal = report.journal;
    }
    let status = cluster.nodes[0].wait_state("main", "Protected");
    assert_eq!(status["epoch"], epoch, "no member was ever dropped");
    assert_eq!(receipt(&cluster.nodes[0], "main").bytes_moved, 0);
    let names = event_names(&cluster.nodes[0]);
    assert!(
        !names.iter().any(|name| name == "resync-started"),
        "{names:?}"
    );
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &journal).settle(&mut journal);
    assert_copies(&cluster, "main", &journal);
}
