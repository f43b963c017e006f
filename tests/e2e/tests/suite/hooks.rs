//! Hooks, run by agents beside real daemons.

use e2e::agent::Agent;
use e2e::arbiter::{Arbiter, Kind};
use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::node::Node;
use e2e::ports::free_ports;
use e2e::{PATIENCE, wait_for};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// Two nodes and their agents, whose hooks write down these words; the agents do not run yet.
fn pair(settings: &str, words: &str) -> (Cluster, Vec<Agent>) {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let agents: Vec<Agent> = cluster
        .nodes
        .iter()
        .map(|node| Agent::beside(node, settings))
        .collect();
    agents.iter().for_each(|agent| agent.record(words));
    cluster.start();
    (cluster, agents)
}

/// The names and texts of a node's events about hooks.
fn outcomes(node: &Node) -> Vec<(String, String)> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let events = node.events().into_iter();
    events
        .filter(|event| event["number"].as_u64() >= Some(600))
        .map(|event| (text(&event, "name"), text(&event, "text")))
        .collect()
}

#[test]
fn hooks_follow_the_volume_and_are_told_its_facts() {
    let words = "$TWINBLK_VOLUME $TWINBLK_NODE $TWINBLK_ROLE $TWINBLK_PRIMARY of $TWINBLK_REPLICAS";
    let (mut cluster, mut agents) = pair("", words);
    agents.iter_mut().for_each(Agent::start);
    cluster.create("main", "64M");
    let promoted = "promote main alpha Primary alpha of alpha beta";
    let protected = "protected main alpha Primary alpha of alpha beta";
    let alone = "alone main alpha Primary alpha of alpha beta";
    agents[0].wait_lines(&[promoted, protected]);

    cluster.beta().kill();
    let journal = Journal::new(1, 16 << 10);
    let plan = Plan::requests(200);
    Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    agents[0].wait_lines(&[promoted, protected, alone]);
    cluster.beta().start();
    agents[0].wait_lines(&[promoted, protected, alone, protected]);

    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    let demoted = "demote main alpha Secondary beta of alpha beta";
    agents[0].wait_lines(&[promoted, protected, alone, protected, demoted]);
    let of_beta = [
        "promote main beta Primary beta of beta alpha",
        "protected main beta Primary beta of beta alpha",
    ];
    agents[1].wait_lines(&of_beta);

    // Every outcome has come to the daemon.
    wait_for("the outcomes", PATIENCE, || {
        (outcomes(&cluster.nodes[0]).len() == 5).then_some(())
    });
    let (name, text) = &outcomes(&cluster.nodes[0])[0];
    assert_eq!(name, "hook-done");
    let begins = "promote hook 50-record ended with exit code 0 after ";
    assert!(text.starts_with(begins), "{text}");
    agents.iter_mut().for_each(Agent::stop);
}

#[test]
fn restarts_run_what_has_changed_and_nothing_twice() {
    let (mut cluster, mut agents) = pair("hold_s = 30", "$TWINBLK_REASON");
    agents.iter_mut().for_each(Agent::start);
    cluster.create("main", "64M");
    agents[0].wait_lines(&["promote ", "protected "]);

    // Neither the daemon's restart, planned or not, nor the agent's changes what the node does.
    for _ in 0..2 {
        cluster.alpha().kill();
        cluster.alpha().start();
        cluster.nodes[0].wait_state("main", "Protected");
        cluster.alpha().stop();
        cluster.alpha().start();
        cluster.nodes[0].wait_state("main", "Protected");
        agents[0].kill();
        agents[0].start();
        agents[0].stop();
        agents[0].start();
    }
    // The agent's way to the daemon is shown by the next transition.
    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    agents[0].wait_lines(&["promote ", "protected ", "demote "]);
    agents[1].wait_lines(&["promote ", "protected "]);

    // What comes and goes while the agent is away is passed over, what stays is run once.
    agents[0].kill();
    for _ in 0..3 {
        cluster.nodes[0].ok(&["volume", "swap", "main"]);
        wait_served(&cluster);
    }
    agents[0].start();
    agents[0].wait_lines(&[
        "promote ",
        "protected ",
        "demote ",
        "promote ",
        "protected ",
    ]);
    agents[0].stop();
    agents[0].start();

    // A volume that is removed is served no more.
    wait_for("the volume to be removed", PATIENCE, || {
        (cluster.nodes[0].cli(&["volume", "rm", "main"]).code == Some(0)).then_some(())
    });
    let all = [
        "promote ",
        "protected ",
        "demote ",
        "promote ",
        "protected ",
    ];
    let removed = "demote the volume was removed";
    let gone = "demote ";
    wait_for("the demotion", PATIENCE, || {
        (agents[0].lines().len() > all.len()).then_some(())
    });
    let lines = agents[0].lines();
    assert_eq!(lines[..all.len()], all);
    assert!(
        lines[all.len()..] == [removed] || lines[all.len()..] == [gone],
        "{lines:?}"
    );
}

