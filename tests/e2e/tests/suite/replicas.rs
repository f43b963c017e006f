//! Copies that come and go while the volume is written to.

use e2e::arbiter::{Arbiter, Kind};
use e2e::checks::{assert_copies, assert_holds, event_names};
use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::{PATIENCE, wait_for};
use serde_json::Value;
use std::path::Path;

/// 64 MiB.
const BLOCKS: u64 = 16 << 10;

/// Three nodes, and a volume on the first two.
fn two_of_three(cluster: &mut Cluster) {
    cluster.start();
    for node in &cluster.nodes {
        wait_for("the nodes to know each other", PATIENCE, || {
            let nodes: Value = serde_json::from_str(&node.ok(&["node", "ls", "--json"])).ok()?;
            let mut nodes = nodes.as_array()?.iter();
            nodes
                .all(|node| node["state"] != "Connecting")
                .then_some(())
        });
    }
    let create = "volume create main --size 64M --replicas alpha,beta";
    cluster.nodes[0].ok(&create.split(' ').collect::<Vec<_>>());
    cluster.nodes[0].wait_state("main", "Protected");
}

fn load(cluster: &Cluster, journal: Journal) -> Load {
    let plan = Plan {
        connections: 2,
        depth: 16,
        pause: std::time::Duration::from_micros(300),
        ..Plan::default()
    };
    let load = Load::start(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    load.expect("the primary serves")
}

fn copies(status: &Value) -> usize {
    let replicas = status["replicas"].as_array();
    let in_sync = |replica: &&Value| replica["in_sync"] == true;
    replicas.map_or(0, |all| all.iter().filter(in_sync).count())
}

fn wait_copies(cluster: &Cluster, node: usize, count: usize) {
    cluster.nodes[node].wait_status("main", &format!("protected by {count}"), |status| {
        status["state"] == "Protected" && copies(status) == count
    });
}

fn folder_of(data: &Path) -> &Path {
    data.parent().expect("a data file lies in a folder")
}

#[test]
fn a_third_copy_comes_and_goes_under_load() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    two_of_three(&mut cluster);
    let load = load(&cluster, Journal::new(1, BLOCKS));
    load.wait_for_acknowledged(500);
    // Typed on the secondary, and carried out by the primary.
    let told = cluster.nodes[1].ok(&["volume", "replica", "add", "main", "gamma"]);
    assert!(told.contains("gamma has a replica"), "{told}");
    for node in 0..3 {
        wait_copies(&cluster, node, 3);
    }
    load.wait_for_acknowledged(load.acknowledged() + 500);
    let again = cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
    assert!(again.contains("already"), "{again}");
    let report = load.stop();
    report.assert_clean();
    assert_copies(&cluster, "main", &report.journal);
    assert!(event_names(&cluster.nodes[0]).contains(&"replica-added".to_owned()));

    let load = self::load(&cluster, report.journal);
    load.wait_for_acknowledged(200);
    let refused = cluster.nodes[1].cli(&["volume", "replica", "rm", "main", "alpha"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    cluster.nodes[0].ok(&["volume", "replica", "rm", "main", "gamma"]);
    for node in 0..2 {
        wait_copies(&cluster, node, 2);
    }
    assert!(!folder_of(&cluster.nodes[2].data("main")).exists());
    assert!(cluster.nodes[2].status("main").is_none());
    load.wait_for_acknowledged(load.acknowledged() + 500);
    // And back: in another place, as all of them still know after they have started again.
    cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
    wait_copies(&cluster, 0, 3);
    let report = load.stop();
    report.assert_clean();
    for node in 0..3 {
        cluster.nodes[node].stop();
    }
    cluster.start();
    wait_copies(&cluster, 2, 3);
    let mut client = cluster.nodes[0].open("main");
    assert_holds(&mut client, &report.journal);
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn the_copy_that_came_serves_after_both_others_have_died() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    let mut arbiter = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&arbiter, "automatic");
    arbiter.start();
    two_of_three(&mut cluster);
    let load = load(&cluster, Journal::new(1, BLOCKS));
    load.wait_for_acknowledged(500);
    cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
    wait_copies(&cluster, 0, 3);
    load.wait_for_acknowledged(load.acknowledged() + 500);
    let mut journal = load.stop().journal;
    for dead in 0..2 {
        cluster.nodes[dead].kill();
        let serves = |node: usize| cluster.nodes[node].try_open("main").ok();
        let mut client = wait_for("a survivor", PATIENCE, || (dead + 1..3).find_map(serves));
        assert_holds(&mut client, &journal).settle(&mut journal);
    }
    let mut client = cluster.nodes[2].open("main");
    assert_holds(&mut client, &journal);
    drop(client);
    cluster.start();
    wait_copies(&cluster, 2, 3);
    assert_copies(&cluster, "main", &journal);
}

#[test]
fn an_addition_that_was_cut_short_is_finished_by_typing_it_again() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    two_of_three(&mut cluster);
    for pause_ms in [0, 2, 5, 10, 20, 50] {
        let mut command = std::process::Command::new(e2e::program::twinblk());
        command
            .arg("--admin")
            .arg(cluster.nodes[0].folder().join("admin.sock"));
        command.args(["volume", "replica", "add", "main", "gamma"]);
        let mut typed = command.spawn().expect("the program starts");
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        cluster.nodes[0].kill();
        typed.wait().expect("it ends");
        cluster.nodes[0].start();
        let add = ["volume", "replica", "add", "main", "gamma"];
        wait_for("the addition to be finished", PATIENCE, || {
            let told = cluster.nodes[0].cli(&add);
            (told.code == Some(0)).then_some(())
        });
        wait_copies(&cluster, 0, 3);
        cluster.nodes[0].ok(&["volume", "replica", "rm", "main", "gamma"]);
        wait_copies(&cluster, 1, 2);
    }
}

