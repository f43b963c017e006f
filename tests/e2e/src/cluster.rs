//! Nodes that know each other, in a folder of their own.

use crate::node::Node;
use crate::program;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The time without an answer after which a peer is gone, in the tests' configuration.
pub const LEASE_MS: u64 = 2000;

/// Two or more nodes on loopback. Dropping it kills the daemons and removes the folder.
pub struct Cluster {
    /// The nodes, in the order of their names' alphabet.
    pub nodes: Vec<Node>,
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
        let folder = tempfile::Builder::new()
            .prefix("twinblk-e2e-")
            .tempdir_in(parent)
            .expect("a folder");
        let key = folder.path().join("cluster.key");
        let mut new_key = Command::new(program::twinblk());
        new_key.args(["key", "new"]).arg(&key);
        program::run(new_key, crate::PATIENCE).success();
        let listens: Vec<(&str, u16)> =
            names.iter().copied().zip(free_ports(names.len())).collect();
        let nodes = listens
            .iter()
            .map(|(name, _)| {
                let home = folder.path().join(name);
                std::fs::create_dir(&home).expect("a node's folder");
                let text = configuration(name, &home, &key, &listens);
                std::fs::write(home.join("twinblk.toml"), text).expect("a node's configuration");
                Node::new(name, &home)
            })
            .collect();
        Cluster { nodes, folder }
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
        self.nodes[0].ok(&["volume", "create", volume, "--size", size]);
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

fn configuration(name: &str, home: &Path, key: &Path, listens: &[(&str, u16)]) -> String {
    let listen = |wanted: &str| {
        let port = listens
            .iter()
            .find(|(other, _)| *other == wanted)
            .map_or(0, |(_, port)| *port);
        format!("127.0.0.1:{port}")
    };
    let home = home.display();
    let mut text = format!(
        "[node]\nname = \"{name}\"\nstate_dir = \"{home}/state\"\nlisten = \"{}\"\n\
         nbd = \"unix:{home}/nbd.sock\"\nadmin = \"{home}/admin.sock\"\n\n\
         [security]\nkey_file = \"{}\"\n\n[failover]\nlease_ms = {LEASE_MS}\n",
        listen(name),
        key.display(),
    );
    for (other, _) in listens.iter().filter(|(other, _)| *other != name) {
        let _ = write!(
            text,
            "\n[[peer]]\nname = \"{other}\"\naddress = \"{}\"\n",
            listen(other)
        );
    }
    text
}

/// Ports that nobody listens on, below those that the kernel gives to outgoing connections. Tests run in
/// processes of their own, so each begins its search elsewhere.
pub fn free_ports(count: usize) -> Vec<u16> {
    let first = 10_000 + u16::try_from(std::process::id() * 7 % 20_000).unwrap_or(0);
    (first..32_000)
        .chain(10_000..first)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(count)
        .collect()
}
