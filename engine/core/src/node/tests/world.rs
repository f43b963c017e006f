//! A world in miniature: perfect disks and links, one event at a time, for scenarios that can be read at
//! a glance. What goes wrong in the real world is the simulator's business.

use super::machine::Machine;
use super::register::Arbiter;
use crate::command::{Answer, Command, Refusal};
use crate::event::{Buffer, Effect, Effects, Event, Kind, Request, RequestError, SessionId, Token};
use crate::{Node, Opening, Settings};
use format::frame::{Digest, Frame, ZERO_BLOCK_DIGEST};
use format::superblock::{Replica, Superblock};
use format::types::{
    BLOCK_BYTES, BootId, Configuration, DiskState, Generation, Name, NodeId, NodeSet, Slot, Span,
    VolumeId,
};
use std::collections::BTreeMap;

pub(super) const SIZE: u64 = 64 << 20;

/// Two machines or three.
pub(super) struct World {
    pub(super) machines: Vec<Machine>,
    pub(super) now: u64,
    sessions: u64,
    linked: BTreeMap<(usize, usize), SessionId>,
    /// Pairs that cannot reach each other.
    pub(super) cut: Vec<(usize, usize)>,
    buffers: u32,
    requests: u32,
    boots: u8,
    pub(super) chunk_data: usize,
    pub(super) settings: Settings,
    /// Acknowledgements do not arrive.
    pub(super) unacknowledged: bool,
    pub(super) arbiter: Arbiter,
}

pub(super) fn slot(index: usize) -> Slot {
    Slot::all().nth(index).expect("a slot")
}

pub(super) fn superblock(index: usize, count: usize) -> Superblock {
    let generation = Generation([7; 16]);
    let name = |index: usize| Name::new(["alpha", "beta", "gamma"][index]).expect("a name");
    Superblock {
        sequence: 1,
        volume: VolumeId([1; 16]),
        name: Name::new("data").expect("a name"),
        size_bytes: SIZE,
        slot: slot(index),
        replicas: std::array::from_fn(|at| {
            let node = NodeId([u8::try_from(at).expect("small") + 1; 16]);
            (at < count).then(|| Replica {
                node,
                name: name(at),
            })
        }),
        configuration: Configuration {
            epoch: 1,
            generation,
            primary: Some(slot(0)),
            in_sync: Slot::all().take(count).collect::<NodeSet>(),
        },
        data_generation: generation,
        history: Vec::new(),
        history_complete: true,
        proposal: None,
        pending_admission: None,
        disk_state: DiskState::UpToDate,
        clean: true,
        suspect: false,
        crashed_primary: false,
        discarded: false,
        forced: false,
        arbitrated: false,
        boot: BootId([1; 16]),
        log_instance: 0,
        mark_floor: [0; 8],
        marks_valid: NodeSet::from_bits(0xff),
    }
}

impl World {
    /// A new volume on so many machines, running and linked.
    pub(super) fn new(count: usize) -> World {
        World::with(count, Settings::default())
    }

    /// The same, with these settings.
    pub(super) fn with(count: usize, settings: Settings) -> World {
        let machine = |index| Machine::of(superblock(index, count));
        let mut world = World {
            machines: (0..count).map(machine).collect(),
            now: 1_000_000_000,
            sessions: 0,
            linked: BTreeMap::new(),
            cut: Vec::new(),
            buffers: 0,
            requests: 0,
            boots: 1,
            chunk_data: 0,
            settings,
            unacknowledged: false,
            arbiter: Arbiter::default(),
        };
        (0..count).for_each(|index| world.start(index));
        world.settle();
        world
    }

    /// Starts a machine's node from what is on its disk.
    pub(super) fn start(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let opening = Opening {
            superblock: machine.superblock.clone(),
            pages: machine.pages.values().cloned().collect(),
            damaged_pages: Vec::new(),
            hot_extents: Some(machine.hot.clone()),
            boot: BootId([self.boots; 16]),
            seed: (u128::from(self.sessions) << 64) + u128::from(self.now) + index as u128,
            now: self.now,
        };
        let mut effects = Effects::new();
        machine.hot.clear();
        machine.buffers.clear();
        machine.node = Some(Node::open(opening, self.settings, &mut effects));
        self.sessions += 1;
        self.carry_out(index, effects);
    }

