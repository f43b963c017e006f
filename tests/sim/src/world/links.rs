//! Connections between nodes, and the frames on them.

use super::{Happening, World};
use crate::content::{Content, sectors};
use crate::failure::Checker;
use crate::network::{BACKOFF_MIN, ConnectionId, Packet};
use bytes::BytesMut;
use format::frame::{Frame, HEADER_BYTES, PayloadSummary, decode_header};
use format::types::Slot;
use replica::event::{Event, Nanos, Payload, SessionId};

/// How often what is urgent overtakes what waits.
const URGENT_PERMILLE: u64 = 500;

impl World {
    /// The node tries to reach all others soon.
    pub(crate) fn dial_all(&mut self, host: usize) {
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            self.dial_soon(host, peer, BACKOFF_MIN);
        }
    }

    /// The two try to connect after a while.
    pub(crate) fn dial_soon(&mut self, left: usize, right: usize, wait: Nanos) {
        let pair = (left.min(right), left.max(right));
        let dialling = self
            .network
            .dialling
            .get_mut(&pair)
            .expect("a pair of nodes");
        if !std::mem::replace(&mut dialling.scheduled, true) {
            let at = self.now + self.chance.between(wait / 2, wait);
            self.schedule(at, Happening::Dial { pair });
        }
    }

    /// A node wants a link again that it had given up.
    pub(crate) fn want_link(&mut self, host: usize, peer: usize) {
        let pair = (host.min(peer), host.max(peer));
        let end = usize::from(pair.1 == host);
        let dialling = self
            .network
            .dialling
            .get_mut(&pair)
            .expect("a pair of nodes");
        dialling.wanted[end] = true;
        dialling.backoff = BACKOFF_MIN;
        self.dial_soon(host, peer, BACKOFF_MIN);
    }

    pub(super) fn dial(&mut self, pair: (usize, usize)) {
        let (low, high) = pair;
        let dialling = self
            .network
            .dialling
            .get_mut(&pair)
            .expect("a pair of nodes");
        dialling.scheduled = false;
        let wanted = dialling.wanted == [true; 2];
        let up = self.hosts[low].node.is_some() && self.hosts[high].node.is_some();
        let open = |host, peer| self.network.open_of(host, peer);
        let connected = open(low, high).is_some() && open(low, high) == open(high, low);
        if connected || !up || !wanted {
            return;
        }
        let blocked = self.network.blocked[low][high] || self.network.blocked[high][low];
        if blocked || self.chance.permille(50) {
            let wait = self.network.back_off(pair);
            return self.dial_soon(low, high, wait);
        }
        let id = self.network.connect(low, high, self.now, &mut self.chance);
        self.trace.line(self.now, || {
            format!("{low} and {high} connect: session {}", id.0)
        });
        self.expect_arrival(id, 0);
        self.expect_arrival(id, 1);
    }

    /// Puts the next arrival from this end into the queue.
    pub(crate) fn expect_arrival(&mut self, id: ConnectionId, end: usize) {
        let Some(at) = self.network.arrival(id, end) else {
            return;
        };
        let Some(connection) = self.network.connections.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut connection.streams[end].scheduled, true) {
            self.schedule(
                at,
                Happening::Arrival {
                    connection: id,
                    end,
                },
            );
        }
    }

    pub(super) fn arrive(&mut self, id: ConnectionId, end: usize) {
        let Some(connection) = self.network.connections.get_mut(&id) else {
            return;
        };
        connection.streams[end].scheduled = false;
        let due = self
            .network
            .arrival(id, end)
            .is_some_and(|at| at <= self.now);
        if due && let Some(packet) = self.network.pop(id, end) {
            self.receive(id, end, packet);
        }
        self.expect_arrival(id, end);
    }

    /// A packet has arrived from this end.
    fn receive(&mut self, id: ConnectionId, end: usize, packet: Packet) {
        let Some(connection) = self.network.connections.get_mut(&id) else {
            return;
        };
        let to = connection.nodes[1 - end];
        let from = connection.nodes[end];
        let session = connection.sessions[1 - end];
        if !connection.open[1 - end] || self.hosts[to].node.is_none() {
            return;
        }
        let peer = self.hosts[from].slot;
        match packet {
            Packet::Hello => {
                self.supersede_connections(id, to, from);
                self.step(to, Event::PeerConnected { peer, session });
            }
            Packet::End => {
                connection.open[1 - end] = false;
                self.lost(id, to, from);
                self.step(to, Event::PeerLost { peer, session });
            }
            Packet::Frame { bytes, payload, .. } => {
                self.receive_frame(to, peer, session, &bytes, payload);
            }
        }
    }

    fn receive_frame(
        &mut self,
        to: usize,
        peer: Slot,
        session: SessionId,
        bytes: &[u8],
        payload: Option<Content>,
    ) {
        let (header, body) = bytes.split_at(HEADER_BYTES);
        let decoded = decode_header(header)
            .and_then(|header| Frame::decode(&header, body).map(|frame| (frame, header.epoch())));
        match decoded {
            Ok((frame, epoch)) => {
                let payload = payload.map(|content| self.hosts[to].arena.share(content));
                self.step(
                    to,
                    Event::Frame {
                        peer,
                        session,
                        frame,
                        epoch,
                        payload,
                    },
                );
            }
            Err(damage) => self.fail(Checker::Contract, || format!("a frame is lost: {damage}")),
        }
    }

    /// Any earlier connection of the node with this peer is over.
    fn supersede_connections(&mut self, id: ConnectionId, host: usize, peer: usize) {
        let pair = (host.min(peer), host.max(peer));
        let older: Vec<ConnectionId> = self
            .network
            .between(pair.0, pair.1)
            .filter(|other| *other < id)
            .collect();
        for other in older {
            let end = self.network.connections[&other].end_of(host);
            if self.network.connections[&other].open[end] {
                self.network.close(other, end, self.now, &mut self.chance);
                self.expect_arrival(other, end);
            }
        }
        self.network.sweep();
    }

    /// A connection is gone for the node; it tries again.
    fn lost(&mut self, id: ConnectionId, host: usize, peer: usize) {
        let pair = (host.min(peer), host.max(peer));
        let made_at = self.network.connections.get(&id).map_or(0, |c| c.made_at);
        if self.now.saturating_sub(made_at) > self.plan.settings.peer_timeout {
            self.network
                .dialling
                .get_mut(&pair)
                .expect("a pair of nodes")
                .backoff = BACKOFF_MIN;
        }
        self.network.sweep();
        let wait = self.network.back_off(pair);
        self.dial_soon(host, peer, wait);
    }

    /// The core ends a session.
    pub(super) fn disconnect(&mut self, host: usize, peer: Slot, session: SessionId, retry: bool) {
        let peer = peer.index();
        if peer >= self.hosts.len() {
            return self.fail(Checker::Contract, || format!("{host} disconnects nobody"));
        }
        let pair = (host.min(peer), host.max(peer));
        let end = usize::from(pair.1 == host);
        self.network
            .dialling
            .get_mut(&pair)
            .expect("a pair of nodes")
            .wanted[end] = retry;
        let Some(id) = self.session(host, peer, session) else {
            return;
        };
        self.network.close(id, end, self.now, &mut self.chance);
        self.expect_arrival(id, end);
        self.lost(id, host, peer);
    }

    /// The connection that a node calls so, if it is open for it.
    pub(crate) fn session(
        &self,
        host: usize,
        peer: usize,
        session: SessionId,
    ) -> Option<ConnectionId> {
        let id = self.network.open_of(host, peer)?;
        let connection = &self.network.connections[&id];
        (connection.sessions[connection.end_of(host)] == session).then_some(id)
    }

    /// The core sends a frame.
    pub(super) fn send(
        &mut self,
        host: usize,
        peer: Slot,
        session: SessionId,
        frame: &Frame,
        epoch: u64,
        payload: Option<Payload>,
    ) {
        let content = payload.map(|payload| self.payload(host, payload));
        let Some(id) = self.session(host, peer.index(), session) else {
            return;
        };
        if payload.map_or(0, |payload| u64::from(payload.length)) != frame.payload_bytes() {
            let kind = crate::coverage::frame_name(frame);
            return self.fail(Checker::Contract, || format!("{kind} has a wrong payload"));
        }
        self.push_frame(id, host, frame, epoch, content.flatten());
    }

    /// Puts a frame into the stream.
    pub(crate) fn push_frame(
        &mut self,
        id: ConnectionId,
        host: usize,
        frame: &Frame,
        epoch: u64,
        content: Option<Content>,
    ) {
        let end = self.network.connections[&id].end_of(host);
        if let Some(urgent) = frame.urgent()
            && self.chance.permille(URGENT_PERMILLE)
        {
            let mut bytes = BytesMut::new();
            urgent.encode(epoch, None, &mut bytes);
            let network = &mut self.network;
            let overtook = network.push_urgent(id, end, &urgent, bytes.freeze(), &mut self.chance);
            if overtook && urgent == *frame {
                return;
            }
        }
        let summary = frame.has_payload().then(|| {
            let length = u32::try_from(frame.payload_bytes()).expect("a frame is small");
            PayloadSummary { length, crc: 0 }
        });
        let mut bytes = BytesMut::new();
        frame.encode(epoch, summary, &mut bytes);
        let packet = Packet::Frame {
            bytes: bytes.freeze(),
            payload: content,
            holds: frame.holds(),
        };
        self.network
            .push(id, end, self.now, packet, &mut self.chance);
        self.expect_arrival(id, end);
    }

    fn payload(&mut self, host: usize, payload: Payload) -> Option<Content> {
        let (start, length) = (u64::from(payload.start), u64::from(payload.length));
        match self.hosts[host].arena.get(payload.buffer).cloned() {
            Ok(content) => {
                let range = sectors(start)..sectors(start + length);
                if range.end > content.len() {
                    self.fail(Checker::Buffers, || format!("{payload:?} is past its end"));
                    return None;
                }
                let whole = range == (0..content.len());
                Some(if whole {
                    content
                } else {
                    content[range].to_vec().into()
                })
            }
            Err(misuse) => {
                self.fail(Checker::Buffers, || misuse);
                None
            }
        }
    }

    /// The process of a node has ended: its connections break, and with `told` the others hear of it.
    pub(super) fn sever(&mut self, host: usize, told: bool) {
        let mine: Vec<ConnectionId> = self
            .network
            .connections
            .iter()
            .filter(|(_, connection)| connection.nodes.contains(&host))
            .map(|(id, _)| *id)
            .collect();
        for id in mine {
            let end = self.network.connections[&id].end_of(host);
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.open[end] = false;
            }
            self.network.cut(id, end, self.now, told, &mut self.chance);
            self.expect_arrival(id, end);
        }
        self.network.sweep();
        for dialling in self.network.dialling.iter_mut() {
            let ((low, high), dialling) = dialling;
            if *low == host || *high == host {
                // A new process has given nothing up.
                dialling.wanted[usize::from(*high == host)] = true;
                dialling.backoff = BACKOFF_MIN;
            }
        }
    }

    /// A direction between two nodes stalls, or flows again.
    pub(crate) fn block(&mut self, from: usize, to: usize, blocked: bool) {
        self.network.blocked[from][to] = blocked;
        if blocked {
            return;
        }
        let pair = (from.min(to), from.max(to));
        let ids: Vec<ConnectionId> = self.network.between(pair.0, pair.1).collect();
        for id in ids {
            self.expect_arrival(id, 0);
            self.expect_arrival(id, 1);
        }
        self.dial_soon(from, to, BACKOFF_MIN);
    }

    /// The connection of two nodes breaks somewhere.
    pub(crate) fn break_link(&mut self, left: usize, right: usize) {
        let Some(id) = self.network.open_of(left, right) else {
            return;
        };
        for end in 0..2 {
            self.network.cut(id, end, self.now, true, &mut self.chance);
            self.expect_arrival(id, end);
        }
    }
}
