//! How the daemon starts, whom it trusts, and what it needs.

use e2e::arbiter::{Arbiter, Kind};
use e2e::checks::{assert_copies, event_names};
use e2e::cluster::{Cluster, new_key};
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::program::{self, Output};
use e2e::{PATIENCE, wait_for};
use std::process::Command;

/// The numbers of Debian's user and group that own nothing.
const NOBODY: &str = "65534";
/// The least that a user may lock by default anywhere.
const LOCKED_MAX: u64 = 8 << 20;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs what follows without privileges and with little memory that may be locked. Whoever has none runs it as
/// what they are.
fn unprivileged() -> Vec<String> {
    let mut words = Vec::new();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    if limit.maximum.is_none_or(|bytes| bytes > LOCKED_MAX) {
        words.extend([
            "prlimit".to_owned(),
            format!("--memlock={LOCKED_MAX}:{LOCKED_MAX}"),
        ]);
    }
    if is_root() {
        let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        words.push("setpriv".to_owned());
        words.extend(user);
        words.extend(["--clear-groups".to_owned(), "--".to_owned()]);
    }
    if words.is_empty() {
        words.push("env".to_owned());
    }
    words
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let mut cluster = Cluster::prepared(&["alpha"]);
    cluster.start();
    let second = program::run(cluster.nodes[0].command(), PATIENCE);
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains("state"), "{second:?}");
    assert_eq!(second.stderr.trim().lines().count(), 1, "{second:?}");
    cluster.nodes[0].ok(&["volume", "ls"]);
}

#[test]
fn a_node_with_another_key_stays_outside() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let other = cluster.folder().join("other.key");
    new_key(&other);
    let file = cluster.nodes[1].folder().join("twinblk.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let text = text.replace(
        &cluster.key().display().to_string(),
        &other.display().to_string(),
    );
    std::fs::write(&file, text).expect("the configuration");
    cluster.start();
    for node in &cluster.nodes {
        wait_for("the refusal to be logged", PATIENCE, || {
            node.log().contains("key").then_some(())
        });
        let nodes: serde_json::Value = serde_json::from_str(&node.ok(&["node", "ls", "--json"]))
            .expect("node ls --json prints JSON");
        let connected = nodes
            .as_array()
            .into_iter()
            .flatten()
            .filter(|node| node["state"] == "Connected");
        assert_eq!(connected.count(), 0, "{nodes}");
    }
    let refused = cluster.nodes[0].cli(&["volume", "create", "main", "--size", "64M"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

#[test]
fn a_key_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("cluster.key");
    new_key(&key);
    let before = std::fs::read(&key).expect("the key");
    let mut again = Command::new(program::twinblk());
    again.args(["key", "new"]).arg(&key);
    let refused = program::run(again, PATIENCE);
    assert!(matches!(refused.code, Some(1 | 3)), "{refused:?}");
    assert_eq!(before, std::fs::read(&key).expect("the key"));
}

#[test]
fn a_wrong_configuration_names_file_line_and_remedy() {
    let cluster = Cluster::prepared(&["alpha"]);
    let file = cluster.nodes[0].folder().join("twinblk.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace("lease_ms", "leese_ms")).expect("the configuration");
    let refused = program::run(cluster.nodes[0].command(), PATIENCE);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in ["twinblk.toml:12", "leese_ms"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
}

#[test]
fn everything_works_without_privileges() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    give_away(cluster.folder());
    let wrapper = unprivileged();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    for node in &mut cluster.nodes {
        node.wrap(&wrapper);
    }
    cluster.start();
    cluster.create("main", "64M");
    let journal = Journal::new(1, 16 << 10);
    let plan = Plan::requests(2_000);
    let report = Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    assert_copies(&cluster, "main", &report.journal);
}

#[test]
fn a_witness_needs_no_privileges() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, "automatic");
    give_away(cluster.folder());
    let wrapper = unprivileged();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    witness.wrap(&wrapper);
    witness.start();
    for node in &mut cluster.nodes {
        node.wrap(&wrapper);
    }
    cluster.start();
    cluster.create("main", "64M");
    cluster.nodes[0].kill();
    cluster.nodes[1].open("main");
}

#[test]
fn the_demonstration_keeps_its_word() {
    let mut command = Command::new(program::twinblk());
    command.arg("demo");
    check_demo(&program::run(command, 2 * PATIENCE));
}

#[test]
fn the_demonstration_needs_no_privileges() {
    let folder = tempfile::tempdir().expect("a folder");
    give_away(folder.path());
    let wrapper = unprivileged();
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).arg(program::twinblk());
    command
        .arg("demo")
        .env("TMPDIR", folder.path())
        .current_dir(folder.path());
    check_demo(&program::run(command, 2 * PATIENCE));
    let left = std::fs::read_dir(folder.path()).map(Iterator::count);
    assert_eq!(left.expect("the folder is read"), 0, "files are left");
}

fn check_demo(output: &Output) {
    println!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, Some(0));
    assert!(output.stdout.contains("identical"));
}

/// Lets whoever is without privileges work in the folder.
fn give_away(folder: &std::path::Path) {
    if !is_root() {
        return;
    }
    let mut command = Command::new("chown");
    command
        .arg("-R")
        .arg(format!("{NOBODY}:{NOBODY}"))
        .arg(folder);
    program::run(command, PATIENCE).success();
}

#[test]
fn events_are_kept_and_told() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    let names = event_names(&cluster.nodes[0]);
    assert!(names.contains(&"promoted".to_owned()), "{names:?}");
    assert!(names.contains(&"handshake".to_owned()), "{names:?}");
}
