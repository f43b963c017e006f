//! Authenticated connections between nodes: one listening port, and a hello that names what a connection is for.

mod handshake;

/// What a link is for.
pub(crate) use format::hello::Link as Purpose;

use crate::daemon::Daemon;
use crate::failure::{Context, Failure};
use crate::happenings::Incident;
use crate::{links, nodes};
use format::hello::{Hello, Welcome};
use format::types::{Name, NodeId};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// How long a handshake may take: a few round trips, of which the slowest link needs a second.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long one address may take to answer before the next is tried.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Connections that have not proved themselves; more wait to be accepted.
const HALF_OPEN_MAX: usize = 64;
/// How long the listener rests when the process is out of descriptors, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Strangers are complained of this often at most.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(10);

/// A connection to a node that has proved that it has the cluster key.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// The node at its other end.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: Name,
    /// Whether this node has dialled it.
    pub(crate) dialled_here: bool,
}

impl Link {
    /// The connection, for the control plane.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The connection, for a replica: its ring waits for a socket that blocks.
    pub(crate) fn into_socket(self) -> std::io::Result<OwnedFd> {
        let stream = self.stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream.into())
    }
}

/// How a link between two nodes stands, as one of them sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// There is none.
    Down,
    /// There is one.
    Up {
        /// Whether this node has dialled it.
        dialled_here: bool,
    },
}

/// Whether a new connection takes the place of what there is. Of two that were dialled from both ends at
/// once, the one that the lower node id has dialled stays, at both ends.
pub(crate) fn kept(own: NodeId, peer: NodeId, dialled_here: bool, standing: Standing) -> bool {
    match standing {
        Standing::Down => true,
        Standing::Up {
            dialled_here: there_is,
        } if there_is == dialled_here => true,
        Standing::Up { .. } => dialled_here == (own < peer),
    }
}

/// Dials a node's addresses in turn.
pub(crate) async fn dial(daemon: &Daemon, name: &Name, purpose: Purpose) -> Result<Link, Failure> {
    let peer = daemon.config.peer(name);
    let peer = peer.ok_or_else(|| Failure::not_found(format!("no [[peer]] is named {name}")))?;
    let mut last = Failure::failed(format!("{name} has no address"));
    for address in &peer.addresses {
        match dial_address(daemon, name, address.as_str(), purpose).await {
            Ok(link) => return Ok(link),
            Err(failure) => last = Failure::failed(format!("{address}: {failure}")),
        }
    }
    Err(last)
}

async fn dial_address(
    daemon: &Daemon,
    name: &Name,
    address: &str,
    purpose: Purpose,
) -> Result<Link, Failure> {
    let connected = timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await;
    let late = |_| Failure::failed("no answer");
    let mut stream = connected
        .map_err(late)?
        .context(|| "cannot connect".to_owned())?;
    prepare(daemon, &stream)?;
    let hello = Hello {
        node: daemon.node,
        name: daemon.config.name.clone(),
        link: purpose,
    };
    let greeting = handshake::dial(&mut stream, daemon.key.bytes(), &hello);
    let welcome = timeout(HANDSHAKE_DEADLINE, greeting)
        .await
        .map_err(late)??;
    if welcome.name != *name {
        return Err(Failure::failed(format!(
            "{} answers there: correct the [[peer]] addresses",
            welcome.name
        )));
    }
    welcome.accepted.map_err(Failure::failed)?;
    Ok(Link {
        stream,
        node: welcome.node,
        name: welcome.name,
        dialled_here: true,
    })
}

/// Acknowledgements must leave at once, and a peer that no packet reaches must be noticed.
fn prepare(daemon: &Daemon, stream: &TcpStream) -> Result<(), Failure> {
    let doing = || "cannot prepare the socket".to_owned();
    stream.set_nodelay(true).context(doing)?;
    let patience = u32::try_from(daemon.config.lease.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, patience).context(doing)
}

