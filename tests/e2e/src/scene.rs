//! Nodes on hosts of their own, an arbiter on another, and what may befall the primary.

use crate::arbiter::{Arbiter, Kind};
use crate::cluster::Cluster;
use crate::hosts::Hosts;
use crate::journal::Journal;
use crate::load::Plan;
use crate::node::Node;
use crate::roving::Roving;
use crate::timeline::{Stamp, median_and_max};
use rustix::process::Signal;
use std::time::{Duration, SystemTime};

/// The volume that all of it is about.
pub const VOLUME: &str = "main";
const DAY_MS: u128 = 86_400_000;

/// Nodes and arbiter, running. The fields are dropped in this order.
pub struct Scene {
    /// The nodes.
    pub cluster: Cluster,
    /// The arbiter, on the last host.
    pub arbiter: Arbiter,
    /// The hosts: one for each node, in their order, and the arbiter's.
    pub hosts: Hosts,
}

/// What befalls a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// Nothing gets from it to the others, nor from them to it.
    Parted,
    /// Nothing that it sends arrives.
    Mute,
    /// Nothing that is sent to it arrives.
    Deaf,
    /// SIGSTOP.
    Stop,
}

/// An instant, by the clock of the journals and by that of the events.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// As in journals.
    pub stamp: Stamp,
    wall: SystemTime,
}

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        Moment {
            stamp: Stamp::now(),
            wall: SystemTime::now(),
        }
    }
}

impl Scene {
    /// Nodes of these names, with the usual times, and the mode "automatic"; nothing where hosts cannot be made.
    pub fn set(kind: Kind, nodes: &[&str]) -> Option<Scene> {
        Scene::with(kind, nodes, |_| ())
    }

    /// As [`Self::set`], with something done to the configurations before the start.
    pub fn with(kind: Kind, nodes: &[&str], prepare: impl FnOnce(&Cluster)) -> Option<Scene> {
        let mut scene = Scene::prepared(kind, nodes)?;
        prepare(&scene.cluster);
        scene.cluster.start();
        Some(scene)
    }

    /// As [`Self::set`], and only the arbiter has been started.
    pub fn prepared(kind: Kind, nodes: &[&str]) -> Option<Scene> {
        let hosts = Hosts::up(&[nodes, &["arbiter"]].concat())?;
        let (last, others) = hosts.all().split_last()?;
        let cluster = Cluster::on(others);
        let arbiter = Arbiter::on(last, kind, cluster.folder(), &cluster.key());
        cluster.arbitrate(&arbiter, "automatic");
        let mut scene = Scene {
            cluster,
            arbiter,
            hosts,
        };
        scene.arbiter.start();
        Some(scene)
    }

    /// A client that begins at this node.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn load(&self, first: usize, journal: Journal, plan: &Plan) -> Roving {
        let endpoints = self.cluster.nodes.iter().map(Node::endpoint).collect();
        let load = Roving::start(endpoints, first, VOLUME, journal, plan);
        load.expect("the node serves")
    }

    /// Does it to a node.
    pub fn inflict(&mut self, fault: Fault, node: usize) {
        let others = (0..self.hosts.all().len()).filter(|other| *other != node);
        match fault {
            Fault::Kill => self.cluster.nodes[node].kill(),
            Fault::Parted => others.for_each(|other| self.hosts.cut(node, other)),
            Fault::Mute => others.for_each(|other| self.hosts.cut_one_way(node, other)),
            Fault::Deaf => others.for_each(|other| self.hosts.cut_one_way(other, node)),
            Fault::Stop => self.cluster.nodes[node].signal(Signal::STOP),
        }
    }

    /// Makes it good.
    pub fn repair(&mut self, fault: Fault, node: usize) {
        match fault {
            Fault::Kill => self.cluster.nodes[node].start(),
            Fault::Parted | Fault::Mute | Fault::Deaf => self.hosts.mend(),
            Fault::Stop => self.cluster.nodes[node].signal(Signal::CONT),
        }
    }

    /// Who became primary since a moment, the one that was it then included, in order.
    pub fn reigns(&self, first: usize, moment: Moment) -> Vec<(usize, Stamp)> {
        let mut reigns = vec![(first, moment.stamp)];
        for (number, node) in self.cluster.nodes.iter().enumerate() {
            for after in events_after(node, "promoted", moment) {
                let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                reigns.push((number, Stamp(moment.stamp.0.saturating_add(after))));
            }
        }
        reigns.sort_by_key(|(_, begin)| *begin);
        reigns
    }

    /// No node sends faster than this.
    pub fn slow_down(&self, mbit_per_s: u32) {
        (0..self.cluster.nodes.len()).for_each(|node| self.hosts.limit(node, mbit_per_s));
    }

    /// Parts the arbiter from all nodes.
    pub fn lose_arbiter(&self) {
        let arbiter = self.cluster.nodes.len();
        (0..arbiter).for_each(|node| self.hosts.cut(node, arbiter));
    }
}

/// How long after a moment a node had each of its events of this name, where it had any since.
///
/// # Panics
/// If an event has no time.
pub fn events_after(node: &Node, name: &str, moment: Moment) -> Vec<Duration> {
    let since = moment.wall.duration_since(SystemTime::UNIX_EPOCH);
    let begin_ms = since.expect("it is later than 1970").as_millis();
    let of_day = |text: &str| {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u128>().ok();
        let (hours, minutes) = (number(11..13)?, number(14..16)?);
        Some(((hours * 60 + minutes) * 60 + number(17..19)?) * 1000 + number(20..23)?)
    };
    let events = node.events();
    let named = events.iter().filter(|event| event["name"] == name);
    let times = named.map(|event| {
        let at = event["at"].as_str().and_then(of_day);
        // What was before it seems to be most of a day after it.
        (at.expect("RFC 3339") + DAY_MS - begin_ms % DAY_MS) % DAY_MS
    });
    let since = times.filter(|after| *after < DAY_MS / 2);
    let milliseconds = since.map(|after| u64::try_from(after).unwrap_or(u64::MAX));
    milliseconds.map(Duration::from_millis).collect()
}

/// What the failovers of one test took, in the parts that they have.
#[derive(Default)]
pub struct Timings {
    detected: Vec<Duration>,
    promoted: Vec<Duration>,
    served: Vec<Duration>,
}

impl Timings {
    /// Adds one failover to a node, whose first answer came then.
    ///
    /// # Panics
    /// If the node has no event of it.
    pub fn add(&mut self, node: &Node, moment: Moment, first: Stamp) {
        let event = |name| {
            let after = events_after(node, name, moment).into_iter().min();
            after.unwrap_or_else(|| panic!("{} has no {name}:\n{}", node.name(), node.log()))
        };
        let (detected, promoted) = (event("failover-started"), event("promoted"));
        let served = first.since(moment.stamp);
        println!(
            "failover started after {detected:?}, promoted {promoted:?}, first answer {served:?}"
        );
        self.detected.push(detected);
        self.promoted.push(promoted);
        self.served.push(served);
    }

    /// Prints medians and maxima, and returns both of the first answers.
    pub fn print(&self, what: &str) -> (Duration, Duration) {
        let parts = [&self.detected, &self.promoted, &self.served];
        let [detected, promoted, served] = parts.map(|times| median_and_max(times));
        println!(
            "{what}, {} times, median and maximum: failover started {detected:?}, promoted {promoted:?}, first \
             answer {served:?}",
            self.served.len()
        );
        served
    }
}
