//! Authenticated connections between nodes, and which of two that were dialled at once stays.

mod handshake;

/// What a link is for.
pub(crate) use format::hello::Link as Purpose;

use crate::config::Peer;
use crate::failure::{Context, Failure};
use crate::key::ClusterKey;
use format::hello::{Hello, LinkKey, Welcome};
use format::types::{Name, NodeId};
use rustix::net::sockopt;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a handshake may take: a few round trips, of which the slowest link needs a second.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long one address may take to answer before the next is tried.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// What paces the links. Each kernel has it, and anybody may choose it.
const CONGESTION_CONTROL: &str = "cubic";

/// What this node shows of itself when it greets another.
#[derive(Clone)]
pub(crate) struct Local {
    /// Its id.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: Name,
    /// The cluster key.
    pub(crate) key: ClusterKey,
    /// How long data may lie unacknowledged before the connection is given up.
    pub(crate) lease: Duration,
}

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
pub(crate) async fn dial(local: &Local, peer: &Peer, purpose: Purpose) -> Result<Link, Failure> {
    let mut last = Failure::failed(format!("{} has no address", peer.name));
    for address in &peer.addresses {
        match dial_address(local, &peer.name, address.as_str(), purpose).await {
            Ok(link) => return Ok(link),
            Err(failure) => last = Failure::failed(format!("{address}: {failure}")),
        }
    }
    Err(last)
}

async fn dial_address(
    local: &Local,
    name: &Name,
    address: &str,
    purpose: Purpose,
) -> Result<Link, Failure> {
    let (stream, welcome) = greet(local, address, purpose).await?;
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

/// Connects to whoever answers there, and greets them; whether the link is accepted is in the welcome.
pub(crate) async fn greet(
    local: &Local,
    address: &str,
    purpose: Purpose,
) -> Result<(TcpStream, Welcome), Failure> {
    let connected = timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await;
    let late = |_| Failure::failed("no answer");
    let mut stream = connected
        .map_err(late)?
        .context(|| "cannot connect".to_owned())?;
    prepare(&stream, local.lease)?;
    let hello = Hello {
        node: local.node,
        name: local.name.clone(),
        link: purpose,
    };
    let greeting = handshake::dial(&mut stream, local.key.bytes(), &hello);
    let welcome = timeout(HANDSHAKE_DEADLINE, greeting)
        .await
        .map_err(late)??;
    Ok((stream, welcome))
}

/// Acknowledgements must leave at once, and a peer that no packet reaches must be noticed.
fn prepare(stream: &TcpStream, lease: Duration) -> Result<(), Failure> {
    let doing = || "cannot prepare the socket".to_owned();
    stream.set_nodelay(true).context(doing)?;
    // The machine's default may be BBR: that holds data back to keep a pace, and some times a minute nearly stops for 200 ms
    // to look for a shorter way, while somebody waits for a write. Where there is no other, the default stays.
    let _ = sockopt::set_tcp_congestion(stream, CONGESTION_CONTROL);
    let patience = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, patience).context(doing)
}

/// A connection of a node that has the cluster key and waits to be let in.
pub(crate) struct Caller {
    stream: TcpStream,
    link_key: LinkKey,
    /// Who it is and what it wants.
    pub(crate) hello: Hello,
}

impl Caller {
    /// Hears a connection that has just been accepted.
    pub(crate) async fn hear(local: &Local, mut stream: TcpStream) -> Result<Caller, Failure> {
        prepare(&stream, local.lease)?;
        let greeting = handshake::accept(&mut stream, local.key.bytes());
        let heard = timeout(HANDSHAKE_DEADLINE, greeting).await.map_err(late)?;
        let (hello, link_key) = heard?;
        Ok(Caller {
            stream,
            link_key,
            hello,
        })
    }

    /// Lets it in, or tells it why not.
    pub(crate) async fn answer(
        mut self,
        local: &Local,
        verdict: Result<(), &Failure>,
    ) -> Result<Link, Failure> {
        let welcome = Welcome {
            node: local.node,
            name: local.name.clone(),
            accepted: verdict.map_err(|failure| failure.message.as_str().into()),
        };
        let answer = handshake::answer(&mut self.stream, &self.link_key, &welcome);
        timeout(HANDSHAKE_DEADLINE, answer).await.map_err(late)??;
        let Hello { node, name, .. } = self.hello;
        Ok(Link {
            stream: self.stream,
            node,
            name,
            dialled_here: false,
        })
    }
}

fn late(_: tokio::time::error::Elapsed) -> Failure {
    Failure::failed("the handshake takes too long")
}

#[cfg(test)]
mod tests {
    use super::{CONGESTION_CONTROL, Standing, kept, prepare};
    use format::types::NodeId;
    use rustix::net::sockopt;
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_link_s_pace_is_its_own_and_not_the_machine_s() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("a connection");
        sockopt::set_tcp_congestion(&stream, "reno").expect("every kernel has it");
        prepare(&stream, Duration::from_secs(2)).expect("a TCP socket");
        let chosen = sockopt::tcp_congestion(&stream).expect("a TCP socket");
        assert_eq!(chosen, CONGESTION_CONTROL);
    }

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
}
