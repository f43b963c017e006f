//! The loop: completion -> event -> step -> effects -> submissions. Nothing else is decided here.

use crate::client::Clients;
use crate::config::Options;
use crate::hasher::Hasher;
use crate::mailbox::{Mailbox, Message, Reply};
use crate::memory::{self, Buffers};
use crate::report::{VolumeEvent, VolumeStatus};
use crate::shell::{Shell, Token, now};
use crate::spin::Spin;
use crate::store::{Found, Holes, Metadata, Store};
use crate::transport::Transport;
use format::types::{DiskState, Slot};
use replica::Node;
use replica::command::{Answer, Command, Refusal};
use replica::event::{Effect, Effects, Event, Nanos, SessionId};
use replica::notice::Notice;
use replica::status::ConnectionState;
use ring::{Completion, File, Ring, SetupError};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How long the last replies and frames may take to leave after a stop.
const LINGER_NANOS: Nanos = 1_000_000_000;
/// Memory for data that nobody has used for this long, or twice as long, goes back to the kernel.
const UNUSED_NANOS: Nanos = 10_000_000_000;
/// How often a reactor that lingers looks.
const LINGER_TURN: Duration = Duration::from_millis(20);

/// Drives one replica.
pub(crate) struct Reactor {
    shell: Shell,
    node: Node,
    effects: Effects,
    store: Store,
    transport: Transport,
    clients: Clients,
    hasher: Hasher,
    spin: Spin,
    mailbox: Arc<Mailbox>,
    events: Box<dyn Fn(VolumeEvent) + Send>,
    commands: BTreeMap<u64, Pending>,
    command_ids: u64,
    stopped: bool,
    /// When replies last left.
    turned_at: Nanos,
    /// When to give memory back next.
    sweep_at: Option<Nanos>,
}

/// A command that the core has not answered.
struct Pending {
    reply: Reply<Result<Answer, Refusal>>,
    then: Then,
}

/// What a command that was done changes for the shell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// Links that were given up are wanted again.
    Relink,
    /// The volume has another size.
    Resize,
    Stop,
}

impl Reactor {
    /// Sets the ring up and opens the core.
    pub(crate) fn new(
        found: Found,
        options: &Options,
        events: Box<dyn Fn(VolumeEvent) + Send>,
    ) -> Result<Reactor, SetupError> {
        let arena = memory::arena(options.arena_bytes)?;
        let ring = Ring::new(arena)?;
        let data = File::from(found.data_direct);
        let meta = File::from(found.meta_direct);
        let mailbox = Arc::new(Mailbox::new(ring.waker()));
        let mut shell = Shell {
            ring,
            buffers: Buffers::default(),
            events: VecDeque::new(),
            now: now(),
        };
        let store = Store::new(&mut shell, data, meta);
        for text in found.mended {
            events(VolumeEvent::Notice(Notice::Metadata(text)));
        }
        let size_bytes = found.opening.superblock.size_bytes;
        let mut effects = Effects::new();
        let node = Node::open(found.opening, options.settings, &mut effects);
        let read_bytes_max = memory::pool_bytes(options.arena_bytes) as u64 / 2;
        let clients = Clients::new(size_bytes, Holes::new(found.data), read_bytes_max);
        Ok(Reactor {
            shell,
            node,
            effects,
            store,
            transport: Transport::default(),
            clients,
            hasher: Hasher::default(),
            spin: Spin::new(options.spin_nanos_max),
            mailbox,
            events,
            commands: BTreeMap::new(),
            command_ids: 0,
            stopped: false,
            turned_at: 0,
            sweep_at: None,
        })
    }

    /// Where messages for it go.
    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Turns until it has been stopped.
    pub(crate) fn run(mut self) -> std::io::Result<()> {
        self.trust_holes();
        self.carry_out();
        while !self.stopped {
            self.settle();
            self.turn_ended();
            let timeout = self.timeout();
            self.spin.wait(&mut self.shell, timeout)?;
            self.look_around();
            self.give_back_memory();
        }
        self.linger()
    }

