//! What an operator does with volumes.

use e2e::checks::{assert_copies, assert_holds, replica};
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::nbd::Request;
use e2e::verdict::differing_blocks;
use e2e::{PATIENCE, wait_for};

const BLOCKS: u64 = 16 << 10;

fn write_some(cluster: &Cluster, node: usize, journal: Journal, seed: u64) -> Journal {
    let plan = Plan {
        seed,
        ..Plan::requests(500)
    };
    Load::complete(&cluster.nodes[node].endpoint(), "main", journal, &plan).journal
}

#[test]
fn only_the_primary_serves_and_says_why_not() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    let refusal = cluster.nodes[1]
        .try_open("main")
        .err()
        .expect("beta refuses")
        .to_string();
    assert!(
        refusal.contains("alpha") || refusal.contains("primary"),
        "{refusal}"
    );
    let unknown = cluster.nodes[0]
        .try_open("other")
        .err()
        .expect("there is no such volume");
    assert!(unknown.to_string().starts_with("refused"), "{unknown}");
}

#[test]
fn roles_swap_without_a_resync() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    let journal = write_some(&cluster, 0, Journal::new(1, BLOCKS), 1);
    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    let journal = write_some(&cluster, 1, journal, 2);
    cluster.nodes[1].ok(&["volume", "demote", "main"]);
    cluster.nodes[0].wait_status("main", "without primary", |status| {
        status["primary"].is_null() && replica(status, "beta")["connection_state"] == "Connected"
    });
    cluster.nodes[0].ok(&["volume", "promote", "main"]);
    let journal = write_some(&cluster, 0, journal, 3);
    let status = cluster.nodes[0].wait_state("main", "Protected");
    assert!(
        status["last_receipt"].is_null() || status["last_receipt"]["bytes_moved"] == 0,
        "{status}"
    );
    assert_copies(&cluster, "main", &journal);
}

#[test]
fn promotion_is_refused_while_the_primary_is_there() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    let _client = cluster.nodes[0].open("main");
    let refused = cluster.nodes[1].cli(&["volume", "promote", "main"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
}

#[test]
fn promotion_needs_force_while_the_primary_cannot_be_asked() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    let mut journal = write_some(&cluster, 0, Journal::new(1, BLOCKS), 1);
    cluster.alpha().kill();
    cluster.nodes[1].wait_state("main", "Waiting for alpha");
    let refused = cluster.nodes[1].cli(&["volume", "promote", "main"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    cluster.nodes[1].ok(&["volume", "promote", "main", "--force"]);
    journal = write_some(&cluster, 1, journal, 2);
    cluster.alpha().start();
    cluster.nodes[1].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &journal);
}

#[test]
fn a_volume_grows_under_its_client() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    write_some(&cluster, 0, Journal::new(1, BLOCKS), 1);
    cluster.nodes[0].ok(&["volume", "grow", "main", "--size", "128M"]);
    let mut client = cluster.nodes[0].open("main");
    assert_eq!(client.size_bytes(), 128 << 20);
    let data = vec![0xab; 4096];
    let offset = (128 << 20) - 4096;
    client
        .call(Request::Write {
            offset,
            data: &data,
            fua: true,
        })
        .expect("the new end is written");
    assert_eq!(
        client
            .call(Request::Read {
                offset,
                length: 4096
            })
            .expect("it is read"),
        data
    );
    for node in &cluster.nodes {
        assert_eq!(
            std::fs::metadata(node.data("main"))
                .expect("the file")
                .len(),
            128 << 20
        );
    }
    let shrink = cluster.nodes[0].cli(&["volume", "grow", "main", "--size", "64M"]);
    assert_ne!(shrink.code, Some(0), "{shrink:?}");
    assert!(
        shrink.stderr.contains("shrink") || shrink.stderr.contains("smaller"),
        "{shrink:?}"
    );
}

