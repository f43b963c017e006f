//! One client's connection: its stream cut into requests, its requests into parts, and the replies.

use super::Hand;
use super::request::{PARTS_MAX, Part, Piece, Places, Request};
use crate::frontend::{ClientKind, ClientRequest, Next, Parsed, Session};
use crate::memory::{self, Pool, length};
use crate::shell::{Shell, Token};
use crate::socket::{Filling, Inbox, Outbox};
use format::types::Span;
use replica::event::{self, Event, Kind, RequestError};
use ring::{Done, File, OwnedSlot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;

/// A client that is connected.
pub(super) struct Connection {
    number: u32,
    socket: File,
    session: Box<dyn Session>,
    inbox: Inbox,
    outbox: Outbox,
    /// Where the session puts what it has to say before it is gathered.
    said: Vec<u8>,
    requests: Places<Request>,
    parts: Places<Part>,
    /// Emptied lists of parts, for the next requests.
    spare_lists: Vec<VecDeque<u32>>,
    /// The request whose parts, and whose payload, come next; nothing behind it is looked at
    /// before.
    issuing: Option<u32>,
    /// The read whose data has been announced in part: no other's may come before its end.
    announcing: Option<u32>,
    /// Reads with data that wait for its end. They keep no room from it: those that were issued before its last part were
    /// so before its first, which had room beside theirs, and its other parts need no more.
    waiting: VecDeque<u32>,
    filling: Option<Filling>,
    /// Bytes of a refused payload that are to be thrown away.
    drain: u64,
    /// The client has said goodbye: what is in flight ends, then so does the connection.
    leaving: bool,
    /// Bytes of reads that the core has, or that wait to be announced, or gather to be sent.
    reads_held: u64,
    /// Bytes of reads that are being sent.
    reads_leaving: u64,
    /// Bytes of reads among those gathering.
    reads_gathered: u64,
}

/// What becomes of a connection after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It waits for the client, or for its own requests.
    Waiting,
    /// It waits for what all clients share: slots, or places in hand.
    Short,
    /// It has ended.
    Over,
}

/// What stops a connection from going on.
enum Pause {
    Starved,
    OwnWindow,
    Shared,
    Over,
}

impl Connection {
    pub(super) fn new(
        number: u32,
        socket: File,
        received: Vec<u8>,
        session: Box<dyn Session>,
    ) -> Connection {
        Connection {
            number,
            socket,
            session,
            inbox: Inbox::new(received),
            outbox: Outbox::new(),
            said: Vec::new(),
            requests: Places::default(),
            parts: Places::default(),
            spare_lists: Vec::new(),
            issuing: None,
            announcing: None,
            waiting: VecDeque::new(),
            filling: None,
            drain: 0,
            leaving: false,
            reads_held: 0,
            reads_leaving: 0,
            reads_gathered: 0,
        }
    }

    /// An operation on the socket has ended.
    pub(super) fn completed(&mut self, shell: &mut Shell, hand: &mut Hand, done: Done) -> State {
        let ended = match done {
            Done::Send(result, batch) => {
                self.outbox.sent(batch);
                hand.read_bytes -= std::mem::take(&mut self.reads_leaving);
                if result.is_err() || self.is_done() {
                    return State::Over;
                }
                // What has left may have been what the next part waits for.
                return match self.issuing {
                    Some(_) => self.advance(shell, hand),
                    None => State::Waiting,
                };
            }
            received => self.inbox.received(received, &mut self.filling),
        };
        match ended {
            Ok(()) => self.advance(shell, hand),
            Err(_) => State::Over,
        }
    }

    /// Goes on as far as it can: requests out of what has come, parts out of requests.
    pub(super) fn advance(&mut self, shell: &mut Shell, hand: &mut Hand) -> State {
        if !self.inbox.is_idle() {
            return State::Waiting;
        }
        let pause = loop {
            if let Some(pause) = self.step(shell, hand) {
                break pause;
            }
        };
        match pause {
            Pause::Starved => {
                let token = Token::Client(self.number);
                self.inbox
                    .receive(shell, &self.socket, &mut self.filling, token);
                State::Waiting
            }
            Pause::OwnWindow => State::Waiting,
            Pause::Shared => State::Short,
            Pause::Over => State::Over,
        }
    }