/// Waits until both nodes see the volume served and protected.
fn wait_served(cluster: &Cluster) {
    for node in &cluster.nodes {
        node.wait_state("main", "Protected");
    }
}

#[test]
fn a_daemon_that_stays_away_serves_nothing() {
    let (mut cluster, mut agents) = pair("hold_s = 1", "$TWINBLK_REASON");
    agents[0].start();
    cluster.create("main", "64M");
    agents[0].wait_lines(&["promote ", "protected "]);
    cluster.alpha().kill();
    let gone = "demote the daemon does not answer";
    agents[0].wait_lines(&["promote ", "protected ", gone]);
    cluster.alpha().start();
    agents[0].wait_lines(&["promote ", "protected ", gone, "promote ", "protected "]);

    // One that is there and has nothing to tell is not away.
    std::thread::sleep(Duration::from_secs(3));
    // One that hangs is.
    cluster.nodes[0].signal(rustix::process::Signal::STOP);
    let all = [
        "promote ",
        "protected ",
        gone,
        "promote ",
        "protected ",
        gone,
    ];
    agents[0].wait_lines(&all);
    cluster.nodes[0].signal(rustix::process::Signal::CONT);
    wait_for("the node to serve again", PATIENCE, || {
        // Its peer may have been given up meanwhile, and have come back.
        let lines = agents[0].lines();
        let again = lines.get(all.len()..).unwrap_or_default();
        let first = again.first().is_some_and(|line| line == "promote ");
        (first && again.last().is_some_and(|line| line == "protected ")).then_some(())
    });
}

#[test]
fn failures_and_the_time_limit_are_told_and_hold_up_no_other_volume() {
    let (cluster, mut agents) = pair("time_limit_s = 4", "$TWINBLK_VOLUME");
    let agent = &mut agents[0];
    agent.hook("promote", "10-fails", "echo out; echo err >&2; exit 3");
    let hanging = cluster.nodes[0].folder().join("hanging");
    let hangs = format!(
        "[ \"$TWINBLK_VOLUME\" = slow ] || exit 0\ntouch {}\nsleep 1000 & sleep 1000",
        hanging.display()
    );
    agent.hook("promote", "20-hangs", &hangs);
    agent.hook("promote", "30-anybody", "exit 0");
    let anybody = agent.path("promote", "30-anybody");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(anybody, open).expect("it is ours");
    agent.start();
    cluster.create("slow", "32M");
    wait_for("the hook to hang", PATIENCE, || {
        hanging.exists().then_some(())
    });
    cluster.create("fast", "32M");
    wait_for("the hooks", PATIENCE, || {
        (agent.lines().len() == 4).then_some(())
    });
    let lines = agent.lines();
    let place = |line: &str| lines.iter().position(|one| one == line);
    assert!(place("promote fast") < place("promote slow"), "{lines:?}");
    assert!(place("promote slow") < place("protected slow"), "{lines:?}");
    let of_slow = |found: &str| {
        let events = cluster.nodes[0].events();
        events.iter().any(|event| {
            event["volume"] == "slow"
                && event["text"]
                    .as_str()
                    .is_some_and(|text| text.contains(found))
        })
    };
    for found in [
        "promote hook 10-fails ended with exit code 3 after 0.",
        "promote hook 20-hangs reached the time limit and was ended after 5.",
        "promote hook 30-anybody was refused: others than its owner may write to it",
    ] {
        wait_for(found, PATIENCE, || of_slow(found).then_some(()));
    }
    for printed in ["out", "err"] {
        agent.wait_log(printed);
    }
    agent.stop();
}

