//! Two machines with a Docker Engine each, an arbiter, and a container that counts.

use crate::arbiter::Kind;
use crate::cluster::Cluster;
use crate::engine::{Engine, IMAGE, engines_possible};
use crate::program::Output;
use crate::scene::Scene;
use crate::trees::busybox_tree;
use crate::{PATIENCE, wait_for};
use std::path::{Path, PathBuf};

/// What the container does: it counts, and says each number when it is on the disk.
const COUNT: &str = "n=$(tail -n 1 /data/log 2>/dev/null); while :; do n=$((n + 1)); echo $n >> /data/log; sync /data/log; \
    echo $n; sleep 0.02; done";

/// Two machines, the arbiter, and the image on both. The machines are dropped first.
pub struct Machines {
    /// alpha's and beta's.
    pub engines: Vec<Engine>,
    scene: Scene,
}

impl Machines {
    /// Up, with an image that has a shell; nothing where this cannot be.
    pub fn up() -> Option<Machines> {
        Machines::with(|folder| (busybox_tree(folder), ())).map(|(machines, ())| machines)
    }

    /// The same, with an image of a tree.
    pub fn with<T>(tree: impl FnOnce(&Path) -> (PathBuf, T)) -> Option<(Machines, T)> {
        if !engines_possible() {
            eprintln!(
                "skipped: Docker Engines need root, FUSE, loop devices, and Debian's docker.io"
            );
            return None;
        }
        let mut scene = Scene::prepared(Kind::Witness, &["alpha", "beta"])?;
        let (tree, told) = tree(scene.cluster.folder());
        let hosts = scene.hosts.all().to_vec();
        let mut engines = Vec::new();
        for (node, host) in scene.cluster.nodes.iter_mut().zip(&hosts) {
            let mut engine = Engine::of(node, host);
            engine.boot(node);
            engine.import(&tree, IMAGE);
            engines.push(engine);
        }
        Some((Machines { engines, scene }, told))
    }

    /// The nodes.
    pub fn cluster(&self) -> &Cluster {
        &self.scene.cluster
    }

    /// Kills all of a machine.
    pub fn die(&mut self, node: usize) {
        self.engines[node].die(&mut self.scene.cluster.nodes[node]);
    }

    /// Begins another life of it.
    pub fn boot(&mut self, node: usize) {
        self.engines[node].boot(&mut self.scene.cluster.nodes[node]);
    }

    /// Waits until alpha says that every replica is in sync.
    pub fn protected(&self) {
        self.cluster().nodes[0].wait_state("app", "Protected");
    }

    /// Creates the volume, on alpha.
    pub fn create(&self, size: &str) {
        let size = format!("size={size}");
        let words = ["volume", "create", "-d", "twinblk", "-o", &size, "app"];
        self.engines[0].docker(&words).success();
    }

    /// Creates and starts the container on a machine.
    pub fn run(&self, node: usize) -> Output {
        self.run_as(node, "0", COUNT)
    }

    /// The same, as this user and with this script.
    pub fn run_as(&self, node: usize, user: &str, script: &str) -> Output {
        let words = [
            "run",
            "-d",
            "--name",
            "counter",
            "--restart",
            "always",
            "--user",
            user,
        ];
        let volume = [
            "--network",
            "none",
            "-v",
            "app:/data",
            IMAGE,
            "/bin/sh",
            "-c",
            script,
        ];
        self.engines[node].docker(&[&words[..], &volume].concat())
    }

    /// The last number that the container has said there.
    pub fn said(&self, node: usize) -> Option<u64> {
        let told = self.engines[node].docker(&["logs", "--tail", "1", "counter"]);
        told.stdout.trim().parse().ok()
    }

    /// Waits until the container has said at least this there.
    pub fn wait_said(&self, node: usize, least: u64) -> u64 {
        wait_for("the container to go on", PATIENCE, || {
            self.said(node).filter(|said| *said >= least)
        })
    }

    /// What is on the volume, which the container on that machine uses.
    pub fn written(&self, node: usize) -> Vec<u64> {
        let told = self.engines[node].docker(&["exec", "counter", "cat", "/data/log"]);
        let text = told.success();
        text.lines()
            .map(|line| line.parse().expect("a number"))
            .collect()
    }
}
