//! Two machines with a Docker Engine each, an arbiter, and a container that counts.

use crate::agent::Agent;
use crate::arbiter::Kind;
use crate::cluster::Cluster;
use crate::docker::Plugin;
use crate::engine::{Engine, IMAGE, engines_possible};
use crate::hosts::Host;
use crate::program::{Output, shipped};
use crate::scene::Scene;
use crate::trees::busybox_tree;
use crate::{PATIENCE, wait_for};
use std::path::{Path, PathBuf};

/// What the container does: it counts, and says each number when it is on the disk.
pub const COUNT: &str = "n=$(tail -n 1 /data/log 2>/dev/null); while :; do n=$((n + 1)); echo $n >> /data/log; sync /data/log; \
    echo $n; sleep 0.02; done";

/// Two machines, the arbiter, and the image on both. What is on the machines is dropped first.
pub struct Machines {
    /// alpha's and beta's.
    pub engines: Vec<Engine>,
    /// Their plugins.
    pub plugins: Vec<Plugin>,
    agents: Vec<Agent>,
    hook_settings: Vec<String>,
    scene: Scene,
}

impl Machines {
    /// Up, with an image that has a shell; nothing where this cannot be.
    pub fn up() -> Option<Machines> {
        Machines::with(|folder| (busybox_tree(folder), ())).map(|(machines, ())| machines)
    }

    /// The same, with an image of a tree.
    pub fn with<T>(tree: impl FnOnce(&Path) -> (PathBuf, T)) -> Option<(Machines, T)> {
        let mut machines = Machines::prepared()?;
        let (tree, told) = tree(machines.cluster().folder());
        for node in 0..machines.engines.len() {
            machines.boot(node);
            machines.engines[node].import(&tree, IMAGE, &[]);
        }
        Some((machines, told))
    }

    /// The machines, on which nothing runs yet, and the arbiter.
    pub fn prepared() -> Option<Machines> {
        if !engines_possible() {
            eprintln!(
                "skipped: Docker Engines need root, FUSE, loop devices, and Debian's docker.io"
            );
            return None;
        }
        let scene = Scene::prepared(Kind::Witness, &["alpha", "beta"])?;
        let nodes = &scene.cluster.nodes;
        let hosts = scene.hosts.all();
        let engines = nodes.iter().zip(hosts);
        Some(Machines {
            engines: engines
                .map(|(node, host)| Engine::on(host, node.folder()))
                .collect(),
            plugins: nodes.iter().map(Plugin::beside).collect(),
            agents: Vec::new(),
            hook_settings: Vec::new(),
            scene,
        })
    }

    /// A hook that is shipped, as it is, run on both machines by their agents when they boot: `NAME=VALUE` are its settings.
    pub fn hook(&mut self, name: &str, settings: &[String]) {
        let hook = shipped(&format!("scripts/hooks/{name}"));
        for node in &self.scene.cluster.nodes {
            let agent = Agent::beside(node, "");
            agent.link("promote", name, &hook);
            agent.link("demote", name, &hook);
            self.agents.push(agent);
        }
        self.hook_settings = settings.to_vec();
    }

    /// The nodes.
    pub fn cluster(&self) -> &Cluster {
        &self.scene.cluster
    }

    /// The arbiter's machine.
    pub fn arbiter_host(&self) -> &Host {
        let hosts = self.scene.hosts.all();
        hosts.last().expect("it has one")
    }

    /// Kills all of a machine.
    pub fn die(&mut self, node: usize) {
        self.engines[node].die();
        self.plugins[node].kill();
        self.scene.cluster.nodes[node].kill();
        if let Some(agent) = self.agents.get_mut(node) {
            agent.kill();
        }
    }

    /// Begins another life of it.
    pub fn boot(&mut self, node: usize) {
        let engine = &mut self.engines[node];
        engine.begin();
        let wrapper = engine.wrapper();
        let mut wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let daemon = &mut self.scene.cluster.nodes[node];
        daemon.wrap(&wrapper);
        daemon.start();
        self.plugins[node].wrap(&wrapper);
        self.plugins[node].start();
        // Before Docker, as it may be when a machine is started.
        if let Some(agent) = self.agents.get_mut(node) {
            wrapper.push("env");
            wrapper.extend(self.hook_settings.iter().map(String::as_str));
            agent.wrap(&wrapper);
            agent.start();
        }
        engine.start_docker();
    }

    /// SIGKILL to a machine's daemon alone.
    pub fn kill_daemon(&mut self, node: usize) {
        self.scene.cluster.nodes[node].kill();
    }

    /// Starts it again.
    pub fn start_daemon(&mut self, node: usize) {
        self.scene.cluster.nodes[node].start();
    }

    /// Starts a machine's plugin and dockerd again.
    pub fn start_docker_and_plugin(&mut self, node: usize) {
        self.plugins[node].start();
        self.engines[node].start_docker();
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
