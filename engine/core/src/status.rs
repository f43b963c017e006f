//! What a replica tells of itself.

use crate::time::Nanos;
use format::types::{Configuration, DiskState, NodeSet, Slot};

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

/// What is known of the arbiter.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ArbiterStanding {
    /// It has not been asked: there was no reason to.
    #[default]
    Unasked,
    /// It holds what this replica knew, or what it has just learned.
    Agrees,
    /// It does not answer.
    Unreachable,
    /// It holds nothing yet; once all replicas are connected it is told.
    Empty,
    /// It holds an older configuration: it was set back, and decides nothing.
    Behind,
    /// It holds what this volume's cannot be.
    Foreign,
}

impl ArbiterStanding {
    /// Why nothing can be decided, in one line.
    pub fn complaint(self) -> &'static str {
        match self {
            ArbiterStanding::Unasked => "the arbiter has not been asked yet; try again",
            ArbiterStanding::Agrees => "the arbiter is being asked; try again",
            ArbiterStanding::Unreachable => "the arbiter cannot be reached",
            ArbiterStanding::Empty => {
                "the arbiter holds nothing for this volume: connect all replicas, or reset it"
            }
            ArbiterStanding::Behind => {
                "the arbiter holds an older configuration than this replica: reset it"
            }
            ArbiterStanding::Foreign => "the arbiter holds what cannot be this volume's: reset it",
        }
    }
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
    /// Requests are held: members, or the arbiter, would have to answer first.
    pub frozen: bool,
    /// What is known of the arbiter, where there is one.
    pub arbiter: Option<ArbiterStanding>,
    /// Walks are held back.
    pub paused: bool,
    /// It brings another replica up to date.
    pub resyncing: bool,
    /// Where resyncs take turns: it is this one's.
    pub has_turn: bool,
    /// The slots of replicas that there were, which no other replica gets.
    pub spent: NodeSet,
    /// The other replicas.
    pub peers: Vec<PeerStatus>,
    /// The last resync that ended.
    pub last_receipt: Option<Receipt>,
}
