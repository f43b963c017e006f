//! Two replicas in memory with perfect disks and links: what a write costs the state machine alone.

use format::superblock::{Replica, Superblock};
use format::types::{
    BootId, Configuration, DiskState, Generation, Name, NodeId, NodeSet, REPLICAS_MAX, Slot, Span,
    VolumeId,
};
use replica::event::{Buffer, Effect, Effects, Event, Kind, Request, SessionId, Token};
use replica::{Node, Opening, Settings};
use std::collections::VecDeque;

const VOLUME_BYTES: u64 = 1 << 30;
const SESSION: SessionId = SessionId(1);

/// A primary and a secondary, connected.
pub struct Pair {
    nodes: [Node; 2],
    events: [VecDeque<Event>; 2],
    effects: Effects,
    now: u64,
    requests: u32,
    completed: u64,
}

impl Pair {
    /// A new volume on both, past its handshake.
    ///
    /// # Panics
    /// If the primary does not serve then.
    pub fn new() -> Pair {
        let mut effects = [Effects::new(), Effects::new()];
        let [alpha, beta] = &mut effects;
        let nodes = [open(0, alpha), open(1, beta)];
        let mut pair = Pair {
            nodes,
            events: [VecDeque::new(), VecDeque::new()],
            effects: Effects::new(),
            now: 1,
            requests: 0,
            completed: 0,
        };
        for (index, effects) in effects.iter_mut().enumerate() {
            effects
                .drain(..)
                .for_each(|effect| pair.carry_out(index, effect));
        }
        pair.settle();
        for index in 0..2 {
            let event = Event::PeerConnected {
                peer: slot(1 - index),
                session: SESSION,
            };
            pair.events[index].push_back(event);
        }
        pair.settle();
        assert_eq!(
            pair.nodes[0].serving(),
            Ok(()),
            "the primary serves after the handshake"
        );
        pair
    }

    /// Submits writes of these spans in one turn, and runs both nodes until all are acknowledged.
    ///
    /// # Panics
    /// If one is not.
    pub fn write(&mut self, spans: &[Span]) {
        let wanted = self.completed + spans.len() as u64;
        for span in spans {
            self.requests = self.requests.wrapping_add(1);
            let token = Token {
                client: 1,
                request: self.requests,
            };
            let kind = Kind::Write {
                buffer: Buffer(self.requests),
                fua: false,
            };
            self.events[0].push_back(Event::Request(Request {
                token,
                kind,
                span: *span,
            }));
        }
        self.settle();
        assert_eq!(self.completed, wanted, "every write is acknowledged");
    }

    /// Runs both nodes until neither has anything to do.
    fn settle(&mut self) {
        while self.turn(0) | self.turn(1) {}
    }

    /// One turn of a node's loop: all events at hand, then the end of the turn.
    fn turn(&mut self, index: usize) -> bool {
        let mut idle = true;
        while let Some(event) = self.events[index].pop_front() {
            idle = false;
            self.step(index, event);
        }
        if idle {
            return false;
        }
        self.step(index, Event::TurnEnded);
        true
    }

    fn step(&mut self, index: usize, event: Event) {
        self.now += 100;
        let mut effects = std::mem::take(&mut self.effects);
        self.nodes[index].step(self.now, event, &mut effects);
        effects
            .drain(..)
            .for_each(|effect| self.carry_out(index, effect));
        self.effects = effects;
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let event = match effect {
            Effect::Complete { result, .. } => {
                self.completed += u64::from(result.is_ok());
                return;
            }
            Effect::ReadLocal { io, .. } => Event::ReadDone {
                io,
                result: Ok(Buffer(0)),
            },
            Effect::WriteLocal { io, .. }
            | Effect::ZeroLocal { io, .. }
            | Effect::FlushLocal { io }
            | Effect::WriteSuperblock { io, .. }
            | Effect::WriteLog { io, .. }
            | Effect::WritePage { io, .. } => Event::IoDone { io, result: Ok(()) },
            Effect::Hash { io, blocks, .. } => {
                let digests = vec![[0; 16]; blocks as usize].into_boxed_slice();
                Event::Hashed { io, digests }
            }
            Effect::Send {
                frame,
                epoch,
                payload,
                session,
                ..
            } => {
                let payload = payload.map(|payload| payload.buffer);
                let peer = slot(index);
                let frame = Event::Frame {
                    peer,
                    session,
                    frame,
                    epoch,
                    payload,
                };
                self.events[1 - index].push_back(frame);
                return;
            }
            Effect::Overlay { .. }
            | Effect::Release(_)
            | Effect::Disconnect { .. }
            | Effect::AskArbiter(_)
            | Effect::DropClients
            | Effect::Notice(_)
            | Effect::Answer { .. } => return,
        };
        self.events[index].push_back(event);
    }
}

impl Default for Pair {
    fn default() -> Self {
        Pair::new()
    }
}

fn slot(index: usize) -> Slot {
    Slot::all().nth(index).expect("two of the slots")
}

fn open(index: usize, effects: &mut Effects) -> Node {
    let opening = Opening {
        superblock: superblock(index),
        pages: Vec::new(),
        damaged_pages: Vec::new(),
        hot_extents: Some(Vec::new()),
        boot: BootId([1; 16]),
        seed: index as u128 + 1,
        now: 1,
    };
    Node::open(opening, Settings::default(), effects)
}

fn superblock(index: usize) -> Superblock {
    let generation = Generation([7; 16]);
    let mut replicas = [const { None }; REPLICAS_MAX];
    for (place, (id, name)) in [(1, "alpha"), (2, "beta")].into_iter().enumerate() {
        let name = Name::new(name).expect("a valid name");
        replicas[place] = Some(Replica {
            node: NodeId([id; 16]),
            name,
        });
    }
    Superblock {
        sequence: 1,
        volume: VolumeId([1; 16]),
        name: Name::new("bench").expect("a valid name"),
        size_bytes: VOLUME_BYTES,
        slot: slot(index),
        replicas,
        configuration: Configuration {
            epoch: 1,
            generation,
            primary: Some(slot(0)),
            in_sync: NodeSet::only(slot(0)).with(slot(1)),
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
        mark_floor: [0; REPLICAS_MAX],
        marks_valid: NodeSet::from_bits(0xff),
    }
}
