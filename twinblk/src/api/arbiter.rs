//! The JSON of `twinblk arbiter`.

use crate::config::ArbiterSettings;
use crate::config::Mode;
use serde::{Deserialize, Serialize};

/// The arbiter as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ArbiterView {
    /// `manual`, `witness` or `etcd`.
    pub(crate) kind: String,
    /// Where it is asked.
    pub(crate) addresses: Vec<String>,
    /// `file` or `set`; nothing where there is none.
    pub(crate) source: Option<String>,
    /// When this node takes over: `Manual`, `OnDemand` or `Automatic`.
    pub(crate) mode: String,
    /// Whether it has just answered; nothing where there is none.
    pub(crate) reachable: Option<bool>,
    /// Why it has not.
    pub(crate) reason: Option<String>,
    /// What it holds for the volumes of this node.
    pub(crate) volumes: Vec<ArbiterVolumeView>,
}

/// What the register and the node hold for a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ArbiterVolumeView {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) id: String,
    /// `Same`, `Ahead` (the register is), `Behind`, `Different`, `Empty` or `Unknown`.
    pub(crate) state: String,
    /// What the register holds.
    pub(crate) register: Option<ConfigurationView>,
    /// What this node holds.
    pub(crate) node: Option<ConfigurationView>,
    /// Why one of them is not known.
    pub(crate) reason: Option<String>,
}

/// A configuration with its nodes' names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ConfigurationView {
    /// Counts the configurations.
    pub(crate) epoch: u64,
    /// The step of history.
    pub(crate) generation: String,
    /// The primary's node.
    pub(crate) primary: Option<String>,
    /// Whose copies count.
    pub(crate) in_sync: Vec<String>,
}

/// `arbiter set`: the body of `POST /v1/arbiter`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArbiterRequest {
    /// Which.
    pub(crate) arbiter: ArbiterSettings,
    /// When a node takes over.
    #[serde(default)]
    pub(crate) mode: Mode,
}
