//! The JSON of the admin API, which is also what `--json` prints. Field names are stable.

mod arbiter;

pub(crate) use arbiter::{ArbiterRequest, ArbiterView, ArbiterVolumeView, ConfigurationView};

use crate::as_text;
use crate::units::Size;
use format::types::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A node as this one sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NodeView {
    /// Its name.
    pub(crate) name: String,
    /// Its id, once it has been heard of.
    pub(crate) id: Option<String>,
    /// Where it is looked for; for this node, where it listens.
    pub(crate) addresses: Vec<String>,
    /// `Self`, `Connected` or `Connecting`.
    pub(crate) state: String,
    /// Why it is not connected, as far as is known.
    pub(crate) reason: Option<String>,
    /// What it tells of itself, if it can be asked.
    #[serde(flatten)]
    pub(crate) facts: Option<NodeFacts>,
}

/// What a node tells of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NodeFacts {
    /// Volumes that it is the primary of.
    pub(crate) primaries: usize,
    /// Volumes that it only keeps a copy of.
    pub(crate) secondaries: usize,
    /// Nothing is to be moved to it.
    pub(crate) maintenance: bool,
}

/// What can be told to a node: the body of `POST /v1/nodes/NAME`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum NodeAction {
    /// Move away what it serves, and nothing to it from here on.
    Drain,
    /// It may serve again.
    Activate,
    /// Give another node the replicas that it has.
    Replace {
        /// To which.
        with: String,
    },
}

/// What became of a [`NodeAction`].
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Drained {
    /// Volumes that another node serves now, or has the replica of.
    pub(crate) moved: Vec<Moved>,
    /// Volumes that it still serves, or has a replica of.
    pub(crate) stayed: Vec<Stayed>,
}

/// A volume that was moved.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// Which.
    pub(crate) volume: String,
    /// To which node.
    pub(crate) to: String,
    /// How long that took.
    pub(crate) seconds: f64,
}

/// A volume that could not be moved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Stayed {
    /// Which.
    pub(crate) volume: String,
    /// Why.
    pub(crate) reason: String,
}

/// A volume as this node sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct VolumeView {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) id: String,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// What this node does: `Primary`, `Secondary`, `Waiting` or `Stopped`.
    pub(crate) role: String,
    /// The primary's node.
    pub(crate) primary: Option<String>,
    /// The number of the configuration.
    pub(crate) epoch: u64,
    /// `Protected`, `Resync N%`, `Alone`, `Frozen`, `SplitBrain`, `Stopped` or `Waiting for NODE`.
    pub(crate) state: String,
    /// Why this node serves no clients, if it does not.
    pub(crate) reason: Option<String>,
    /// Acknowledged writes may be missing since a power cut.
    pub(crate) suspect: bool,
    /// The last promotion was forced and has not been healed.
    pub(crate) forced: bool,
    /// Requests are held: there is no quorum.
    #[serde(default)]
    pub(crate) frozen: bool,
    /// How the arbiter stands, as far as it was asked: `Unasked`, `Agrees`, `Unreachable`, `Empty`, `Behind` or
    /// `Foreign`; nothing where there is none.
    #[serde(default)]
    pub(crate) arbiter: Option<String>,
    /// It is a block device of this node.
    #[serde(default)]
    pub(crate) attached: bool,
    /// What its creator has noted of it.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Resyncs are held back.
    pub(crate) paused: bool,
    /// All replicas, this node's first.
    pub(crate) replicas: Vec<ReplicaView>,
    /// The resync or verify under way.
    pub(crate) resync: Option<ResyncView>,
    /// The last resync that ended.
    pub(crate) last_receipt: Option<ReceiptView>,
    /// What clients see, while the replica is open.
    pub(crate) io: Option<IoView>,
    /// Where this node's clients open it, by its name.
    #[serde(default)]
    pub(crate) nbd: Vec<String>,
}

/// What can be read while a volume is exported: the first line of `GET /v1/volumes/NAME/export`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ExportView {
    /// The data file or block device.
    pub(crate) data: PathBuf,
    /// How much of it is the volume.
    pub(crate) size_bytes: u64,
}

/// A replica as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ReplicaView {
    /// Its node.
    pub(crate) node: String,
    /// `UpToDate`, `Outdated`, `Inconsistent`, `Failed`, `Diskless`, or `Unknown`.
    pub(crate) disk_state: String,
    /// `StandAlone`, `Connecting` or `Connected`.
    pub(crate) connection_state: String,
    /// Whether a write needs it.
    pub(crate) in_sync: bool,
    /// Bytes that are marked as different.
    pub(crate) out_of_sync_bytes: u64,
}

