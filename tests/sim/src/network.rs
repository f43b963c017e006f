//! Ordered streams between nodes that break, stall, and are made anew.

use crate::content::Content;
use crate::rng::Rng;
use bytes::Bytes;
use format::frame::{Frame, Holds};
use replica::event::{Nanos, SessionId};
use std::collections::{BTreeMap, VecDeque};

/// Names one connection, for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);

/// One thing that travels along a stream.
#[derive(Clone, Debug)]
pub enum Packet {
    /// The connection is made.
    Hello,
    /// A frame in bytes, and its payload, which is not.
    Frame {
        /// Header and body.
        bytes: Bytes,
        /// The payload.
        payload: Option<Content>,
        /// What may not overtake it.
        holds: Holds,
    },
    /// The other end has closed, or is found dead.
    End,
}

/// One direction of a connection.
#[derive(Default, Debug)]
pub struct Stream {
    /// What travels, and when it can arrive at the earliest.
    packets: VecDeque<(Nanos, Packet)>,
    /// Nothing arrives before this.
    newest: Nanos,
    /// A delivery is in the world's queue.
    pub scheduled: bool,
}

/// A connection between two nodes, as the nodes see it.
#[derive(Debug)]
pub struct Connection {
    /// The nodes, lower first.
    pub nodes: [usize; 2],
    /// Their names for it.
    pub sessions: [SessionId; 2],
    /// Whether the node believes in it.
    pub open: [bool; 2],
    /// What is on its way from each node.
    pub streams: [Stream; 2],
    /// When it was made.
    pub made_at: Nanos,
}

impl Connection {
    /// Which end the node is.
    pub fn end_of(&self, node: usize) -> usize {
        usize::from(self.nodes[1] == node)
    }
}

/// How two nodes try to reach each other.
#[derive(Clone, Copy, Default, Debug)]
pub struct Dialling {
    /// Each side wants the link.
    pub wanted: [bool; 2],
    /// The next wait, in nanoseconds.
    pub backoff: Nanos,
    /// An attempt is in the world's queue.
    pub scheduled: bool,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    /// Connections of which any end or packet is left.
    pub connections: BTreeMap<ConnectionId, Connection>,
    /// By pair, lower node first.
    pub dialling: BTreeMap<(usize, usize), Dialling>,
    /// `blocked[from][to]`: nothing arrives.
    pub blocked: [[bool; 4]; 4],
    /// The mean delay of a packet, in nanoseconds.
    pub delay: Nanos,
    next: u64,
}

/// The shortest wait before a link is dialled again.
pub const BACKOFF_MIN: Nanos = 20_000_000;
/// The longest.
const BACKOFF_MAX: Nanos = 640_000_000;

impl Network {
    /// Links between so many nodes.
    pub fn new(nodes: usize, delay: Nanos) -> Network {
        let pairs = (0..nodes).flat_map(|low| (low + 1..nodes).map(move |high| (low, high)));
        let fresh = Dialling {
            wanted: [true; 2],
            backoff: BACKOFF_MIN,
            scheduled: false,
        };
        Network {
            connections: BTreeMap::new(),
            dialling: pairs.map(|pair| (pair, fresh)).collect(),
            blocked: [[false; 4]; 4],
            delay,
            next: 1,
        }
    }

    /// The connection that both ends of the pair believe in, or that one does.
    pub fn between(&self, low: usize, high: usize) -> impl Iterator<Item = ConnectionId> {
        let mine = move |connection: &Connection| connection.nodes == [low, high];
        self.connections
            .iter()
            .filter(move |(_, c)| mine(c))
            .map(|(id, _)| *id)
    }

    /// The node's connection with this peer that it believes in.
    pub fn open_of(&self, node: usize, peer: usize) -> Option<ConnectionId> {
        let nodes = [node.min(peer), node.max(peer)];
        let found = self.connections.iter().rev().find(|(_, connection)| {
            connection.nodes == nodes && connection.open[connection.end_of(node)]
        });
        found.map(|(id, _)| *id)
    }

