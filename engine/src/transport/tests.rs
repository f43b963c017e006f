use super::Transport;
use crate::memory::{self, Pool};
use crate::shell::{Shell, Token};
use crate::testing::{noise, shell, slot, turn};
use bytes::BytesMut;
use format::frame::{Frame, HEADER_BYTES, PAYLOAD_BYTES_MAX, PayloadSummary, decode_header};
use replica::event::{Buffer, Event, Payload, SessionId};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

struct Bench {
    shell: Shell,
    transport: Transport,
    theirs: UnixStream,
}

const SESSION: SessionId = SessionId(1);

impl Bench {
    fn new(arena_bytes: usize, received: Vec<u8>) -> Bench {
        let mut bench = Bench {
            shell: shell(arena_bytes),
            transport: Transport::default(),
            theirs: UnixStream::pair().expect("sockets can be made").0,
        };
        bench.theirs = bench.attach(SESSION, received);
        bench
    }

    fn attach(&mut self, session: SessionId, received: Vec<u8>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
        let socket = ring::File::socket(ours.into()).expect("it is taken");
        self.transport
            .attach(&mut self.shell, slot(1), session, socket, received);
        let event = self.shell.events.pop_front();
        assert!(
            matches!(event, Some(Event::PeerConnected { session: told, .. }) if told == session)
        );
        theirs
    }

    fn turn(&mut self) {
        self.transport.slots_freed(&mut self.shell);
        self.transport.turn_ended(&mut self.shell);
        let transport = &mut self.transport;
        turn(&mut self.shell, |shell, token, done| {
            let Token::Link(session) = token else {
                panic!("there are only links");
            };
            transport.completed(shell, session, done);
        });
    }

    /// The next event.
    fn event(&mut self) -> Event {
        let begun = Instant::now();
        loop {
            if let Some(event) = self.shell.events.pop_front() {
                return event;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "nothing has come"
            );
            self.turn();
        }
    }

    fn frame(&mut self) -> (Frame, u64, Option<Buffer>) {
        match self.event() {
            Event::Frame {
                frame,
                epoch,
                payload,
                ..
            } => (frame, epoch, payload),
            other => panic!("a frame comes: {other:?}"),
        }
    }

    fn buffer(&mut self, data: &[u8]) -> Buffer {
        let slot = memory::take(self.shell.ring.arena(), Pool::Writes, data.len());
        let mut slot = slot.expect("there is room");
        slot[..data.len()].copy_from_slice(data);
        self.shell.buffers.insert(slot.share())
    }
}

fn write(sequence: u64, data: &[u8]) -> Frame {
    let length = u32::try_from(data.len()).expect("small");
    Frame::Write {
        sequence,
        offset: 4096,
        length,
        fua: false,
        stable_through: 1,
    }
}

fn encoded(frame: &Frame, epoch: u64, payload: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame.encode(epoch, payload.map(PayloadSummary::of), &mut bytes);
    bytes.extend_from_slice(payload.unwrap_or_default());
    bytes.to_vec()
}

#[test]
fn frames_arrive_however_they_are_cut() {
    for step in [1, 47, 4096, 65_536, 1 << 20] {
        let mut bench = Bench::new(4 << 20, Vec::new());
        let lengths = [4096, 8192, 131_072, PAYLOAD_BYTES_MAX];
        let lengths = if step == 1 {
            &lengths[..1]
        } else {
            &lengths[..]
        };
        let mut stream = encoded(&Frame::Pong { echo: 5 }, 7, None);
        for (sequence, length) in (0..).zip(lengths) {
            let data = noise(sequence, *length);
            stream.extend(encoded(&write(sequence, &data), 7, Some(&data)));
            stream.extend(encoded(&Frame::Pong { echo: sequence }, 7, None));
        }
        let mut theirs = bench.theirs.try_clone().expect("it can be cloned");
        let sender = std::thread::spawn(move || {
            stream
                .chunks(step)
                .try_for_each(|piece| theirs.write_all(piece))
        });
        assert_eq!(bench.frame().0, Frame::Pong { echo: 5 });
        for (sequence, length) in (0..).zip(lengths) {
            let (frame, epoch, payload) = bench.frame();
            let data = noise(sequence, *length);
            assert_eq!((frame, epoch), (write(sequence, &data), 7));
            let payload = payload.expect("a write has one");
            assert!(bench.shell.buffers.remove(payload)[..*length] == data);
            assert_eq!(bench.frame().0, Frame::Pong { echo: sequence });
        }
        sender.join().expect("it sends").expect("all is taken");
    }
}

#[test]
fn what_came_behind_the_handshake_is_not_lost() {
    let data = noise(3, 100_000);
    let data = &data[..98_304];
    let mut stream = encoded(&write(2, data), 1, Some(data));
    let rest = stream.split_off(70_000);
    let mut bench = Bench::new(4 << 20, stream);
    bench.theirs.write_all(&rest).expect("it is taken");
    let (_, _, payload) = bench.frame();
    let payload = payload.expect("a write has one");
    assert!(bench.shell.buffers.remove(payload)[..data.len()] == *data);
}