#[test]
fn a_new_copy_that_dies_in_its_first_resync_gets_there_in_the_end() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    two_of_three(&mut cluster);
    let load = load(&cluster, Journal::new(1, BLOCKS));
    load.wait_for_acknowledged(2000);
    for pause_ms in [0, 10, 30, 60, 120] {
        cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        cluster.nodes[2].kill();
        load.wait_for_acknowledged(load.acknowledged() + 200);
        cluster.nodes[2].start();
        wait_copies(&cluster, 2, 3);
        load.wait_for_acknowledged(load.acknowledged() + 200);
        if pause_ms < 120 {
            cluster.nodes[1].ok(&["volume", "replica", "rm", "main", "gamma"]);
        }
    }
    let report = load.stop();
    report.assert_clean();
    wait_copies(&cluster, 0, 3);
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn a_removal_that_was_cut_short_is_finished_by_typing_it_again() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    two_of_three(&mut cluster);
    let remove = ["volume", "replica", "rm", "main", "gamma"];
    for pause_ms in [0, 3, 6, 10, 20] {
        cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
        wait_copies(&cluster, 0, 3);
        let mut command = std::process::Command::new(e2e::program::twinblk());
        let admin = cluster.nodes[0].folder().join("admin.sock");
        command.arg("--admin").arg(admin).args(remove);
        let mut typed = command.spawn().expect("the program starts");
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        cluster.nodes[0].kill();
        typed.wait().expect("it ends");
        cluster.nodes[0].start();
        // It had come to its end where no replica is found.
        wait_for("the removal to be finished", PATIENCE, || {
            let told = cluster.nodes[0].cli(&remove);
            let done = told.code == Some(0) || told.stderr.contains("has no replica on");
            done.then_some(())
        });
        wait_copies(&cluster, 1, 2);
        wait_for("gamma's files to go", PATIENCE, || {
            cluster.nodes[2].status("main").is_none().then_some(())
        });
    }
}

