//! The control link: what nodes ask each other, and the one connection on which they do.

mod session;

pub(crate) use session::{Session, SessionEnd, serve};

use crate::api::{Action, ArbiterRequest, Drained, NodeAction, NodeFacts, Outcome, VolumeView};
use crate::as_text;
use crate::failure::Failure;
use crate::framing;
use crate::registry::{Member, Record};
use format::types::{Generation, Name, Slot, VolumeId};
use replica::command::Command;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest message: a status of many replicas is a few KiB, sentences included.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// One message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The sender lives. Sent whenever nothing else has been for a while.
    Alive,
    /// Please do this.
    Request {
        /// Names the request in its answer.
        id: u64,
        /// What.
        request: Request,
    },
    /// It has been done, or not.
    Response {
        /// Which.
        id: u64,
        /// How.
        result: Result<Response, Failure>,
    },
}

/// What one node asks another. Requests about volumes name them by id: a name used again is another volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Make the files of a replica.
    Prepare {
        /// What to remember of it.
        record: Record,
        /// Its size.
        size_bytes: u64,
        /// The first generation.
        #[serde(with = "as_text")]
        generation: Generation,
        /// The first primary.
        #[serde(with = "as_text::slot")]
        primary: Slot,
    },
    /// What was prepared is a replica now.
    Commit {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
    },
    /// What was prepared is to vanish.
    Abort {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
    },
    /// What has become of a volume that you had me prepare?
    Fate {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
    },
    /// The volume has been removed.
    Remove {
        /// Which.
        #[serde(with = "as_text")]
        volume: VolumeId,
        /// The slot of the replica that is meant: the node may have another by now.
        #[serde(default)]
        slot: Option<u8>,
        /// The data stays.
        keep_data: bool,
    },
    /// Extend the files of the replica.
    Extend {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
        /// To how many bytes.
        size_bytes: u64,
    },
    /// Have the replica carry this out.
    Order {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
        /// What.
        order: Order,
    },
    /// Do your part where a replica of a volume comes or goes while it is used.
    Replica {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
        /// What.
        step: ReplicaStep,
    },
    /// Do what was typed on another node, as if it had been typed here.
    Act {
        /// To which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
        /// What.
        action: Action,
    },
    /// See whether this arbiter would do, and remember it.
    PrepareArbiter {
        /// Names it.
        #[serde(with = "as_text")]
        change: Generation,
        /// What was typed.
        request: ArbiterRequest,
    },
    /// The arbiter that was prepared holds.
    CommitArbiter {
        /// Which.
        #[serde(with = "as_text")]
        change: Generation,
    },
    /// The arbiter that was prepared is to be forgotten.
    AbortArbiter {
        /// Which.
        #[serde(with = "as_text")]
        change: Generation,
    },
    /// What has become of an arbiter that you had me prepare?
    ArbiterFate {
        /// Which.
        #[serde(with = "as_text")]
        change: Generation,
    },
    /// You are the primary: let nobody in, if nobody is in, so that I can be it.
    GiveWay {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
    },
    /// Show the replica.
    Show {
        /// Of which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
    },
    /// Tell of yourself.
    ShowNode,
    /// Where you serve a volume of which a node has a replica: give it to another.
    ReplaceNode {
        /// Whose.
        #[serde(with = "as_text")]
        node: Name,
        /// Whom.
        #[serde(with = "as_text")]
        with: Name,
    },
    /// Do what was typed on another node to yourself.
    ActOnNode {
        /// What.
        action: NodeAction,
    },
}

/// Commands of the core that one node gives to another's replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// [`Command::Grow`].
    Grow {
        /// The new size.
        size_bytes: u64,
    },
    /// [`Command::Resync`].
    Resync {
        /// Compare everything.
        full: bool,
        /// Which slot's.
        to: Option<u8>,
    },
    /// [`Command::Discard`].
    Discard {
        /// Whose side.
        #[serde(with = "as_text::slot")]
        slot: Slot,
    },
}

impl From<Order> for Command {
    fn from(order: Order) -> Command {
        match order {
            Order::Grow { size_bytes } => Command::Grow { size_bytes },
            Order::Resync { full, to } => Command::Resync {
                full,
                to: to.and_then(Slot::new),
            },
            Order::Discard { slot } => Command::Discard { slot },
        }
    }
}

/// An answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    /// Done.
    Done,
    /// What has become of a volume or an arbiter: to [`Request::Fate`] and [`Request::ArbiterFate`].
    Fate(Fate),
    /// To [`Request::Act`].
    Outcome(Outcome),
    /// To [`Request::Show`].
    View(Box<VolumeView>),
    /// To [`ReplicaStep::Tell`].
    Membership(Membership),
    /// To [`Request::ShowNode`].
    Node(NodeFacts),
    /// To [`Request::ActOnNode`].
    Drained(Drained),
}

/// One node's part where a replica comes or goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReplicaStep {
    /// Which replicas does the volume have, for all that you know?
    Tell,
    /// Make the files of a replica that joins.
    Prepare {
        /// What to remember of it.
        record: Record,
        /// Its size.
        size_bytes: u64,
        /// The slots of replicas that there were, one bit each.
        spent: u8,
    },
    /// The volume has this replica, too.
    Add(Member),
    /// The volume has this replica no more.
    Remove(Member),
}

/// Which replicas a volume has, for all that one of them knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// All replicas.
    pub(crate) members: Vec<Member>,
    /// The slots of replicas that there were, one bit each.
    pub(crate) spent: u8,
    /// The one that is asked is a replica by now, and not only prepared.
    pub(crate) ready: bool,
}

/// What has become of a volume whose creation was prepared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Fate {
    /// It exists.
    Created,
    /// It does not.
    Undone,
    /// Its creation goes on; the coordinator will tell.
    Undecided,
}

/// Sends one message.
async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &Message) -> Result<(), Failure> {
    framing::send(stream, message, MESSAGE_BYTES_MAX).await
}

/// Receives one message.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Message, Failure> {
    framing::receive(stream, MESSAGE_BYTES_MAX).await
}

#[cfg(test)]
mod tests;
