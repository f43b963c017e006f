//! A request loop on our ring beside the same loop on tokio-uring: a client keeps 32 writes of 4 KiB in
//! flight over a unix socket, the server copies each payload once and replies.
#![forbid(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ring::{Arena, Done, Operation, Ring};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const REQUEST_BYTES: usize = 28 + 4096;
const REPLY_BYTES: usize = 16;
const RECEIVE_BYTES: usize = 64 << 10;
const DEPTH: u64 = 32;

/// Turns what has been received into replies.
struct Store {
    blocks: Vec<u8>,
    pending_bytes: usize,
}

impl Store {
    fn new() -> Store {
        Store {
            blocks: vec![0; RECEIVE_BYTES],
            pending_bytes: 0,
        }
    }

    /// Copies the bytes, and says how many bytes of replies they call for.
    fn take(&mut self, received: &[u8]) -> usize {
        self.blocks[..received.len()].copy_from_slice(received);
        self.pending_bytes += received.len();
        let requests = self.pending_bytes / REQUEST_BYTES;
        self.pending_bytes %= REQUEST_BYTES;
        requests * REPLY_BYTES
    }
}

fn serve_on_ring(socket: UnixStream) {
    let arena = Arena::new(&[1 << 20]).expect("an arena");
    let mut ring: Ring<()> = Ring::new(arena).expect("a ring");
    let socket = ring::File::socket(OwnedFd::from(socket)).expect("the socket is taken");
    let mut store = Store::new();
    let receive = |buffer: Vec<u8>| Operation::Receive {
        socket: socket.clone(),
        range: 0..buffer.len(),
        buffer,
    };
    ring.submit(receive(vec![0; RECEIVE_BYTES]), ());
    // One send at a time: replies gather in the other batch meanwhile.
    let mut gathering = ring::SendBatch::default();
    let mut idle = Some(ring::SendBatch::default());
    loop {
        ring.turn(None).expect("the ring turns");
        while let Some(completion) = ring.next() {
            match completion.done {
                Done::Receive(Ok(0), _) => return,
                Done::Receive(result, buffer) => {
                    let length = result.expect("the client is there");
                    let replies = store.take(&buffer[..length]);
                    let length = gathering.len() + replies;
                    gathering.bytes().resize(length, 0);
                    ring.submit(receive(buffer), ());
                }
                Done::Send(result, batch) => {
                    result.expect("the client is there");
                    idle = Some(batch);
                }
                _ => {}
            }
        }
        if !gathering.is_empty()
            && let Some(next) = idle.take()
        {
            let batch = std::mem::replace(&mut gathering, next);
            ring.submit(
                Operation::Send {
                    socket: socket.clone(),
                    batch,
                },
                (),
            );
        }
    }
}

fn serve_on_tokio(socket: UnixStream) {
    tokio_uring::start(async {
        let stream = tokio_uring::net::UnixStream::from_std(socket);
        let mut store = Store::new();
        let (mut buffer, mut replies) = (vec![0; RECEIVE_BYTES], Vec::new());
        loop {
            let (result, returned) = stream.read(buffer).await;
            buffer = returned;
            let length = result.expect("the client is there");
            if length == 0 {
                return;
            }
            replies.resize(store.take(&buffer[..length]), 0u8);
            let (result, returned) = stream.write_all(replies).await;
            result.expect("the client is there");
            replies = returned;
        }
    });
}

/// Sends so many requests with 32 in flight, and says how long all replies took.
fn drive(client: &mut UnixStream, requests: u64) -> Duration {
    let request = vec![0x5a; REQUEST_BYTES];
    let mut replies = vec![0; RECEIVE_BYTES];
    let begin = Instant::now();
    let (mut sent, mut received_bytes) = (0, 0);
    let total_bytes = requests * REPLY_BYTES as u64;
    while received_bytes < total_bytes {
        while sent < requests && sent - received_bytes / (REPLY_BYTES as u64) < DEPTH {
            client.write_all(&request).expect("the server is there");
            sent += 1;
        }
        received_bytes += client.read(&mut replies).expect("the server is there") as u64;
    }
    begin.elapsed()
}

fn runtimes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request loop, 4 KiB writes, QD32");
    group.throughput(Throughput::Elements(1));
    for (name, serve) in [
        ("our ring", serve_on_ring as fn(UnixStream)),
        ("tokio-uring", serve_on_tokio),
    ] {
        let (mut client, server) = UnixStream::pair().expect("a socket pair");
        let thread = std::thread::spawn(move || serve(server));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|requests| drive(&mut client, requests));
        });
        drop(client);
        thread.join().expect("the server ends with its client");
    }
    group.finish();
}

criterion_group!(benches, runtimes);
criterion_main!(benches);