/// Whoever is killed in the middle of it: the one that serves and does it, or the one that is to come.
#[test]
fn a_replacement_that_was_cut_short_is_finished_by_typing_it_again() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    two_of_three(&mut cluster);
    let load = load(&cluster, Journal::new(1, BLOCKS));
    load.wait_for_acknowledged(2000);
    let mut journal = load.stop().journal;
    let (mut old, mut new) = (1, 2);
    for (pause_ms, alpha_dies) in [(5, true), (30, false), (80, true), (150, false)] {
        let names = [old, new].map(|node: usize| cluster.nodes[node].name().to_owned());
        let replace = ["node", "replace", &names[0], "--with", &names[1]];
        let mut command = std::process::Command::new(e2e::program::twinblk());
        let admin = cluster.nodes[0].folder().join("admin.sock");
        command.arg("--admin").arg(admin).args(replace);
        let mut typed = command.spawn().expect("the program starts");
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        let dies = if alpha_dies { 0 } else { new };
        cluster.nodes[dies].kill();
        cluster.nodes[dies].start();
        typed.wait().expect("it ends");
        wait_for("the replacement to be finished", PATIENCE, || {
            let told = cluster.nodes[0].cli(&replace);
            (told.code == Some(0)).then_some(())
        });
        wait_copies(&cluster, 0, 2);
        assert_eq!(replicas_of(&cluster, 0), ["alpha", names[1].as_str()]);
        wait_for("the old one's files to go", PATIENCE, || {
            cluster.nodes[old].status("main").is_none().then_some(())
        });
        let mut client = cluster.nodes[0].open("main");
        assert_holds(&mut client, &journal).settle(&mut journal);
        assert_copies(&cluster, "main", &journal);
        (old, new) = (new, old);
    }
}

#[test]
fn a_dead_copy_is_taken_away_and_stays_away() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    two_of_three(&mut cluster);
    cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
    wait_copies(&cluster, 0, 3);
    cluster.nodes[2].kill();
    cluster.nodes[0].wait_status("main", "gamma dropped", |status| copies(status) == 2);
    let told = cluster.nodes[0].ok(&["volume", "replica", "rm", "main", "gamma"]);
    assert!(told.contains("when it hears of it"), "{told}");
    wait_copies(&cluster, 0, 2);
    cluster.nodes[2].start();
    wait_for("gamma's files to go", PATIENCE, || {
        cluster.nodes[2].status("main").is_none().then_some(())
    });
    wait_copies(&cluster, 1, 2);
}

#[test]
fn two_dead_copies_are_taken_away_together() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    let mut arbiter = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&arbiter, "automatic");
    arbiter.start();
    two_of_three(&mut cluster);
    cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
    wait_copies(&cluster, 0, 3);
    let load = load(&cluster, Journal::new(1, BLOCKS));
    load.wait_for_acknowledged(500);
    for dead in [1, 2] {
        cluster.nodes[dead].kill();
        let left = 3 - dead;
        cluster.nodes[0].wait_status("main", "one dropped", |status| copies(status) == left);
    }
    load.wait_for_acknowledged(load.acknowledged() + 500);
    // Each of them would have to be told of the other.
    let refused = cluster.nodes[0].cli(&["volume", "replica", "rm", "main", "beta"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("named together"), "{refused:?}");
    let told = cluster.nodes[0].ok(&["volume", "replica", "rm", "main", "beta", "gamma", "beta"]);
    assert_eq!(told.matches("when it hears of it").count(), 2, "{told}");
    wait_copies(&cluster, 0, 1);
    assert_eq!(replicas_of(&cluster, 0), ["alpha"]);
    load.wait_for_acknowledged(load.acknowledged() + 500);
    for back in [1, 2] {
        cluster.nodes[back].start();
        wait_for("its files to go", PATIENCE, || {
            cluster.nodes[back].status("main").is_none().then_some(())
        });
        assert!(!folder_of(&cluster.nodes[back].data("main")).exists());
        let node = cluster.nodes[back].name().to_owned();
        cluster.nodes[0].ok(&["volume", "replica", "add", "main", &node]);
        wait_copies(&cluster, 0, 1 + back);
    }
    let report = load.stop();
    report.assert_clean();
    assert_copies(&cluster, "main", &report.journal);
}

/// Gamma had a copy, which alpha has said is to go; alpha has none any more either, and gamma has not heard of it.
fn gamma_has_yet_to_hear(cluster: &mut Cluster) {
    two_of_three(cluster);
    cluster.nodes[0].ok(&["volume", "replica", "add", "main", "gamma"]);
    wait_copies(cluster, 0, 3);
    cluster.nodes[2].kill();
    cluster.nodes[0].wait_status("main", "gamma dropped", |status| copies(status) == 2);
    let told = cluster.nodes[0].ok(&["volume", "replica", "rm", "main", "gamma"]);
    assert!(told.contains("when it hears of it"), "{told}");
    wait_copies(cluster, 1, 2);
    cluster.nodes[1].ok(&["volume", "swap", "main"]);
    cluster.nodes[1].ok(&["volume", "replica", "rm", "main", "alpha"]);
    cluster.nodes[0].stop();
    cluster.nodes[2].start();
    wait_node(cluster, 1, "gamma");
}

