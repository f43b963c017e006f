//! What a replica tells of itself.

use crate::time::Nanos;
use format::types::{Configuration, DiskState, Slot};

/// What this replica does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It keeps a copy.
    Secondary,
    /// It serves.
    Primary,
    /// It is the recorded primary and waits for this member to confirm it.
    Waiting(Slot),
    /// It has stopped, or is about to.
    Stopped,
}

/// DRBD's connection states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// Not connected, and waiting for an operator.
    StandAlone,
    /// Not connected.
    Connecting,
    /// Connected.
    Connected,
}

/// DRBD's replication states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicationState {
    /// No session, or one that has not got past the handshake.
    Off,
    /// Writes are mirrored.
    Established,
    /// This replica brings the other up to date.
    SyncSource,
    /// The other brings this replica up to date.
    SyncTarget,
    /// This replica compares.
    VerifySource,
    /// The other compares.
    VerifyTarget,
}

/// What a resync took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Receipt {
    /// Blocks that were marked.
    pub blocks_dirty: u64,
    /// Bytes of blocks that were copied, zero blocks left out.
    pub bytes_moved: u64,
    /// All bytes of the resync's frames, both ways.
    pub bytes_on_wire: u64,
    /// Bytes that were marked and found equal.
    pub bytes_saved_by_hash: u64,
    /// How long it took.
    pub nanos: Nanos,
    /// What 99 of 100 of the clients' requests took at most meanwhile; 0 if there were none.
    pub application_p99_nanos: Nanos,
}

/// A walk under way.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Bytes marked at its start.
    pub bytes_total: u64,
    /// Bytes dealt with.
    pub bytes_done: u64,
    /// Bytes of the walk's frames so far, both ways.
    pub bytes_on_wire: u64,
    /// When it began.
    pub started_at: Nanos,
}

/// What this replica knows of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Which.
    pub slot: Slot,
    /// The link.
    pub connection: ConnectionState,
    /// What goes on over it.
    pub replication: ReplicationState,
    /// The other's disk, as last heard.
    pub disk_state: Option<DiskState>,
    /// Blocks that are marked as different, in bytes.
    pub out_of_sync_bytes: u64,
    /// Both went on from a common past.
    pub split_brain: bool,
    /// The walk under way.
    pub progress: Option<Progress>,
}

/// What a replica tells of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which replica it is.
    pub slot: Slot,
    /// What it does.
    pub role: Role,
    /// The volume's size.
    pub size_bytes: u64,
    /// The latest configuration that it knows.
    pub configuration: Configuration,
    /// Its own disk.
    pub disk_state: DiskState,
    /// Acknowledged writes may be missing since a power cut.
    pub suspect: bool,
    /// The last promotion was forced and has not been healed.
    pub forced: bool,
    /// Walks are held back.
    pub paused: bool,
    /// The other replicas.
    pub peers: Vec<PeerStatus>,
    /// The last resync that ended.
    pub last_receipt: Option<Receipt>,
}
