use super::{Completion, Ring};
use crate::{Arena, Done, File, Operation, OwnedSlot, SLOT_BYTES_MAX, SendBatch, Zeroing};
use rustix::net::Shutdown;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

fn ring() -> Ring<u32> {
    let arena = Arena::new(&[4 * SLOT_BYTES_MAX]).expect("memory can be mapped");
    Ring::new(arena).expect("io_uring works here")
}

/// Turns until an operation ends.
fn wait(ring: &mut Ring<u32>) -> Completion<u32> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        if let Some(completion) = ring.next() {
            return completion;
        }
        ring.turn(SECOND).expect("the ring turns");
    }
    panic!("nothing has ended");
}

fn temporary(bytes: u64) -> (tempfile::NamedTempFile, File) {
    let named = tempfile::NamedTempFile::new().expect("a file can be made");
    named.as_file().set_len(bytes).expect("it can be extended");
    let descriptor: OwnedFd = named.reopen().expect("it can be opened").into();
    (named, File::from(descriptor))
}

fn sockets() -> (File, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
    ours.set_nonblocking(true).expect("it can be made so");
    (File::socket(ours.into()).expect("it is taken"), theirs)
}

#[test]
fn writes_are_read_back() {
    let mut ring = ring();
    let (_named, file) = temporary(1 << 20);
    let mut slot = ring.arena().take(0, 8192).expect("there is room");
    slot[..8192].fill(0xa5);
    let write = Operation::Write {
        file: file.clone(),
        offset: 4096,
        slot: slot.share(),
        range: 0..8192,
        durable: true,
    };
    ring.submit(write, 1);
    assert!(matches!(wait(&mut ring).done, Done::Write(Ok(()))));
    ring.submit(Operation::Sync { file: file.clone() }, 2);
    assert!(matches!(wait(&mut ring).done, Done::Sync(Ok(()))));
    let zero = Operation::Zero {
        file: file.clone(),
        offset: 8192,
        length: 4096,
        zeroing: Zeroing::Punch,
    };
    ring.submit(zero, 3);
    assert!(matches!(wait(&mut ring).done, Done::Zero(Ok(()))));
    let read = Operation::Read {
        file,
        offset: 0,
        slot: ring.arena().take(0, 16_384).expect("there is room"),
        range: 0..16_384,
    };
    ring.submit(read, 4);
    let Completion {
        token: 4,
        done: Done::Read(Ok(()), slot),
    } = wait(&mut ring)
    else {
        panic!("the read ends well");
    };
    let expected = |at: usize| if (4096..8192).contains(&at) { 0xa5 } else { 0 };
    assert!((0..16_384).all(|at| slot[at] == expected(at)));
}

/// Writes a slot full of the byte to the file's begin and reads it back; the slot that was read into.
fn write_and_read(ring: &mut Ring<u32>, file: &File, byte: u8) -> OwnedSlot {
    let mut slot = ring.arena().take(0, 4096).expect("there is room");
    slot.fill(byte);
    let write = Operation::Write {
        file: file.clone(),
        offset: 0,
        slot: slot.share(),
        range: 0..4096,
        durable: false,
    };
    ring.submit(write, 1);
    assert!(matches!(wait(ring).done, Done::Write(Ok(()))));
    let read = Operation::Read {
        file: file.clone(),
        offset: 0,
        slot: ring.arena().take(0, 4096).expect("there is room"),
        range: 0..4096,
    };
    ring.submit(read, 2);
    let Done::Read(Ok(()), slot) = wait(ring).done else {
        panic!("it cannot be read");
    };
    assert!(slot.iter().all(|read| *read == byte));
    slot
}

#[test]
fn memory_that_rests_is_given_back_and_used_again() {
    let mut ring = ring();
    let (_named, file) = temporary(1 << 20);
    assert!(!ring.is_arena_occupied());
    for byte in [1, 2, 3] {
        let slot = write_and_read(&mut ring, &file, byte);
        for _ in 0..3 {
            ring.give_back_unused();
            assert!(ring.is_arena_occupied(), "what a slot occupies stays");
        }
        assert!(slot.iter().all(|read| *read == byte));
        drop(slot);
        drop(write_and_read(&mut ring, &file, byte));
        ring.give_back_unused();
        assert!(ring.is_arena_occupied(), "it has just been used");
        ring.give_back_unused();
        assert!(!ring.is_arena_occupied());
        let slot = ring.arena().take(0, 4096).expect("there is room");
        assert!(slot.iter().all(|byte| *byte == 0), "it was not given back");
    }
}

