//! An address that follows the volume: `scripts/hooks/virtual-ip` in network namespaces. They need root: elsewhere
//! these tests do nothing.

use e2e::agent::Agent;
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::program::{self, Output, Running};
use e2e::{PATIENCE, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The address that follows the volume.
const VIRTUAL: &str = "10.79.0.100";
const CLIENT: usize = 2;

fn hook() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/hooks/virtual-ip");
    path.canonicalize().expect("the hook is there")
}

/// Two nodes' hosts and a client's, on one switch. Dropping it removes them.
struct Hosts {
    names: Vec<String>,
    switch: String,
    folder: tempfile::TempDir,
}

impl Hosts {
    fn new() -> Hosts {
        let prefix = format!("twinblk-{}", std::process::id());
        let hosts = Hosts {
            names: ["a", "b", "c"]
                .iter()
                .map(|host| format!("{prefix}-{host}"))
                .collect(),
            switch: format!("{prefix}-s"),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let switch = hosts.switch.as_str();
        ip(&["netns", "add", switch]);
        ip(&["-n", switch, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", switch, "link", "set", "switch", "up"]);
        for (index, name) in hosts.names.iter().enumerate() {
            let port = format!("port{index}");
            ip(&["netns", "add", name]);
            ip(&[
                "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", &port,
                "netns", switch,
            ]);
            ip(&["-n", switch, "link", "set", &port, "master", "switch", "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
            let address = format!("{}/24", address(index));
            ip(&["-n", name, "address", "add", &address, "dev", "eth0"]);
        }
        let conf = format!("other 10.79.0.99/24 eth0\nmain {VIRTUAL}/24 eth0\n");
        std::fs::write(hosts.conf(), conf).expect("it is written");
        hosts
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("virtual-ip.conf")
    }

    /// Begins a command line that runs on a host.
    fn wrapper(&self, host: usize) -> Vec<&str> {
        vec!["ip", "netns", "exec", &self.names[host]]
    }

    fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(&self.wrapper(host)[1..]).arg(program);
        command
    }

    fn run_hook(&self, host: usize, event: &str) -> Output {
        let mut command = self.command(host, hook().to_str().expect("its name is UTF-8"));
        command
            .env("TWINBLK_EVENT", event)
            .env("TWINBLK_VOLUME", "main")
            .env("VIRTUAL_IP_CONF", self.conf());
        program::run(command, PATIENCE)
    }

    fn has_virtual(&self, host: usize) -> bool {
        let shown = tool("ip", &["-n", &self.names[host], "address", "show", "eth0"]).success();
        shown.contains(&format!("inet {VIRTUAL}/24"))
    }

    fn link_address(&self, host: usize) -> String {
        let words = [
            "netns",
            "exec",
            &self.names[host],
            "cat",
            "/sys/class/net/eth0/address",
        ];
        tool("ip", &words).success().trim().to_owned()
    }

    /// The link address that the client takes for the virtual address's.
    fn neighbour(&self) -> Option<String> {
        let words = ["-n", &self.names[CLIENT], "neighbour", "show", VIRTUAL];
        let shown = tool("ip", &words).success();
        let mut words = shown
            .split_whitespace()
            .skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    /// Has the client look for the virtual address: nobody listens on the port, and that is an answer.
    fn knock(&self) {
        let mut command = self.command(CLIENT, "curl");
        let url = format!("http://{VIRTUAL}:9/");
        command.args(["--silent", "--max-time", "5", &url]);
        program::run(command, PATIENCE);
    }

    fn qemu_io(&self, words: &[String]) -> Command {
        let mut command = self.command(CLIENT, "qemu-io");
        let image = format!(
            "driver=raw,file.driver=nbd,file.host={VIRTUAL},file.port=10809,file.export=main,file.reconnect-delay=30"
        );
        command.args(["--image-opts", &image]);
        for word in words {
            command.args(["-c", word]);
        }
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.switch]) {
            tool("ip", &["netns", "delete", name]);
        }
    }
}

fn address(host: usize) -> String {
    format!("10.79.0.{}", host + 1)
}

fn ip(words: &[&str]) {
    tool("ip", words).success();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn neighbours_learn_at_once_where_the_address_is() {
    if !is_root() {
        return;
    }
    let hosts = Hosts::new();
    hosts.run_hook(0, "promote").success();
    assert!(hosts.has_virtual(0) && !hosts.has_virtual(1));
    hosts.knock();
    assert_eq!(hosts.neighbour(), Some(hosts.link_address(0)));

    // The first is cut off or hangs, and still has the address; the client's cache says so, too.
    hosts.run_hook(1, "promote").success();
    wait_for("the client to learn it", Duration::from_secs(5), || {
        (hosts.neighbour() == Some(hosts.link_address(1))).then_some(())
    });
    assert!(hosts.has_virtual(0) && hosts.has_virtual(1));
    hosts.run_hook(0, "demote").success();
    assert!(!hosts.has_virtual(0) && hosts.has_virtual(1));
    // Doing it again does no harm, and other events change nothing.
    for (event, has) in [
        ("demote", false),
        ("demote", false),
        ("alone", false),
        ("promote", true),
        ("promote", true),
    ] {
        hosts.run_hook(0, event).success();
        assert_eq!(hosts.has_virtual(0), has, "{event}");
    }
    let mut missing = hosts.command(0, hook().to_str().expect("its name is UTF-8"));
    missing
        .env("TWINBLK_EVENT", "promote")
        .env("TWINBLK_VOLUME", "main");
    missing.env("VIRTUAL_IP_CONF", "/nowhere");
    assert_eq!(program::run(missing, PATIENCE).code, Some(1));
}

/// Daemons and agents on the hosts, with the hook.
fn cluster(hosts: &Hosts) -> (Cluster, Vec<Agent>) {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let text = |node: usize| {
        let file = cluster.nodes[node].folder().join("twinblk.toml");
        (
            std::fs::read_to_string(&file).expect("the configuration"),
            file,
        )
    };
    let listens: Vec<String> = (0..2)
        .map(|node| {
            let (text, _) = text(node);
            let line = text.lines().find_map(|line| line.strip_prefix("listen = "));
            line.expect("a node listens").trim_matches('"').to_owned()
        })
        .collect();
    for node in 0..2 {
        let (mut text, file) = text(node);
        for (host, listen) in listens.iter().enumerate() {
            text = text.replace(listen, &listen.replace("127.0.0.1", &address(host)));
        }
        let nbd = text
            .lines()
            .find(|line| line.starts_with("nbd = "))
            .expect("a node serves");
        let both = nbd.replace("nbd = ", "nbd = [\"tcp:0.0.0.0:10809\", ") + "]";
        let text = text.replace(nbd, &both);
        std::fs::write(file, text).expect("the configuration");
    }
    let conf = format!("VIRTUAL_IP_CONF={}", hosts.conf().display());
    let mut agents = Vec::new();
    for (host, node) in cluster.nodes.iter_mut().enumerate() {
        let mut wrapper = hosts.wrapper(host);
        node.wrap(&wrapper);
        wrapper.extend(["env", &conf]);
        let mut agent = Agent::beside(node, "hold_s = 1");
        agent.wrap(&wrapper);
        agent.link("promote", "50-virtual-ip", &hook());
        agent.link("demote", "10-virtual-ip", &hook());
        agents.push(agent);
    }
    cluster.start();
    agents.iter_mut().for_each(Agent::start);
    cluster.create("main", "64M");
    wait_for("the address", PATIENCE, || {
        hosts.has_virtual(0).then_some(())
    });
    (cluster, agents)
}

fn write(value: u8) -> String {
    format!("write -f -P {value} 1M 64k")
}

#[test]
fn a_client_finds_the_survivor_at_the_same_address() {
    if !is_root() {
        return;
    }
    let hosts = Hosts::new();
    let (mut cluster, mut agents) = cluster(&hosts);
    program::run(hosts.qemu_io(&[write(0xab)]), PATIENCE).success();
    // The whole machine hangs as far as others can tell: its agent does nothing any more.
    agents[0].kill();
    cluster.alpha().kill();
    cluster.nodes[1].wait_state("main", "Waiting for alpha");
    cluster.nodes[1].ok(&["volume", "promote", "main", "--force"]);
    wait_for("the address", PATIENCE, || {
        hosts.has_virtual(1).then_some(())
    });
    assert!(hosts.has_virtual(0), "nobody has taken it from alpha");
    let read = "read -P 0xab 1M 64k".to_owned();
    let found = program::run(hosts.qemu_io(&[read, write(0xcd)]), PATIENCE).success();
    assert!(!found.contains("failed"), "{found}");

    // It comes back, learns that it has been superseded, and lets go.
    cluster.alpha().start();
    agents[0].start();
    wait_for("alpha to let go", PATIENCE, || {
        (!hosts.has_virtual(0)).then_some(())
    });
    cluster.nodes[1].wait_state("main", "Protected");
}

#[test]
fn a_client_that_reconnects_sees_no_error_in_a_swap() {
    if !is_root() {
        return;
    }
    let hosts = Hosts::new();
    let (cluster, _agents) = cluster(&hosts);
    let mut words = Vec::new();
    for value in 1..=40 {
        words.push(write(value));
        words.push("sleep 100".to_owned());
    }
    words.push("read -P 40 1M 64k".to_owned());
    let log = cluster.folder().join("client.log");
    let client = Running::start(hosts.qemu_io(&words), &log).expect("qemu-io is installed");
    std::thread::sleep(Duration::from_millis(1_000));
    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    let status = client.wait(PATIENCE).expect("the client ends");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(
        status.success() && !text.contains("rror") && !text.contains("failed"),
        "{text}"
    );
    assert_eq!(text.matches("wrote 65536/65536").count(), 40, "{text}");
    assert!(hosts.has_virtual(1) && !hosts.has_virtual(0));
}
