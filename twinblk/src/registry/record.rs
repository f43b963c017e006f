//! What is remembered of a volume, as JSON documents.

use crate::as_text;
use format::superblock::Replica;
use format::types::{Name, NodeId, REPLICAS_MAX, Slot, VolumeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A replica that this node has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The volume.
    #[serde(with = "as_text")]
    pub(crate) volume: VolumeId,
    /// Its name.
    #[serde(with = "as_text")]
    pub(crate) name: Name,
    /// This replica's slot.
    #[serde(with = "as_text::slot")]
    pub(crate) slot: Slot,
    /// All replicas.
    pub(crate) members: Vec<Member>,
    /// The data file, where it is not in the volume's folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) backing: Option<PathBuf>,
    /// Data files have all their space from the beginning.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) thick: bool,
    /// What its creator has noted of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// How far its life has come.
    pub(crate) phase: Phase,
}

/// One replica of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Its slot.
    #[serde(with = "as_text::slot")]
    pub(crate) slot: Slot,
    /// Its node's name.
    #[serde(with = "as_text")]
    pub(crate) name: Name,
    /// Its node.
    #[serde(with = "as_text")]
    pub(crate) node: NodeId,
}

/// A replica's life: Prepared -> Ready -> Removing, and from each of them to nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Its files may exist, but only its coordinator knows whether the volume does.
    Prepared {
        /// The node that the volume was created on.
        #[serde(with = "as_text")]
        coordinator: Name,
    },
    /// It is a replica of a volume that exists.
    Ready,
    /// It is being removed; a start goes on with it.
    Removing {
        /// The data stays.
        keep_data: bool,
    },
}

/// What the coordinator of a creation or a removal has decided, until every node has heard it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// About which volume.
    #[serde(with = "as_text")]
    pub(crate) volume: VolumeId,
    /// Its name.
    #[serde(with = "as_text")]
    pub(crate) name: Name,
    /// What.
    pub(crate) verdict: Verdict,
    /// The nodes that have yet to hear it.
    #[serde(with = "as_text::list")]
    pub(crate) unconfirmed: Vec<Name>,
    /// Their replicas. A node that is to remove one may have got another since, which is not meant.
    #[serde(default)]
    pub(crate) replicas: Vec<Member>,
}

/// What can be decided about a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It exists: what was prepared is ready.
    Created,
    /// It exists no more.
    Removed {
        /// The data files stay.
        keep_data: bool,
    },
}

impl Member {
    /// The replica as the superblock has it.
    pub(crate) fn replica(&self) -> Replica {
        Replica {
            node: self.node,
            name: self.name.clone(),
        }
    }
}

impl Record {
    /// The replicas as the superblock has them.
    pub(crate) fn replicas(&self) -> [Option<Replica>; REPLICAS_MAX] {
        let mut replicas = [const { None }; REPLICAS_MAX];
        for member in &self.members {
            replicas[member.slot.index()] = Some(member.replica());
        }
        replicas
    }

    /// The other replicas.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.slot != self.slot)
    }

    /// The replica on the node of this name.
    pub(crate) fn member(&self, name: &Name) -> Option<&Member> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// The name of the node that has this slot.
    pub(crate) fn node_name(&self, slot: Slot) -> String {
        let member = self.members.iter().find(|member| member.slot == slot);
        member.map_or_else(|| slot.to_string(), |member| member.name.to_string())
    }
}
