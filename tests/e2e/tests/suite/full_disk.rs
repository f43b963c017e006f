//! Disks that fill up: the client gets an error or the replica is left behind, and nothing that was
//! acknowledged is lost.
//!
//! The small disk is a tmpfs that only the daemon's own mount namespace sees, so that nothing is left of
//! it when the daemon has ended.

use e2e::checks::{assert_holds, replica};
use e2e::cluster::{Cluster, LEASE_MS};
use e2e::journal::Journal;
use e2e::load::{Load, Plan, Report};
use e2e::verdict::Image;
use e2e::{PATIENCE, wait_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

const BLOCKS: u64 = 16 << 10;

/// A pair, one of whose nodes has its state on a disk of this size.
fn pair_with_small_disk(small: usize, size: &str) -> Cluster {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let state = cluster.nodes[small].state();
    std::fs::create_dir_all(&state).expect("the state folder");
    let script = format!(
        "mount -t tmpfs -o size={size} small '{}' && exec \"$@\"",
        state.display()
    );
    let namespace = ["unshare", "--user", "--map-root-user", "--mount"];
    let namespace = if rustix::process::geteuid().is_root() {
        &["unshare", "--mount"][..]
    } else {
        &namespace
    };
    cluster.nodes[small].wrap(&[namespace, &["sh", "-c", &script, "sh"]].concat());
    cluster.start();
    cluster
}

/// A path as the node's daemon sees it.
fn inside(cluster: &Cluster, node: usize, path: &Path) -> PathBuf {
    let process = cluster.nodes[node].process().expect("the daemon runs");
    let relative = path.strip_prefix("/").expect("an absolute path").to_owned();
    PathBuf::from(format!("/proc/{process}/root")).join(relative)
}

/// Takes space away until it is freed by removing the file that this returns.
fn ballast(cluster: &Cluster, node: usize, mib: usize) -> PathBuf {
    let path = inside(cluster, node, &cluster.nodes[node].state().join("ballast"));
    std::fs::write(&path, vec![1; mib << 20]).expect("the ballast fits");
    path
}

fn fill(cluster: &Cluster, journal: Journal, seed: u64) -> Report {
    start_filling(cluster, journal, seed).wait()
}

fn start_filling(cluster: &Cluster, journal: Journal, seed: u64) -> Load {
    let plan = Plan {
        requests_max: 3_000,
        blocks_max: 16,
        reads_percent: 5,
        zeroes_percent: 0,
        seed,
        ..Plan::default()
    };
    Load::start(&cluster.nodes[0].endpoint(), "main", journal, &plan).expect("it serves")
}

#[test]
fn the_secondary_s_disk_is_full() {
    let cluster = pair_with_small_disk(1, "112M");
    cluster.create("main", "64M");
    let ballast = ballast(&cluster, 1, 80);
    let report = fill(&cluster, Journal::new(1, BLOCKS), 1);
    report.assert_clean();
    cluster.nodes[0].wait_status("main", "without beta", |status| {
        replica(status, "beta")["in_sync"] == false
    });
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &report.journal);

    std::fs::remove_file(ballast).expect("space is freed");
    cluster.nodes[0].cli(&["volume", "resync", "main"]);
    cluster.nodes[1].cli(&["volume", "resync", "main"]);
    cluster.nodes[0].wait_state("main", "Protected");
    let image =
        Image::of_file(&inside(&cluster, 1, &cluster.nodes[1].data("main"))).expect("it reads");
    assert_eq!(image.judge(&report.journal), []);
}

#[test]
fn the_primary_s_disk_is_full() {
    let cluster = pair_with_small_disk(0, "112M");
    cluster.create("main", "64M");
    let ballast = ballast(&cluster, 0, 80);
    let report = fill(&cluster, Journal::new(1, BLOCKS), 2);
    report.assert_reads();
    let no_space = 28;
    assert!(
        report.errors.iter().all(|error| *error == no_space),
        "{:?}",
        report.errors
    );
    let mut journal = report.journal;

    let serving = wait_for("a node that serves", PATIENCE, || {
        cluster
            .nodes
            .iter()
            .position(|node| node.try_open("main").is_ok())
    });
    let mut client = cluster.nodes[serving].open("main");
    assert_holds(&mut client, &journal).settle(&mut journal);
    drop(client);

    std::fs::remove_file(ballast).expect("space is freed");
    for node in &cluster.nodes {
        node.cli(&["volume", "resync", "main"]);
    }
    cluster.nodes[serving].wait_state("main", "Protected");
    let mut client = cluster.nodes[serving].open("main");
    assert_holds(&mut client, &journal);
    let image =
        Image::of_file(&inside(&cluster, 0, &cluster.nodes[0].data("main"))).expect("it reads");
    assert_eq!(image.judge(&journal), []);
}

/// The metadata file is sparse: marks for an absent member need space of their own.
#[test]
fn there_is_no_space_for_marks() {
    let mut cluster = pair_with_small_disk(0, "112M");
    cluster.create("main", "64M");
    let report = fill(&cluster, Journal::new(1, BLOCKS), 3);
    report.assert_clean();
    let path = inside(&cluster, 0, &cluster.nodes[0].state().join("ballast"));
    let mut size = 1 << 20;
    let mut ballast = Vec::new();
    while size >= 4096 {
        ballast.resize(ballast.len() + size, 1);
        if std::fs::write(&path, &ballast).is_err() {
            ballast.truncate(ballast.len() - size);
            size /= 2;
        }
    }
    cluster.beta().kill();
    let load = start_filling(&cluster, report.journal, 4);
    // Long enough for the peer to be given up, and for the marks to find no space.
    std::thread::sleep(Duration::from_millis(2 * LEASE_MS));
    std::fs::remove_file(path).expect("space is freed");
    cluster.beta().start();
    for node in &cluster.nodes {
        node.cli(&["volume", "resync", "main"]);
    }
    let report = load.wait();
    report.assert_reads();
    println!(
        "error replies {:?}, broken {:?}",
        report.errors, report.broken
    );
    assert!(
        report.latency_max < PATIENCE / 2,
        "an answer took {:?}",
        report.latency_max
    );
    let mut journal = report.journal;
    let serving = wait_for("a node that serves", PATIENCE, || {
        cluster
            .nodes
            .iter()
            .position(|node| node.try_open("main").is_ok())
    });
    cluster.nodes[serving].wait_state("main", "Protected");
    let mut client = cluster.nodes[serving].open("main");
    assert_holds(&mut client, &journal).settle(&mut journal);
}

#[test]
fn there_is_no_space_for_the_registry() {
    let cluster = pair_with_small_disk(1, "4M");
    let path = inside(&cluster, 1, &cluster.nodes[1].state().join("ballast"));
    // As much as fits; the error is the point.
    let _ = std::fs::write(&path, vec![1; 8 << 20]);
    let refused = cluster.nodes[0].cli(&["volume", "create", "main", "--size", "64M"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        !cluster.nodes[0].data("main").exists(),
        "creation is undone everywhere"
    );
    std::fs::remove_file(path).expect("space is freed");
    cluster.create("main", "1M");
    let plan = Plan {
        requests_max: 100,
        ..Plan::default()
    };
    let load = Load::start(
        &cluster.nodes[0].endpoint(),
        "main",
        Journal::new(1, 256),
        &plan,
    );
    let report = load.expect("it serves").wait();
    report.assert_clean();
}
