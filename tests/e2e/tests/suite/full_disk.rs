//! Disks that fill up: the client gets an error or the replica is left behind, and nothing that was
//! acknowledged is lost.
//!
//! The small disk is a tmpfs that only the daemon's own mount namespace sees, so that nothing is left of
//! it when the daemon has ended.

use e2e::checks::{assert_holds, replica};
use e2e::cluster::{Cluster, LEASE_MS};
use e2e::journal::Journal;
use e2e::load::{Load, Plan, Report};
use e2e::nbd::Request;
use e2e::verdict::Image;
use e2e::{PATIENCE, wait_for};
use format::log_block::LOG_SLOTS;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

const BLOCKS: u64 = 16 << 10;
/// Requests that a client sends at a time.
const IN_FLIGHT: usize = 64;
/// Half as many again as the activity log holds.
const EXTENTS: u64 = LOG_SLOTS as u64 * 3 / 2;

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

/// Takes space away until it is freed by removing the file that this returns.
fn ballast(cluster: &Cluster, node: usize, mib: usize) -> PathBuf {
    let path = cluster.nodes[node].inside(&cluster.nodes[node].state().join("ballast"));
    std::fs::write(&path, vec![1; mib << 20]).expect("the ballast fits");
    path
}

fn fill(cluster: &Cluster, journal: Journal, seed: u64) -> Report {
    let plan = Plan {
        requests_max: 3_000,
        blocks_max: 16,
        reads_percent: 5,
        zeroes_percent: 0,
        seed,
        ..Plan::default()
    };
    let load = Load::start(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    load.expect("it serves").wait()
}

/// Every error that a client was told is "no space left on device".
fn assert_no_space(report: &Report) {
    let no_space = rustix::io::Errno::NOSPC.raw_os_error().unsigned_abs();
    assert!(
        report.errors.iter().all(|error| *error == no_space),
        "{:?}",
        report.errors
    );
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
        Image::of_file(&cluster.nodes[1].inside(&cluster.nodes[1].data("main"))).expect("it reads");
    assert_eq!(image.judge(&report.journal), []);
}

#[test]
fn the_primary_s_disk_is_full() {
    let cluster = pair_with_small_disk(0, "112M");
    cluster.create("main", "64M");
    let ballast = ballast(&cluster, 0, 80);
    let report = fill(&cluster, Journal::new(1, BLOCKS), 2);
    report.assert_reads();
    assert_no_space(&report);
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
        Image::of_file(&cluster.nodes[0].inside(&cluster.nodes[0].data("main"))).expect("it reads");
    assert_eq!(image.judge(&journal), []);
}

/// Takes all space away, to the last block, until it is freed by removing the file that this returns.
fn fill_up(cluster: &Cluster, node: usize) -> PathBuf {
    let path = cluster.nodes[node].inside(&cluster.nodes[node].state().join("ballast"));
    let mut file = std::fs::File::create(&path).expect("there is space for a name");
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    path
}

/// There is no space at all and no other copy: clients are told so at once for what needs space, and the rest,
/// marks for the absent member included, goes on.
#[test]
fn the_only_disk_that_is_left_is_full() {
    let mut cluster = pair_with_small_disk(0, "112M");
    cluster.create("main", "64M");
    let report = fill(&cluster, Journal::new(1, BLOCKS), 3);
    report.assert_clean();
    cluster.beta().kill();
    cluster.nodes[0].wait_state("main", "Alone");
    let ballast = fill_up(&cluster, 0);

    let report = fill(&cluster, report.journal, 4);
    report.assert_reads();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    println!(
        "{} acknowledged, {} refused, the longest took {:?}",
        report.acknowledged,
        report.errors.len(),
        report.latency_max
    );
    assert!(!report.errors.is_empty(), "some writes need space");
    assert_no_space(&report);
    assert!(report.acknowledged > 0, "some writes need no space");
    assert!(
        report.latency_max < Duration::from_millis(LEASE_MS),
        "an answer took {:?}",
        report.latency_max
    );
    let mut journal = report.journal;
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &journal).settle(&mut journal);
    drop(client);

    std::fs::remove_file(ballast).expect("space is freed");
    let report = fill(&cluster, journal, 5);
    report.assert_clean();
    cluster.beta().start();
    cluster.nodes[0].ok(&["volume", "resync", "main"]);
    cluster.nodes[0].wait_state("main", "Protected");
    assert_holds(&mut cluster.nodes[0].open("main"), &report.journal);
    let image =
        Image::of_file(&cluster.nodes[0].inside(&cluster.nodes[0].data("main"))).expect("it reads");
    assert_eq!(image.judge(&report.journal), []);
    let other = Image::of_file(&cluster.nodes[1].data("main")).expect("it reads");
    assert!(image == other, "the copies differ");
}

/// As above, but the peer is still a member when the first write finds no space.
#[test]
fn the_disk_is_full_when_the_peer_dies() {
    let mut cluster = pair_with_small_disk(0, "112M");
    cluster.create("main", "64M");
    let report = fill(&cluster, Journal::new(1, BLOCKS), 3);
    report.assert_clean();
    let _ballast = fill_up(&cluster, 0);
    cluster.beta().kill();
    let report = fill(&cluster, report.journal, 4);
    report.assert_reads();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_no_space(&report);
    assert!(
        report.latency_max < Duration::from_millis(2 * LEASE_MS),
        "an answer took {:?}",
        report.latency_max
    );
}