/// A walk under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ResyncView {
    /// With whom.
    pub(crate) node: String,
    /// `SyncSource`, `SyncTarget`, `VerifySource` or `VerifyTarget`.
    pub(crate) direction: String,
    /// It copies nothing yet: as many of other volumes are under way as the configuration allows.
    #[serde(default)]
    pub(crate) waits: bool,
    /// Bytes marked at its start.
    pub(crate) bytes_total: u64,
    /// Bytes dealt with.
    pub(crate) bytes_done: u64,
    /// Bytes of the walk's frames.
    pub(crate) bytes_on_wire: u64,
    /// Bytes dealt with in a second.
    pub(crate) rate_bytes_per_s: u64,
    /// How much longer, if it goes on like this.
    pub(crate) seconds_left: Option<u64>,
}

/// What a resync took.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiptView {
    /// Blocks that were marked.
    pub(crate) blocks_dirty: u64,
    /// Bytes of blocks that were copied.
    pub(crate) bytes_moved: u64,
    /// All bytes of the resync's frames.
    pub(crate) bytes_on_wire: u64,
    /// Bytes that were marked and found equal.
    pub(crate) bytes_saved_by_hash: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What clients felt meanwhile; where this node had none, nothing.
    pub(crate) application_p99_us: Option<u64>,
}

impl fmt::Display for ReceiptView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} blocks marked, {} moved, {} on the wire, {} saved by hash, {:.2} s",
            self.blocks_dirty,
            Size(self.bytes_moved),
            Size(self.bytes_on_wire),
            Size(self.bytes_saved_by_hash),
            self.seconds
        )?;
        match self.application_p99_us {
            Some(p99) => write!(f, ", 99% of requests within {p99} us"),
            None => Ok(()),
        }
    }
}

/// What clients have seen since the replica was opened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct IoView {
    /// Clients now.
    pub(crate) clients: u32,
    /// Reads that have ended.
    pub(crate) reads: u64,
    /// Writes that have ended.
    pub(crate) writes: u64,
    /// Flushes that have ended.
    pub(crate) flushes: u64,
    /// Bytes read.
    pub(crate) read_bytes: u64,
    /// Bytes written.
    pub(crate) written_bytes: u64,
    /// Half of the latest requests took no longer.
    pub(crate) latency_p50_us: u64,
    /// 99% of them.
    pub(crate) latency_p99_us: u64,
    /// 99.9% of them.
    pub(crate) latency_p999_us: u64,
}

/// `volume create`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRequest {
    /// The new volume.
    #[serde(with = "as_text")]
    pub(crate) name: Name,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// The nodes with a replica; where empty, both of two nodes.
    #[serde(with = "as_text::list", default)]
    pub(crate) replicas: Vec<Name>,
    /// Data files that do not lie in the state folder, by node.
    #[serde(default)]
    pub(crate) backing: BTreeMap<String, PathBuf>,
    /// Data files have all their space from the beginning.
    #[serde(default)]
    pub(crate) thick: bool,
    /// What its creator notes of it, for all nodes and for good.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// What can be told to a volume that exists: the body of `POST /v1/volumes/NAME`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Make this node the primary.
    Promote {
        /// Although another may be alive.
        force: bool,
    },
    /// Make this node the primary, unless another one that answers has it open.
    Take,
    /// Have no primary.
    Demote,
    /// Change primary and secondary.
    Swap,
    /// Compare all replicas.
    Verify {
        /// Mend what differs.
        repair: bool,
    },
    /// Bring replicas up to date.
    Resync {
        /// Compare everything.
        full: bool,
        /// Only this node's.
        to: Option<String>,
    },
    /// Hold resyncs back.
    Pause,
    /// Let them go on.
    Resume,
    /// Give one side of a split brain up.
    Resolve {
        /// Whose.
        discard: String,
        /// Only say what would be lost.
        dry_run: bool,
    },
    /// Make new metadata for a data file that has lost its own.
    Adopt {
        /// There is no better copy: the volume begins anew with this one.
        only_copy: bool,
    },
    /// Make it larger.
    Grow {
        /// The new size.
        size_bytes: u64,
    },
    /// Give it another replica.
    AddReplica {
        /// On this node.
        node: String,
        /// The data file, where it is not to lie in the state folder.
        #[serde(default)]
        backing: Option<PathBuf>,
    },
    /// Take replicas from it.
    RemoveReplicas {
        /// Those of these nodes.
        nodes: Vec<String>,
        /// The data files stay.
        keep_data: bool,
    },
    /// Have the arbiter hold this node's configuration.
    ResetArbiter {
        /// It was understood what that means.
        force: bool,
    },
    /// Remove it.
    Remove {
        /// The data files stay.
        keep_data: bool,
    },
}

/// What became of an [`Action`] or a creation.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Sentences for a person.
    pub(crate) lines: Vec<String>,
    /// Blocks compared by a verify.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) blocks: Option<u64>,
    /// Blocks that differed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) differing: Option<u64>,
}

impl Outcome {
    /// One sentence.
    pub(crate) fn line(text: impl Into<String>) -> Outcome {
        Outcome {
            lines: vec![text.into()],
            blocks: None,
            differing: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod samples;
