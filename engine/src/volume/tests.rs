use crate::frontend::{Allocation, Next, Parsed, Session};
use crate::testing::{SIZE, TestClient, TestReplica, creation, link, noise, options, slot};
use crate::volume::{Options, Volume, VolumeEvent};
use format::types::Span;
use replica::command::{Answer, Command};
use replica::event::RequestError;
use replica::status::{ConnectionState, ReplicationState, Role};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn single() -> (TestReplica, TestClient) {
    let mut replica = TestReplica::create(0, 1);
    replica.open();
    replica.wait_serving();
    let client = TestClient::attach(replica.volume());
    (replica, client)
}

fn pair() -> (TestReplica, TestReplica) {
    let (mut one, mut other) = (TestReplica::create(0, 2), TestReplica::create(1, 2));
    one.open();
    other.open();
    link(&one, &other);
    wait_in_sync(&one);
    (one, other)
}

fn wait_in_sync(primary: &TestReplica) {
    primary.wait("mirroring", |status| {
        let in_sync = status.replica.configuration.in_sync.len() == 2;
        let peer = &status.replica.peers[0];
        let established = peer.replication == ReplicationState::Established;
        in_sync && established && peer.out_of_sync_bytes == 0 && status.refusal.is_none()
    });
}

#[test]
fn what_is_written_is_read() {
    let (_replica, mut client) = single();
    let mut model = vec![0u8; 8 << 20];
    let writes = [
        (0u64, 4096usize),
        (4096, 512),
        (10_000, 3),
        (8191, 2),
        (100_000, 70_000),
        (1 << 20, 1 << 20),
        ((2 << 20) + 77, (3 << 20) + 1),
        (4096, 4096 * 63),
    ];
    for (seed, (offset, length)) in (1..).zip(writes) {
        let data = noise(seed, length);
        client.write(offset, &data);
        let offset = usize::try_from(offset).expect("small");
        model[offset..offset + length].copy_from_slice(&data);
    }
    assert!(client.read(0, 8 << 20) == model);
    for (offset, length) in [(1, 1), (4095, 2), (100_001, 65_536), (5_000_000, 1_000_001)] {
        let read = client.read(offset, length);
        let offset = usize::try_from(offset).expect("small");
        assert!(read == model[offset..offset + read.len()]);
    }
}

#[test]
fn zeroes_and_holes() {
    let (_replica, mut client) = single();
    client.write(0, &noise(1, 1 << 20));
    client.zero(Span::new(5000, 20_000), true);
    client.zero(Span::new(40_960, 8192), false);
    client.zero(Span::new(60_000, 10), true);
    let mut model = noise(1, 1 << 20);
    model[5000..25_000].fill(0);
    model[40_960..49_152].fill(0);
    model[60_000..60_010].fill(0);
    assert!(client.read(0, 1 << 20) == model);
    client.flush();
    let pieces = client.extents(Span::new(0, SIZE));
    assert_eq!(pieces.iter().map(|(length, _)| length).sum::<u64>(), SIZE);
    let holes: u64 = pieces
        .iter()
        .filter(|(_, hole)| *hole)
        .map(|(length, _)| length)
        .sum();
    assert!(holes >= SIZE - (1 << 20));
    client.zero(Span::new(0, SIZE), true);
    assert_eq!(client.extents(Span::new(0, SIZE)), [(SIZE, true)]);
}

#[test]
fn a_stopped_volume_opens_again_with_its_data() {
    let (mut replica, mut client) = single();
    client.write(12_345, &noise(5, 100_000));
    client.say_goodbye();
    assert_eq!(client.receive(), None);
    replica.stop();
    replica.open();
    replica.wait_serving();
    let mut client = TestClient::attach(replica.volume());
    assert!(client.read(12_345, 100_000) == noise(5, 100_000));
    let status = replica.status();
    assert_eq!(
        (status.io.reads, status.io.read_bytes, status.io.clients),
        (1, 100_000, 1)
    );
}

#[test]
fn a_volume_that_has_ended_answers_all_the_same() {
    let (mut replica, _client) = single();
    let volume = replica.volume().clone();
    replica.stop();
    let (sender, receiver) = std::sync::mpsc::channel();
    let other = sender.clone();
    volume.command(Command::Demote, move |answer| {
        sender.send(answer.is_err()).expect("heard");
    });
    volume.status(move |status| {
        other.send(status.is_none()).expect("heard");
    });
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [true, true]);
    volume.join();
}

#[test]
fn many_requests_at_once_all_end() {
    let (_replica, mut client) = single();
    let mut model = vec![0u8; 4 << 20];
    for round in 0..20u64 {
        let mut ids = Vec::new();
        for index in 0..100u64 {
            let block = (round * 7919 + index * 104_729) % 1024;
            let data = noise(round * 1000 + index, 4096);
            ids.push(client.send(b'W', false, Span::new(block * 4096, 4096), &data));
            let at = usize::try_from(block * 4096).expect("small");
            model[at..at + 4096].copy_from_slice(&data);
        }
        while !ids.is_empty() {
            let outcome = client.receive().expect("the server answers");
            assert!(!outcome.failed);
            ids.retain(|id| *id != outcome.id);
        }
    }
    assert!(client.read(0, 4 << 20) == model);
}

