//! The arbiter as an operator meets it: started, set, looked at, lost, and made good again.

use e2e::arbiter::{Arbiter, Kind};
use e2e::cluster::Cluster;
use e2e::node::Node;
use e2e::{PATIENCE, wait_for};
use serde_json::Value;

/// A few MiB, most of which is the program itself.
const WITNESS_KIB_MAX: u64 = 16 << 10;

fn arbiter_status(node: &Node) -> Value {
    let text = node.ok(&["arbiter", "status", "--json"]);
    serde_json::from_str(&text).expect("arbiter status --json prints JSON")
}

/// Waits until the arbiter's standing for the first volume is this word.
fn wait_standing(node: &Node, word: &str) {
    wait_for(&format!("the arbiter to be {word}"), PATIENCE, || {
        (arbiter_status(node)["volumes"][0]["state"] == word).then_some(())
    });
}

fn set(node: &Node, arbiter: &Arbiter) -> e2e::program::Output {
    let words = arbiter.words();
    node.cli(&["arbiter", "set", &words[0], &words[1]])
}

#[test]
fn a_witness_guards_its_folder_and_is_small() {
    let cluster = Cluster::prepared(&["alpha"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    witness.start();
    let second = witness.run();
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains("another twinblk"), "{second:?}");
    assert_eq!(second.stderr.trim().lines().count(), 1, "{second:?}");

    let process = witness.process().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("its status is read");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.trim().split(' ').next());
    let resident: u64 = resident.and_then(|kib| kib.parse().ok()).expect("a number");
    println!("the witness has {resident} KiB");
    assert!(resident < WITNESS_KIB_MAX, "{resident} KiB");

    witness.kill();
    let registers = witness.folder().join("state/registers");
    std::fs::write(registers.join(format!("{}.json", "0".repeat(32))), "{}")
        .expect("it is written");
    let refused = witness.run();
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("is damaged"), "{refused:?}");
    assert_eq!(refused.stderr.trim().lines().count(), 1, "{refused:?}");
}

#[test]
fn a_node_with_another_key_is_refused_by_the_witness() {
    let mut cluster = Cluster::prepared(&["alpha"]);
    let other = cluster.folder().join("other.key");
    e2e::cluster::new_key(&other);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &other);
    cluster.arbitrate(&witness, "on-demand");
    witness.start();
    cluster.start();
    let status = arbiter_status(&cluster.nodes[0]);
    assert_eq!(status["reachable"], false, "{status}");
    let reason = status["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("cluster key"), "{status}");
    // Complaints of strangers are few; whoever looked whether it listens was one.
    wait_for("the refusal to be logged", PATIENCE, || {
        arbiter_status(&cluster.nodes[0]);
        witness.log().contains("cluster key").then_some(())
    });
}

#[test]
fn an_arbiter_is_set_on_all_nodes_or_on_none() {
    let mut cluster = Cluster::pair();
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.create("main", "64M");
    assert_eq!(arbiter_status(&cluster.nodes[0])["kind"], "manual");

    let refused = set(&cluster.nodes[0], &witness);
    assert_eq!(refused.code, Some(1), "nobody listens there: {refused:?}");
    witness.start();
    cluster.beta().stop();
    let refused = set(&cluster.nodes[0], &witness);
    assert_eq!(refused.code, Some(1), "beta is away: {refused:?}");
    assert!(refused.stderr.contains("beta"), "{refused:?}");
    assert_eq!(arbiter_status(&cluster.nodes[0])["kind"], "manual");
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");

    let words = witness.words();
    cluster.nodes[0].ok(&["arbiter", "set", &words[0], &words[1]]);
    for node in &cluster.nodes {
        let status = arbiter_status(node);
        assert_eq!(status["kind"], "witness", "{}: {status}", node.name());
        assert_eq!(status["source"], "set", "{}: {status}", node.name());
        assert_eq!(status["reachable"], true, "{}: {status}", node.name());
    }
    wait_standing(&cluster.nodes[0], "Same");
    let again = set(&cluster.nodes[0], &witness);
    assert_eq!(again.code, Some(3), "there is one already: {again:?}");
    for index in [0, 1] {
        cluster.nodes[index].kill();
        cluster.nodes[index].start();
        assert_eq!(arbiter_status(&cluster.nodes[index])["kind"], "witness");
    }
}