    /// The node's process dies.
    pub(super) fn crash(&mut self, index: usize) {
        self.fall_silent(index);
        self.unlink_all(index);
    }

    /// The node's machine dies: its links look as if they were there.
    pub(super) fn fall_silent(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(node) = machine.node.take() {
            machine.hot = node.log.hot_extents().collect();
        }
        machine.events.clear();
        machine.hung.clear();
        machine.buffers.clear();
    }

    /// The machine loses power: whoever starts it next starts it in another boot.
    pub(super) fn power_cut(&mut self, index: usize) {
        self.crash(index);
        self.boots += 1;
    }

    fn unlink_all(&mut self, index: usize) {
        let pairs: Vec<(usize, usize)> = self
            .linked
            .keys()
            .copied()
            .filter(|(a, b)| *a == index || *b == index)
            .collect();
        for (a, b) in pairs {
            self.unlink(a, b);
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        let Some(session) = self.linked.remove(&(a.min(b), a.max(b))) else {
            return;
        };
        for (here, there) in [(a, b), (b, a)] {
            let peer = slot(there);
            self.machines[here]
                .events
                .push_back(Event::PeerLost { peer, session });
        }
    }

    /// Two machines cannot reach each other from now on.
    pub(super) fn partition(&mut self, a: usize, b: usize) {
        self.cut.push((a.min(b), a.max(b)));
        self.unlink(a, b);
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    fn link(&mut self) {
        for a in 0..self.machines.len() {
            for b in a + 1..self.machines.len() {
                let running = self.machines[a].node.is_some() && self.machines[b].node.is_some();
                let apart = self.cut.contains(&(a, b)) || self.linked.contains_key(&(a, b));
                if running && !apart {
                    self.sessions += 1;
                    let session = SessionId(self.sessions);
                    self.linked.insert((a, b), session);
                    for (here, there) in [(a, b), (b, a)] {
                        let peer = slot(there);
                        let connected = Event::PeerConnected { peer, session };
                        self.machines[here].events.push_back(connected);
                    }
                }
            }
        }
    }

    pub(super) fn step(&mut self, index: usize, event: Event) {
        let mut effects = Effects::new();
        let Some(node) = self.machines[index].node.as_mut() else {
            return;
        };
        node.step(self.now, event, &mut effects);
        self.carry_out(index, effects);
    }

    /// Takes the newest event of a machine away, for a later [`World::step`].
    pub(super) fn hold_back(&mut self, index: usize) -> Event {
        let newest = self.machines[index].events.pop_back();
        newest.expect("there is one")
    }

    /// What is on its way to a machine is lost.
    pub(super) fn lose(&mut self, index: usize) {
        self.machines[index].events.clear();
    }

    /// Runs until nothing moves.
    pub(super) fn run(&mut self) {
        for _ in 0..200_000 {
            let mut moved = false;
            for index in 0..self.machines.len() {
                while let Some(event) = self.machines[index].events.pop_front() {
                    self.step(index, event);
                    moved = true;
                }
                self.step(index, Event::TurnEnded);
                moved |= !self.machines[index].events.is_empty();
            }
            if !moved {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets every machine take one event.
    pub(super) fn hop(&mut self) {
        for index in 0..self.machines.len() {
            let event = self.machines[index].events.pop_front();
            self.step(index, event.unwrap_or(Event::TurnEnded));
        }
    }

    /// Lets time pass, links included, until nothing moves any more.
    pub(super) fn settle(&mut self) {
        self.pass(6_000_000_000);
    }

    pub(super) fn pass(&mut self, nanos: u64) {
        let end = self.now + nanos;
        while self.now < end {
            self.link();
            self.run();
            self.now += 100_000_000;
            for index in 0..self.machines.len() {
                let due = self.machines[index].node.as_ref().and_then(Node::deadline);
                if due.is_some_and(|due| due <= self.now) {
                    self.step(index, Event::Tick);
                }
            }
        }
        self.run();
    }

    pub(super) fn buffer(&mut self, index: usize, content: Vec<u64>) -> Buffer {
        self.buffers += 1;
        self.machines[index].buffers.insert(self.buffers, content);
        Buffer(self.buffers)
    }

    fn carry_out(&mut self, index: usize, effects: Effects) {
        for effect in effects {
            self.carry_out_one(index, effect);
        }
    }

    fn carry_out_one(&mut self, index: usize, effect: Effect) {
        let machine = &mut self.machines[index];
        match effect {
            Effect::Send {
                peer,
                session,
                frame,
                epoch,
                payload,
            } => {
                self.send(index, peer, session, frame, epoch, payload);
            }
            Effect::Disconnect { peer, session, .. } => {
                let (a, b) = (index.min(peer.index()), index.max(peer.index()));
                if self.linked.get(&(a, b)) == Some(&session) {
                    self.linked.remove(&(a, b));
                    let lost = Event::PeerLost {
                        peer: slot(index),
                        session,
                    };
                    self.machines[peer.index()].events.push_back(lost);
                }
            }
            Effect::ReadLocal { io, span } => {
                let content: Vec<u64> = blocks(span)
                    .map(|block| machine.blocks.get(&block).copied().unwrap_or(0))
                    .collect();
                let outcome = machine.outcome();
                let buffer = self.buffer(index, content);
                let result = outcome.map(|()| buffer);
                self.machines[index]
                    .events
                    .push_back(Event::ReadDone { io, result });
            }
            Effect::Complete { token, result } => {
                let data = |buffer: Buffer| machine.buffers.remove(&buffer.0).expect("a claim");
                let reply = result.map(|buffer| buffer.map(data).unwrap_or_default());
                machine.replies.insert(token.request, reply);
            }
            Effect::DropClients => {}
            Effect::AskArbiter(question) => {
                let answer = self.arbiter.answers(index, question);
                let answered = Event::ArbiterAnswered(answer);
                self.machines[index].events.push_back(answered);
            }
            Effect::Notice(notice) => machine.notices.push(notice),
            Effect::Answer { id, result } => drop(machine.answers.insert(id, result)),
            Effect::Hash { io, buffer, blocks } => {
                let count = usize::try_from(blocks).expect("small");
                let content = machine.buffers[&buffer.0].iter().take(count);
                let digests = content.map(|value| digest(*value)).collect();
                machine.events.push_back(Event::Hashed { io, digests });
            }
            Effect::Overlay { base, patch, .. } => {
                let value = machine.buffers[&patch.0][0];
                let base = machine.buffers.get_mut(&base.0).expect("a claim");
                base.iter_mut().for_each(|block| *block ^= value);
            }
            Effect::Release(buffer) => {
                machine
                    .buffers
                    .remove(&buffer.0)
                    .expect("a claim is given back once");
            }
            write => machine.write(write),
        }
    }

    fn send(
        &mut self,
        index: usize,
        peer: Slot,
        session: SessionId,
        frame: Frame,
        epoch: u64,
        payload: Option<crate::event::Payload>,
    ) {
        let pair = (index.min(peer.index()), index.max(peer.index()));
        let lost = self.unacknowledged && matches!(frame, Frame::Acks(_));
        if lost || self.linked.get(&pair) != Some(&session) {
            return;
        }
        let payload = payload.map(|payload| {
            let first = usize::try_from(u64::from(payload.start) / BLOCK_BYTES).expect("small");
            let count = usize::try_from(u64::from(payload.length) / BLOCK_BYTES).expect("small");
            let content = &self.machines[index].buffers[&payload.buffer.0];
            content[first..first + count].to_vec()
        });
        self.chunk_data += usize::from(matches!(frame, Frame::ChunkData { .. }));
        let payload = payload.map(|content| self.buffer(peer.index(), content));
        let event = Event::Frame {
            peer: slot(index),
            session,
            frame,
            epoch,
            payload,
        };
        self.machines[peer.index()].events.push_back(event);
    }

    /// A client of a machine asks for something; the answer will be under the number that comes back.
    pub(super) fn request(&mut self, index: usize, kind: Kind, span: Span) -> u32 {
        self.requests += 1;
        let token = Token {
            client: 1,
            request: self.requests,
        };
        self.step(index, Event::Request(Request { token, kind, span }));
        self.requests
    }

    /// Writes one value to a run of blocks.
    pub(super) fn write(&mut self, index: usize, block: u64, count: u64, value: u64) -> u32 {
        let content = vec![value; usize::try_from(count).expect("small")];
        let buffer = self.buffer(index, content);
        let span = Span::new(block * BLOCK_BYTES, count * BLOCK_BYTES);
        self.request(index, Kind::Write { buffer, fua: false }, span)
    }

    pub(super) fn read(&mut self, index: usize, block: u64) -> Result<u64, RequestError> {
        let span = Span::new(block * BLOCK_BYTES, BLOCK_BYTES);
        let request = self.request(index, Kind::Read, span);
        self.pass(200_000_000);
        self.machines[index].replies[&request]
            .clone()
            .map(|blocks| blocks[0])
    }

    /// Gives a command and waits for its answer.
    pub(super) fn command(&mut self, index: usize, command: Command) -> Result<Answer, Refusal> {
        self.requests += 1;
        let id = u64::from(self.requests);
        self.step(index, Event::Command { id, command });
        self.settle();
        self.machines[index]
            .answers
            .remove(&id)
            .expect("a command is answered")
    }

    pub(super) fn replied(&self, index: usize, request: u32) -> Option<Result<(), RequestError>> {
        let reply = self.machines[index].replies.get(&request)?;
        Some(reply.clone().map(drop))
    }

    /// A running node.
    pub(super) fn node(&mut self, index: usize) -> &mut Node {
        self.machines[index].node.as_mut().expect("it runs")
    }

    /// A frame arrives in the session that is there.
    pub(super) fn hear(
        &mut self,
        index: usize,
        from: usize,
        frame: Frame,
        payload: Option<Buffer>,
    ) {
        let peer = slot(from);
        let node = self.node(index);
        let session = node.session_id(peer).expect("they are linked");
        let epoch = node.configuration.epoch;
        let event = Event::Frame {
            peer,
            session,
            frame,
            epoch,
            payload,
        };
        self.step(index, event);
    }

    /// Holds a node's walks back, or lets them go on, even one that is not open yet.
    pub(super) fn pause(&mut self, index: usize, paused: bool) {
        self.node(index).leave.paused = paused;
    }

    /// All machines are members, equal, and hold no buffer any more.
    pub(super) fn assert_protected(&self) {
        for machine in &self.machines {
            let node = machine.node.as_ref().expect("it runs");
            assert_eq!(
                node.configuration.in_sync.len(),
                self.machines.len(),
                "all in sync"
            );
            assert_eq!(
                machine.blocks_set(),
                self.machines[0].blocks_set(),
                "all equal"
            );
            assert!(
                machine.buffers.is_empty(),
                "claims are left: {:?}",
                machine.buffers
            );
            assert_eq!(node.operations.len(), 0, "operations are left");
            assert!(
                node.marks.iter().flatten().all(|marks| marks.is_empty()),
                "marks are left"
            );
        }
    }
}

pub(super) fn blocks(span: Span) -> std::ops::Range<u64> {
    span.offset / BLOCK_BYTES..span.end() / BLOCK_BYTES
}

fn digest(value: u64) -> Digest {
    if value == 0 {
        return ZERO_BLOCK_DIGEST;
    }
    u128::from(value).to_le_bytes()
}
