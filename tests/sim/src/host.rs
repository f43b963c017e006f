//! One machine of the world: a node, its disk, its metadata file, its clock.

use crate::arena::Arena;
use crate::content::Blocks;
use crate::disk::Disk;
use crate::meta::Meta;
use format::frame::Digest;
use format::types::{BootId, Slot};
use replica::Node;
use replica::event::{Event, IoId, Nanos};
use std::collections::{BTreeMap, VecDeque};

/// A second.
const NANOS: i64 = 1_000_000_000;

/// An operation that the shell has in hand.
#[derive(Debug)]
pub enum Operation {
    /// A read of the disk.
    Read(Blocks),
    /// A write of the disk.
    Write,
    /// A flush that began after so many writes.
    Flush(u64),
    /// Digests.
    Hash(Box<[Digest]>),
    /// What is only said to be done.
    Nothing,
    /// A write of metadata.
    Meta {
        /// It is the superblock.
        superblock: bool,
    },
}

/// How the disk misbehaves.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ailment {
    /// So many reads to come give an error.
    pub read_errors: u32,
    /// So many writes to come give an error.
    pub write_errors: u32,
    /// So many flushes to come give an error.
    pub flush_errors: u32,
    /// So many writes of metadata to come give an error.
    pub meta_errors: u32,
    /// There is no space.
    pub full: bool,
    /// Nothing ends before this.
    pub hung_until: Nanos,
    /// Everything takes so many times as long.
    pub slowness: u64,
}

/// Why a node is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// Its process has died.
    Crashed,
    /// Its machine has no power.
    Dark,
    /// It was stopped as planned.
    Stopped,
}

/// A machine.
#[derive(Debug)]
pub struct Host {
    /// Its replica's slot.
    pub slot: Slot,
    /// The process, if it runs.
    pub node: Option<Box<Node>>,
    /// Why it does not.
    pub down: Option<Down>,
    /// Counts its processes.
    pub life: u64,
    /// The data.
    pub disk: Disk,
    /// The metadata.
    pub meta: Meta,
    /// The process's arena.
    pub arena: Arena,
    /// The machine's boot.
    pub boot: BootId,
    /// What its clock shows more than the world's, modulo 2^64.
    pub clock_ahead: u64,
    /// What the shell has in hand.
    pub operations: BTreeMap<IoId, Operation>,
    /// When the node wants to be woken, in the world's time.
    pub tick: Option<Nanos>,
    /// The end of the turn is in the world's queue.
    pub turn_scheduled: bool,
    /// The process dies after so many effects.
    pub dies_after: Option<u32>,
    /// How its disk misbehaves.
    pub ailment: Ailment,
    /// Its process is stopped, as by SIGSTOP, until then.
    pub stopped_until: Nanos,
    /// What has happened meanwhile.
    pub waiting: VecDeque<Event>,
    /// Nanoseconds that its clock gains in a second; it loses them if negative.
    pub drift: i64,
    /// It holds all that was acknowledged while it was a member.
    pub intact: bool,
    /// The last request before its last loss of power.
    pub dark_at: u64,
    /// When that was.
    pub dark_since: Nanos,
    /// When it last promised to be a member.
    pub promised_at: Nanos,
    /// The epoch of a later configuration, with another primary, that it has been told of.
    pub superseded_by: Option<u64>,
    /// An operator forces it to become primary.
    pub forced: bool,
}

impl Host {
    /// The clock of the machine.
    pub fn clock(&self, now: Nanos) -> Nanos {
        let gained =
            now.cast_signed() / NANOS * self.drift + now.cast_signed() % NANOS * self.drift / NANOS;
        now.wrapping_add_signed(gained)
            .wrapping_add(self.clock_ahead)
    }

    /// How long it takes the machine's clock to count so many nanoseconds.
    pub fn lasts(&self, counted: Nanos) -> Nanos {
        let rate = i128::from(NANOS + self.drift);
        let lasts = i128::from(counted) * i128::from(NANOS) / rate;
        Nanos::try_from(lasts).unwrap_or(Nanos::MAX)
    }

    /// The world's time at which the machine's clock shows this.
    pub fn world_time(&self, clock: Nanos) -> Nanos {
        let counted = clock.wrapping_sub(self.clock_ahead).cast_signed();
        let lost = i128::from(counted) * i128::from(self.drift) / i128::from(NANOS + self.drift);
        counted
            .wrapping_sub(i64::try_from(lost).unwrap_or(0))
            .cast_unsigned()
    }

    /// Whether the process runs and serves clients.
    pub fn serves(&self) -> bool {
        self.node
            .as_ref()
            .is_some_and(|node| node.serving().is_ok())
    }
}
