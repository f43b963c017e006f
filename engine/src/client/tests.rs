use super::Clients;
use crate::memory::{self, Pool};
use crate::shell::{Shell, Token};
use crate::store::Holes;
use crate::testing::{SIZE, TestClient, TestSession, noise, shell, turn};
use format::types::Span;
use replica::event::{self, Event, Kind, Request, RequestError};
use replica::limits::{DATA_BYTES_MAX, REQUESTS_MAX};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Clients without a core: the test answers for it.
struct Bench {
    shell: Shell,
    clients: Clients,
    volume: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        let file = tempfile::tempfile().expect("a file can be made");
        let clients = Clients::new(SIZE, Holes::new(file), 4 << 20);
        Bench {
            shell: shell(16 << 20),
            clients,
            volume: volume(),
        }
    }

    fn attach(&mut self) -> TestClient {
        let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
        let socket = ring::File::socket(theirs.into()).expect("it is taken");
        let session = Box::<TestSession>::default();
        self.clients
            .attach(&mut self.shell, socket, Vec::new(), session);
        TestClient::over(ours)
    }

    fn turn(&mut self) {
        self.clients.resume(&mut self.shell);
        self.clients.turn_ended(&mut self.shell);
        let clients = &mut self.clients;
        turn(&mut self.shell, |shell, token, done| {
            let Token::Client(number) = token else {
                panic!("there are only clients");
            };
            clients.completed(shell, number, done);
        });
    }

    /// The requests that have come once there are this many.
    fn requests(&mut self, count: usize) -> Vec<Request> {
        let begun = Instant::now();
        while self.shell.events.len() < count {
            assert!(begun.elapsed() < Duration::from_secs(10), "they come");
            self.turn();
        }
        let events = self.shell.events.drain(..);
        let request = |event| match event {
            Event::Request(request) => request,
            other => panic!("a request comes: {other:?}"),
        };
        events.map(request).collect()
    }

    fn data(&mut self, span: Span) -> event::Buffer {
        let length = memory::length(span.widened().length);
        let slot = memory::take(self.shell.ring.arena(), Pool::Reads, length);
        let mut slot = slot.expect("there is room");
        let from = memory::length(span.widened().offset);
        slot[..length].copy_from_slice(&self.volume[from..from + length]);
        self.shell.buffers.insert(slot.share())
    }

    fn answer(&mut self, request: Request, result: Result<(), RequestError>) {
        let result = match (request.kind, result) {
            (_, Err(error)) => Err(error),
            (Kind::Read, Ok(())) => Ok(Some(self.data(request.span))),
            (Kind::Write { buffer, .. }, Ok(())) => {
                self.shell.buffers.remove(buffer);
                Ok(None)
            }
            _ => Ok(None),
        };
        self.clients
            .answered(&mut self.shell, request.token, result);
    }

    /// Turns until the thread has ended.
    fn join<T>(&mut self, thread: std::thread::JoinHandle<T>) -> T {
        while !thread.is_finished() {
            self.turn();
        }
        thread.join().expect("it succeeds")
    }
}

/// What the volume is taken to hold.
fn volume() -> Vec<u8> {
    noise(1, 8 << 20)
}

#[test]
fn data_leaves_in_order_though_parts_end_in_any() {
    let mut bench = Bench::new();
    let mut client = bench.attach();
    let span = Span::new(1000, 3 * DATA_BYTES_MAX);
    client.send(b'R', false, span, &[]);
    let mut parts = bench.requests(4);
    assert_eq!(
        parts.iter().map(|part| part.span.length).sum::<u64>(),
        span.length
    );
    parts.reverse();
    parts
        .into_iter()
        .for_each(|part| bench.answer(part, Ok(())));
    let receiver = std::thread::spawn(move || (client.receive(), client));
    let (outcome, _client) = bench.join(receiver);
    let outcome = outcome.expect("it is answered");
    assert!(!outcome.failed);
    let range = 1000..1000 + memory::length(span.length);
    assert!(outcome.data == volume()[range]);
}

/// Numbers below bounds, the same each time.
struct Dice(Vec<u8>);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        let bytes = self.0.split_off(self.0.len() - 8);
        u64::from_le_bytes(bytes.try_into().expect("eight bytes")) % bound
    }
}

