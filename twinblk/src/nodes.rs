//! The control links to the other nodes: one each, dialled by both sides, kept up for ever.

use crate::api::NodeView;
use crate::backoff::Backoff;
use crate::config::Peer;
use crate::control::{Session, serve};
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::handlers;
use crate::happenings::Incident;
use crate::link::{self, Link, Purpose, Standing};
use format::types::{Name, NodeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// A control link may be silent for as many leases before it is given up: it decides nothing by
/// itself, and a short pause of a machine is no reason to break it.
const LEASES_OF_PATIENCE: u32 = 2;

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

/// Keeps the control link to a node up, for as long as the daemon runs.
pub(crate) async fn keep_connected(daemon: Arc<Daemon>, name: Name) {
    let Some(node) = daemon.nodes.nodes.get(&name) else {
        return;
    };
    let mut backoff = Backoff::default();
    loop {
        while matches!(lock(node).state, State::Up { .. }) {
            node.changed.notified().await;
            backoff = Backoff::default();
        }
        match link::dial(&daemon, &name, Purpose::Control).await {
            Ok(link) => run(&daemon, link),
            Err(failure) => note_reason(node, failure),
        }
        tokio::select! {
            () = backoff.rest() => {}
            () = node.changed.notified() => {}
        }
    }
}

fn note_reason(node: &Node, failure: Failure) {
    if let State::Down { reason, .. } = &mut lock(node).state {
        *reason = Some(failure.message);
    }
}

/// Takes an established control link into use, in the place of any earlier one.
pub(crate) fn run(daemon: &Arc<Daemon>, link: Link) {
    let Some(node) = daemon.nodes.nodes.get(&link.name) else {
        return;
    };
    let (session, end) = Session::new();
    let (end_of_life, life_ended) = oneshot::channel::<()>();
    let (id, dialled_here, name) = (link.node, link.dialled_here, link.name.clone());
    let (life, first) = {
        let mut connection = lock(node);
        if !link::kept(daemon.node, id, dialled_here, connection.state.standing()) {
            return;
        }
        connection.life += 1;
        let first = matches!(connection.state, State::Down { .. });
        connection.state = State::Up {
            id,
            session,
            dialled_here,
            _end: end_of_life,
        };
        (connection.life, first)
    };
    if first {
        daemon.incident(Incident::NodeConnected(name.clone()));
    }
    node.changed.notify_one();
    let daemon = daemon.clone();
    tokio::spawn(async move {
        let patience = daemon.config.lease * LEASES_OF_PATIENCE;
        let serving = {
            let (daemon, name) = (daemon.clone(), name.clone());
            serve(link.into_stream(), end, patience, move |request| {
                handlers::handle(daemon.clone(), name.clone(), request)
            })
        };
        let settling = {
            let (daemon, name) = (daemon.clone(), name.clone());
            tokio::spawn(async move {
                daemon.links.kick(&name);
                if let Err(failure) = handlers::settle(&daemon, &name).await {
                    tracing::warn!("settling with {name} what it has missed: {failure}");
                }
            })
        };
        let failure = tokio::select! {
            failure = serving => failure,
            _ = life_ended => Failure::failed("another link has taken its place"),
        };
        settling.abort();
        ended(&daemon, &name, life, id, failure);
    });
}

fn ended(daemon: &Daemon, name: &Name, life: u64, id: NodeId, failure: Failure) {
    let Some(node) = daemon.nodes.nodes.get(name) else {
        return;
    };
    let mut connection = lock(node);
    if connection.life != life {
        return;
    }
    connection.state = State::Down {
        id: Some(id),
        reason: Some(failure.message.clone()),
    };
    drop(connection);
    daemon.incident(Incident::NodeLost(name.clone(), failure.message));
    node.changed.notify_one();
}

fn lock(node: &Node) -> MutexGuard<'_, Connection> {
    // Every change is one assignment.
    node.connection
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