#[test]
fn a_read_past_the_end_is_an_error() {
    let mut ring = ring();
    let (_named, file) = temporary(6000);
    let slot = ring.arena().take(0, 8192).expect("there is room");
    ring.submit(
        Operation::Read {
            file,
            offset: 0,
            slot,
            range: 0..8192,
        },
        1,
    );
    let Done::Read(Err(error), _) = wait(&mut ring).done else {
        panic!("the file is shorter");
    };
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_batch_larger_than_the_socket_takes_arrives_whole() {
    let mut ring = ring();
    let (socket, mut theirs) = sockets();
    let mut batch = SendBatch::default();
    let mut expected = Vec::new();
    for round in 0..600u32 {
        batch.bytes().extend_from_slice(&round.to_le_bytes());
        expected.extend_from_slice(&round.to_le_bytes());
        let mut slot = ring.arena().take(0, 4096).expect("there is room");
        slot.fill(round.to_le_bytes()[0]);
        expected.extend_from_slice(&slot[100..1500]);
        let shared = slot.share();
        batch.push_slot(shared, 100..1500);
        if round % 200 == 199 {
            assert_eq!(batch.len(), expected.len());
            ring.submit(
                Operation::Send {
                    socket: socket.clone(),
                    batch,
                },
                round,
            );
            let reader = theirs.try_clone().expect("it can be cloned");
            let length = expected.len();
            let thread = std::thread::spawn(move || {
                let mut received = vec![0; length];
                (&reader).read_exact(&mut received).map(|()| received)
            });
            let Done::Send(Ok(()), emptied) = wait(&mut ring).done else {
                panic!("all can be sent");
            };
            assert!(emptied.is_empty());
            let received = thread.join().expect("it reads").expect("all arrives");
            assert!(received == expected, "the bytes are those sent");
            (batch, expected) = (emptied, Vec::new());
        }
    }
    assert_eq!(ring.arena().free_bytes(0), 4 * SLOT_BYTES_MAX);
    drop(socket);
    ring.turn(Some(Duration::ZERO)).expect("the ring turns");
    assert_eq!(theirs.read(&mut [0; 8]).expect("it is closed"), 0);
}

#[test]
fn more_pieces_than_one_call_takes_are_continued() {
    let mut ring = ring();
    let (socket, mut theirs) = sockets();
    let slot = ring.arena().take(0, 4096).expect("there is room").share();
    let mut batch = SendBatch::default();
    for _ in 0..3000 {
        batch.push_slot(slot.clone(), 0..3);
        batch.bytes().extend_from_slice(b"x");
    }
    ring.submit(Operation::Send { socket, batch }, 1);
    let thread = std::thread::spawn(move || {
        let mut received = vec![0; 12_000];
        theirs.read_exact(&mut received).map(|()| received)
    });
    assert!(matches!(wait(&mut ring).done, Done::Send(Ok(()), _)));
    let received = thread.join().expect("it reads").expect("all arrives");
    assert_eq!(received.iter().filter(|byte| **byte == b'x').count(), 3000);
}

#[test]
fn what_has_come_is_received() {
    let mut ring = ring();
    let (socket, mut theirs) = sockets();
    theirs.write_all(b"hello").expect("it takes five bytes");
    let receive = Operation::Receive {
        socket: socket.clone(),
        buffer: vec![0; 64],
        range: 8..64,
    };
    ring.submit(receive, 1);
    let Done::Receive(Ok(5), buffer) = wait(&mut ring).done else {
        panic!("five bytes have come");
    };
    assert_eq!(&buffer[8..13], b"hello");
    let slot = ring.arena().take(0, 4096).expect("there is room");
    ring.submit(
        Operation::ReceiveSlot {
            socket,
            slot,
            range: 10..20,
        },
        2,
    );
    ring.turn(Some(Duration::ZERO)).expect("the ring turns");
    theirs.write_all(b"01234").expect("it takes five bytes");
    ring.turn(Some(Duration::from_millis(20)))
        .expect("the ring turns");
    theirs.write_all(b"56789").expect("it takes five bytes");
    let Done::ReceiveSlot(Ok(10), slot) = wait(&mut ring).done else {
        panic!("ten bytes have come");
    };
    assert_eq!(&slot[10..20], b"0123456789");
}

#[test]
fn a_cancelled_operation_keeps_its_memory_until_it_ends() {
    let mut ring = ring();
    let (socket, _theirs) = sockets();
    let free = ring.arena().free_bytes(0);
    for begun in [false, true] {
        let slot = ring.arena().take(0, 4096).expect("there is room");
        let operation = Operation::ReceiveSlot {
            socket: socket.clone(),
            slot,
            range: 0..4096,
        };
        let key = ring.submit(operation, 7);
        if begun {
            ring.turn(Some(Duration::ZERO)).expect("the ring turns");
        }
        ring.cancel(key);
        ring.cancel(key);
        assert!(ring.arena().free_bytes(0) < free);
        let Completion {
            token: 7,
            done: Done::ReceiveSlot(Err(error), _),
        } = wait(&mut ring)
        else {
            panic!("it ends as cancelled");
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        ring.cancel(key);
        assert_eq!(ring.in_flight(), 0);
    }
    assert_eq!(ring.arena().free_bytes(0), free);
}

#[test]
fn shutting_a_socket_down_ends_what_waits_for_it() {
    let mut ring = ring();
    let (socket, _theirs) = sockets();
    let operation = Operation::Receive {
        socket: socket.clone(),
        buffer: vec![0; 8],
        range: 0..8,
    };
    ring.submit(operation, 1);
    ring.turn(Some(Duration::ZERO)).expect("the ring turns");
    socket.shut_down(Shutdown::Both);
    assert!(matches!(wait(&mut ring).done, Done::Receive(Ok(0), _)));
}

#[test]
fn a_ring_dropped_in_flight_ends_everything_before_the_memory_goes() {
    let mut ring = ring();
    let arena = ring.arena().clone();
    let (socket, theirs) = sockets();
    let (_named, file) = temporary(4 << 20);
    for offset in (0..64).map(|block| block * 65_536) {
        let slot = arena.take(0, 4096).expect("there is room");
        let receive = Operation::ReceiveSlot {
            socket: socket.clone(),
            slot,
            range: 0..4096,
        };
        ring.submit(receive, 0);
        let slot = arena.take(0, 4096).expect("there is room").share();
        let write = Operation::Write {
            file: file.clone(),
            offset,
            slot,
            range: 0..4096,
            durable: true,
        };
        ring.submit(write, 0);
    }
    ring.turn(Some(Duration::ZERO)).expect("the ring turns");
    drop((socket, file));
    drop(ring);
    assert_eq!(arena.free_bytes(0), 4 * SLOT_BYTES_MAX);
    drop(theirs);
}

#[test]
fn more_operations_than_the_kernel_takes_at_once_all_end() {
    let mut ring = ring();
    let (_named, file) = temporary(4096);
    let slot = ring.arena().take(0, 4096).expect("there is room").share();
    const COUNT: u32 = 20_000;
    for token in 0..COUNT {
        let write = Operation::Write {
            file: file.clone(),
            offset: 0,
            slot: slot.clone(),
            range: 0..512,
            durable: false,
        };
        ring.submit(write, token);
    }
    let mut ended = vec![false; COUNT as usize];
    for _ in 0..COUNT {
        let completion = wait(&mut ring);
        assert!(matches!(completion.done, Done::Write(Ok(()))));
        assert!(!std::mem::replace(
            &mut ended[completion.token as usize],
            true
        ));
    }
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn another_thread_wakes_a_ring_that_waits() {
    let mut ring = ring();
    for _ in 0..3 {
        let waker = ring.waker();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        let begun = Instant::now();
        while !ring.take_woken() {
            assert!(begun.elapsed() < Duration::from_secs(4), "it was woken");
            ring.turn(Some(Duration::from_secs(5)))
                .expect("the ring turns");
            assert!(ring.next().is_none());
        }
        thread.join().expect("it wakes");
    }
}

#[test]
fn a_turn_ends_with_its_timeout() {
    let mut ring = ring();
    let begun = Instant::now();
    ring.turn(Some(Duration::from_millis(30)))
        .expect("the ring turns");
    assert!(begun.elapsed() >= Duration::from_millis(29));
    assert!(ring.next().is_none());
}

#[test]
fn what_no_operation_uses_is_closed_at_once() {
    let mut ring = ring();
    let (socket, mut theirs) = sockets();
    let mut batch = SendBatch::default();
    batch.bytes().extend_from_slice(b"ping");
    ring.submit(Operation::Send { socket, batch }, 1);
    assert!(matches!(wait(&mut ring).done, Done::Send(Ok(()), _)));
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).expect("the stream ends");
    assert_eq!(received, b"ping");
}

#[test]
#[should_panic(expected = "is no part of")]
fn a_range_outside_its_buffer_is_refused() {
    let mut ring = ring();
    let (socket, _theirs) = sockets();
    ring.submit(
        Operation::Receive {
            socket,
            buffer: vec![0; 8],
            range: 0..9,
        },
        0,
    );
}
