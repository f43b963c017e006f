//! Nodes that know each other, in a folder of their own.

use crate::arbiter::{Arbiter, Kind};
use crate::hosts::Host;
use crate::link::Link;
use crate::node::Node;
use crate::ports::free_ports;
use crate::program;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The time without an answer after which a peer is gone, in the tests' configuration.
pub const LEASE_MS: u64 = 2000;

/// Where nodes listen that have a host of their own.
const PORT: u16 = 7788;
/// Lines of each daemon's log that a failed test prints.
const LOG_LINES: usize = 60;

/// Two or more nodes on loopback. Dropping it kills the daemons and removes the folder.
pub struct Cluster {
    /// The nodes, in the order of their names' alphabet.
    pub nodes: Vec<Node>,
    /// The way to each node, where the test wants to count or cut it.
    pub links: Vec<Link>,
    // Behind the nodes, so that it is removed after they have been killed.
    folder: TempDir,
}

impl Cluster {
    /// Two nodes, alpha and beta, started.
    pub fn pair() -> Cluster {
        let mut cluster = Cluster::prepared(&["alpha", "beta"]);
        cluster.start();
        cluster
    }

    /// As [`Self::pair`], with links that count and can be cut.
    pub fn linked_pair() -> Cluster {
        let mut cluster = Cluster::build(&std::env::temp_dir(), &["alpha", "beta"], true);
        cluster.start();
        cluster
    }

    /// The nodes' folders and configurations; nothing runs yet.
    ///
    /// # Panics
    /// If the folders or the key cannot be made.
    pub fn prepared(names: &[&str]) -> Cluster {
        Cluster::prepared_in(&std::env::temp_dir(), names)
    }

    /// As [`Self::prepared`], in a new folder below this one.
    ///
    /// # Panics
    /// If the folders or the key cannot be made.
    pub fn prepared_in(parent: &Path, names: &[&str]) -> Cluster {
        Cluster::build(parent, names, false)
    }

    /// A node on each of these hosts, of the host's name, not started yet.
    ///
    /// # Panics
    /// If the folders or the key cannot be made.
    pub fn on(hosts: &[Host]) -> Cluster {
        let at = |host: &'_ Host| host.at(PORT);
        let places: Vec<Place<'_>> = hosts
            .iter()
            .map(|host| Place {
                name: host.name(),
                listen: at(host),
                reached_at: at(host),
            })
            .collect();
        let mut cluster = Cluster::assemble(&std::env::temp_dir(), &places, Vec::new());
        for (node, host) in cluster.nodes.iter_mut().zip(hosts) {
            node.wrap(&host.wrapper().each_ref().map(String::as_str));
        }
        cluster
    }

    fn build(parent: &Path, names: &[&str], linked: bool) -> Cluster {
        let ports = free_ports(names.len());
        let links: Vec<Link> = if linked {
            ports.iter().map(|port| Link::to(*port)).collect()
        } else {
            Vec::new()
        };
        let places: Vec<Place> = names
            .iter()
            .zip(&ports)
            .enumerate()
            .map(|(index, (name, port))| {
                let listen = SocketAddr::from(([127, 0, 0, 1], *port));
                let reached_at = links.get(index).map_or(listen, Link::address);
                Place {
                    name,
                    listen,
                    reached_at,
                }
            })
            .collect();
        Cluster::assemble(parent, &places, links)
    }

