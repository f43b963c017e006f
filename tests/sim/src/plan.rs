//! What a seed decides before its run begins: sizes, speeds, and how much of each fault.

use crate::rng::Rng;
use format::types::EXTENT_BYTES;
use replica::event::Nanos;
use replica::{Failover, Lease, Settings};

/// A millisecond.
pub const MILLISECOND: Nanos = 1_000_000;

/// The shape of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Two to four.
    pub nodes: usize,
    /// How many of them have a replica at the beginning. Where that is fewer, replicas come and go.
    pub copies: usize,
    /// The volume's size.
    pub size_bytes: u64,
    /// The core's timings.
    pub settings: Settings,
    /// The mean time of a disk operation.
    pub disk_latency: Nanos,
    /// The mean delay of a packet.
    pub network_delay: Nanos,
    /// Clients at a time.
    pub clients: usize,
    /// Requests that one of them has in flight at most.
    pub depth: usize,
    /// The mean time between a client's bursts.
    pub think: Nanos,
    /// The mean time between faults.
    pub fault_interval: Nanos,
    /// How long a turn gathers events.
    pub turn: Nanos,
    /// Client operations before the faults stop.
    pub operations: u64,
    /// Faults before they stop.
    pub faults: u64,
    /// Where most writes go: so many blocks.
    pub hot_blocks: u64,
    /// How often in a thousand a request is a large zero.
    pub zero_permille: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(rng: &mut Rng) -> Plan {
        let sparse = rng.permille(60);
        let size_bytes = match sparse {
            true => 16 << 30,
            false => EXTENT_BYTES * rng.between(3, 24) + 4096 * rng.below(64),
        };
        let peer_timeout = rng.between(200, 500) * MILLISECOND;
        let copies = if rng.permille(300) { 3 } else { 2 };
        let spare = if rng.permille(250) { 4 - copies } else { 0 };
        let nodes = copies + spare;
        let failover = failover(rng, peer_timeout);
        Plan {
            nodes,
            copies,
            size_bytes,
            settings: Settings {
                peer_timeout,
                ping_interval: peer_timeout / rng.between(4, 8),
                failover,
                suspect_promotes_after: rng.permille(800).then_some(4 * peer_timeout),
                slow_peer: rng
                    .permille(200)
                    .then(|| rng.between(40, 200) * MILLISECOND),
                restart_hold: 2 * peer_timeout,
                io_timeout: rng.between(600, 2000) * MILLISECOND,
                takes_turns: rng.permille(300),
                ..Settings::default()
            },
            disk_latency: rng.between(20, 900) * 1000,
            network_delay: rng.between(20, 600) * 1000,
            clients: rng.index(4) + 2,
            depth: rng.index(15) + 2,
            think: rng.between(3, 9) * MILLISECOND,
            fault_interval: rng.between(250, 700) * MILLISECOND,
            turn: rng.below(60) * 1000 + 1,
            operations: 5000,
            faults: 20,
            hot_blocks: rng.between(8, 512),
            zero_permille: if sparse { 250 } else { 70 },
        }
    }
}

impl Plan {
    /// A small, fast and quiet world, for a script.
    pub fn staged(nodes: usize, failover: Failover) -> Plan {
        let timeout = STAGED_LEASE;
        Plan {
            nodes,
            copies: nodes,
            size_bytes: 3 * EXTENT_BYTES,
            settings: Settings {
                peer_timeout: timeout,
                ping_interval: timeout / 8,
                failover,
                suspect_promotes_after: None,
                restart_hold: 2 * timeout,
                ..Settings::default()
            },
            disk_latency: MILLISECOND / 20,
            network_delay: MILLISECOND / 20,
            clients: 2,
            depth: 4,
            think: 3 * MILLISECOND,
            fault_interval: 1000 * MILLISECOND,
            turn: MILLISECOND / 100,
            operations: 0,
            faults: 0,
            hot_blocks: 8,
            zero_permille: 70,
        }
    }
}

/// The lease of a staged world, and how long its members bear a peer's silence.
pub const STAGED_LEASE: Nanos = 400 * MILLISECOND;

/// Half of the worlds have an arbiter.
fn failover(rng: &mut Rng, lease: Nanos) -> Failover {
    let grace = Lease::grace_min(lease) + rng.below(lease / 2);
    let lease = Lease::new(lease, grace).expect("grace is long enough");
    match rng.below(8) {
        0..4 => Failover::Manual,
        4..7 => Failover::Automatic(lease),
        _ => Failover::OnDemand(lease),
    }
}
