//! Damaged files: mended where that is certain, refused untouched where it is not.

use e2e::checks::{assert_copies, assert_holds, receipt};
use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::node::Node;
use e2e::random::Random;
use e2e::rounds;
use format::layout::{META_BLOCK_BYTES, SUPERBLOCK_OFFSETS};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

const BLOCKS: u64 = 1024;

/// One node with a volume of 4 MiB that has been written to, stopped.
fn stopped() -> (Cluster, Journal) {
    let mut cluster = Cluster::prepared(&["alpha"]);
    cluster.start();
    cluster.create("main", "4M");
    let plan = Plan {
        connections: 1,
        ..Plan::requests(300)
    };
    let journal = Journal::new(1, BLOCKS);
    let report = Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    cluster.alpha().stop();
    (cluster, report.journal)
}

fn flip(path: &Path, offset: u64, bits: u8) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("the file opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)
        .expect("the byte is read");
    file.write_all_at(&[byte[0] ^ bits], offset)
        .expect("the byte is written");
}

/// The copies take turns, so that each start stands on the copy that the one before has mended.
#[test]
fn any_byte_of_one_superblock_copy_may_be_damaged() {
    let (mut cluster, journal) = stopped();
    let metadata = cluster.nodes[0].metadata("main");
    let mut random = Random::new(8);
    let all = usize::try_from(META_BLOCK_BYTES).expect("a block is small");
    let count = rounds(24, all);
    let mut last_event = 0;
    for step in 0..count {
        // The head of the block is where the fields are.
        let byte = if count == all {
            step as u64
        } else {
            random.below([64, 512, META_BLOCK_BYTES][step % 3])
        };
        let copy = SUPERBLOCK_OFFSETS[step % 2];
        flip(&metadata, copy + byte, 1 << random.below(8));
        cluster.alpha().start();
        assert_holds(&mut cluster.nodes[0].open("main"), &journal);
        let events = cluster.nodes[0].events();
        let id = |event: &Value| event["id"].as_u64().unwrap_or(0);
        let told = events
            .iter()
            .any(|event| event["name"] == "metadata" && id(event) > last_event);
        assert!(
            told,
            "byte {byte} of the copy at {copy}: no event says that it was mended"
        );
        last_event = events.iter().map(id).max().unwrap_or(0);
        cluster.alpha().stop();
    }
}

#[test]
fn what_cannot_be_mended_is_refused_and_left_alone() {
    let (mut cluster, journal) = stopped();
    let (metadata, data) = (
        cluster.nodes[0].metadata("main"),
        cluster.nodes[0].data("main"),
    );
    let good = (
        std::fs::read(&metadata).expect("it reads"),
        std::fs::read(&data).expect("it reads"),
    );
    let damages: [(&str, &dyn Fn()); 8] = [
        ("both copies", &|| {
            SUPERBLOCK_OFFSETS
                .iter()
                .for_each(|offset| flip(&metadata, offset + 40, 0x10));
        }),
        ("an empty metadata file", &|| truncate(&metadata, 0)),
        ("one copy, cut short", &|| truncate(&metadata, 3000)),
        ("a foreign metadata file", &|| {
            std::fs::write(&metadata, vec![0x5a; 2 << 20]).expect("it is written");
        }),
        ("no metadata file", &|| {
            std::fs::remove_file(&metadata).expect("it is removed");
        }),
        ("a smaller data file", &|| {
            truncate(&data, (BLOCKS - 1) * 4096);
        }),
        ("a larger data file", &|| {
            truncate(&data, (BLOCKS + 1) * 4096);
        }),
        ("no data file", &|| {
            std::fs::remove_file(&data).expect("it is removed");
        }),
    ];
    for (damage, inflict) in damages {
        inflict();
        let before = (std::fs::read(&metadata).ok(), std::fs::read(&data).ok());
        cluster.alpha().start();
        check_refusal(&cluster.nodes[0], damage);
        cluster.alpha().stop();
        let after = (std::fs::read(&metadata).ok(), std::fs::read(&data).ok());
        assert!(before == after, "{damage}: the files were changed");
        std::fs::write(&metadata, &good.0).expect("it is written");
        std::fs::write(&data, &good.1).expect("it is written");
    }
    cluster.alpha().start();
    assert_holds(&mut cluster.nodes[0].open("main"), &journal);
}

fn check_refusal(node: &Node, damage: &str) {
    let status = node.status("main").expect("the volume is still listed");
    assert_eq!(status["state"], "Stopped", "{damage}: {status}");
    let reason = status["reason"].as_str().unwrap_or("");
    println!("{damage}: {reason}");
    assert!(
        !reason.is_empty() && reason.lines().count() == 1,
        "{damage}: {status}"
    );
    assert!(
        reason.contains("meta") || reason.contains("data"),
        "{damage}: {reason}"
    );
    assert!(
        node.try_open("main").is_err(),
        "{damage}: it must not be served"
    );
}

fn truncate(path: &Path, bytes: u64) {
    let file: File = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("the file opens");
    file.set_len(bytes).expect("the length is set");
}

/// The data file is good and its metadata gone: an operator says so, and only hashes and what differs
/// go over the wire.
#[test]
fn lost_metadata_is_made_anew_when_told() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    let journal = Journal::new(1, 16 << 10);
    let plan = Plan::requests(500);
    let report = Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    cluster.beta().stop();
    std::fs::remove_file(cluster.nodes[1].metadata("main")).expect("it is removed");
    cluster.beta().start();
    let status = cluster.nodes[1].status("main").expect("it is still listed");
    assert_eq!(status["state"], "Stopped", "{status}");
    let reason = status["reason"].as_str().unwrap_or("");
    assert!(reason.contains("adopt"), "{reason}");
    cluster.nodes[1].ok(&["volume", "adopt", "main"]);
    cluster.nodes[0].wait_state("main", "Protected");
    let receipt = receipt(&cluster.nodes[0], "main");
    assert!(receipt.bytes_moved < 1 << 20, "{receipt:?}");
    assert_copies(&cluster, "main", &report.journal);
}
