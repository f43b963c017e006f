//! How the control link to each other node stands.

use crate::api::NodeView;
use crate::config::Peer;
use crate::control::{Session, SessionEnd};
use crate::failure::Failure;
use crate::link::{Link, Standing, kept};
use format::types::{Name, NodeId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// All other nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: BTreeMap<Name, Node>,
}

#[derive(Debug)]
struct Node {
    addresses: Vec<String>,
    connection: Mutex<Connection>,
    // The link has broken, or there is a reason to dial at once.
    changed: Notify,
}

#[derive(Debug)]
struct Connection {
    // Counts the lives of the link, so that the end of an old one changes nothing.
    life: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Down {
        id: Option<NodeId>,
        reason: Option<String>,
    },
    Up {
        id: NodeId,
        session: Session,
        dialled_here: bool,
        // Dropped with this life of the link, which ends it.
        _end: oneshot::Sender<()>,
    },
}

/// One life of a control link.
pub(crate) struct Life {
    /// Its number.
    pub(crate) number: u64,
    /// No other was up.
    pub(crate) first: bool,
    /// The end to serve.
    pub(crate) end: SessionEnd,
    /// Told when another life has taken its place.
    pub(crate) replaced: oneshot::Receiver<()>,
}

impl State {
    fn standing(&self) -> Standing {
        match self {
            State::Up { dialled_here, .. } => Standing::Up {
                dialled_here: *dialled_here,
            },
            State::Down { .. } => Standing::Down,
        }
    }
}

impl Nodes {
    /// The nodes that the configuration names, none of them connected.
    pub(crate) fn new(peers: &[Peer]) -> Nodes {
        let node = |peer: &Peer| Node {
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
            connection: Mutex::new(Connection {
                life: 0,
                state: State::Down {
                    id: None,
                    reason: None,
                },
            }),
            changed: Notify::new(),
        };
        Nodes {
            nodes: peers
                .iter()
                .map(|peer| (peer.name.clone(), node(peer)))
                .collect(),
        }
    }

    /// The asking end of the link to a node, if it is up.
    pub(crate) fn session(&self, name: &Name) -> Result<Session, Failure> {
        match &lock(self.node(name)?).state {
            State::Up { session, .. } => Ok(session.clone()),
            State::Down { reason, .. } => Err(Failure::failed(unreachable(name, reason))),
        }
    }

    /// The id of a node that is connected.
    pub(crate) fn id(&self, name: &Name) -> Result<NodeId, Failure> {
        match &lock(self.node(name)?).state {
            State::Up { id, .. } => Ok(*id),
            State::Down { reason, .. } => Err(Failure::failed(unreachable(name, reason))),
        }
    }

    /// All of them, for a person.
    pub(crate) fn show(&self) -> Vec<NodeView> {
        let show = |(name, node): (&Name, &Node)| {
            let (id, state, reason) = match &lock(node).state {
                State::Up { id, .. } => (Some(*id), "Connected", None),
                State::Down { id, reason } => (*id, "Connecting", reason.clone()),
            };
            NodeView {
                name: name.to_string(),
                id: id.map(|id| id.to_string()),
                addresses: node.addresses.clone(),
                state: state.to_owned(),
                reason,
            }
        };
        self.nodes.iter().map(show).collect()
    }

    /// How the link to a node stands, for the decision between two that were dialled at once.
    pub(crate) fn standing(&self, name: &Name) -> Standing {
        let node = self.nodes.get(name);
        node.map_or(Standing::Down, |node| lock(node).state.standing())
    }

    /// Begins a life of the link to a node, in the place of any earlier one; `None` if the earlier one
    /// stays, or there is no such node.
    pub(crate) fn begin(&self, own: NodeId, link: &Link) -> Option<Life> {
        let node = self.nodes.get(&link.name)?;
        let mut connection = lock(node);
        if !kept(
            own,
            link.node,
            link.dialled_here,
            connection.state.standing(),
        ) {
            return None;
        }
        let (session, end) = Session::new();
        let (sender, replaced) = oneshot::channel();
        let first = matches!(connection.state, State::Down { .. });
        connection.life += 1;
        connection.state = State::Up {
            id: link.node,
            session,
            dialled_here: link.dialled_here,
            _end: sender,
        };
        node.changed.notify_one();
        Some(Life {
            number: connection.life,
            first,
            end,
            replaced,
        })
    }

    /// Ends a life of the link; whether it was the last that had begun.
    pub(crate) fn end(&self, name: &Name, life: u64, reason: &Failure) -> bool {
        let Some(node) = self.nodes.get(name) else {
            return false;
        };
        let mut connection = lock(node);
        if connection.life != life {
            return false;
        }
        let id = match connection.state {
            State::Up { id, .. } => Some(id),
            State::Down { id, .. } => id,
        };
        connection.state = State::Down {
            id,
            reason: Some(reason.message.clone()),
        };
        node.changed.notify_one();
        true
    }

    /// Notes why a node could not be dialled.
    pub(crate) fn not_reached(&self, name: &Name, why: Failure) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        if let State::Down { reason, .. } = &mut lock(node).state {
            *reason = Some(why.message);
        }
    }

    /// The node can be reached again: dial now if there is no link to it.
    pub(crate) fn kick(&self, name: &Name) {
        if let Some(node) = self.nodes.get(name) {
            node.changed.notify_one();
        }
    }

    /// Waits until something has changed about the link to a node.
    pub(crate) async fn changed(&self, name: &Name) {
        match self.nodes.get(name) {
            Some(node) => node.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    fn node(&self, name: &Name) -> Result<&Node, Failure> {
        self.nodes.get(name).ok_or_else(|| {
            let known: Vec<_> = self.nodes.keys().map(Name::as_str).collect();
            Failure::not_found(format!(
                "there is no node {name}: [[peer]] names {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ))
        })
    }
}

fn unreachable(name: &Name, reason: &Option<String>) -> String {
    let reason = reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("{name} is not connected{reason}: see `twinblk node ls`")
}

fn lock(node: &Node) -> MutexGuard<'_, Connection> {
    // Every change is one assignment.
    node.connection
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