/// Writes the first block of every extent.
fn write_extents(cluster: &Cluster, content: u8) {
    let mut client = cluster.nodes[0].open("main");
    let (data, fua) = (&[content; 4096][..], false);
    for extents in (0..EXTENTS).step_by(IN_FLIGHT) {
        let extents = extents..(extents + IN_FLIGHT as u64).min(EXTENTS);
        for offset in extents.clone().map(|extent| extent << 20) {
            let write = Request::Write { offset, data, fua };
            client.send(write).expect("it is sent");
        }
        for _ in extents {
            assert_eq!(client.receive().expect("a reply").error, 0);
        }
    }
}

/// More extents are written to than the activity log holds, so that the marks of those that leave it are written;
/// their blocks have space already, and there is none for anything else.
#[test]
fn marks_need_no_space_later() {
    let mut cluster = pair_with_small_disk(0, "64M");
    cluster.create("main", "6G");
    write_extents(&cluster, 1);
    let ballast = fill_up(&cluster, 0);
    cluster.beta().kill();
    cluster.nodes[0].wait_state("main", "Alone");
    write_extents(&cluster, 2);

    std::fs::remove_file(ballast).expect("space is freed");
    cluster.beta().start();
    let status = cluster.nodes[0].wait_state("main", "Protected");
    assert_eq!(status["last_receipt"]["bytes_moved"], EXTENTS * 4096);
    let files = [
        cluster.nodes[0].inside(&cluster.nodes[0].data("main")),
        cluster.nodes[1].data("main"),
    ];
    for file in files {
        let file = std::fs::File::open(file).expect("it opens");
        for offset in (0..EXTENTS).map(|extent| extent << 20) {
            let mut block = [0; 4096];
            file.read_exact_at(&mut block, offset).expect("it reads");
            assert!(
                block == [2; 4096],
                "the block at {offset} is not what was acknowledged"
            );
        }
    }
}

/// The peer takes over, and what the full disk has to write for that is metadata.
#[test]
fn metadata_needs_no_space_later() {
    let mut cluster = pair_with_small_disk(0, "112M");
    cluster.create("main", "64M");
    let ballast = fill_up(&cluster, 0);
    let used = || std::fs::metadata(cluster.nodes[0].inside(&cluster.nodes[0].metadata("main")));
    let before = used().expect("it is there").blocks();
    // The superblock is written for each change of roles, and the log and marks for what the others hold.
    cluster.nodes[1].ok(&["volume", "swap", "main"]);
    let journal = Journal::new(1, BLOCKS);
    let plan = Plan::requests(1_000);
    let report = Load::complete(&cluster.nodes[1].endpoint(), "main", journal, &plan);
    assert_eq!(used().expect("it is there").blocks(), before);
    cluster.nodes[1].wait_status("main", "without alpha", |status| {
        replica(status, "alpha")["in_sync"] == false
    });
    std::fs::remove_file(ballast).expect("space is freed");
    cluster.nodes[1].ok(&["volume", "resync", "main"]);
    cluster.nodes[1].wait_state("main", "Protected");
    assert_holds(&mut cluster.nodes[1].open("main"), &report.journal);
    let image =
        Image::of_file(&cluster.nodes[0].inside(&cluster.nodes[0].data("main"))).expect("it reads");
    assert_eq!(image.judge(&report.journal), []);
    cluster.alpha().stop();
}

/// What a creation has made before the disk was full is taken away again on both nodes, with one line that says why.
#[test]
fn there_is_no_space_for_the_metadata() {
    let cluster = pair_with_small_disk(1, "1500K");
    let refused = cluster.nodes[0].cli(&["volume", "create", "main", "--size", "1G"]);
    assert_eq!(
        refused.code,
        Some(0),
        "1 GiB needs 36 KiB of marks: {refused:?}"
    );
    cluster.nodes[0].ok(&["volume", "rm", "main"]);
    for size in ["64M", "1T"] {
        let ballast = (size == "64M").then(|| fill_up(&cluster, 1));
        let refused = cluster.nodes[0].cli(&["volume", "create", "main", "--size", size]);
        assert_eq!(refused.code, Some(1), "{size}: {refused:?}");
        println!("{size}: {}", refused.stderr.trim());
        assert_eq!(refused.stderr.trim().lines().count(), 1, "{refused:?}");
        for part in ["beta", "No space left"] {
            assert!(refused.stderr.contains(part), "{part}: {refused:?}");
        }
        for node in &cluster.nodes {
            let folder = node.inside(&node.state().join("volumes"));
            let left: Vec<_> = std::fs::read_dir(&folder).into_iter().flatten().collect();
            assert!(left.is_empty(), "{size}: {} keeps {left:?}", node.name());
            assert_eq!(node.ok(&["volume", "ls", "--quiet"]), "", "{}", node.name());
        }
        if let Some(path) = ballast {
            std::fs::remove_file(path).expect("space is freed");
        }
    }
    cluster.create("main", "64M");
}

#[test]
fn there_is_no_space_for_the_registry() {
    let cluster = pair_with_small_disk(1, "4M");
    let path = cluster.nodes[1].inside(&cluster.nodes[1].state().join("ballast"));
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
    let journal = Journal::new(1, 256);
    let plan = Plan::requests(100);
    Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
}