    fn step(&mut self, shell: &mut Shell, hand: &mut Hand) -> Option<Pause> {
        if self.leaving {
            return Some(if self.is_done() {
                Pause::Over
            } else {
                Pause::OwnWindow
            });
        }
        if self.drain > 0 {
            let unread = self.inbox.unread().len();
            let thrown = usize::try_from(self.drain).map_or(unread, |drain| drain.min(unread));
            self.inbox.consume(thrown);
            self.drain -= thrown as u64;
            return (self.drain > 0).then_some(Pause::Starved);
        }
        match self.issuing {
            Some(number) => self.issue(shell, hand, number),
            None if hand.is_full() => Some(Pause::Shared),
            None => self.parse(shell, hand),
        }
    }

    /// Shows the session what has come.
    fn parse(&mut self, shell: &mut Shell, hand: &mut Hand) -> Option<Pause> {
        let unread = self.inbox.unread();
        let parsed = if unread.is_empty() {
            Parsed::More
        } else {
            self.session.parse(unread, hand.size_bytes, &mut self.said)
        };
        self.gather();
        match parsed {
            Parsed::More => return Some(Pause::Starved),
            Parsed::Consumed(bytes) => self.inbox.consume(bytes),
            Parsed::Drain { consumed, drain } => {
                self.inbox.consume(consumed);
                self.drain = drain;
            }
            Parsed::Request { consumed, request } => {
                self.inbox.consume(consumed);
                return self.begin(shell, hand, request);
            }
            Parsed::Goodbye => self.leaving = true,
            Parsed::Broken(reason) => {
                tracing::info!("a client broke the protocol: {reason}");
                return Some(Pause::Over);
            }
        }
        None
    }

    fn begin(&mut self, shell: &mut Shell, hand: &mut Hand, asked: ClientRequest) -> Option<Pause> {
        if let ClientKind::Extents = asked.kind {
            let pieces = hand.allocations(asked.span);
            self.session.extents(asked.id, &pieces, &mut self.said);
            self.gather();
            return None;
        }
        let issued = asked.span.length == 0 && asked.kind != ClientKind::Flush;
        let number = self.requests.insert(Request {
            asked,
            started_at: shell.now,
            cut: 0,
            issued,
            pending: 0,
            error: None,
            unannounced: self.spare_lists.pop().unwrap_or_default(),
        });
        if issued {
            return self.finish_if_done(shell, hand, number);
        }
        self.issuing = Some(number);
        None
    }

    /// Hands the next part of a request to the core.
    fn issue(&mut self, shell: &mut Shell, hand: &mut Hand, number: u32) -> Option<Pause> {
        let request = self.requests.get_mut(number)?;
        let is_write = matches!(request.asked.kind, ClientKind::Write { .. });
        if request.error.is_some() && !is_write {
            request.issued = true;
        }
        let next = request.next_piece().filter(|_| !request.issued);
        let Some(piece) = next else {
            self.issuing = None;
            return self.finish_if_done(shell, hand, number);
        };
        if request.pending >= PARTS_MAX && !is_write {
            return Some(Pause::OwnWindow);
        }
        if hand.is_full() {
            return Some(Pause::Shared);
        }
        let fua = match request.asked.kind {
            ClientKind::Write { fua } | ClientKind::Zero { fua, .. } => fua,
            _ => false,
        };
        let (kind, span) = match piece {
            Piece::Flush => (Kind::Flush, Span::new(0, 0)),
            Piece::Read(span) => {
                let held = self.reads_held + self.reads_gathered + self.reads_leaving;
                if hand.is_greedy(held, span) {
                    return Some(Pause::OwnWindow);
                }
                if !hand.take_read(span) {
                    return Some(Pause::Shared);
                }
                self.reads_held += super::read_bytes(span);
                (Kind::Read, span)
            }
            Piece::Zero(span) => {
                let unmap = matches!(request.asked.kind, ClientKind::Zero { unmap: true, .. });
                (Kind::Zero { unmap, fua }, span)
            }
            Piece::Edge(span) => {
                let Some(mut slot) = take_slot(shell, span) else {
                    return Some(Pause::Shared);
                };
                slot.fill(0);
                let buffer = shell.buffers.insert(slot.share());
                (Kind::Write { buffer, fua }, span)
            }
            Piece::Write(span) => {
                let slot = match receive(&mut self.inbox, &mut self.filling, shell, span) {
                    Ok(slot) => slot,
                    Err(pause) => return Some(pause),
                };
                if request.error.is_some() {
                    // The rest of a write that has failed is only taken off the stream.
                    request.took(piece);
                    return None;
                }
                let buffer = shell.buffers.insert(slot.share());
                (Kind::Write { buffer, fua }, span)
            }
        };
        request.took(piece);
        self.hand_over(shell, hand, number, kind, span);
        None
    }

