//! Both sides went on alone: reported, and healed by an operator's choice only.

use e2e::checks::{assert_copies, assert_holds, event_names};
use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::node::Node;
use e2e::verdict::Image;
use e2e::{PATIENCE, wait_for};

const BLOCKS: u64 = 16 << 10;

fn write(node: &Node, journal: Journal, seed: u64) -> Journal {
    let plan = Plan {
        seed,
        ..Plan::requests(300)
    };
    Load::complete(&node.endpoint(), "main", journal, &plan).journal
}

#[test]
fn split_brain_is_reported_and_resolved() {
    let cluster = Cluster::linked_pair();
    let [alpha, beta] = &cluster.nodes[..] else {
        panic!("two nodes")
    };
    cluster.create("main", "64M");
    let common = write(alpha, Journal::new(1, BLOCKS), 1);

    cluster.cut();
    let kept = write(alpha, common.clone(), 2);
    alpha.wait_state("main", "Alone");
    alpha.ok(&["volume", "wait", "main", "--state", "Resync,Alone"]);
    beta.ok(&["volume", "promote", "main", "--force"]);
    let given_up = write(beta, common, 3);
    cluster.mend();

    for node in [alpha, beta] {
        node.wait_state("main", "SplitBrain");
        wait_for("the event", PATIENCE, || {
            event_names(node)
                .contains(&"split-brain".to_owned())
                .then_some(())
        });
        let promote = node.cli(&["volume", "promote", "main"]);
        assert_eq!(promote.code, Some(3), "{promote:?}");
        assert_eq!(promote.stderr.trim().lines().count(), 1, "{promote:?}");
    }

    let before = Image::of_file(&beta.data("main")).expect("the file is read");
    for (node, discard) in [
        (alpha, "beta"),
        (alpha, "alpha"),
        (beta, "beta"),
        (beta, "alpha"),
    ] {
        let told = node.ok(&[
            "volume",
            "resolve",
            "main",
            "--discard",
            discard,
            "--dry-run",
        ]);
        println!("{} would discard {discard}: {told}", node.name());
        assert!(told.contains(discard), "{told}");
    }
    assert!(
        before == Image::of_file(&beta.data("main")).expect("the file is read"),
        "a dry run changes nothing"
    );
    assert_eq!(before.judge(&given_up), []);

    alpha.ok(&["volume", "resolve", "main", "--discard", "beta"]);
    alpha.wait_state("main", "Protected");
    beta.wait_state("main", "Protected");
    let mut client = alpha.open("main");
    assert_holds(&mut client, &kept);
    assert_copies(&cluster, "main", &kept);
}

#[test]
fn a_node_that_wrote_nothing_since_is_no_split_brain() {
    let cluster = Cluster::linked_pair();
    cluster.create("main", "64M");
    let journal = write(&cluster.nodes[0], Journal::new(1, BLOCKS), 1);
    cluster.cut();
    let journal = write(&cluster.nodes[0], journal, 2);
    cluster.mend();
    cluster.nodes[0].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &journal);
}
