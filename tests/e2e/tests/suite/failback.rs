//! A node comes back, and only what has changed moves.

use e2e::checks::{assert_copies, assert_holds, receipt};
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::journal::Journal;
use e2e::load::{Load, Plan, Report};
use e2e::verdict::differing_blocks;
use e2e::{PATIENCE, wait_for};
use serde_json::Value;

const GIB_BLOCKS: u64 = 256 << 10;

/// Writes while the second node is down, and says how many blocks differ then.
fn write_alone(cluster: &mut Cluster, journal: Journal, plan: &Plan) -> (Report, u64) {
    cluster.beta().kill();
    let load = Load::start(&cluster.nodes[0].endpoint(), "main", journal, plan);
    let report = load.expect("the primary serves").wait();
    report.assert_clean();
    let files = [cluster.nodes[0].data("main"), cluster.nodes[1].data("main")];
    let differing = differing_blocks(&files[0], &files[1]).expect("both files are read");
    (report, differing)
}

#[test]
fn a_thousand_random_writes_move_a_thousand_blocks() {
    let mut cluster = Cluster::linked_pair();
    cluster.create("main", "1G");
    let plan = Plan::single_blocks(1_000, 3);
    let (report, differing) = write_alone(&mut cluster, Journal::new(1, GIB_BLOCKS), &plan);
    assert_eq!(report.journal.written(), differing);

    let before = cluster.link_bytes();
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
    let (receipt, crossed) = (
        receipt(&cluster.nodes[0], "main"),
        cluster.link_bytes() - before,
    );
    println!("{differing} blocks differed, {receipt:?}, {crossed} bytes crossed the link");
    assert_eq!(receipt.blocks_dirty, differing);
    assert_eq!(receipt.bytes_moved, differing * 4096);
    assert!(
        receipt.bytes_on_wire * 100 <= differing * 4096 * 105,
        "{receipt:?}"
    );
    // What the kernel's sockets carried, pings and control link included.
    assert!(
        crossed * 100 <= differing * 4096 * 110,
        "{crossed} bytes crossed the link"
    );
    assert_copies(&cluster, "main", &report.journal);
}

/// Those of the volumes that are being copied now.
fn copied(cluster: &Cluster, volumes: &[&'static str]) -> Vec<&'static str> {
    let copied = |volume: &&&'static str| {
        let status = cluster.nodes[0].status(volume);
        status.is_some_and(|status| status["resync"]["waits"] == false)
    };
    volumes.iter().filter(copied).copied().collect()
}

#[test]
fn resyncs_take_turns() {
    let volumes = ["one", "two", "three"];
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    cluster.nodes[0].configure("[resync]\nat_once = 1\n");
    cluster.start();
    volumes
        .iter()
        .for_each(|volume| cluster.create(volume, "256M"));
    cluster.beta().kill();
    for volume in volumes {
        cluster.nodes[0].wait_state(volume, "Alone");
        cluster.nodes[0].ok(&["volume", "pause", volume]);
        let uri = cluster.nodes[0].uri(volume);
        let write = ["-f", "raw", "-c", "write -P 7 0 128M", "-c", "flush", &uri];
        tool("qemu-io", &write).success();
    }
    cluster.beta().start();
    for volume in volumes {
        let waits = |status: &Value| status["resync"]["waits"] == true;
        cluster.nodes[0].wait_status(volume, "a resync that waits", waits);
    }
    for volume in volumes {
        cluster.nodes[0].ok(&["volume", "resume", volume]);
    }
    // One that was being copied before and after another was had its turn at the same time.
    let mut seen: Vec<Vec<&str>> = Vec::new();
    wait_for("all to be copied", PATIENCE, || {
        seen.push(copied(&cluster, &volumes));
        let done = |volume: &&str| {
            cluster.nodes[0]
                .status(volume)
                .is_some_and(|status| status["state"] == "Protected")
        };
        volumes.iter().all(done).then_some(())
    });
    for window in seen.windows(3) {
        let [before, now, after] = window else {
            unreachable!("windows of three")
        };
        let throughout = before.iter().filter(|volume| after.contains(volume));
        let others = |volume: &&str| now.iter().any(|other| other != volume);
        assert!(
            !throughout.copied().any(|volume| others(&volume)),
            "{seen:?}"
        );
    }
    assert!(seen.iter().any(|copied| !copied.is_empty()), "{seen:?}");
}

#[test]
fn writes_go_on_during_a_failback() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "256M");
    let fill = Plan {
        requests_max: 2_000,
        blocks_max: 64,
        reads_percent: 0,
        ..Plan::default()
    };
    let (report, differing) = write_alone(&mut cluster, Journal::new(1, 64 << 10), &fill);
    assert!(differing > 20_000, "{differing} blocks differ");

    let load = Load::start(
        &cluster.nodes[0].endpoint(),
        "main",
        report.journal,
        &Plan::default(),
    );
    let load = load.expect("the primary serves");
    let at_start = load.acknowledged();
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
    let meanwhile = load.acknowledged() - at_start;
    load.wait_for_acknowledged(load.acknowledged() + 2_000);
    let report = load.stop();
    report.assert_clean();
    println!(
        "{meanwhile} writes during {:?}; the longest took {:?}",
        receipt(&cluster.nodes[0], "main"),
        report.latency_max
    );
    assert!(
        meanwhile > 100,
        "{meanwhile} writes were acknowledged during the failback"
    );
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &report.journal);
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn an_interrupted_resync_goes_on_where_it_was() {
    let mut cluster = Cluster::linked_pair();
    cluster.create("main", "512M");
    let blocks = 128 << 10;
    let plan = |seed| Plan {
        requests_max: 1_500,
        blocks_max: 128,
        reads_percent: 0,
        zeroes_percent: 0,
        seed,
        ..Plan::default()
    };
    let (report, differing) = write_alone(&mut cluster, Journal::new(1, blocks), &plan(1));
    let whole = (bytes_until_protected(&mut cluster, &[]), differing);

    let mut journal = report.journal;
    for (seed, killed) in [(2, [1, 1]), (3, [0, 0]), (4, [0, 1])] {
        let (report, differing) = write_alone(&mut cluster, journal, &plan(seed));
        journal = report.journal;
        let total = whole.0 * differing / whole.1;
        let kills = [(total * 3 / 10, killed[0]), (total * 7 / 10, killed[1])];
        let interrupted = bytes_until_protected(&mut cluster, &kills);
        println!("killed {killed:?}: {interrupted} bytes, {total} without interruption");
        assert!(
            interrupted * 100 <= total * 102,
            "{interrupted} bytes, {total} uninterrupted"
        );
        assert_copies(&cluster, "main", &journal);
    }
}

/// Starts the second node, kills a node whenever so many bytes have crossed the link, starts it again,
/// and returns how many crossed in all.
fn bytes_until_protected(cluster: &mut Cluster, kills: &[(u64, usize)]) -> u64 {
    let before = cluster.link_bytes();
    cluster.beta().start();
    for (bytes, node) in kills {
        wait_for("the resync to get on", PATIENCE, || {
            (cluster.link_bytes() - before >= *bytes).then_some(())
        });
        cluster.nodes[*node].kill();
        cluster.nodes[*node].start();
    }
    cluster.nodes[0].wait_state("main", "Protected");
    cluster.link_bytes() - before
}