/// Asks for reads of many sizes all at once, and checks what comes. How many were refused.
fn read_at_once(client: &mut TestClient, mut dice: Dice) -> usize {
    const READS: usize = 200;
    let mut span = || {
        let longest = [512, 4096, DATA_BYTES_MAX, 3 << 20][memory::length(dice.below(4))];
        Span::new(dice.below(4 << 20), 1 + dice.below(longest))
    };
    let spans: BTreeMap<u32, Span> = (0..READS)
        .map(|_| span())
        .map(|span| (client.send(b'R', false, span, &[]), span))
        .collect();
    let volume = volume();
    let outcomes = (0..READS).map(|_| client.receive().expect("it is answered"));
    let refused = outcomes.filter(|outcome| {
        let span = spans[&outcome.id];
        let wanted = &volume[memory::length(span.offset)..memory::length(span.end())];
        assert!(outcome.failed || outcome.data == wanted, "{span:?}");
        outcome.failed
    });
    refused.count()
}

/// Parts end in any order, some fail, and there is too little room for all of them. The session sees that no read is
/// announced within another.
#[test]
fn reads_at_once_come_one_after_another() {
    let mut bench = Bench::new();
    let clients: Vec<_> = (0..3)
        .map(|number| (bench.attach(), Dice(noise(number, 16 << 10))))
        .map(|(mut client, dice)| {
            std::thread::spawn(move || (read_at_once(&mut client, dice), client))
        })
        .collect();
    let mut dice = Dice(noise(3, 1 << 20));
    let mut parts = Vec::new();
    while !clients.iter().all(|client| client.is_finished()) {
        bench.turn();
        parts.extend(bench.shell.events.drain(..).map(|event| match event {
            Event::Request(request) => request,
            other => panic!("only requests come: {other:?}"),
        }));
        for _ in 0..dice.below(1 + parts.len() as u64) {
            let part = parts.swap_remove(memory::length(dice.below(parts.len() as u64)));
            let fails = dice.below(50) == 0;
            let result = if fails { Err(RequestError::Io) } else { Ok(()) };
            bench.answer(part, result);
        }
    }
    for client in clients {
        let (refused, _client) = client.join().expect("all that is read is right");
        assert!((1..100).contains(&refused), "{refused} were refused");
    }
    assert_eq!(bench.clients.hand.parts, 0);
}

#[test]
fn a_read_that_fails_in_the_middle_announces_no_more() {
    let mut bench = Bench::new();
    let mut client = bench.attach();
    client.send(b'R', false, Span::new(0, 3 * DATA_BYTES_MAX), &[]);
    let parts = bench.requests(3);
    bench.answer(parts[0], Ok(()));
    bench.answer(parts[1], Err(RequestError::Io));
    bench.answer(parts[2], Ok(()));
    let receiver = std::thread::spawn(move || (client.receive(), client));
    let (outcome, _client) = bench.join(receiver);
    let outcome = outcome.expect("it is answered");
    assert!(outcome.failed);
    assert_eq!(outcome.data.len() as u64, DATA_BYTES_MAX);
    bench.turn();
    assert_eq!(bench.clients.hand.read_bytes, 0);
}

#[test]
fn the_rest_of_a_failed_write_is_taken_off_the_stream() {
    let mut bench = Bench::new();
    let client = bench.attach();
    let payload = noise(2, memory::length(4 * DATA_BYTES_MAX));
    let sender = std::thread::spawn(move || {
        let mut client = client;
        client.send(b'W', false, Span::new(0, payload.len() as u64), &payload);
        client.send(b'F', false, Span::new(0, 0), &[]);
        (client.receive(), client.receive(), client)
    });
    let first = bench.requests(1).remove(0);
    if let Kind::Write { buffer, .. } = first.kind {
        bench.shell.buffers.remove(buffer);
    }
    bench.answer(first, Err(RequestError::NoSpace));
    let mut flushed = false;
    while !sender.is_finished() {
        bench.turn();
        let events: Vec<_> = bench.shell.events.drain(..).collect();
        for event in events {
            let Event::Request(request) = event else {
                panic!("only requests come: {event:?}");
            };
            flushed |= request.kind == Kind::Flush;
            bench.answer(request, Ok(()));
        }
    }
    let (write, flush, _client) = sender.join().expect("it succeeds");
    assert!(write.expect("it is answered").failed && flushed);
    assert!(!flush.expect("it is answered").failed);
}