#[test]
fn what_one_node_refuses_is_undone_on_the_other() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    // Beta has one in its configuration, where nobody answers.
    let file = cluster.nodes[1].folder().join("twinblk.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let own = "\n[arbiter]\nkind = \"witness\"\naddress = \"127.0.0.1:1\"\n";
    std::fs::write(&file, text + own).expect("the configuration");
    witness.start();
    cluster.start();
    wait_for("the nodes to meet", PATIENCE, || {
        let nodes = cluster.nodes[0].ok(&["node", "ls", "--json"]);
        nodes.contains("\"Connected\"").then_some(())
    });
    let refused = set(&cluster.nodes[0], &witness);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("beta"), "{refused:?}");
    assert_eq!(arbiter_status(&cluster.nodes[0])["kind"], "manual");
    assert!(!cluster.nodes[0].state().join("arbiter.json").exists());
}

#[test]
fn a_node_that_has_missed_the_decision_asks_for_it() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    witness.start();
    cluster.start();
    let address = &witness.words()[1];
    let plant = |node: &Node, phase: &str| {
        let text = format!(
            r#"{{"change":"{}","arbiter":{{"kind":"witness","addresses":["{address}"]}},"mode":"automatic","phase":{phase}}}"#,
            "7".repeat(32)
        );
        std::fs::write(node.state().join("arbiter.json"), text).expect("it is written");
    };
    let prepared = r#"{"prepared":{"coordinator":"beta"}}"#;
    // Beta, on which it was typed, was killed before it had decided.
    cluster.nodes.iter_mut().for_each(Node::kill);
    plant(&cluster.nodes[0], prepared);
    plant(&cluster.nodes[1], prepared);
    cluster.start();
    wait_for("alpha to hear that there is none", PATIENCE, || {
        (!cluster.nodes[0].state().join("arbiter.json").exists()).then_some(())
    });
    for node in &cluster.nodes {
        assert_eq!(arbiter_status(node)["kind"], "manual");
    }
    // And after it had decided, before it had told alpha.
    cluster.nodes.iter_mut().for_each(Node::kill);
    plant(&cluster.nodes[0], prepared);
    plant(&cluster.nodes[1], r#""ready""#);
    cluster.start();
    wait_for("alpha to hear of it", PATIENCE, || {
        (arbiter_status(&cluster.nodes[0])["kind"] == "witness").then_some(())
    });
    cluster.create("main", "64M");
    wait_standing(&cluster.nodes[0], "Same");
}

#[test]
fn a_register_that_was_lost_is_made_good_by_force_only() {
    let (mut cluster, mut arbiter) = Cluster::arbitrated_pair(Kind::Witness);
    cluster.create("main", "64M");
    wait_standing(&cluster.nodes[0], "Same");
    // Alone, so that what is lost is not made good by all agreeing.
    cluster.beta().kill();
    cluster.nodes[0].wait_state("main", "Alone");
    wait_standing(&cluster.nodes[0], "Same");
    arbiter.kill();
    let registers = arbiter.folder().join("state/registers");
    std::fs::remove_dir_all(&registers).expect("the registers are lost");
    arbiter.start();
    wait_standing(&cluster.nodes[0], "Empty");

    let refused = cluster.nodes[0].cli(&["arbiter", "reset", "main"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    for words in ["nothing", "--force", "beta cannot be asked"] {
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    wait_standing(&cluster.nodes[0], "Empty");
    cluster.nodes[0].ok(&["arbiter", "reset", "main", "--force"]);
    wait_standing(&cluster.nodes[0], "Same");
    let names = e2e::checks::event_names(&cluster.nodes[0]);
    assert!(names.contains(&"arbiter-reset".to_owned()), "{names:?}");
    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
}