    /// Makes a connection; `Hello` is the first thing that each end gets.
    pub fn connect(&mut self, low: usize, high: usize, now: Nanos, rng: &mut Rng) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        let session = SessionId(id.0);
        let connection = Connection {
            nodes: [low, high],
            sessions: [session; 2],
            open: [true; 2],
            streams: [Stream::default(), Stream::default()],
            made_at: now,
        };
        self.connections.insert(id, connection);
        for end in 0..2 {
            self.push(id, end, now, Packet::Hello, rng);
        }
        id
    }

    /// Puts a packet into the stream from this end.
    pub fn push(
        &mut self,
        id: ConnectionId,
        end: usize,
        now: Nanos,
        packet: Packet,
        rng: &mut Rng,
    ) {
        let delay = rng.between(self.delay / 4, self.delay * 2);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let stream = &mut connection.streams[end];
        stream.newest = stream.newest.max(now + delay);
        stream.packets.push_back((stream.newest, packet));
    }

    /// Puts an urgent frame before some of what is on its way from this end, as far as it may overtake it; whether there
    /// was anything to overtake.
    pub fn push_urgent(
        &mut self,
        id: ConnectionId,
        end: usize,
        frame: &Frame,
        bytes: Bytes,
        rng: &mut Rng,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let packets = &mut connection.streams[end].packets;
        let passed = packets.iter().rev();
        let passed = passed
            .take_while(|(_, packet)| match packet {
                Packet::Frame { holds, .. } => frame.may_overtake(*holds),
                Packet::Hello | Packet::End => false,
            })
            .count();
        if passed == 0 {
            return false;
        }
        let place = packets.len() - 1 - rng.index(passed);
        let at = packets[place].0;
        let packet = Packet::Frame {
            bytes,
            payload: None,
            holds: frame.holds(),
        };
        packets.insert(place, (at, packet));
        true
    }

    /// When the next packet from this end can arrive.
    pub fn arrival(&self, id: ConnectionId, end: usize) -> Option<Nanos> {
        let connection = self.connections.get(&id)?;
        let [from, to] = [connection.nodes[end], connection.nodes[1 - end]];
        if self.blocked[from][to] {
            return None;
        }
        connection.streams[end].packets.front().map(|(at, _)| *at)
    }

    /// Takes the next packet from this end out.
    pub fn pop(&mut self, id: ConnectionId, end: usize) -> Option<Packet> {
        let stream = &mut self.connections.get_mut(&id)?.streams[end];
        stream.packets.pop_front().map(|(_, packet)| packet)
    }

    /// This end closes: what it has sent may still arrive, what was sent to it does not.
    pub fn close(&mut self, id: ConnectionId, end: usize, now: Nanos, rng: &mut Rng) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.open[end] = false;
        connection.streams[1 - end].packets.clear();
        self.push(id, end, now, Packet::End, rng);
    }

    /// Cuts the stream from this end anywhere: a random first part still arrives, and with `told` the
    /// other end finds it dead.
    pub fn cut(&mut self, id: ConnectionId, end: usize, now: Nanos, told: bool, rng: &mut Rng) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let packets = &mut connection.streams[end].packets;
        let left = rng.index(packets.len() + 1);
        packets.truncate(left);
        if told {
            self.push(id, end, now, Packet::End, rng);
        }
    }

    /// Forgets connections that nobody believes in.
    pub fn sweep(&mut self) {
        self.connections
            .retain(|_, connection| connection.open != [false; 2]);
    }

    /// The wait before the pair's next attempt; the one after will be longer.
    pub fn back_off(&mut self, pair: (usize, usize)) -> Nanos {
        let dialling = self.dialling.get_mut(&pair).expect("a pair of nodes");
        let wait = dialling.backoff;
        dialling.backoff = (wait * 2).min(BACKOFF_MAX);
        wait
    }
}