/// Waits until a node is connected to another.
fn wait_node(cluster: &Cluster, node: usize, other: &str) {
    wait_for("the nodes to be connected", PATIENCE, || {
        let nodes: Value =
            serde_json::from_str(&cluster.nodes[node].ok(&["node", "ls", "--json"])).ok()?;
        let mut nodes = nodes.as_array()?.iter();
        let there = |node: &Value| node["name"] == other && node["state"] != "Connecting";
        nodes.any(there).then_some(())
    });
}

#[test]
fn a_copy_that_was_forgotten_makes_way_before_another_comes_there() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    gamma_has_yet_to_hear(&mut cluster);
    let refused = cluster.nodes[1].cli(&["volume", "replica", "add", "main", "gamma"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert_eq!(replicas_of(&cluster, 1), ["beta"]);
    cluster.nodes[1].ok(&["volume", "replica", "rm", "main", "gamma"]);
    cluster.nodes[1].ok(&["volume", "replica", "add", "main", "gamma"]);
    wait_copies(&cluster, 1, 2);
}

#[test]
fn what_was_said_of_an_earlier_copy_does_not_take_a_later_one() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    gamma_has_yet_to_hear(&mut cluster);
    cluster.nodes[1].ok(&["volume", "replica", "rm", "main", "gamma"]);
    cluster.nodes[1].ok(&["volume", "replica", "add", "main", "gamma"]);
    wait_copies(&cluster, 1, 2);
    cluster.nodes[0].start();
    let decisions = cluster.nodes[0].state().join("decisions");
    wait_for("alpha to have told gamma", PATIENCE, || {
        let mut left = std::fs::read_dir(&decisions).ok()?;
        left.next().is_none().then_some(())
    });
    assert!(cluster.nodes[2].data("main").exists());
    wait_copies(&cluster, 1, 2);
    wait_copies(&cluster, 2, 2);
}

/// Whose replicas a node knows of.
fn replicas_of(cluster: &Cluster, node: usize) -> Vec<String> {
    let status = cluster.nodes[node]
        .status("main")
        .expect("it has a replica");
    let replicas = status["replicas"].as_array().expect("a list");
    let mut names: Vec<String> = replicas
        .iter()
        .filter_map(|replica| Some(replica["node"].as_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn a_node_is_replaced_alive_and_dead_and_while_it_serves() {
    let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
    two_of_three(&mut cluster);
    let load = load(&cluster, Journal::new(1, BLOCKS));
    load.wait_for_acknowledged(500);
    let told = cluster.nodes[2].ok(&["node", "replace", "beta", "--with", "gamma"]);
    assert!(
        told.contains("gamma has a replica in the place of beta's"),
        "{told}"
    );
    wait_copies(&cluster, 0, 2);
    assert_eq!(replicas_of(&cluster, 0), ["alpha", "gamma"]);
    assert!(cluster.nodes[1].status("main").is_none());
    load.wait_for_acknowledged(load.acknowledged() + 500);
    // Nobody hears of gamma any more, and beta takes its place again.
    cluster.nodes[2].kill();
    cluster.nodes[0].wait_status("main", "gamma dropped", |status| copies(status) == 1);
    load.wait_for_acknowledged(load.acknowledged() + 500);
    let refused = cluster.nodes[0].cli(&["node", "replace", "beta", "--with", "gamma"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    cluster.nodes[0].ok(&["node", "replace", "gamma", "--with", "beta"]);
    wait_copies(&cluster, 0, 2);
    assert_eq!(replicas_of(&cluster, 0), ["alpha", "beta"]);
    let report = load.stop();
    report.assert_clean();
    // What it had is taken away once it is back, and it gets alpha's place while that serves.
    cluster.nodes[2].start();
    wait_for("gamma's files to go", PATIENCE, || {
        cluster.nodes[2].status("main").is_none().then_some(())
    });
    cluster.nodes[0].ok(&["node", "replace", "alpha", "--with", "gamma"]);
    wait_copies(&cluster, 2, 2);
    assert_eq!(replicas_of(&cluster, 2), ["beta", "gamma"]);
    let mut client = cluster.nodes[2].open("main");
    assert_holds(&mut client, &report.journal);
}
