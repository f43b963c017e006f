//! The configuration file: every key has a default where a sensible one exists, and what cannot be
//! meant stops the start with the file, the line and the remedy.

mod arbiter;
mod arbiter_settings;
mod document;
mod values;

pub(crate) use arbiter::{Failover, Mode};
pub(crate) use arbiter_settings::{ArbiterSettings, EtcdSettings, PREFIX};
pub(crate) use document::{Complaint, read};
pub(crate) use values::{Address, name_complaint};

use crate::failure::Failure;
use crate::units::Size;
use arbiter::{ArbiterSection, FailoverSection};
use engine::volume::Options;
use format::types::Name;
use replica::Settings;
use serde::Deserialize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use values::{Named, NbdListen, Sized, one_or_more};

/// Where the daemon looks for its configuration by default.
pub(crate) const CONFIG_PATH: &str = "/etc/twinblk/twinblk.toml";
/// Where the cluster key lies by default.
pub(crate) const KEY_PATH: &str = "/etc/twinblk/cluster.key";
/// Where NBD clients connect to by default.
const NBD_PATH: &str = "/run/twinblk/nbd.sock";
/// Where the admin socket lies by default.
pub(crate) const ADMIN_PATH: &str = "/run/twinblk/admin.sock";

/// Spinning longer than this costs more than waking up does.
const SPIN_US_MAX: u64 = 1000;
/// Enough for a few hundred requests of the largest size, and what fits any machine.
const ARENA_BYTES: Range<u64> = 4 << 20..(4 << 30) + 1;
/// A peer is pinged this often within its timeout.
const PINGS_PER_LEASE: u32 = 4;
/// More at once than this would be all of them.
const RESYNCS_AT_ONCE: Range<u64> = 1..1025;
/// A hook that takes longer than an hour is a service, and hooks start services.
const HOOK_SECONDS: Range<u64> = 1..3601;
/// How long a daemon may take to start again: no time at all would run hooks at every upgrade.
const HOLD_SECONDS: Range<u64> = 1..3601;

/// What the file says, with the defaults filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    /// This node's name.
    pub(crate) name: Name,
    /// Registry, and by default each volume's data and metadata.
    pub(crate) state_dir: PathBuf,
    /// Where peers connect to.
    pub(crate) listen: Address,
    /// Where NBD clients connect to.
    pub(crate) nbd: Vec<nbd_server::listener::Address>,
    /// The admin socket.
    pub(crate) admin: PathBuf,
    /// The other nodes.
    pub(crate) peers: Vec<Peer>,
    /// The cluster key's file.
    pub(crate) key_file: PathBuf,
    /// A peer that has not answered for this long is gone.
    pub(crate) lease: Duration,
    /// The arbiter, where the file names one.
    pub(crate) arbiter: Option<ArbiterSettings>,
    /// What is done with its help.
    pub(crate) failover: Failover,
    /// How long a reactor spins before it sleeps, at most.
    pub(crate) spin: Duration,
    /// Each volume's arena.
    pub(crate) arena_bytes: u64,
    /// Where health and metrics are told, if anywhere.
    pub(crate) http: Option<Address>,
    /// Which resyncs go on at once.
    pub(crate) resync: Resync,
    /// What the agent runs.
    pub(crate) hooks: Hooks,
    /// Where attached volumes are.
    pub(crate) attach: Attach,
    /// Where the Docker plugin is.
    pub(crate) docker: Docker,
}

/// Where the Docker plugin is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Docker {
    /// Where Docker connects to.
    pub(crate) socket: PathBuf,
    /// Volumes are mounted in it.
    pub(crate) run_dir: PathBuf,
    /// What is remembered of them.
    pub(crate) state_dir: PathBuf,
}

impl Default for Docker {
    fn default() -> Self {
        Docker {
            socket: "/run/docker/plugins/twinblk.sock".into(),
            run_dir: "/run/twinblk-docker".into(),
            state_dir: "/var/lib/twinblk-docker".into(),
        }
    }
}

/// Which resyncs go on at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resync {
    /// So many of this node's volumes.
    pub(crate) at_once: usize,
    /// These before all others, in this order.
    pub(crate) first: Vec<Name>,
}