#[test]
fn a_flipped_bit_ends_the_session() {
    let data = noise(1, 4096);
    let good = encoded(&write(2, &data), 1, Some(&data));
    for at in (0..good.len()).step_by(97).chain([good.len() - 1]) {
        let mut bench = Bench::new(4 << 20, Vec::new());
        let mut bad = good.clone();
        bad[at] ^= 4;
        bench.theirs.write_all(&bad).expect("it is taken");
        bench
            .theirs
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        let event = bench.event();
        assert!(
            matches!(
                event,
                Event::PeerLost {
                    session: SESSION,
                    ..
                }
            ),
            "{event:?}"
        );
        let lost = bench.transport.take_lost();
        assert!(lost.len() == 1 && lost[0].retry && lost[0].session == SESSION);
        assert_eq!(bench.theirs.read(&mut [0; 8]).unwrap_or(0), 0);
    }
}

#[test]
fn payloads_wait_for_slots() {
    let mut bench = Bench::new(1 << 20, Vec::new());
    let count = 40;
    let data = noise(9, PAYLOAD_BYTES_MAX);
    let mut theirs = bench.theirs.try_clone().expect("it can be cloned");
    let sent = data.clone();
    let sender = std::thread::spawn(move || {
        (0..count).try_for_each(|sequence| {
            theirs.write_all(&encoded(&write(sequence, &sent), 1, Some(&sent)))
        })
    });
    let mut held = std::collections::VecDeque::new();
    for sequence in 0..count {
        if held.len() == 4 {
            // The pool is empty: nothing comes however long one waits.
            (0..3).for_each(|_| bench.turn());
            assert!(bench.shell.events.is_empty());
            let first = held.pop_front().expect("four are held");
            bench.shell.buffers.remove(first);
        }
        let (frame, _, payload) = bench.frame();
        assert_eq!(frame, write(sequence, &data));
        held.push_back(payload.expect("a write has one"));
    }
    sender.join().expect("it sends").expect("all is taken");
}

#[test]
fn what_is_sent_leaves_in_order_and_before_the_end() {
    let mut bench = Bench::new(4 << 20, Vec::new());
    let data = noise(4, 200_000);
    let buffer = bench.buffer(&data);
    let count = 20;
    let mut expected = Vec::new();
    for sequence in 0..count {
        let part = 4096..4096 + 131_072;
        let frame = write(sequence, &data[part.clone()]);
        let payload = Payload {
            buffer,
            start: 4096,
            length: 131_072,
        };
        bench
            .transport
            .send(&mut bench.shell, SESSION, &frame, 3, Some(payload));
        let small = Frame::Checkpoint { number: sequence };
        bench
            .transport
            .send(&mut bench.shell, SESSION, &small, 3, None);
        expected.extend(encoded(&frame, 3, Some(&data[part])));
        expected.extend(encoded(&small, 3, None));
        if sequence == 5 {
            bench.turn();
        }
    }
    bench.shell.buffers.remove(buffer);
    bench.transport.disconnect(&bench.shell, SESSION, false);
    bench
        .transport
        .send(&mut bench.shell, SESSION, &Frame::MarksEnd, 3, None);
    let lost = bench.transport.take_lost();
    assert!(lost.len() == 1 && !lost[0].retry);
    let mut theirs = bench.theirs.try_clone().expect("it can be cloned");
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).map(|_| received)
    });
    while !reader.is_finished() {
        bench.turn();
    }
    let received = reader.join().expect("it reads").expect("the stream ends");
    assert!(received == expected, "all of it and nothing more");
    let header = decode_header(&received[..HEADER_BYTES]).expect("it is sound");
    assert_eq!(header.epoch(), 3);
    drop(bench.theirs);
    assert!(
        bench.shell.events.is_empty(),
        "the core has ended it itself"
    );
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off() {
    let mut bench = Bench::new(4 << 20, Vec::new());
    let data = noise(4, PAYLOAD_BYTES_MAX);
    let buffer = bench.buffer(&data);
    let length = u32::try_from(data.len()).expect("small");
    for sequence in 0..30 {
        let payload = Payload {
            buffer,
            start: 0,
            length,
        };
        let frame = write(sequence, &data);
        bench
            .transport
            .send(&mut bench.shell, SESSION, &frame, 1, Some(payload));
    }
    bench.transport.disconnect(&bench.shell, SESSION, true);
    let begun = Instant::now();
    while bench.transport.deadline().is_some() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it lingers for a moment only"
        );
        bench.turn();
    }
}

#[test]
fn a_new_link_takes_the_place_of_the_old() {
    let mut bench = Bench::new(4 << 20, Vec::new());
    let mut old = bench.theirs.try_clone().expect("it can be cloned");
    let mut new = bench.attach(SessionId(2), Vec::new());
    bench.turn();
    assert_eq!(old.read(&mut [0; 8]).expect("it has ended"), 0);
    let ping = encoded(&Frame::Pong { echo: 1 }, 1, None);
    new.write_all(&ping).expect("it is taken");
    match bench.event() {
        Event::Frame {
            session: SessionId(2),
            ..
        } => {}
        other => panic!("the new session's frame comes: {other:?}"),
    }
    drop(new);
    let event = bench.event();
    assert!(
        matches!(
            event,
            Event::PeerLost {
                session: SessionId(2),
                ..
            }
        ),
        "{event:?}"
    );
}
