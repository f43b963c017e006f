use super::{Outgoing, SEND_BYTES_MIN};
use crate::memory::{self, Pool};
use crate::shell::{Shell, Token};
use crate::testing::{shell, turn};
use format::frame::{
    Frame, HEADER_BYTES, Identity, PAYLOAD_BYTES_MAX, PayloadSummary, decode_header,
};
use format::types::{
    BootId, Configuration, DiskState, Generation, NodeId, NodeSet, Slot, VolumeId,
};
use ring::{Done, SharedSlot};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// One end of a link; the other takes only what it is told to.
struct Bench {
    shell: Shell,
    outgoing: Outgoing,
    socket: ring::File,
    theirs: UnixStream,
    slot: SharedSlot,
}

const EPOCH: u64 = 3;
const TOKEN: Token = Token::Link(replica::event::SessionId(1));
const PING: Frame = Frame::Ping {
    sent_at: 7,
    stable_through: 0,
};
const PONG: Frame = Frame::Pong { echo: 9 };

impl Bench {
    fn new() -> Bench {
        let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
        let timeout = Some(Duration::from_millis(50));
        theirs.set_read_timeout(timeout).expect("it is no zero");
        let shell = shell(4 << 20);
        let socket = ring::File::socket(ours.into()).expect("it is taken");
        let slot = memory::take(shell.ring.arena(), Pool::Writes, PAYLOAD_BYTES_MAX);
        Bench {
            slot: slot.expect("there is room").share(),
            shell,
            outgoing: Outgoing::new(&socket),
            socket,
            theirs,
        }
    }

    fn push(&mut self, frame: &Frame) {
        self.outgoing.push(frame, EPOCH, None, None);
    }

    /// Queues writes of the greatest length, more than the socket takes, and lets the first leave.
    fn push_writes(&mut self, sequences: std::ops::Range<u64>) {
        for sequence in sequences {
            let frame = write(sequence);
            let summary = PayloadSummary::of(&self.slot[..PAYLOAD_BYTES_MAX]);
            let payload = (self.slot.clone(), 0..PAYLOAD_BYTES_MAX);
            self.outgoing
                .push(&frame, EPOCH, Some(summary), Some(payload));
            self.send();
        }
    }

    fn send(&mut self) {
        self.outgoing.send(&mut self.shell, &self.socket, TOKEN);
    }

    /// Takes all that comes until nothing is left to be sent.
    fn received(&mut self) -> Vec<Frame> {
        let mut bytes = Vec::new();
        let mut some = vec![0; 1 << 20];
        while !self.outgoing.is_empty() {
            self.send();
            if let Ok(length) = self.theirs.read(&mut some) {
                bytes.extend_from_slice(&some[..length]);
            }
            let (outgoing, socket) = (&mut self.outgoing, &self.socket);
            turn(&mut self.shell, |shell, _, done| match done {
                Done::Send(result, batch) => {
                    result.expect("it is sent");
                    outgoing.sent(batch, socket, shell.now);
                }
                other => panic!("there are only sends: {other:?}"),
            });
        }
        while let Ok(length @ 1..) = self.theirs.read(&mut some) {
            bytes.extend_from_slice(&some[..length]);
        }
        decoded(&bytes)
    }
}

fn decoded(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_at(HEADER_BYTES);
        let header = decode_header(header).expect("it is sound");
        let (body, rest) = rest.split_at(header.body_length());
        frames.push(Frame::decode(&header, body).expect("it is sound"));
        bytes = &rest[header.payload_length()..];
    }
    frames
}

fn write(sequence: u64) -> Frame {
    Frame::Write {
        sequence,
        offset: 0,
        length: u32::try_from(PAYLOAD_BYTES_MAX).expect("small"),
        fua: false,
        stable_through: 1,
    }
}

fn place(frames: &[Frame], frame: &Frame) -> usize {
    let place = frames.iter().position(|one| one == frame);
    place.unwrap_or_else(|| panic!("{frame:?} comes"))
}

#[test]
fn pings_and_answers_wait_for_what_is_being_sent_and_no_more() {
    let mut bench = Bench::new();
    bench.push_writes(0..8);
    bench.push(&PING);
    bench.push(&PONG);
    let told = Frame::Ping {
        sent_at: 8,
        stable_through: 5,
    };
    bench.push(&told);
    bench.push_writes(8..9);
    let frames = bench.received();
    let bare = Frame::Ping {
        sent_at: 8,
        stable_through: 0,
    };
    assert_eq!(frames[..4], [write(0), PING, PONG, bare]);
    // What the ping tells stays in its place.
    let writes: Vec<Frame> = (1..8).map(write).collect();
    assert_eq!(frames[4..11], writes);
    assert_eq!(frames[11..], [told, write(8)]);
}

#[test]
fn nothing_leaves_twice_where_nothing_waits() {
    let mut bench = Bench::new();
    let told = Frame::Ping {
        sent_at: 8,
        stable_through: 5,
    };
    bench.push(&told);
    bench.push(&PONG);
    assert_eq!(bench.received(), [PONG, told]);
}

fn identity() -> Frame {
    Frame::Identity(Box::new(Identity {
        volume: VolumeId::default(),
        size_bytes: 1 << 20,
        node: NodeId::default(),
        boot: BootId::default(),
        incarnation: 1,
        known_incarnation: 0,
        configuration: configuration(),
        data_generation: Generation([1; 16]),
        history: Vec::new(),
        history_complete: true,
        pending_admission: None,
        proposal: None,
        disk_state: DiskState::UpToDate,
        suspect: false,
        crashed_primary: false,
        discarded: false,
        forced: false,
        arbitrated: true,
        lease_ms: 2_000,
        marked_blocks: 0,
        marks_valid: true,
    }))
}

fn configuration() -> Configuration {
    let slot = Slot::new(0).expect("there is one");
    Configuration {
        epoch: 4,
        generation: Generation([1; 16]),
        primary: Some(slot),
        in_sync: NodeSet::only(slot),
    }
}

#[test]
fn answers_do_not_overtake_configurations_and_nothing_an_identity() {
    let configuration = Frame::Configuration(configuration());
    let mut bench = Bench::new();
    bench.push_writes(0..3);
    bench.push(&configuration);
    bench.push(&PING);
    bench.push(&PONG);
    let frames = bench.received();
    assert_eq!(place(&frames, &PING), 1);
    assert!(place(&frames, &PONG) > place(&frames, &configuration));

    let identity = identity();
    let mut bench = Bench::new();
    bench.push_writes(0..3);
    bench.push(&identity);
    bench.push(&PING);
    bench.push(&PONG);
    let frames = bench.received();
    assert_eq!(place(&frames, &identity), 3);
    assert_eq!(frames[4..], [PING, PONG]);
}

#[test]
fn little_is_with_the_kernel_at_a_time() {
    let mut bench = Bench::new();
    for sequence in 0..2000 {
        bench.push(&Frame::Checkpoint { number: sequence });
    }
    bench.push_writes(0..2);
    let left = bench.outgoing.waiting.len();
    // The small ones fit one send with the first write at most.
    assert!(left <= 2 && SEND_BYTES_MIN > 2000 * HEADER_BYTES, "{left}");
    let frames = bench.received();
    let small = (0..2000).map(|number| Frame::Checkpoint { number });
    let all: Vec<Frame> = small.chain([write(0), write(1)]).collect();
    assert!(frames == all, "in order");
}