/// Where attached volumes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attach {
    /// Links to the devices, of the volumes' names.
    pub(crate) devices: PathBuf,
    /// What is behind them. Not in the daemon's folder: whoever attaches is root, the daemon is not.
    pub(crate) run_dir: PathBuf,
    /// Who carries the devices' requests.
    pub(crate) backend: Backend,
}

/// Who carries a device's requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// The kernel's nbd driver, where there is one, and else the other.
    #[default]
    Auto,
    /// The kernel's nbd driver.
    Nbd,
    /// A file of our own under a loop device.
    Loop,
}

/// What the agent runs, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hooks {
    /// The folders `promote.d`, `demote.d` and so on are in it.
    pub(crate) directory: PathBuf,
    /// A hook that takes longer is ended.
    pub(crate) time_limit: Duration,
    /// Where the agent notes what it has run. Not in the daemon's folder: the agent is root, the daemon is not.
    pub(crate) state_dir: PathBuf,
    /// A daemon that is away for longer serves nothing.
    pub(crate) hold: Duration,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: Name,
    /// Its addresses, tried in turn.
    pub(crate) addresses: Vec<Address>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct File {
    node: NodeSection,
    peer: Vec<PeerSection>,
    security: SecuritySection,
    arbiter: Option<ArbiterSection>,
    failover: FailoverSection,
    io: IoSection,
    http: HttpSection,
    resync: ResyncSection,
    hooks: HooksSection,
    attach: AttachSection,
    docker: Docker,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NodeSection {
    name: Option<Named>,
    state_dir: PathBuf,
    listen: Address,
    #[serde(deserialize_with = "one_or_more")]
    nbd: Vec<NbdListen>,
    admin: PathBuf,
}

impl Default for NodeSection {
    fn default() -> Self {
        NodeSection {
            name: None,
            state_dir: "/var/lib/twinblk".into(),
            listen: Address::any(7788),
            nbd: vec![NbdListen(nbd_server::listener::Address::Unix(
                NBD_PATH.into(),
            ))],
            admin: ADMIN_PATH.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerSection {
    name: Spanned<Named>,
    #[serde(deserialize_with = "one_or_more")]
    address: Vec<Address>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SecuritySection {
    /// The cluster key's file.
    pub(crate) key_file: PathBuf,
}

impl Default for SecuritySection {
    fn default() -> Self {
        SecuritySection {
            key_file: KEY_PATH.into(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct IoSection {
    spin_us: Option<Spanned<u64>>,
    arena: Option<Spanned<Sized>>,
}

impl Config {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Config, Failure> {
        read(path, File::check)
    }

    /// Reads the text of a file.
    #[cfg(test)]
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
        document::parse(path, text, File::check)
    }

    /// What a replica's reactor is started with; whether there is an arbiter is for others to say.
    pub(crate) fn options(&self) -> Options {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Options {
            settings: Settings {
                peer_timeout: nanos(self.lease),
                ping_interval: nanos(self.lease / PINGS_PER_LEASE),
                freeze_max: self.failover.freeze_max.map(nanos),
                slow_peer: self.failover.slow_peer.map(nanos),
                restart_hold: nanos(self.failover.restart_hold),
                suspect_promotes_after: self.failover.suspect_promotes_after.map(nanos),
                takes_turns: true,
                ..Settings::default()
            },
            arena_bytes: usize::try_from(self.arena_bytes).unwrap_or(usize::MAX),
            spin_nanos_max: nanos(self.spin),
        }
    }

    /// The peer of that name.
    pub(crate) fn peer(&self, name: &Name) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name == *name)
    }
}

impl File {
    fn check(self) -> Result<Config, Complaint> {
        let name = match self.node.name {
            Some(Named(name)) => name,
            None => host_name()?,
        };
        let mut peers: Vec<Peer> = Vec::new();
        for section in self.peer {
            let at = section.name.span();
            let Named(peer) = section.name.into_inner();
            let message = if peer == name {
                format!("peer {peer} is this node itself: [[peer]] names only the others")
            } else if peers.iter().any(|other| other.name == peer) {
                format!("peer {peer} is named twice: list its addresses in one [[peer]]")
            } else if section.address.is_empty() {
                format!("peer {peer} has no address: write address = \"HOST:7788\"")
            } else {
                peers.push(Peer {
                    name: peer,
                    addresses: section.address,
                });
                continue;
            };
            return Err(Complaint { at, message });
        }
        let arbiter = self.arbiter.map(ArbiterSection::check).transpose()?;
        let (lease, failover) = self.failover.check(arbiter.is_some())?;
        let spin_us = bounded(
            "spin_us",
            self.io.spin_us,
            spin_us_default(),
            0..SPIN_US_MAX + 1,
        )?;
        let arena = self
            .io
            .arena
            .map(|size| Spanned::new(size.span(), size.into_inner().0.0));
        Ok(Config {
            name,
            state_dir: self.node.state_dir,
            listen: self.node.listen,
            nbd: self.node.nbd.into_iter().map(|listen| listen.0).collect(),
            admin: self.node.admin,
            peers,
            key_file: self.security.key_file,
            lease,
            arbiter,
            failover,
            spin: Duration::from_micros(spin_us),
            arena_bytes: bounded("arena", arena, 64 << 20, ARENA_BYTES)?,
            http: self.http.listen,
            resync: self.resync.check()?,
            hooks: self.hooks.check()?,
            attach: Attach {
                devices: self.attach.devices,
                run_dir: self.attach.run_dir,
                backend: self.attach.backend,
            },
            docker: self.docker,
        })
    }
}

/// A number within bounds, or its default.
fn bounded(
    key: &str,
    value: Option<Spanned<u64>>,
    default: u64,
    allowed: Range<u64>,
) -> Result<u64, Complaint> {
    let Some(value) = value else {
        return Ok(default);
    };
    if allowed.contains(value.get_ref()) {
        return Ok(value.into_inner());
    }
    let (from, to) = (allowed.start, allowed.end - 1);
    let bounds = if key == "arena" {
        format!("\"{}\" to \"{}\"", Size(from), Size(to))
    } else {
        format!("{from} to {to}")
    };
    Err(Complaint {
        at: value.span(),
        message: format!("{key} cannot be {}: write {bounds}", value.get_ref()),
    })
}

/// Spinning on the only processor keeps whoever is waited for from running.
fn spin_us_default() -> u64 {
    match std::thread::available_parallelism() {
        Ok(processors) if processors.get() > 1 => 50,
        _ => 0,
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct HttpSection {
    listen: Option<Address>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ResyncSection {
    at_once: Option<Spanned<u64>>,
    first: Vec<Named>,
}

impl ResyncSection {
    fn check(self) -> Result<Resync, Complaint> {
        let at_once = bounded("at_once", self.at_once, 2, RESYNCS_AT_ONCE)?;
        Ok(Resync {
            at_once: usize::try_from(at_once).unwrap_or(usize::MAX),
            first: self.first.into_iter().map(|Named(name)| name).collect(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HooksSection {
    directory: PathBuf,
    time_limit_s: Option<Spanned<u64>>,
    state_dir: PathBuf,
    hold_s: Option<Spanned<u64>>,
}

impl Default for HooksSection {
    fn default() -> Self {
        HooksSection {
            directory: "/etc/twinblk/hooks.d".into(),
            time_limit_s: None,
            state_dir: "/var/lib/twinblk-agent".into(),
            hold_s: None,
        }
    }
}

impl HooksSection {
    fn check(self) -> Result<Hooks, Complaint> {
        let time_limit_s = bounded("time_limit_s", self.time_limit_s, 30, HOOK_SECONDS)?;
        let hold_s = bounded("hold_s", self.hold_s, 10, HOLD_SECONDS)?;
        Ok(Hooks {
            directory: self.directory,
            time_limit: Duration::from_secs(time_limit_s),
            state_dir: self.state_dir,
            hold: Duration::from_secs(hold_s),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AttachSection {
    devices: PathBuf,
    run_dir: PathBuf,
    backend: Backend,
}

impl Default for AttachSection {
    fn default() -> Self {
        AttachSection {
            devices: "/dev/twinblk".into(),
            run_dir: "/run/twinblk-attach".into(),
            backend: Backend::Auto,
        }
    }
}

fn host_name() -> Result<Name, Complaint> {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_ascii_lowercase();
    let first = host.split('.').next().unwrap_or_default();
    Name::new(first).ok_or_else(|| Complaint {
        at: 0..0,
        message: format!("the host's name `{host}` is no node name: write [node] name = \"alpha\""),
    })
}

#[cfg(test)]
mod tests;
