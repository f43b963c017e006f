//! A replica that is open: its reactor's thread, and the mailbox by which the control plane talks to it.

use crate::frontend::Session;
use format::superblock::Replica;
use format::types::{Generation, Name, REPLICAS_MAX, Slot, VolumeId};
use replica::Settings;
use replica::command::{Answer, Command, Refusal};
use replica::notice::Notice;
use replica::status::Status;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Where a replica's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// The data file or block device: exactly the volume's bytes.
    pub data: PathBuf,
    /// The metadata file.
    pub meta: PathBuf,
}

/// What a new replica is made from; the same on all of the volume's nodes but for `slot`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Creation {
    /// The volume.
    pub volume: VolumeId,
    /// Its name.
    pub name: Name,
    /// Its size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// This replica's slot.
    pub slot: Slot,
    /// All replicas; all are in sync from the start, since all are known to be zero.
    pub replicas: [Option<Replica>; REPLICAS_MAX],
    /// The first generation.
    pub generation: Generation,
    /// The first primary.
    pub primary: Slot,
}

/// How a replica is driven; from the configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The core's timings.
    pub settings: Settings,
    /// The arena's size in bytes.
    pub arena_bytes: usize,
    /// How long the reactor spins for completions before it sleeps, at most, in nanoseconds.
    pub spin_nanos_max: u64,
}

/// What an open replica tells the control plane, from the reactor's thread: handlers only pass it
/// on.
#[derive(Debug)]
pub enum VolumeEvent {
    /// Something that a person may want to know.
    Notice(Notice),
    /// A data link has ended. With `retry` a new one is wanted, else an operator must act.
    LinkLost {
        /// Whose.
        peer: Slot,
        /// Whether to dial again.
        retry: bool,
    },
    /// An operator's command wants a link that had been given up dialled again.
    LinkWanted {
        /// Whose.
        peer: Slot,
    },
    /// The reactor has ended by itself; one sentence why.
    Failed(String),
}

/// Latencies and counts of client requests since the reactor's start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct IoStatus {
    /// Reads, writes (zeroes among them) and flushes that have ended.
    pub reads: u64,
    /// As above.
    pub writes: u64,
    /// As above.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Percentiles of all of them over the last minute or so: 50, 99, 99.9, in microseconds.
    pub latency_us: [u64; 3],
    /// Clients.
    pub clients: u32,
}

/// What an open replica tells when asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeStatus {
    /// What the core knows.
    pub replica: Status,
    /// Why it serves no clients, if it does not.
    pub refusal: Option<String>,
    /// What its clients see.
    pub io: IoStatus,
}

/// A replica that is open. Clones share it.
#[derive(Clone, Debug)]
pub struct Volume {
    // mailbox
}

impl Volume {
    /// Makes a replica's files, durably. `paths.data` must not exist or be a block device of the size.
    pub fn create(paths: &Paths, creation: &Creation) -> Result<(), OpenError> {
        let _ = (paths, creation);
        todo!()
    }

    /// Opens a replica and starts its reactor.
    pub fn open(
        paths: &Paths,
        options: Options,
        events: impl Fn(VolumeEvent) + Send + 'static,
    ) -> Result<Volume, OpenError> {
        let _ = (paths, options, events);
        todo!()
    }

    /// Hands an authenticated data link over, with what has been received behind the handshake.
    pub fn attach_peer(&self, peer: Slot, socket: OwnedFd, received: Vec<u8>) {
        let _ = (peer, socket, received);
        todo!()
    }

    /// Hands a negotiated client over, with what has been received behind the negotiation.
    pub fn attach_client(&self, socket: OwnedFd, received: Vec<u8>, session: Box<dyn Session>) {
        let _ = (socket, received, session);
        todo!()
    }

    /// Has the core carry a command out; `reply` is called on the reactor's thread, also if the reactor
    /// ends before. After [`Command::Stop`] was answered the reactor ends.
    pub fn command(
        &self,
        command: Command,
        reply: impl FnOnce(Result<Answer, Refusal>) + Send + 'static,
    ) {
        let _ = (command, reply);
        todo!()
    }

    /// Asks for the status; `None` if the reactor has ended.
    pub fn status(&self, reply: impl FnOnce(Option<VolumeStatus>) + Send + 'static) {
        let _ = reply;
        todo!()
    }

    /// Waits until the reactor has ended.
    pub fn join(&self) {
        todo!()
    }
}

/// Why a replica's files could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct OpenError {
    /// Which file.
    pub path: PathBuf,
    /// One sentence: what is wrong and what to do.
    pub message: String,
    /// Whether the file is left alone because touching it could lose data (exit code 3).
    pub protects_data: bool,
}