    fn assemble(parent: &Path, places: &[Place<'_>], links: Vec<Link>) -> Cluster {
        let folder = tempfile::Builder::new()
            .prefix("twinblk-e2e-")
            .tempdir_in(parent)
            .expect("a folder");
        let key = folder.path().join("cluster.key");
        new_key(&key);
        let nodes = places
            .iter()
            .map(|place| {
                let home = folder.path().join(place.name);
                std::fs::create_dir(&home).expect("a node's folder");
                let text = configuration(place, &home, &key, places);
                std::fs::write(home.join("twinblk.toml"), text).expect("a node's configuration");
                Node::new(place.name, &home)
            })
            .collect();
        Cluster {
            nodes,
            links,
            folder,
        }
    }

    /// Bytes that have crossed the links, both ways.
    pub fn link_bytes(&self) -> u64 {
        self.links.iter().map(Link::bytes).sum()
    }

    /// Parts the nodes.
    pub fn cut(&self) {
        self.links.iter().for_each(Link::cut);
    }

    /// Lets the nodes meet again.
    pub fn mend(&self) {
        self.links.iter().for_each(Link::mend);
    }

    /// Starts every daemon that does not run.
    pub fn start(&mut self) {
        for node in self
            .nodes
            .iter_mut()
            .filter(|node| node.process().is_none())
        {
            node.start();
        }
    }

    /// Two nodes, alpha and beta, and an arbiter that they fail over with by themselves; all started.
    pub fn arbitrated_pair(kind: Kind) -> (Cluster, Arbiter) {
        let mut cluster = Cluster::prepared(&["alpha", "beta"]);
        let mut arbiter = Arbiter::new(kind, cluster.folder(), &cluster.key());
        cluster.arbitrate(&arbiter, "automatic");
        arbiter.start();
        cluster.start();
        (cluster, arbiter)
    }

    /// Names an arbiter, and when to fail over, in every node's configuration.
    pub fn arbitrate(&self, arbiter: &Arbiter, mode: &str) {
        self.failover_with(&format!("mode = \"{mode}\"\n"));
        self.append(&arbiter.section());
    }

    /// Appends a section to every node's configuration.
    pub fn append(&self, section: &str) {
        self.configure(|text| format!("{text}\n{section}"));
    }

    /// Adds lines to the failover section of every node's configuration.
    pub fn failover_with(&self, lines: &str) {
        self.configure(|text| text.replace("[failover]\n", &format!("[failover]\n{lines}")));
    }

    fn configure(&self, change: impl Fn(String) -> String) {
        for node in &self.nodes {
            let file = node.folder().join("twinblk.toml");
            let text = std::fs::read_to_string(&file).expect("a node's configuration");
            std::fs::write(&file, change(text)).expect("a node's configuration");
        }
    }

    /// Other times than the usual, in every node's configuration.
    ///
    /// # Panics
    /// If a configuration cannot be written.
    pub fn set_times(&self, lease_ms: u64, grace_ms: u64) {
        for node in &self.nodes {
            let file = node.folder().join("twinblk.toml");
            let text = std::fs::read_to_string(&file).expect("a node's configuration");
            let times = format!("lease_ms = {lease_ms}\ngrace_ms = {grace_ms}\n");
            let text = text.replace(&format!("lease_ms = {LEASE_MS}\n"), &times);
            std::fs::write(&file, text).expect("a node's configuration");
        }
    }

    /// The folder of all.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The cluster key's file.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("cluster.key")
    }

    /// Makes a volume on the first node, which becomes its primary, and waits until it is mirrored.
    pub fn create(&self, volume: &str, size: &str) {
        let names: Vec<&str> = self.nodes.iter().map(Node::name).collect();
        let replicas = names.join(",");
        let create = [
            "volume",
            "create",
            volume,
            "--size",
            size,
            "--replicas",
            &replicas,
        ];
        self.nodes[0].ok(&create);
        self.nodes[0].wait_state(volume, "Protected");
    }

    /// The first node.
    pub fn alpha(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    /// The second node.
    pub fn beta(&mut self) -> &mut Node {
        &mut self.nodes[1]
    }
}

impl Drop for Cluster {
    /// How it is with the volumes, and the end of what the daemons said, are what a failed test is understood by.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                if node.process().is_some() {
                    let status = node.cli(&["volume", "status", "--json"]);
                    eprintln!("{}: {}", node.name(), status.stdout);
                }
                let log = node.log();
                let skipped = log.lines().count().saturating_sub(LOG_LINES);
                let end: Vec<&str> = log.lines().skip(skipped).collect();
                eprintln!("the end of {}'s log:\n{}", node.name(), end.join("\n"));
            }
        }
    }
}

/// Makes a new cluster key.
///
/// # Panics
/// If the program refuses.
pub fn new_key(path: &Path) {
    let mut command = Command::new(program::twinblk());
    command.args(["key", "new"]).arg(path);
    program::run(command, crate::PATIENCE).success();
}

/// Where a node listens, and where the others reach it.
struct Place<'a> {
    name: &'a str,
    listen: SocketAddr,
    reached_at: SocketAddr,
}

fn configuration(place: &Place<'_>, home: &Path, key: &Path, places: &[Place<'_>]) -> String {
    let (name, listen, home, key) = (place.name, place.listen, home.display(), key.display());
    let mut text = format!(
        "[node]\nname = \"{name}\"\nstate_dir = \"{home}/state\"\nlisten = \"{listen}\"\n\
         nbd = \"unix:{home}/nbd.sock\"\nadmin = \"{home}/admin.sock\"\n\n\
         [security]\nkey_file = \"{key}\"\n\n[failover]\nlease_ms = {LEASE_MS}\n",
    );
    for Place {
        name, reached_at, ..
    } in places.iter().filter(|other| other.name != place.name)
    {
        let _ = write!(
            text,
            "\n[[peer]]\nname = \"{name}\"\naddress = \"{reached_at}\"\n"
        );
    }
    text
}