#[test]
fn the_core_never_has_more_requests_than_it_takes() {
    let mut bench = Bench::new();
    let flushes = REQUESTS_MAX;
    for mut client in [bench.attach(), bench.attach()] {
        std::thread::spawn(move || {
            for _ in 0..flushes {
                client.send(b'F', false, Span::new(0, 0), &[]);
            }
            while client.receive().is_some() {}
        });
    }
    let mut requests = bench.requests(REQUESTS_MAX);
    assert_eq!(requests.len(), REQUESTS_MAX);
    let mut answered = 0;
    while answered < 2 * flushes {
        assert!(requests.len() <= REQUESTS_MAX);
        let half = requests.len().div_ceil(2);
        for request in requests.drain(..half) {
            bench.answer(request, Ok(()));
            answered += 1;
        }
        if answered + requests.len() < 2 * flushes {
            requests.extend(bench.requests(1));
        }
    }
    assert_eq!(bench.clients.hand.parts, 0);
    bench.clients.drop_all(&mut bench.shell);
}

#[test]
fn reads_that_nobody_takes_are_bounded() {
    let mut bench = Bench::new();
    let mut lazy = bench.attach();
    for _ in 0..100 {
        lazy.send(b'R', false, Span::new(0, DATA_BYTES_MAX), &[]);
    }
    let mut held = 0;
    for _ in 0..20 {
        bench.turn();
        let events: Vec<_> = bench.shell.events.drain(..).collect();
        for event in events {
            let Event::Request(request) = event else {
                panic!("only requests come: {event:?}");
            };
            bench.answer(request, Ok(()));
            held += 1;
        }
    }
    // What the socket itself holds comes on top.
    assert!((4..12).contains(&held), "{held} are held");
    let mut busy = bench.attach();
    busy.send(b'R', false, Span::new(0, DATA_BYTES_MAX), &[]);
    assert_eq!(bench.requests(1).len(), 1);
    let taker = std::thread::spawn(move || (0..100).filter_map(|_| lazy.receive()).count());
    while !taker.is_finished() {
        bench.turn();
        let events: Vec<_> = bench.shell.events.drain(..).collect();
        for event in events {
            if let Event::Request(request) = event {
                bench.answer(request, Ok(()));
            }
        }
    }
    assert_eq!(taker.join().expect("it succeeds"), 100);
}

#[test]
fn a_client_that_has_gone_is_told_of_and_forgotten() {
    let mut bench = Bench::new();
    let mut client = bench.attach();
    client.send(b'R', false, Span::new(0, 4096), &[]);
    client.send(b'W', false, Span::new(0, 4096), &noise(1, 4096));
    let requests = bench.requests(2);
    drop(client);
    while bench.shell.events.is_empty() {
        bench.turn();
    }
    let gone = bench.shell.events.pop_front();
    assert!(matches!(gone, Some(Event::ClientGone { .. })), "{gone:?}");
    requests
        .into_iter()
        .for_each(|request| bench.answer(request, Ok(())));
    assert_eq!((bench.clients.len(), bench.clients.hand.parts), (0, 0));
    assert_eq!(bench.clients.hand.read_bytes, 0);
    let free = bench.shell.ring.arena().free_bytes(Pool::Reads as usize);
    assert_eq!(
        free,
        memory::pool_bytes(16 << 20).next_multiple_of(ring::SLOT_BYTES_MAX)
    );
}

#[test]
fn what_was_not_read_of_a_client_is_not_begun_once_it_is_back() {
    let mut bench = Bench::new();
    let mut gone = bench.attach();
    let mut other = bench.attach();
    let span = Span::new(0, 512);
    gone.send(b'W', false, span, &[1; 512]);
    other.send(b'W', false, span, &[2; 512]);
    drop(gone);
    let mut back = bench.attach();
    back.send(b'W', false, span, &[3; 512]);
    // That the first is gone is told before anything is asked.
    let told = bench.shell.events.pop_front();
    assert!(matches!(told, Some(Event::ClientGone { .. })), "{told:?}");
    for request in bench.requests(2) {
        bench.answer(request, Ok(()));
    }
    for client in [other, back] {
        let receiver = std::thread::spawn(move || {
            let mut client = client;
            (client.receive(), client)
        });
        let (outcome, client) = bench.join(receiver);
        assert!(!outcome.expect("it is answered").failed);
        assert!(bench.shell.events.is_empty(), "nobody else asks");
        drop(client);
        bench.turn();
        bench.shell.events.clear();
    }
}

#[test]
fn dropped_clients_hear_nothing_more() {
    let mut bench = Bench::new();
    let mut client = bench.attach();
    client.send(b'F', false, Span::new(0, 0), &[]);
    let request = bench.requests(1).remove(0);
    bench.answer(request, Err(RequestError::NotPrimary));
    bench.clients.drop_all(&mut bench.shell);
    bench.turn();
    assert_eq!(client.receive(), None);
    assert_eq!(bench.clients.len(), 0);
}
