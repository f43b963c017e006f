//! Following events, through all that may happen to the daemon.

use e2e::cluster::Cluster;
use e2e::node::Node;
use e2e::program::{Running, twinblk};
use e2e::{PATIENCE, wait_for};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// `events --follow --json`, and what it has printed.
struct Follower {
    _program: Running,
    printed: PathBuf,
}

impl Follower {
    fn start(node: &Node) -> Follower {
        let printed = node.folder().join("followed");
        let mut command = Command::new(twinblk());
        command
            .arg("--admin")
            .arg(node.folder().join("admin.sock"))
            .args(["events", "--follow", "--json"]);
        Follower {
            _program: Running::start(command, &printed).expect("it starts"),
            printed,
        }
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.printed).unwrap_or_default();
        // It also says when the daemon is away, and its last line may be on its way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).expect("an event is JSON"))
            .collect()
    }
}

fn ids(events: &[Value]) -> Vec<u64> {
    let ids = events.iter().map(|event| event["id"].as_u64());
    ids.map(|id| id.expect("an event has an id")).collect()
}

#[test]
fn a_follower_misses_nothing_and_sees_nothing_twice_while_the_daemon_is_restarted() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    let follower = Follower::start(&cluster.nodes[0]);
    for round in 0..3 {
        cluster.nodes[round % 2].ok(&["volume", "swap", "main"]);
        cluster.alpha().kill();
        cluster.alpha().start();
        cluster.nodes[0].wait_state("main", "Protected");
        cluster.alpha().stop();
        cluster.alpha().start();
        cluster.nodes[0].wait_state("main", "Protected");
    }
    cluster.nodes[0].ok(&["volume", "grow", "main", "--size", "96M"]);
    let all = cluster.nodes[0].events();
    let grown = all.iter().find(|event| event["name"] == "grown");
    let last = grown
        .and_then(|event| event["id"].as_u64())
        .expect("it grew");
    let followed = wait_for("the follower to see the last event", PATIENCE, || {
        let events = follower.events();
        ids(&events).contains(&last).then_some(events)
    });
    let followed: Vec<Value> = followed
        .into_iter()
        .filter(|event| event["id"].as_u64() <= Some(last))
        .collect();
    assert_eq!(ids(&followed), (1..=last).collect::<Vec<_>>());
    let seen_by_all = &all[..followed.len()];
    assert_eq!(followed, seen_by_all, "what was followed, and what is told");
    let started = followed.iter().filter(|event| event["number"] == 1);
    assert_eq!(started.count(), 7);

    // Whoever remembers the last one asks for the rest.
    let half = last / 2;
    let rest = cluster.nodes[0].ok(&["events", "--json", "--after", &half.to_string()]);
    let first: Value = serde_json::from_str(rest.lines().next().expect("there are more"))
        .expect("an event is JSON");
    assert_eq!(first["id"].as_u64(), Some(half + 1));
}

#[test]
fn whoever_stops_reading_ends_the_follower() {
    let cluster = Cluster::pair();
    cluster.create("main", "64M");
    let binary = twinblk().display();
    let socket = cluster.nodes[0].folder().join("admin.sock");
    let script = format!(
        "{{ {binary} --admin {} events --follow; echo \"code $?\" >&2; }} | head -n 1",
        socket.display()
    );
    let log = cluster.folder().join("reader.log");
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let reader = Running::start(command, &log).expect("a shell");
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_for("the first line", PATIENCE, || {
        text().contains("the daemon has started").then_some(())
    });
    // The next event finds nobody to print it for.
    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    assert!(reader.wait(PATIENCE).is_some(), "{}", text());
    assert!(text().contains("code 0"), "{}", text());
}

fn names_of(node: &Node, from: u64) -> Vec<String> {
    let events = node.events().into_iter();
    events
        .filter(|event| event["number"].as_u64() >= Some(from))
        .filter_map(|event| event["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn who_serves_tells_how_it_is_protected_and_that_a_failover_is_complete() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    wait_for("protection", PATIENCE, || {
        (names_of(&cluster.nodes[0], 500) == ["protected"]).then_some(())
    });
    cluster.alpha().kill();
    cluster.nodes[1].wait_state("main", "Waiting for alpha");
    cluster.nodes[1].ok(&["volume", "promote", "main", "--force"]);
    wait_for("the failover", PATIENCE, || {
        (names_of(&cluster.nodes[1], 500) == ["failover-completed", "alone"]).then_some(())
    });
    cluster.alpha().start();
    wait_for("protection", PATIENCE, || {
        let names = names_of(&cluster.nodes[1], 500);
        (names == ["failover-completed", "alone", "protected"]).then_some(())
    });
    // A swap is no failover, and who serves no more says nothing more.
    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    wait_for("protection", PATIENCE, || {
        (names_of(&cluster.nodes[0], 500) == ["protected", "protected"]).then_some(())
    });
    assert_eq!(names_of(&cluster.nodes[1], 500).len(), 3);
}
