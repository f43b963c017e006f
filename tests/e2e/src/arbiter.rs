//! The arbiter of a cluster: a `twinblk witness`, or Debian's etcd, beside the nodes.

use crate::hosts::Host;
use crate::ports::free_ports;
use crate::program::{self, Output, Running};
use crate::{PATIENCE, wait_for};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which arbiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `twinblk witness`.
    Witness,
    /// etcd.
    Etcd,
}

/// An arbiter's folder and ports; and its process, while that runs.
pub struct Arbiter {
    kind: Kind,
    folder: PathBuf,
    address: SocketAddr,
    peers: SocketAddr,
    host: Option<Host>,
    process: Option<Running>,
    wrapper: Vec<String>,
}

impl Arbiter {
    /// One in a new folder below this one, with the cluster's key, not started yet.
    ///
    /// # Panics
    /// If the folder or the configuration cannot be made.
    pub fn new(kind: Kind, parent: &Path, key: &Path) -> Arbiter {
        let ports = free_ports(2);
        let addresses = [ports[0], ports[1]].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Arbiter::at(kind, parent, key, addresses)
    }

    /// As [`Self::new`], on a host of its own.
    ///
    /// # Panics
    /// If the folder or the configuration cannot be made.
    pub fn on(host: &Host, kind: Kind, parent: &Path, key: &Path) -> Arbiter {
        let mut arbiter = Arbiter::at(kind, parent, key, [host.at(7789), host.at(7790)]);
        arbiter.wrap(&host.wrapper().each_ref().map(String::as_str));
        arbiter.host = Some(host.clone());
        arbiter
    }

    fn at(kind: Kind, parent: &Path, key: &Path, [address, peers]: [SocketAddr; 2]) -> Arbiter {
        let folder = parent.join("arbiter");
        std::fs::create_dir(&folder).expect("the arbiter's folder");
        let (home, key) = (folder.display(), key.display());
        let text = format!(
            "[witness]\nlisten = \"{address}\"\nstate_dir = \"{home}/state\"\n\n[security]\nkey_file = \
             \"{key}\"\n"
        );
        std::fs::write(folder.join("twinblk.toml"), text).expect("the arbiter's configuration");
        Arbiter {
            kind,
            folder,
            address,
            peers,
            host: None,
            process: None,
            wrapper: Vec::new(),
        }
    }

    /// It is started by this command line, which its own is appended to.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Its section in a node's configuration.
    pub fn section(&self) -> String {
        let address = self.address;
        match self.kind {
            Kind::Witness => format!("[arbiter]\nkind = \"witness\"\naddress = \"{address}\"\n"),
            Kind::Etcd => {
                format!("[arbiter]\nkind = \"etcd\"\nendpoints = [\"http://{address}\"]\n")
            }
        }
    }

    /// What follows `arbiter set` on the command line.
    pub fn words(&self) -> [String; 2] {
        match self.kind {
            Kind::Witness => ["witness".to_owned(), self.address.to_string()],
            Kind::Etcd => ["etcd".to_owned(), format!("http://{}", self.address)],
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process number.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Running::id)
    }

    /// Its command line.
    pub fn command(&self) -> Command {
        let own = match self.kind {
            Kind::Witness => program::twinblk().to_owned(),
            Kind::Etcd => PathBuf::from("etcd"),
        };
        let mut words = self.wrapper.iter();
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(own);
                command
            }
            None => Command::new(own),
        };
        if self.kind == Kind::Witness {
            let config = self.folder.join("twinblk.toml");
            command.arg("witness").arg("--config").arg(config);
            return command;
        }
        let (client, peer) = (
            format!("http://{}", self.address),
            format!("http://{}", self.peers),
        );
        command
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")]);
        command
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// If it does not, with its log.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the arbiter runs already");
        let log = self.folder.join("log");
        let started = Running::start(self.command(), &log);
        self.process = Some(started.expect("the arbiter starts: scripts/setup installs etcd"));
        wait_for("the arbiter to listen", PATIENCE, || {
            if let Some(status) = self.process.as_mut().and_then(Running::ended) {
                panic!("the arbiter has ended with {status}:\n{}", self.log());
            }
            self.listens().then_some(())
        });
    }

    fn listens(&self) -> bool {
        let connect = || TcpStream::connect(self.address).is_ok();
        match &self.host {
            Some(host) => host.inside(connect),
            None => connect(),
        }
    }

    /// Runs a second one beside it, which must end by itself.
    pub fn run(&self) -> Output {
        program::run(self.command(), PATIENCE)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// What it has printed in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}