#[test]
fn a_volume_is_removed_only_when_nobody_uses_it() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    let client = cluster.nodes[0].open("main");
    let refused = cluster.nodes[0].cli(&["volume", "rm", "main"]);
    assert!(matches!(refused.code, Some(1 | 3)), "{refused:?}");
    drop(client);
    wait_for("the client to be gone", PATIENCE, || {
        (cluster.nodes[0].cli(&["volume", "rm", "main"]).code == Some(0)).then_some(())
    });
    for node in &cluster.nodes {
        wait_for("the files to be gone", PATIENCE, || {
            (!node.data("main").exists()).then_some(())
        });
    }

    // A node that was away learns of it later, and a name used again is another volume.
    cluster.create("main", "64M");
    cluster.beta().kill();
    cluster.nodes[0].ok(&["volume", "rm", "main"]);
    cluster.beta().start();
    wait_for("the absent node to learn of the removal", PATIENCE, || {
        (!cluster.nodes[1].data("main").exists()).then_some(())
    });
    cluster.create("main", "32M");
    assert_eq!(cluster.nodes[0].open("main").size_bytes(), 32 << 20);
}

#[test]
fn creation_happens_everywhere_or_nowhere() {
    let mut cluster = Cluster::pair();
    cluster.beta().kill();
    let refused = cluster.nodes[0].cli(&["volume", "create", "main", "--size", "64M"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("beta"), "{refused:?}");
    assert!(!cluster.nodes[0].data("main").exists());
    cluster.beta().start();
    wait_for("the nodes to meet", PATIENCE, || {
        (cluster.nodes[0]
            .cli(&["volume", "create", "main", "--size", "64M"])
            .code
            == Some(0))
        .then_some(())
    });
    cluster.nodes[0].wait_state("main", "Protected");
}

#[test]
fn verify_finds_what_differs_and_repairs_it() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    let journal = write_some(&cluster, 0, Journal::new(1, BLOCKS), 1);
    // What no replication can see: the second copy changes below the daemon.
    cluster.beta().stop();
    let file = cluster.nodes[1].data("main");
    let differing = differing_blocks(&cluster.nodes[0].data("main"), &file).expect("both are read");
    assert_eq!(differing, 0, "blocks that differ after a planned stop");
    let mut bytes = std::fs::read(&file).expect("the file is read");
    // Blocks of which the resync at the node's return cannot know anything.
    for block in journal.untouched().step_by(100).take(3) {
        let at = usize::try_from(block * 4096).expect("the file fits memory");
        bytes[at + 17] ^= 1;
    }
    std::fs::write(&file, bytes).expect("the file is written");
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");

    let found: serde_json::Value =
        serde_json::from_str(&cluster.nodes[0].ok(&["volume", "verify", "main", "--json"]))
            .expect("JSON");
    assert_eq!(found["differing"], 3, "{found}");
    cluster.nodes[0].ok(&["volume", "verify", "main", "--repair"]);
    cluster.nodes[0].wait_state("main", "Protected");
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &journal);
    assert_copies(&cluster, "main", &journal);
}

/// What a process has in memory of its own, in bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.expect("the kernel says it") << 10
}

/// What a volume needs at full speed is given back when it rests.
#[test]
fn a_volume_that_rests_has_little_memory() {
    const VOLUMES: u64 = 4;
    const EACH_MAX: u64 = 12 << 20;
    let mut cluster = Cluster::pair();
    let before = cluster
        .nodes
        .iter()
        .map(|node| resident(node.process().expect("it runs")));
    let before: Vec<u64> = before.collect();
    for number in 0..VOLUMES {
        let name = format!("v{number}");
        cluster.create(&name, "10G");
        let uri = cluster.nodes[0].uri(&name);
        let writes = [
            "-f",
            "raw",
            "-c",
            "aio_write 0 64M",
            "-c",
            "aio_flush",
            &uri,
        ];
        tool("qemu-io", &writes).success();
    }
    for (node, before) in cluster.nodes.iter().zip(before) {
        let process = node.process().expect("it runs");
        wait_for("the memory to be given back", PATIENCE, || {
            (resident(process) < before + VOLUMES * EACH_MAX).then_some(())
        });
    }
    cluster.alpha().stop();
}
