//! Data links to peers: frames in, frames out, payloads straight between sockets and slots.

use crate::memory::{self, Pool};
use crate::outgoing::Outgoing;
use crate::shell::{Shell, Token};
use crate::socket::{Filling, Inbox};
use format::frame::{Frame, HEADER_BYTES, Header, PayloadSummary, decode_header};
use format::types::Slot;
use replica::event::{Event, Nanos, Payload, SessionId};
use ring::{Done, File};
use rustix::net::Shutdown;

#[cfg(test)]
mod tests;

/// How long a session that is over may take to get its last frames out.
const LINGER_NANOS: Nanos = 1_000_000_000;

/// A link that has ended, for the control plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LinkLost {
    /// Whose.
    pub(crate) peer: Slot,
    /// Which.
    pub(crate) session: SessionId,
    /// Whether a new one is wanted.
    pub(crate) retry: bool,
    /// One clause why.
    pub(crate) reason: String,
}

/// All links of a replica.
#[derive(Default)]
pub(crate) struct Transport {
    links: Vec<Link>,
    lost: Vec<LinkLost>,
}

/// One session.
struct Link {
    peer: Slot,
    session: SessionId,
    socket: File,
    inbox: Inbox,
    /// A frame whose payload is on its way.
    incoming: Option<Incoming>,
    filling: Option<Filling>,
    outgoing: Outgoing,
    /// Set once the core has ended the session: until then its last frames may leave.
    closing_until: Option<Nanos>,
}

struct Incoming {
    frame: Frame,
    header: Header,
}

/// Why a link's bytes are not looked at any further for now.
enum Pause {
    /// More must come.
    Starved,
    /// A payload waits for a slot.
    NoSlot,
}

impl Transport {
    /// Takes a link over, with a number that no other has had and what has been received. An
    /// earlier one to the same peer ends at once.
    pub(crate) fn attach(
        &mut self,
        shell: &mut Shell,
        peer: Slot,
        session: SessionId,
        socket: File,
        received: Vec<u8>,
    ) {
        self.links.retain(|link| {
            let stays = link.peer != peer;
            if !stays {
                link.socket.shut_down(Shutdown::Both);
            }
            stays
        });
        shell
            .events
            .push_back(Event::PeerConnected { peer, session });
        let mut link = Link {
            peer,
            session,
            outgoing: Outgoing::new(&socket),
            socket,
            inbox: Inbox::new(received),
            incoming: None,
            filling: None,
            closing_until: None,
        };
        let advanced = link.advance(shell);
        self.links.push(link);
        self.ended_if_failed(shell, session, advanced);
    }

    /// Queues a frame; nothing happens if the session is over.
    pub(crate) fn send(
        &mut self,
        shell: &mut Shell,
        session: SessionId,
        frame: &Frame,
        epoch: u64,
        payload: Option<Payload>,
    ) {
        let Some(link) = self
            .link(session)
            .filter(|link| link.closing_until.is_none())
        else {
            return;
        };
        let summary = payload.map(|payload| shell.buffers.summary(payload));
        let payload = payload.map(|payload| {
            let range = payload.start as usize..(payload.start + payload.length) as usize;
            (shell.buffers.slot(payload.buffer).clone(), range)
        });
        link.outgoing.push(frame, epoch, summary, payload);
    }

    /// Ends a session as the core wants it: what is queued leaves first, if it can within a moment.
    pub(crate) fn disconnect(&mut self, shell: &Shell, session: SessionId, retry: bool) {
        let Some(link) = self
            .link(session)
            .filter(|link| link.closing_until.is_none())
        else {
            return;
        };
        link.closing_until = Some(shell.now + LINGER_NANOS);
        let peer = link.peer;
        let reason = "the session was ended".to_owned();
        self.lost.push(LinkLost {
            peer,
            session,
            retry,
            reason,
        });
    }

    /// Sends what the turn has gathered, and closes what has nothing more to send.
    pub(crate) fn turn_ended(&mut self, shell: &mut Shell) {
        for link in &mut self.links {
            let token = Token::Link(link.session);
            link.outgoing.send(shell, &link.socket, token);
            if link.closing_until.is_some() && link.outgoing.is_empty() {
                // The peer answers the end of the stream with its own.
                link.socket.shut_down(Shutdown::Write);
            }
        }
        let now = shell.now;
        self.links.retain(|link| {
            let stays = link.closing_until.is_none_or(|until| now < until);
            if !stays {
                link.socket.shut_down(Shutdown::Both);
            }
            stays
        });
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_quiet(&self) -> bool {
        self.links.iter().all(|link| link.outgoing.is_empty())
    }

    /// When [`Transport::turn_ended`] next has something to do by itself.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        self.links
            .iter()
            .filter_map(|link| link.closing_until)
            .min()
    }

    /// The links that have ended since this was last asked.
    pub(crate) fn take_lost(&mut self) -> Vec<LinkLost> {
        std::mem::take(&mut self.lost)
    }