    /// Until when there is nothing to do by itself.
    fn timeout(&self) -> Option<Duration> {
        if !self.hasher.is_idle() || self.stopped {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.node.deadline(),
            self.transport.deadline(),
            self.sweep_at,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(Duration::from_nanos(next.saturating_sub(now())))
    }

    /// Makes events of all that has happened.
    fn look_around(&mut self) {
        self.shell.now = now();
        while let Some(completion) = self.shell.ring.next() {
            self.completed(completion);
        }
        if self.shell.ring.take_woken() {
            while let Some(message) = self.mailbox.take() {
                self.received(message);
            }
        }
        if self
            .node
            .deadline()
            .is_some_and(|deadline| deadline <= self.shell.now)
        {
            self.shell.events.push_back(Event::Tick);
        }
        self.hasher.turn(&mut self.shell.events);
    }

    fn give_back_memory(&mut self) {
        let now = self.shell.now;
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.shell.ring.give_back_unused();
            self.sweep_at = None;
        }
        if self.sweep_at.is_none() && self.shell.ring.is_arena_occupied() {
            self.sweep_at = Some(now + UNUSED_NANOS);
        }
    }

    fn completed(&mut self, Completion { token, done }: Completion<Token>) {
        match token {
            Token::Store(step) => self.store.completed(&mut self.shell, step, done),
            Token::Link(session) => self.transport.completed(&mut self.shell, session, done),
            Token::Client(number) => self.clients.completed(&mut self.shell, number, done),
        }
    }

    /// Lets the core take every event, and everybody go on who has waited for what that freed.
    fn settle(&mut self) {
        loop {
            while let Some(event) = self.shell.events.pop_front() {
                self.node.step(self.shell.now, event, &mut self.effects);
                self.carry_out();
            }
            self.node
                .step(self.shell.now, Event::TurnEnded, &mut self.effects);
            self.carry_out();
            self.store.slots_freed(&mut self.shell);
            self.transport.slots_freed(&mut self.shell);
            self.clients.resume(&mut self.shell);
            if self.shell.events.is_empty() {
                return;
            }
        }
    }

    /// Sends what has gathered and tells of links that have ended.
    fn turn_ended(&mut self) {
        self.transport.turn_ended(&mut self.shell);
        self.keep_lease();
        self.clients.turn_ended(&mut self.shell);
        for lost in self.transport.take_lost() {
            let (peer, session, retry) = (lost.peer, lost.session, lost.retry);
            (self.events)(VolumeEvent::LinkLost {
                peer,
                session,
                retry,
            });
        }
    }

