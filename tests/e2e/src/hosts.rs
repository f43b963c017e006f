//! Hosts that are network namespaces on one switch, a bridge in a namespace of its own. Whatever is sent from one to
//! another can be lost, in either direction, and what a host sends can be slowed down.
//!
//! All of it needs root. Nothing outside these namespaces is touched, and they go when the test does, also when it
//! panics; what a run leaves that was killed is removed by the next.

use crate::program::{self, Output};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Names of namespaces begin with this, followed by the number of the process that made them.
const PREFIX: &str = "twinblk-e2e";
/// The namespace of the switch.
const SWITCH: &str = "switch";
/// A host's only interface, and how many hosts an address has room for.
const INTERFACE: &str = "eth0";
const HOSTS_MAX: u8 = 200;
const COMMAND_MAX: Duration = Duration::from_secs(20);

/// Some hosts, and the switch between them.
pub struct Hosts {
    prefix: String,
    hosts: Vec<Host>,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    namespace: String,
    address: Ipv4Addr,
}

impl Hosts {
    /// Hosts of these names; nothing, and a line that says so, where they cannot be made.
    ///
    /// # Panics
    /// If they can, and something goes wrong.
    pub fn up(names: &[&str]) -> Option<Hosts> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        if words("unshare", &["--net", "true"]).code != Some(0) {
            eprintln!("skipped: this machine lets nobody make network namespaces");
            return None;
        }
        remove_left_overs();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}-{}-{count}", std::process::id());
        let mut hosts = Hosts {
            prefix,
            hosts: Vec::new(),
        };
        hosts.make_switch();
        for name in names {
            hosts.make_host(name);
        }
        Some(hosts)
    }

    /// The hosts, in the order of their names as given.
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }

    /// The namespaces that there are for them, the switch's included.
    pub fn namespaces(&self) -> Vec<String> {
        let mine = format!("{}-", self.prefix);
        let mut all = namespaces();
        all.retain(|namespace| namespace.starts_with(&mine));
        all
    }

    /// From now on nothing that one host sends reaches the other. The way back is open.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        let source = self.hosts[from].address.to_string();
        let rule = ["-w", "-A", "INPUT", "-s", &source, "-j", "DROP"];
        self.hosts[to].run("iptables", &rule).success();
    }

    /// Parts two hosts.
    pub fn cut(&self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        for host in &self.hosts {
            host.run("iptables", &["-w", "-F", "INPUT"]).success();
        }
    }

    /// A host sends no faster than this.
    pub fn limit(&self, host: usize, mbit_per_s: u32) {
        let rate = format!("{mbit_per_s}mbit");
        let words = ["qdisc", "replace", "dev", INTERFACE, "root", "tbf", "rate"];
        let bounds = [&rate, "burst", "256kb", "latency", "400ms"];
        let all = [&words[..], &bounds[..]].concat();
        self.hosts[host].run("tc", &all).success();
    }

    fn make_switch(&self) {
        let switch = format!("{}-{SWITCH}", self.prefix);
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "bridge", "up"]);
    }

    fn make_host(&mut self, name: &str) {
        let number = u8::try_from(self.hosts.len() + 1).unwrap_or(u8::MAX);
        assert!(number <= HOSTS_MAX, "a subnet has room for no more hosts");
        let host = Host {
            name: name.to_owned(),
            namespace: format!("{}-{name}", self.prefix),
            address: Ipv4Addr::new(10, 77, 0, number),
        };
        let (inside, switch) = (&host.namespace, format!("{}-{SWITCH}", self.prefix));
        let port = format!("port{number}");
        let subnet = format!("{}/24", host.address);
        ip(&["netns", "add", inside]);
        let pair = ["type", "veth", "peer", "name", INTERFACE, "netns", inside];
        ip(&[&["-n", &switch, "link", "add", &port][..], &pair].concat());
        ip(&[
            "-n", &switch, "link", "set", &port, "master", "bridge", "up",
        ]);
        ip(&["-n", inside, "addr", "add", &subnet, "dev", INTERFACE]);
        ip(&["-n", inside, "link", "set", INTERFACE, "up"]);
        ip(&["-n", inside, "link", "set", "lo", "up"]);
        self.hosts.push(host);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for namespace in self.namespaces() {
            remove(&namespace);
        }
    }
}

impl Host {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace's name, which no other host has.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its address, with a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }

    /// The command line that a program's own is appended to, to run on this host.
    pub fn wrapper(&self) -> [String; 2] {
        let net = format!("--net=/run/netns/{}", self.namespace);
        ["nsenter".to_owned(), net]
    }

    /// Runs a program on this host to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let [nsenter, net] = self.wrapper();
        words(&nsenter, &[&[net.as_str(), program], arguments].concat())
    }

    /// Does something on this host: sockets that it makes are this host's, and stay so.
    ///
    /// # Panics
    /// If the namespace is gone.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace));
        let namespace = namespace.expect("the namespace is there");
        // A thread of its own, since it cannot be trusted to find its way back.
        let thread = move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).expect("root may enter");
            act()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().expect("what is done there ends"))
    }
}

/// Removes the namespaces of processes that are no more, and what still runs in them.
fn remove_left_overs() {
    for namespace in namespaces() {
        let rest = namespace.strip_prefix(&format!("{PREFIX}-"));
        let process = rest.and_then(|rest| rest.split('-').next());
        let process = process.and_then(|number| number.parse::<u32>().ok());
        let is_gone = |number| !std::path::Path::new(&format!("/proc/{number}")).exists();
        if process.is_some_and(is_gone) {
            remove(&namespace);
        }
    }
}

/// Another test may be removing the same at the same time: that it is gone already is no error.
fn remove(namespace: &str) {
    let processes = words("ip", &["netns", "pids", namespace]).stdout;
    for number in processes.split_whitespace() {
        let process = number.parse().ok().and_then(rustix::process::Pid::from_raw);
        if let Some(process) = process {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
    words("ip", &["netns", "del", namespace]);
}

fn namespaces() -> Vec<String> {
    let names = words("ip", &["netns", "list"]).stdout;
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    names.lines().filter_map(first).collect()
}

fn ip(arguments: &[&str]) {
    words("ip", arguments).success();
}

fn words(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    program::run(command, COMMAND_MAX)
}