    fn hand_over(
        &mut self,
        shell: &mut Shell,
        hand: &mut Hand,
        number: u32,
        kind: Kind,
        span: Span,
    ) {
        let part = self.parts.insert(Part {
            request: number,
            span,
            data: None,
            ended: false,
        });
        if let Some(request) = self.requests.get_mut(number) {
            request.pending += 1;
            if let Kind::Read = kind {
                request.unannounced.push_back(part);
            }
        }
        hand.parts += 1;
        let token = event::Token {
            client: self.number,
            request: part,
        };
        shell
            .events
            .push_back(Event::Request(event::Request { token, kind, span }));
    }

    /// The core has answered a part. Whether the connection may go on, if it waited for its own
    /// requests.
    pub(super) fn part_ended(
        &mut self,
        shell: &mut Shell,
        hand: &mut Hand,
        number: u32,
        result: Result<Option<event::Buffer>, RequestError>,
    ) -> State {
        hand.parts -= 1;
        let data = result.map(|buffer| buffer.map(|buffer| shell.buffers.remove(buffer)));
        let Some(part) = self.parts.get_mut(number) else {
            unreachable!("the core answers each request once");
        };
        let owner = part.request;
        let Some(request) = self.requests.get_mut(owner) else {
            unreachable!("a request outlives its parts");
        };
        request.pending -= 1;
        part.ended = true;
        match data {
            Ok(data) => part.data = data,
            Err(error) => {
                request.error.get_or_insert(error);
            }
        }
        if let ClientKind::Read = request.asked.kind {
            self.announce(hand, owner);
        } else {
            self.parts.remove(number);
        }
        match self.finish_if_done(shell, hand, owner) {
            Some(Pause::Over) => State::Over,
            _ if self.leaving || self.issuing.is_some() => self.advance(shell, hand),
            _ => State::Waiting,
        }
    }

    /// Announces and gathers a read's data, in order, as far as it has come and none of another read must come before it.
    fn announce(&mut self, hand: &mut Hand, number: u32) {
        if self
            .announcing
            .is_some_and(|announcing| announcing != number)
        {
            if !self.waiting.contains(&number) {
                self.waiting.push_back(number);
            }
            return;
        }
        let Some(request) = self.requests.get_mut(number) else {
            return;
        };
        while let Some(front) = request.unannounced.front() {
            let Some(part) = self.parts.get_mut(*front).filter(|part| part.ended) else {
                return;
            };
            let (span, data) = (part.span, part.data.take());
            self.parts.remove(*front);
            request.unannounced.pop_front();
            let held = super::read_bytes(span);
            self.reads_held -= held;
            let Some(slot) = data.filter(|_| request.error.is_none()) else {
                hand.read_bytes -= held;
                continue;
            };
            self.announcing = Some(number);
            self.session.data(request.asked.id, span, &mut self.said);
            let batch = self.outbox.gathering();
            batch.bytes().extend_from_slice(&self.said);
            self.said.clear();
            let start = length(span.offset - span.widened().offset);
            batch.push_slot(slot, start..start + length(span.length));
            self.reads_gathered += held;
        }
    }