/// A hook that runs when the agent is killed is told as cut short, and those behind it are run by the next agent.
#[test]
fn an_agent_that_is_killed_runs_no_hook_twice() {
    let (cluster, mut agents) = pair("", "");
    let agent = &mut agents[0];
    let file = cluster.nodes[0].folder().join("slow");
    let slow = format!("echo begun >> {}\nsleep 2", file.display());
    agent.hook("promote", "10-slow", &slow);
    agent.start();
    cluster.create("main", "64M");
    wait_for("the slow hook", PATIENCE, || file.exists().then_some(()));
    agent.kill();
    std::thread::sleep(Duration::from_millis(100));
    agent.start();
    agent.wait_lines(&["promote ", "protected "]);
    let text = std::fs::read_to_string(&file).expect("it has run");
    assert_eq!(text, "begun\n");
    wait_for("the outcome", PATIENCE, || {
        let cut_short = outcomes(&cluster.nodes[0])
            .into_iter()
            .find(|(name, text)| name == "hook-failed" && text.contains("10-slow was cut short"));
        cut_short.map(|_| ())
    });
}

/// Without a quorum requests are held: it is told by hook, health and metrics, and so is that it has passed.
#[test]
fn a_volume_that_is_frozen_is_told_everywhere_until_it_thaws() {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, "automatic");
    let http = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
    cluster.nodes[0].configure(&format!("[http]\nlisten = \"{http}\"\n"));
    let mut agent = Agent::beside(&cluster.nodes[0], "");
    agent.record("$TWINBLK_STATE");
    witness.start();
    cluster.start();
    agent.start();
    cluster.create("main", "64M");
    agent.wait_lines(&["promote Protected", "protected Protected"]);
    wait_for("the register to be seeded", PATIENCE, || {
        let status = cluster.nodes[0].ok(&["arbiter", "status", "--json"]);
        status.contains("\"Same\"").then_some(())
    });

    witness.kill();
    cluster.beta().kill();
    let frozen = ["promote Protected", "protected Protected", "frozen Frozen"];
    agent.wait_lines(&frozen);
    let (status, reason) = e2e::http::get(http, "/health/main").expect("it answers");
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("frozen"), "{reason}");
    let (_, metrics) = e2e::http::get(http, "/metrics").expect("it answers");
    let series = "twinblk_volume_state{volume=\"main\",state=\"Frozen\"}";
    assert!(metrics.contains(&format!("{series} 1")), "{metrics}");

    witness.start();
    agent.wait_lines(&[&frozen[..], &["alone Alone"]].concat());
    let (status, _) = e2e::http::get(http, "/health/main").expect("it answers");
    assert_eq!(status, 200);
    let (_, metrics) = e2e::http::get(http, "/metrics").expect("it answers");
    assert!(metrics.contains(&format!("{series} 0")), "{metrics}");
}

/// The survivor takes over by itself and its hooks run; the one that hung learns that it has been superseded.
#[test]
fn a_failover_runs_hooks_on_both_sides() {
    let (mut cluster, _witness) = Cluster::arbitrated_pair(Kind::Witness);
    let mut agents: Vec<Agent> = cluster
        .nodes
        .iter()
        .map(|node| Agent::beside(node, "hold_s = 60"))
        .collect();
    for agent in &mut agents {
        agent.record("$TWINBLK_PRIMARY");
        agent.start();
    }
    cluster.create("main", "64M");
    agents[0].wait_lines(&["promote alpha", "protected alpha"]);
    let begun = std::time::Instant::now();
    cluster.nodes[0].signal(rustix::process::Signal::STOP);
    wait_for("the survivor's hooks", PATIENCE, || {
        (agents[1].lines().len() == 2).then_some(())
    });
    println!(
        "hooks have run {:?} after the primary was stopped",
        begun.elapsed()
    );
    assert_eq!(agents[1].lines(), ["promote beta", "alone beta"]);
    let names: Vec<String> = e2e::checks::event_names(&cluster.nodes[1]);
    let place = |name: &str| names.iter().position(|one| one == name);
    assert!(place("failover-started") < place("promoted"), "{names:?}");
    assert!(place("promoted") < place("failover-completed"), "{names:?}");
    cluster.nodes[0].signal(rustix::process::Signal::CONT);
    agents[1].wait_lines(&["promote beta", "alone beta", "protected beta"]);
    wait_for("the demotion", PATIENCE, || {
        let lines = agents[0].lines();
        lines
            .last()
            .is_some_and(|line| line.starts_with("demote"))
            .then_some(())
    });
    cluster.alpha().stop();
}
