//! A front end with a protocol of its own, a client that speaks it, and replicas in temporary
//! folders.

use crate::config::{Creation, Options, Paths};
use crate::frontend::{Allocation, ClientKind, ClientRequest, Next, Parsed, Session};
use crate::memory::{self, Buffers};
use crate::report::{VolumeEvent, VolumeStatus};
use crate::shell::{Shell, Token, now};
use crate::volume::Volume;
use format::superblock::Replica;
use format::types::{Generation, Name, NodeId, REPLICAS_MAX, Slot, Span, VolumeId};
use replica::Settings;
use replica::command::{Answer, Command, Refusal};
use replica::event::RequestError;
use ring::{Done, Ring};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const SIZE: u64 = 64 << 20;
const HEADER: usize = 22;

/// The server's side of the test protocol: each message has a kind, a flag, an id, an offset and a
/// length.
#[derive(Default)]
pub(crate) struct TestSession {
    stopping: bool,
    /// Bytes of each read that have not been announced.
    reads: BTreeMap<u32, u64>,
    /// The read that was announced in part: it sees that no other comes between.
    begun: Option<u32>,
}

fn message(kind: u8, flag: bool, id: u32, span: Span) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = kind;
    bytes[1] = flag.into();
    bytes[2..6].copy_from_slice(&id.to_le_bytes());
    bytes[6..14].copy_from_slice(&span.offset.to_le_bytes());
    bytes[14..22].copy_from_slice(&span.length.to_le_bytes());
    bytes
}

fn parsed(bytes: &[u8]) -> (u8, bool, u32, Span) {
    let number = |from: usize| {
        u64::from_le_bytes(
            bytes[from..from + 8]
                .try_into()
                .expect("eight bytes are there"),
        )
    };
    let id = u32::from_le_bytes(bytes[2..6].try_into().expect("four bytes are there"));
    (
        bytes[0],
        bytes[1] != 0,
        id,
        Span::new(number(6), number(14)),
    )
}

impl Session for TestSession {
    fn parse(&mut self, input: &[u8], size_bytes: u64, out: &mut Vec<u8>) -> Parsed {
        if input.len() < HEADER {
            return Parsed::More;
        }
        let (kind, flag, id, span) = parsed(input);
        let kind = match kind {
            b'R' => ClientKind::Read,
            b'W' => ClientKind::Write { fua: flag },
            b'Z' => ClientKind::Zero {
                unmap: flag,
                fua: false,
            },
            b'F' => ClientKind::Flush,
            b'X' => ClientKind::Extents,
            b'Q' => return Parsed::Goodbye,
            _ => return Parsed::Broken("no such message"),
        };
        if span.end() > size_bytes || self.stopping {
            out.extend(message(b'E', true, id, span));
            let drain = if let ClientKind::Write { .. } = kind {
                span.length
            } else {
                0
            };
            return Parsed::Drain {
                consumed: HEADER,
                drain,
            };
        }
        if kind == ClientKind::Read {
            self.reads.insert(id, span.length);
        }
        Parsed::Request {
            consumed: HEADER,
            request: ClientRequest { id, kind, span },
        }
    }

    fn data(&mut self, id: u32, piece: Span, out: &mut Vec<u8>) {
        assert!(
            self.begun.is_none_or(|begun| begun == id),
            "a read within another"
        );
        let left = self.reads.get_mut(&id).expect("it is a read in flight");
        *left -= piece.length;
        self.begun = (*left > 0).then_some(id);
        out.extend(message(b'D', false, id, piece));
    }

    fn done(&mut self, id: u32, result: Result<(), RequestError>, out: &mut Vec<u8>) -> Next {
        let left = self.reads.remove(&id).unwrap_or(0);
        assert!(result.is_err() || left == 0, "a read ended before its data");
        self.begun = self.begun.filter(|begun| *begun != id);
        out.extend(message(b'E', result.is_err(), id, Span::new(0, 0)));
        Next::Continue
    }