    /// Replies to a request that nothing is left to be done for, and to reads that have waited for its end.
    fn finish_if_done(&mut self, shell: &mut Shell, hand: &mut Hand, number: u32) -> Option<Pause> {
        let mut next = self.finish(shell, hand, number);
        while let Some(Next::Continue) = next
            && self.announcing.is_none()
            && let Some(number) = self.waiting.pop_front()
        {
            self.announce(hand, number);
            next = self.finish(shell, hand, number).or(next);
        }
        (next == Some(Next::Close)).then_some(Pause::Over)
    }

    /// Replies to a request, if nothing is left to be done for it.
    fn finish(&mut self, shell: &mut Shell, hand: &mut Hand, number: u32) -> Option<Next> {
        let request = self.requests.get_mut(number)?;
        let idle = request.pending == 0 && request.unannounced.is_empty();
        if !idle || !request.issued || self.issuing == Some(number) {
            return None;
        }
        let request = self.requests.remove(number)?;
        self.announcing = self.announcing.filter(|announcing| *announcing != number);
        let result = request.error.map_or(Ok(()), Err);
        let next = self.session.done(request.asked.id, result, &mut self.said);
        self.gather();
        hand.metrics.ended(
            &request.asked,
            result.is_ok(),
            request.started_at,
            shell.now,
        );
        self.spare_lists.push(request.unannounced);
        Some(next)
    }

    /// Queues what the session has said.
    fn gather(&mut self) {
        if !self.said.is_empty() {
            self.outbox
                .gathering()
                .bytes()
                .extend_from_slice(&self.said);
            self.said.clear();
        }
    }

    /// Sends what the turn has gathered.
    pub(super) fn send(&mut self, shell: &mut Shell) {
        let token = Token::Client(self.number);
        if self.outbox.send(shell, &self.socket, token) {
            self.reads_leaving = std::mem::take(&mut self.reads_gathered);
        }
    }

    /// Whether the client has hung up, although there may be something left to be read.
    pub(super) fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let at_once = Timespec::default();
        matches!(poll(&mut polled, Some(&at_once)), Ok(ready) if ready > 0)
    }

    /// New requests are refused from now on.
    pub(super) fn shut_down(&mut self) {
        self.session.shut_down();
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_quiet(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether a client that has said goodbye has all its replies.
    pub(super) fn is_done(&self) -> bool {
        self.leaving && self.requests.len() == 0 && self.outbox.is_empty()
    }

    /// Ends the connection: what the core still does for it is of no interest any more.
    pub(super) fn close(self, shell: &mut Shell, hand: &mut Hand) {
        self.socket.shut_down(rustix::net::Shutdown::Both);
        let pending: u32 = self.requests.iter().map(|request| request.pending).sum();
        hand.parts -= pending as usize;
        hand.read_bytes -= self.reads_held + self.reads_gathered + self.reads_leaving;
        let client = self.number;
        shell.events.push_back(Event::ClientGone { client });
    }
}

fn take_slot(shell: &Shell, span: Span) -> Option<OwnedSlot> {
    memory::take(shell.ring.arena(), Pool::Writes, length(span.length))
}

/// Receives a part's payload; the slot once it is complete.
fn receive(
    inbox: &mut Inbox,
    filling: &mut Option<Filling>,
    shell: &Shell,
    span: Span,
) -> Result<OwnedSlot, Pause> {
    let mut begun = match filling.take() {
        Some(begun) => begun,
        None => {
            let slot = take_slot(shell, span).ok_or(Pause::Shared)?;
            Filling::new(slot, length(span.length))
        }
    };
    inbox.fill(&mut begun);
    if begun.is_full() {
        return Ok(begun.into_slot().0);
    }
    *filling = Some(begun);
    Err(Pause::Starved)
}