    /// A process may have been stopped between a decision and here. Replies that were decided on with a lease leave
    /// while it lasts or not at all: another may have been promoted.
    fn keep_lease(&mut self) {
        let until = self.node.lease_until();
        if until == Nanos::MAX {
            return;
        }
        let now = now();
        let before = std::mem::replace(&mut self.turned_at, now);
        if before < until && until <= now {
            self.clients.drop_unsent(&mut self.shell);
        }
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.carry_out_one(effect);
        }
        self.effects = effects;
    }

    fn carry_out_one(&mut self, effect: Effect) {
        let shell = &mut self.shell;
        match effect {
            Effect::Complete { token, result } => self.clients.answered(shell, token, result),
            Effect::ReadLocal { io, span } => self.store.read(shell, io, span),
            Effect::WriteLocal {
                io,
                span,
                buffer,
                start,
                fua,
            } => {
                self.store.write(shell, io, span, (buffer, start), fua);
            }
            Effect::ZeroLocal {
                io,
                span,
                unmap,
                fua,
            } => {
                self.store.zero(shell, io, span, unmap, fua);
            }
            Effect::FlushLocal { io } => self.store.flush(shell, io),
            Effect::Overlay {
                base,
                patch,
                at,
                length,
            } => {
                shell
                    .buffers
                    .overlay(base, patch, at as usize, length as usize);
            }
            Effect::Hash { io, buffer, blocks } => {
                let slot = shell.buffers.slot(buffer).clone();
                self.hasher.push(io, slot, blocks as usize);
            }
            Effect::Release(buffer) => drop(shell.buffers.remove(buffer)),
            Effect::WriteSuperblock { io, superblock } => {
                self.store
                    .write_metadata(shell, io, Metadata::Superblock(superblock));
            }
            Effect::WriteLog { io, block } => {
                self.store.write_metadata(shell, io, Metadata::Log(block));
            }
            Effect::WritePage { io, page } => {
                self.store.write_metadata(shell, io, Metadata::Page(page));
            }
            Effect::Send {
                session,
                frame,
                epoch,
                payload,
                ..
            } => {
                self.transport.send(shell, session, &frame, epoch, payload);
            }
            Effect::Disconnect { session, retry, .. } => {
                self.transport.disconnect(shell, session, retry);
            }
            Effect::AskArbiter(question) => (self.events)(VolumeEvent::AskArbiter(question)),
            Effect::DropClients => self.clients.drop_all(shell),
            Effect::Notice(notice) => {
                (self.events)(VolumeEvent::Notice(notice));
                self.trust_holes();
            }
            Effect::Answer { id, result } => self.answer(id, result),
        }
    }

    /// The data file's holes tell where the volume is zero only while this replica is up to date.
    fn trust_holes(&mut self) {
        let status = self.node.status();
        let trusted = status.disk_state == DiskState::UpToDate && !status.suspect;
        self.clients.hand().holes.trusted = trusted;
    }

    fn answer(&mut self, id: u64, result: Result<Answer, Refusal>) {
        let Some(Pending { reply, then }) = self.commands.remove(&id) else {
            return;
        };
        if result.is_ok() {
            let status = self.node.status();
            match then {
                Then::Nothing => {}
                Then::Relink => {
                    let peers = status.peers.iter();
                    for peer in peers.filter(|peer| peer.connection != ConnectionState::Connected) {
                        (self.events)(VolumeEvent::LinkWanted { peer: peer.slot });
                    }
                }
                Then::Resize => self.clients.hand().size_bytes = status.size_bytes,
                Then::Stop => self.stopped = true,
            }
        }
        reply.answer(result);
    }

    fn received(&mut self, message: Message) {
        match message {
            Message::Peer {
                peer,
                session,
                socket,
                received,
            } => self.attach_peer(peer, session, socket, received),
            Message::Client {
                socket,
                received,
                session,
            } => {
                // A client that comes while nothing is served is turned away, so that it asks
                // elsewhere.
                if let (Ok(()), Some(socket)) = (self.node.serving(), Self::socket(socket)) {
                    self.clients
                        .attach(&mut self.shell, socket, received, session);
                }
            }
            Message::Arbiter(register) => {
                self.shell
                    .events
                    .push_back(Event::ArbiterAnswered(register));
            }
            Message::Command(command, reply) => {
                let then = match command {
                    Command::Resync { .. } | Command::Discard { .. } => Then::Relink,
                    Command::Grow { .. } => Then::Resize,
                    Command::Stop => Then::Stop,
                    _ => Then::Nothing,
                };
                if then == Then::Stop {
                    self.clients.shut_down();
                }
                self.command_ids += 1;
                let id = self.command_ids;
                self.commands.insert(id, Pending { reply, then });
                self.shell.events.push_back(Event::Command { id, command });
            }
            Message::Status(reply) => {
                let clients = self.clients.len();
                reply.answer(Some(VolumeStatus {
                    replica: self.node.status(),
                    refusal: self.node.serving().err(),
                    io: self.clients.hand().metrics.status(clients, self.shell.now),
                }));
            }
        }
    }

    fn attach_peer(&mut self, peer: Slot, session: SessionId, socket: OwnedFd, received: Vec<u8>) {
        let retry = true;
        match Self::socket(socket) {
            Some(socket) => {
                self.transport
                    .attach(&mut self.shell, peer, session, socket, received);
            }
            None => (self.events)(VolumeEvent::LinkLost {
                peer,
                session,
                retry,
            }),
        }
    }

    /// Takes a socket over.
    fn socket(socket: OwnedFd) -> Option<File> {
        // Frames and replies leave in whole batches; a unix socket does not know what this means.
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        File::socket(socket)
            .inspect_err(|error| tracing::warn!("a socket cannot be used: {error}"))
            .ok()
    }

    /// Lets the last replies and frames leave, then ends.
    fn linger(&mut self) -> std::io::Result<()> {
        self.mailbox.close();
        let until = now() + LINGER_NANOS;
        loop {
            self.shell.now = now();
            self.turn_ended();
            let quiet = self.clients.is_quiet() && self.transport.is_quiet();
            if quiet || self.shell.now >= until {
                return Ok(());
            }
            self.shell.ring.turn(Some(LINGER_TURN))?;
            while let Some(completion) = self.shell.ring.next() {
                self.completed(completion);
            }
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