    /// Looks again at links whose payloads wait for slots.
    pub(crate) fn slots_freed(&mut self, shell: &mut Shell) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            if link.incoming.is_some() && link.filling.is_none() && link.inbox.is_idle() {
                let session = link.session;
                let advanced = link.advance(shell);
                self.ended_if_failed(shell, session, advanced);
            }
        }
    }

    /// An operation of a session has ended. Of a session that is over nothing is left to be done.
    pub(crate) fn completed(&mut self, shell: &mut Shell, session: SessionId, done: Done) {
        let now = shell.now;
        let Some(link) = self.link(session) else {
            return;
        };
        let result = match done {
            Done::Send(result, batch) => {
                link.outgoing.sent(batch, &link.socket, now);
                result.map_err(|error| format!("sending failed: {error}"))
            }
            received => match link.inbox.received(received, &mut link.filling) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Err("the peer closed the connection".to_owned())
                }
                Err(error) => Err(format!("receiving failed: {error}")),
                Ok(()) => link.advance(shell),
            },
        };
        self.ended_if_failed(shell, session, result);
    }

    fn link(&mut self, session: SessionId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.session == session)
    }

    fn ended_if_failed(
        &mut self,
        shell: &mut Shell,
        session: SessionId,
        result: Result<(), String>,
    ) {
        let Err(reason) = result else {
            return;
        };
        let Some(index) = self.links.iter().position(|link| link.session == session) else {
            return;
        };
        let link = self.links.swap_remove(index);
        link.socket.shut_down(Shutdown::Both);
        if link.closing_until.is_none() {
            let peer = link.peer;
            tracing::warn!("the data link to {peer} has ended: {reason}");
            shell.events.push_back(Event::PeerLost { peer, session });
            self.lost.push(LinkLost {
                peer,
                session,
                retry: true,
                reason,
            });
        }
    }
}

impl Link {
    /// Makes events of all that has come, then receives more.
    fn advance(&mut self, shell: &mut Shell) -> Result<(), String> {
        if self.closing_until.is_some() {
            // What still comes is thrown away.
            self.inbox.consume(self.inbox.unread().len());
            (self.incoming, self.filling) = (None, None);
        }
        let pause = loop {
            if let Some(pause) = self.parse(shell)? {
                break pause;
            }
        };
        if let Pause::Starved = pause {
            let token = Token::Link(self.session);
            self.inbox
                .receive(shell, &self.socket, &mut self.filling, token);
        }
        Ok(())
    }

    /// Takes one step: a frame's header and body, or what has come of its payload.
    fn parse(&mut self, shell: &mut Shell) -> Result<Option<Pause>, String> {
        if self.incoming.is_some() {
            return self.parse_payload(shell);
        }
        let unread = self.inbox.unread();
        let Some((header, rest)) = unread.split_at_checked(HEADER_BYTES) else {
            return Ok(Some(Pause::Starved));
        };
        let damaged = |damage| format!("a frame is damaged: {damage}");
        let header = decode_header(header).map_err(damaged)?;
        let Some(body) = rest.get(..header.body_length()) else {
            return Ok(Some(Pause::Starved));
        };
        let frame = Frame::decode(&header, body).map_err(damaged)?;
        self.inbox.consume(HEADER_BYTES + header.body_length());
        if header.payload_length() > 0 {
            self.incoming = Some(Incoming { frame, header });
        } else {
            self.deliver(shell, frame, header.epoch(), None);
        }
        Ok(None)
    }

    fn parse_payload(&mut self, shell: &mut Shell) -> Result<Option<Pause>, String> {
        let Some(Incoming { header, .. }) = &self.incoming else {
            return Ok(None);
        };
        let filling = match &mut self.filling {
            Some(filling) => filling,
            none => {
                let length = header.payload_length();
                let Some(slot) = memory::take(shell.ring.arena(), Pool::Peers, length) else {
                    return Ok(Some(Pause::NoSlot));
                };
                none.insert(Filling::new(slot, length))
            }
        };
        self.inbox.fill(filling);
        if !filling.is_full() {
            return Ok(Some(Pause::Starved));
        }
        if let (Some(filling), Some(incoming)) = (self.filling.take(), self.incoming.take()) {
            let (slot, length) = filling.into_slot();
            let summary = PayloadSummary::of(&slot[..length]);
            let checked = incoming.header.check_payload(summary.crc);
            checked.map_err(|damage| format!("a frame is damaged: {damage}"))?;
            let payload = shell.buffers.insert(slot.share());
            self.deliver(
                shell,
                incoming.frame,
                incoming.header.epoch(),
                Some(payload),
            );
        }
        Ok(None)
    }

    fn deliver(
        &self,
        shell: &mut Shell,
        frame: Frame,
        epoch: u64,
        payload: Option<replica::event::Buffer>,
    ) {
        shell.events.push_back(Event::Frame {
            peer: self.peer,
            session: self.session,
            frame,
            epoch,
            payload,
        });
    }
}
