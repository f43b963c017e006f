//! What a replica tells the control plane.

use format::types::Slot;
use replica::arbiter::Question;
use replica::event::SessionId;
use replica::notice::Notice;
use replica::status::Status;
use std::path::PathBuf;

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
        /// Which, as [`Volume::attach_peer`](crate::volume::Volume::attach_peer) told: a later link
        /// may have been handed over meanwhile.
        session: SessionId,
        /// Whether to dial again.
        retry: bool,
    },
    /// An operator's command wants a link that had been given up dialled again.
    LinkWanted {
        /// Whose.
        peer: Slot,
    },
    /// Ask the arbiter; [`Volume::arbiter_answered`](crate::volume::Volume::arbiter_answered) takes the answer.
    AskArbiter(Question),
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