/// Accepts connections of other nodes for as long as the daemon runs.
pub(crate) async fn listen(daemon: Arc<Daemon>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    let complaints = Arc::new(Complaints::default());
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (daemon, complaints) = (daemon.clone(), complaints.clone());
                tokio::spawn(async move {
                    if let Err(failure) = accept(&daemon, stream).await {
                        complaints.complain(&daemon, &format!("{from}: {failure}"));
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection of a node: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Sees a connection through its handshake and hands it over. An error is a stranger's.
async fn accept(daemon: &Arc<Daemon>, mut stream: TcpStream) -> Result<(), Failure> {
    prepare(daemon, &stream)?;
    let greeting = handshake::accept(&mut stream, daemon.key.bytes());
    let late = |_| Failure::failed("the handshake takes too long");
    let (peer, link_key) = timeout(HANDSHAKE_DEADLINE, greeting)
        .await
        .map_err(late)??;
    let admitted = admit(daemon, &peer);
    let welcome = Welcome {
        node: daemon.node,
        name: daemon.config.name.clone(),
        accepted: admitted
            .as_ref()
            .map(|_| ())
            .map_err(|failure| failure.message.as_str().into()),
    };
    let answer = handshake::answer(&mut stream, &link_key, &welcome);
    timeout(HANDSHAKE_DEADLINE, answer).await.map_err(late)??;
    let link = Link {
        stream,
        node: peer.node,
        name: peer.name,
        dialled_here: false,
    };
    match admitted {
        Ok(Admitted::Control) => nodes::run(daemon, link),
        Ok(Admitted::Data(hosted, slot)) => links::attach_accepted(daemon, &hosted, slot, link),
        // It has the key, so it is no stranger: it has been told, and tries again.
        Err(failure) => tracing::debug!("a link of {} is refused: {failure}", link.name),
    }
    Ok(())
}

enum Admitted {
    Control,
    Data(Arc<crate::volumes::Hosted>, format::types::Slot),
}

fn admit(daemon: &Daemon, peer: &Hello) -> Result<Admitted, Failure> {
    if daemon.config.peer(&peer.name).is_none() {
        return Err(Failure::failed(format!(
            "{} has no [[peer]] {}: add it to the configuration",
            daemon.config.name, peer.name
        )));
    }
    if peer.node == daemon.node {
        return Err(Failure::failed(format!(
            "{} and {} have the same node id: one state folder is a copy of the other's; remove its \
             `node` file",
            daemon.config.name, peer.name
        )));
    }
    match peer.link {
        Purpose::Control => {
            let standing = daemon.nodes.standing(&peer.name);
            if kept(daemon.node, peer.node, false, standing) {
                Ok(Admitted::Control)
            } else {
                Err(Failure::failed("there is a link already"))
            }
        }
        Purpose::Data { volume, slot } => {
            let hosted = links::admits(daemon, volume, slot, peer)?;
            Ok(Admitted::Data(hosted, slot))
        }
    }
}

/// Complaints about strangers, few of which are worth more than many.
#[derive(Debug, Default)]
struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    fn complain(&self, daemon: &Daemon, what: &str) {
        if let Some(text) = self.worth_saying(what, Instant::now()) {
            daemon.incident(Incident::StrangerRefused(text));
        }
    }

    fn worth_saying(&self, what: &str, now: Instant) -> Option<String> {
        // What it guards is two numbers.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| now.duration_since(last) < COMPLAINT_PERIOD) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        let more = std::mem::take(unsaid);
        let others = if more > 0 {
            format!(" ({more} more like it before)")
        } else {
            String::new()
        };
        Some(format!("a connection was refused: {what}{others}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPLAINT_PERIOD, Complaints, Standing, kept};
    use format::types::NodeId;
    use tokio::time::Instant;

    #[test]
    fn of_two_links_dialled_at_once_both_ends_keep_the_same() {
        let (low, high) = (NodeId([1; 16]), NodeId([2; 16]));
        let up = |dialled_here| Standing::Up { dialled_here };
        // The link that the lower has dialled comes second, and then first.
        assert!(kept(low, high, true, up(false)) && kept(high, low, false, up(true)));
        assert!(!kept(low, high, false, up(true)) && !kept(high, low, true, up(false)));
        // A new link from the same end says that the old one is dead.
        assert!(kept(high, low, true, up(true)) && kept(low, high, false, up(false)));
        assert!(kept(low, high, false, Standing::Down) && kept(high, low, true, Standing::Down));
    }

    #[test]
    fn strangers_are_complained_of_now_and_then() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert!(complaints.worth_saying("x", start).is_some());
        for _ in 0..1000 {
            assert_eq!(complaints.worth_saying("x", start), None);
        }
        let text = complaints
            .worth_saying("x", start + COMPLAINT_PERIOD)
            .expect("it is time");
        assert!(text.contains("1000 more"), "{text}");
    }
}