    fn extents(&mut self, id: u32, pieces: &[Allocation], out: &mut Vec<u8>) {
        for piece in pieces {
            out.extend(message(b'A', piece.hole, id, Span::new(0, piece.length)));
        }
        out.extend(message(b'E', false, id, Span::new(0, 0)));
    }

    fn shut_down(&mut self) {
        self.stopping = true;
    }
}

/// What a request came to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) id: u32,
    pub(crate) failed: bool,
    pub(crate) data: Vec<u8>,
    pub(crate) pieces: Vec<(u64, bool)>,
}

/// The client's side.
pub(crate) struct TestClient {
    stream: UnixStream,
    ids: u32,
    partial: BTreeMap<u32, Outcome>,
}

impl TestClient {
    pub(crate) fn attach(volume: &Volume) -> TestClient {
        let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
        volume.attach_client(theirs.into(), Vec::new(), Box::<TestSession>::default());
        TestClient::over(ours)
    }

    pub(crate) fn over(stream: UnixStream) -> TestClient {
        let timeout = Some(Duration::from_secs(20));
        stream.set_read_timeout(timeout).expect("it can be set");
        TestClient {
            stream,
            ids: 0,
            partial: BTreeMap::new(),
        }
    }

    pub(crate) fn send(&mut self, kind: u8, flag: bool, span: Span, payload: &[u8]) -> u32 {
        self.ids += 1;
        let mut bytes = message(kind, flag, self.ids, span).to_vec();
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes).expect("the server takes it");
        self.ids
    }

    /// The next request that has ended, or `None` if the connection has.
    pub(crate) fn receive(&mut self) -> Option<Outcome> {
        loop {
            let mut header = [0; HEADER];
            self.stream.read_exact(&mut header).ok()?;
            let (kind, flag, id, span) = parsed(&header);
            let outcome = self.partial.entry(id).or_default();
            match kind {
                b'D' => {
                    let at = outcome.data.len();
                    outcome
                        .data
                        .resize(at + usize::try_from(span.length).expect("small"), 0);
                    self.stream.read_exact(&mut outcome.data[at..]).ok()?;
                }
                b'A' => outcome.pieces.push((span.length, flag)),
                _ => {
                    let outcome = self.partial.remove(&id)?;
                    return Some(Outcome {
                        id,
                        failed: flag,
                        ..outcome
                    });
                }
            }
        }
    }

    fn call(&mut self, kind: u8, flag: bool, span: Span, payload: &[u8]) -> Outcome {
        let id = self.send(kind, flag, span, payload);
        let outcome = self.receive().expect("the server answers");
        assert_eq!(outcome.id, id);
        outcome
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let outcome = self.call(b'W', false, Span::new(offset, data.len() as u64), data);
        assert!(!outcome.failed);
    }

    pub(crate) fn read(&mut self, offset: u64, length: u64) -> Vec<u8> {
        let outcome = self.call(b'R', false, Span::new(offset, length), &[]);
        assert!(!outcome.failed);
        assert_eq!(outcome.data.len() as u64, length);
        outcome.data
    }

    pub(crate) fn zero(&mut self, span: Span, unmap: bool) {
        assert!(!self.call(b'Z', unmap, span, &[]).failed);
    }

    pub(crate) fn flush(&mut self) {
        assert!(!self.call(b'F', false, Span::new(0, 0), &[]).failed);
    }

    pub(crate) fn extents(&mut self, span: Span) -> Vec<(u64, bool)> {
        self.call(b'X', false, span, &[]).pieces
    }

    pub(crate) fn say_goodbye(&mut self) {
        self.send(b'Q', false, Span::new(0, 0), &[]);
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// A replica's files in a folder of their own, and the replica while it is open.
pub(crate) struct TestReplica {
    pub(crate) folder: TempDir,
    pub(crate) slot: Slot,
    pub(crate) volume: Option<Volume>,
    pub(crate) events: Option<mpsc::Receiver<VolumeEvent>>,
}

pub(crate) fn slot(number: u8) -> Slot {
    Slot::new(number).expect("there is such a slot")
}

pub(crate) fn creation(number: u8, replicas: u8) -> Creation {
    let replica = |index: u8| Replica {
        node: NodeId([index + 1; 16]),
        name: Name::new(&format!("node{index}")).expect("it is a name"),
    };
    let mut all: [Option<Replica>; REPLICAS_MAX] = Default::default();
    for index in 0..replicas {
        all[usize::from(index)] = Some(replica(index));
    }
    Creation {
        volume: VolumeId([7; 16]),
        name: Name::new("test").expect("it is a name"),
        size_bytes: SIZE,
        slot: slot(number),
        replicas: all,
        generation: Generation([9; 16]),
        primary: slot(0),
        thick: false,
    }
}

pub(crate) fn options() -> Options {
    Options {
        settings: Settings::default(),
        arena_bytes: 16 << 20,
        spin_nanos_max: 0,
    }
}

impl TestReplica {
    pub(crate) fn create(number: u8, replicas: u8) -> TestReplica {
        let folder = TempDir::new().expect("a folder can be made");
        let replica = TestReplica {
            folder,
            slot: slot(number),
            volume: None,
            events: None,
        };
        Volume::create(&replica.paths(), &creation(number, replicas)).expect("it can be made");
        replica
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths {
            data: self.folder.path().join("data"),
            meta: self.folder.path().join("meta"),
        }
    }

    pub(crate) fn open(&mut self) {
        self.open_with(options());
    }

    pub(crate) fn open_with(&mut self, options: Options) {
        let (sender, receiver) = mpsc::channel();
        let handler = move |event| {
            // A test that has ended listens no more.
            let _ = sender.send(event);
        };
        let volume = Volume::open(&self.paths(), options, handler).expect("it opens");
        (self.volume, self.events) = (Some(volume), Some(receiver));
    }

    pub(crate) fn volume(&self) -> &Volume {
        self.volume.as_ref().expect("it is open")
    }

    pub(crate) fn command(&self, command: Command) -> Result<Answer, Refusal> {
        let (sender, receiver) = mpsc::channel();
        self.volume().command(command, move |answer| {
            let _ = sender.send(answer);
        });
        receiver
            .recv_timeout(Duration::from_secs(20))
            .expect("commands are answered")
    }

    pub(crate) fn status(&self) -> VolumeStatus {
        let (sender, receiver) = mpsc::channel();
        self.volume().status(move |status| {
            let _ = sender.send(status);
        });
        let status = receiver.recv_timeout(Duration::from_secs(20));
        status.expect("questions are answered").expect("it is open")
    }

    /// Waits until the status is as wanted.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&VolumeStatus) -> bool) -> VolumeStatus {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "no {what}: {status:#?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn wait_serving(&self) {
        self.wait("service", |status| status.refusal.is_none());
    }

    pub(crate) fn stop(&mut self) {
        assert_eq!(self.command(Command::Stop), Ok(Answer::Done));
        self.volume.take().expect("it is open").join();
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        std::fs::read(self.paths().data).expect("it can be read")
    }
}

/// Joins two replicas.
pub(crate) fn link(one: &TestReplica, other: &TestReplica) {
    let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
    one.volume()
        .attach_peer(other.slot, ours.into(), Vec::new());
    other
        .volume()
        .attach_peer(one.slot, theirs.into(), Vec::new());
}

/// Bytes that look random and follow from the seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What the parts of a reactor share, without a reactor.
pub(crate) fn shell(arena_bytes: usize) -> Shell {
    let arena = memory::arena(arena_bytes).expect("memory can be mapped");
    Shell {
        ring: Ring::new(arena).expect("io_uring works here"),
        buffers: Buffers::default(),
        events: VecDeque::new(),
        now: now(),
    }
}

/// Waits for something to end and takes all that has.
pub(crate) fn turn(shell: &mut Shell, mut ended: impl FnMut(&mut Shell, Token, Done)) {
    let timeout = Duration::from_millis(20);
    shell.ring.turn(Some(timeout)).expect("the ring turns");
    shell.now = now();
    while let Some(completion) = shell.ring.next() {
        ended(shell, completion.token, completion.done);
    }
}
