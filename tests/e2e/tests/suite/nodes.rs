//! Nodes as an operator sees them, and a machine that is to be shut down.

use e2e::arbiter::{Arbiter, Kind};
use e2e::checks::{assert_copies, event_names};
use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::node::Node;
use e2e::{PATIENCE, wait_for};
use serde_json::{Value, json};

/// What a node says of another: volumes it is the primary of, others, and whether it is in maintenance.
fn facts(asked: &Node, about: &str) -> Value {
    let nodes: Value = serde_json::from_str(&asked.ok(&["node", "ls", "--json"]))
        .expect("node ls --json prints JSON");
    let mut found = nodes.as_array().into_iter().flatten();
    let node = found.find(|node| node["name"] == about);
    let node = node.unwrap_or(&Value::Null);
    json!([node["primaries"], node["secondaries"], node["maintenance"]])
}

fn wait_facts(asked: &Node, about: &str, wanted: &Value) {
    wait_for(&format!("{about} to be {wanted}"), PATIENCE, || {
        (facts(asked, about) == *wanted).then_some(())
    });
}

#[test]
fn a_node_is_drained_and_stays_so_until_it_is_activated() {
    let mut cluster = Cluster::pair();
    cluster.create("one", "32M");
    cluster.create("two", "32M");
    cluster.create("main", "64M");
    cluster.nodes[1].ok(&["volume", "swap", "two"]);
    let journal = Journal::new(1, 16 << 10);
    let plan = Plan::requests(500);
    let report = Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    for node in &cluster.nodes {
        wait_facts(node, "alpha", &json!([2, 1, false]));
        wait_facts(node, "beta", &json!([1, 2, false]));
    }
    let listed = cluster.nodes[1].ok(&["node", "ls"]);
    assert!(listed.contains("2 primary, 1 secondary"), "{listed}");

    // Typed on the other node.
    let told = cluster.nodes[1].ok(&["node", "drain", "alpha"]);
    assert!(told.contains("main: moved to beta in "), "{told}");
    assert!(told.contains("one: moved to beta in "), "{told}");
    assert!(!told.contains("two:"), "{told}");
    for node in &cluster.nodes {
        wait_facts(node, "alpha", &json!([0, 3, true]));
        let listed = node.ok(&["node", "ls"]);
        assert!(listed.contains("maintenance"), "{listed}");
        for volume in ["main", "one", "two"] {
            node.wait_status(volume, "protected and beta's", |status| {
                status["primary"] == "beta" && status["state"] == "Protected"
            });
        }
    }
    assert_copies(&cluster, "main", &report.journal);
    // Again there is nothing to do, and it is said in JSON.
    let again = cluster.nodes[0].ok(&["node", "drain", "alpha", "--json"]);
    let again: Value = serde_json::from_str(&again).expect("it is JSON");
    assert_eq!(again, json!({"moved": [], "stayed": []}));

    // It is so after a restart, and nothing is moved to it.
    cluster.alpha().stop();
    cluster.alpha().start();
    cluster.nodes[1].wait_state("one", "Protected");
    wait_facts(&cluster.nodes[1], "alpha", &json!([0, 3, true]));
    for words in [["volume", "swap", "one"], ["volume", "promote", "one"]] {
        let refused = cluster.nodes[0].cli(&words);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("maintenance"), "{refused:?}");
    }

    cluster.nodes[1].ok(&["node", "activate", "alpha"]);
    wait_facts(&cluster.nodes[1], "alpha", &json!([0, 3, false]));
    cluster.nodes[0].ok(&["volume", "swap", "one"]);
    wait_facts(&cluster.nodes[1], "alpha", &json!([1, 2, false]));
    let events = event_names(&cluster.nodes[0]);
    let begun = events.iter().filter(|name| *name == "maintenance-begun");
    assert_eq!(begun.count(), 1);
    assert!(events.contains(&"maintenance-ended".to_owned()));
}

#[test]
fn what_cannot_be_moved_stays_and_is_told_with_the_reason() {
    let mut cluster = Cluster::pair();
    cluster.create("one", "32M");
    cluster.nodes[1].ok(&["node", "drain", "beta"]);
    let refused = cluster.nodes[0].cli(&["node", "drain", "alpha"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let reason = "one: not moved: beta is in maintenance";
    assert!(refused.stdout.contains(reason), "{refused:?}");
    assert!(refused.stderr.contains("1 of 1 volumes"), "{refused:?}");
    cluster.nodes[0].ok(&["node", "activate", "beta"]);

    cluster.beta().kill();
    cluster.nodes[0].wait_state("one", "Waiting for beta");
    let refused = cluster.nodes[0].cli(&["node", "drain", "alpha"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let reason = "one: not moved: beta is not connected";
    assert!(refused.stdout.contains(reason), "{refused:?}");
    assert_eq!(facts(&cluster.nodes[0], "beta"), json!([null, null, null]));

    for (node, reason) in [("beta", "not connected"), ("gamma", "no node gamma")] {
        let refused = cluster.nodes[0].cli(&["node", "drain", node]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
    cluster.beta().start();
    cluster.nodes[0].wait_state("one", "Protected");
    let told = cluster.nodes[0].ok(&["node", "drain", "alpha"]);
    assert!(told.contains("one: moved to beta"), "{told}");
}

#[test]
fn opening_a_volume_does_not_bring_it_to_a_node_in_maintenance() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, "on-demand");
    witness.start();
    cluster.start();
    cluster.create("main", "64M");
    cluster.nodes[0].ok(&["node", "drain", "beta"]);
    let refused = cluster.nodes[1].try_open("main").map(|_| ());
    assert!(refused.is_err(), "beta is in maintenance");
    let status = cluster.nodes[1].wait_state("main", "Protected");
    assert_eq!(status["primary"], "alpha", "{status}");
    cluster.nodes[0].ok(&["node", "activate", "beta"]);
    drop(cluster.nodes[1].open("main"));
}