#[test]
fn a_small_arena_serves_many_greedy_clients() {
    let mut replica = TestReplica::create(0, 1);
    replica.open_with(Options {
        arena_bytes: 1 << 20,
        ..options()
    });
    replica.wait_serving();
    let clients: Vec<_> = (0..8u64)
        .map(|number| {
            let mut client = TestClient::attach(replica.volume());
            std::thread::spawn(move || {
                let base = number * (8 << 20);
                for round in 0..3 {
                    let data = noise(number * 10 + round, (4 << 20) - 100);
                    client.write(base + 50, &data);
                    assert!(client.read(base + 50, data.len() as u64) == data);
                    client.zero(Span::new(base + 7, 1_000_000), round % 2 == 0);
                    assert!(
                        client
                            .read(base + 7, 1_000_000)
                            .iter()
                            .all(|byte| *byte == 0)
                    );
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every client is served");
    }
}

#[test]
fn a_client_that_takes_nothing_keeps_nobody_from_writing() {
    let mut replica = TestReplica::create(0, 1);
    replica.open_with(Options {
        arena_bytes: 1 << 20,
        ..options()
    });
    replica.wait_serving();
    let mut lazy = TestClient::attach(replica.volume());
    for _ in 0..20 {
        lazy.send(b'R', false, Span::new(0, 1 << 20), &[]);
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut busy = TestClient::attach(replica.volume());
    for round in 0..50 {
        busy.write(round * 5000 + 3, &noise(round, 5000));
    }
    for _ in 0..20 {
        assert!(!lazy.receive().expect("it is served in the end").failed);
    }
}

#[test]
fn a_client_that_goes_in_the_middle_leaves_nothing_behind() {
    let (replica, mut client) = single();
    for round in 0..50u64 {
        let mut going = TestClient::attach(replica.volume());
        for index in 0..20 {
            let span = Span::new((round * 20 + index) * 8192, 8192);
            going.send(b'W', false, span, &noise(index, 8192));
            going.send(b'R', false, Span::new(0, 100_000), &[]);
        }
        let stream = going.stream();
        stream.shutdown(Shutdown::Both).expect("it is open");
    }
    client.write(0, &noise(3, 4096));
    assert!(client.read(0, 4096) == noise(3, 4096));
    replica.wait("end of the others", |status| status.io.clients == 1);
    drop(client);
}

#[test]
fn a_broken_protocol_ends_the_connection() {
    let (replica, mut client) = single();
    client.send(b'?', false, Span::new(0, 0), &[]);
    assert_eq!(client.receive(), None);
    replica.wait("end of the client", |status| status.io.clients == 0);
}

#[test]
fn a_refused_payload_is_thrown_away() {
    let (_replica, mut client) = single();
    let span = Span::new(SIZE - 4096, 300_000);
    client.send(b'W', false, span, &noise(1, 300_000));
    assert!(client.receive().expect("the server answers").failed);
    client.write(0, &noise(2, 4096));
    assert!(client.read(0, 4096) == noise(2, 4096));
}

#[test]
fn a_second_opening_is_refused() {
    let (replica, _client) = single();
    let error = Volume::open(&replica.paths(), options(), |_| {});
    let error = error.expect_err("it is open already");
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn two_replicas_hold_the_same() {
    let (mut one, mut other) = pair();
    let mut client = TestClient::attach(one.volume());
    for round in 0..200u64 {
        let length = usize::try_from(1 + round * 977 % 300_000).expect("small");
        client.write(round * 310_007 % (SIZE - 300_000), &noise(round, length));
        if round % 50 == 0 {
            client.zero(Span::new(round * 10_000 + 5, 500_000), true);
            client.flush();
        }
    }
    assert_eq!(other.status().replica.role, Role::Secondary);
    let refused = TestClient::attach(other.volume()).receive();
    assert_eq!(refused, None);
    one.stop();
    other.stop();
    assert!(one.data() == other.data());
    assert!(one.data().iter().any(|byte| *byte != 0));
}

#[test]
fn a_link_that_breaks_comes_back_and_everything_is_equal() {
    let (mut one, mut other) = pair();
    let mut client = TestClient::attach(one.volume());
    client.write(0, &noise(1, 1 << 20));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets can be made");
    // A link that nobody answers on takes the place of the good one.
    one.volume().attach_peer(slot(1), ours.into(), Vec::new());
    let lost = |replica: &TestReplica| {
        let events = replica.events.as_ref().expect("it was opened");
        loop {
            let event = events
                .recv_timeout(Duration::from_secs(20))
                .expect("the link is lost");
            if let VolumeEvent::LinkLost { peer, retry, .. } = event {
                return (peer, retry);
            }
        }
    };
    assert_eq!(lost(&other), (slot(0), true));
    assert_eq!(lost(&one), (slot(1), true));
    drop(theirs);
    one.wait("loneliness", |status| {
        status.replica.configuration.in_sync.len() == 1
    });
    for round in 0..100u64 {
        client.write(round * 500_000 + 1, &noise(round, 4000));
    }
    link(&one, &other);
    for round in 100..120u64 {
        client.write(round * 500_000 + 1, &noise(round, 4000));
    }
    wait_in_sync(&one);
    assert_eq!(
        other.status().replica.peers[0].connection,
        ConnectionState::Connected
    );
    one.stop();
    other.stop();
    assert!(one.data() == other.data());
}

#[test]
fn garbage_on_a_link_ends_the_session_only() {
    let (one, _other) = pair();
    let mut client = TestClient::attach(one.volume());
    client.write(0, &noise(1, 4096));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets can be made");
    one.volume()
        .attach_peer(slot(1), ours.into(), noise(1, 1000));
    drop(theirs);
    client.write(0, &noise(2, 4096));
    assert!(client.read(0, 4096) == noise(2, 4096));
}

#[test]
fn a_volume_grows_on_both() {
    let (mut one, mut other) = pair();
    let mut client = TestClient::attach(one.volume());
    let grown = 2 * SIZE;
    for replica in [&one, &other] {
        Volume::extend(&replica.paths(), grown).expect("it can be extended");
    }
    for replica in [&other, &one] {
        let answer = replica.command(Command::Grow { size_bytes: grown });
        assert_eq!(answer, Ok(Answer::Done));
    }
    client.write(grown - 100, &noise(1, 100));
    assert!(client.read(grown - 100, 100) == noise(1, 100));
    one.stop();
    other.stop();
    assert!(one.data() == other.data());
    one.open();
    assert_eq!(one.status().replica.size_bytes, grown);
}

#[test]
fn a_replica_with_lost_metadata_is_brought_up_to_date() {
    let (one, mut other) = pair();
    let mut client = TestClient::attach(one.volume());
    for round in 0..20u64 {
        client.write(round * 1_000_000, &noise(round, 100_000));
    }
    other.stop();
    one.wait("loneliness", |status| {
        status.replica.configuration.in_sync.len() == 1
    });
    client.write(5_000_000, &noise(77, 100_000));
    let paths = other.paths();
    std::fs::remove_file(&paths.meta).expect("it can be removed");
    Volume::adopt(&paths, &creation(1, 2), false).expect("it can be adopted");
    other.open();
    link(&one, &other);
    wait_in_sync(&one);
    let receipt = one
        .status()
        .replica
        .last_receipt
        .expect("a resync has ended");
    assert!(receipt.bytes_moved < 1 << 20, "{receipt:?}");
    let mut one = one;
    one.stop();
    other.stop();
    assert!(one.data() == other.data());
}

#[test]
fn a_bug_is_told_and_nobody_waits_for_ever() {
    struct Broken;
    impl Session for Broken {
        fn parse(&mut self, _: &[u8], _: u64, _: &mut Vec<u8>) -> Parsed {
            panic!("by intent");
        }
        fn data(&mut self, _: u32, _: Span, _: &mut Vec<u8>) {}
        fn done(&mut self, _: u32, _: Result<(), RequestError>, _: &mut Vec<u8>) -> Next {
            Next::Continue
        }
        fn extents(&mut self, _: u32, _: &[Allocation], _: &mut Vec<u8>) {}
        fn shut_down(&mut self) {}
    }
    let (replica, mut client) = single();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets can be made");
    let volume = replica.volume();
    volume.attach_client(theirs.into(), vec![1], Box::new(Broken));
    let events = replica.events.as_ref().expect("it was opened");
    let told = std::iter::from_fn(|| events.recv_timeout(Duration::from_secs(20)).ok());
    let failed = told.into_iter().find_map(|event| match event {
        VolumeEvent::Failed(reason) => Some(reason),
        _ => None,
    });
    assert!(failed.expect("it is told").contains("by intent"));
    assert!(replica.command(Command::Stop).is_err());
    assert_eq!(client.receive(), None);
    volume.join();
    drop(ours);
}

#[test]
fn links_that_break_all_the_time_lose_nothing() {
    let (mut one, mut other) = pair();
    let volume = one.volume().clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let mut client = TestClient::attach(&volume);
        let mut model = vec![0u8; 16 << 20];
        for round in 0u64.. {
            if stopped.load(Ordering::Relaxed) {
                assert!(client.read(0, 16 << 20) == model);
                return round;
            }
            let length = usize::try_from(1 + round * 7919 % 60_000).expect("small");
            let offset = usize::try_from(round * 104_729 % (16_000_000)).expect("small");
            let data = noise(round, length);
            client.write(offset as u64, &data);
            model[offset..offset + length].copy_from_slice(&data);
        }
        0
    });
    for round in 0..12u64 {
        std::thread::sleep(Duration::from_millis(20 + round * 31 % 90));
        link(&one, &other);
    }
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().expect("nothing is lost") > 0);
    wait_in_sync(&one);
    one.stop();
    other.stop();
    assert!(one.data() == other.data());
}
