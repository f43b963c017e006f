//! The hosts that other tests use, and the client that goes on where it is served: tried on themselves.

use e2e::foreign::MemoryServer;
use e2e::hosts::{Host, Hosts};
use e2e::journal::Journal;
use e2e::load::Plan;
use e2e::nbd::{Client, Request};
use e2e::roving::Roving;
use e2e::stamp::Content;
use e2e::{PATIENCE, wait_for};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

const QUIET: Duration = Duration::from_millis(200);
/// 64 MiB.
const BLOCKS: u64 = 16 << 10;

/// Whether a datagram gets from one host to another.
fn reaches(from: &Host, to: &Host) -> bool {
    let receiver = to.inside(|| UdpSocket::bind(to.at(9000)).expect("a port"));
    receiver.set_read_timeout(Some(QUIET)).expect("a time");
    from.inside(|| {
        let sender = UdpSocket::bind(from.at(9001)).expect("a port");
        // The first may go for the address to be resolved.
        for _ in 0..3 {
            let _ = sender.send_to(b"here", to.at(9000));
        }
    });
    receiver.recv(&mut [0; 16]).is_ok()
}

#[test]
fn what_is_cut_is_cut_in_one_direction_or_in_both() {
    let Some(hosts) = Hosts::up(&["alpha", "beta", "gamma"]) else {
        return;
    };
    let [alpha, beta, gamma] = hosts.all() else {
        panic!("three hosts");
    };
    let ways = || {
        let pairs = [(alpha, beta), (beta, alpha), (alpha, gamma), (gamma, beta)];
        pairs.map(|(from, to)| reaches(from, to))
    };
    assert_eq!(ways(), [true; 4]);
    hosts.cut_one_way(0, 1);
    assert_eq!(ways(), [false, true, true, true]);
    hosts.cut(1, 2);
    assert_eq!(ways(), [false, true, true, false]);
    hosts.mend();
    assert_eq!(ways(), [true; 4]);
}

#[test]
fn a_slow_host_is_slow() {
    let Some(hosts) = Hosts::up(&["alpha", "beta"]) else {
        return;
    };
    let [alpha, beta] = hosts.all() else {
        panic!("two hosts");
    };
    let listener = beta.inside(|| TcpListener::bind(beta.at(9000)).expect("a port"));
    let time_of = |bytes: usize| {
        let mut sender = alpha.inside(|| TcpStream::connect(beta.at(9000)).expect("connects"));
        let (mut receiver, _) = listener.accept().expect("accepts");
        let begin = Instant::now();
        let sending = std::thread::spawn(move || sender.write_all(&vec![7; bytes]));
        receiver.read_exact(&mut vec![0; bytes]).expect("receives");
        sending.join().expect("ends").expect("sends");
        begin.elapsed()
    };
    let fast = time_of(4 << 20);
    hosts.limit(0, 40);
    let slow = time_of(4 << 20);
    // 33 Mbit at 40 Mbit/s.
    println!("{fast:?} without a limit, {slow:?} with it");
    assert!(slow > Duration::from_millis(600) && slow > fast, "{slow:?}");
}

#[test]
fn hosts_go_when_a_test_panics_and_when_it_was_killed() {
    let Some(hosts) = Hosts::up(&["alpha"]) else {
        return;
    };
    let names = hosts.namespaces();
    assert_eq!(names.len(), 2, "a switch and a host: {names:?}");
    let (sender, told) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let hosts = Hosts::up(&["beta"]).expect("as before");
        sender.send(hosts.namespaces()).expect("it is heard");
        panic!("as planned");
    });
    panicked.join().expect_err("it panics");
    let is_there = |name: &String| Path::new("/run/netns").join(name).exists();
    let others = told.recv().expect("it was told");
    assert_eq!(others.len(), 2, "{others:?}");
    assert!(!others.iter().any(is_there), "{others:?}");
    assert!(names.iter().all(is_there), "{names:?}");

    // No process has this number: the most that Linux has is 2^22.
    let left = "twinblk-e2e-99999999-0-alpha";
    e2e::foreign::tool("ip", &["netns", "add", left]).success();
    let mut process = std::process::Command::new("nsenter");
    process
        .arg(format!("--net=/run/netns/{left}"))
        .args(["sleep", "60"]);
    let mut process = process.spawn().expect("it starts");
    wait_for("the process to be there", PATIENCE, || {
        let processes = e2e::foreign::tool("ip", &["netns", "pids", left]).success();
        (!processes.is_empty()).then_some(())
    });
    drop(Hosts::up(&["beta"]).expect("as before"));
    assert!(!Path::new("/run/netns").join(left).exists());
    let status = process.wait().expect("it is this test's child");
    assert!(!status.success(), "it was killed: {status}");
    drop(hosts);
    assert!(!names.iter().any(is_there), "{names:?}");
}

fn servers(folders: &[tempfile::TempDir]) -> Vec<MemoryServer> {
    let start = |folder: &tempfile::TempDir| MemoryServer::start(folder.path(), "64M");
    folders.iter().map(start).collect()
}

/// Servers that know nothing of each other stand for primaries that both serve: it is found.
#[test]
fn two_that_serve_at_once_are_found() {
    let folders = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
    let servers = servers(&folders);
    let endpoints: Vec<_> = servers.iter().map(MemoryServer::endpoint).collect();
    let plan = Plan {
        connections: 1,
        depth: 4,
        ..Plan::default()
    };
    let traces = [0, 1].map(|first| {
        let journal = Journal::new(1, BLOCKS);
        let load = Roving::start(endpoints.clone(), first, "", journal, &plan).expect("it starts");
        load.wait_for_answers(first, 200);
        load.stop()
    });
    for trace in &traces {
        assert_eq!(trace.assert_one_at_a_time(), []);
    }
    // One after the other they are no overlap; the first once more behind the second is.
    let mut answers = [&traces[0].answers[..], &traces[1].answers[..]].concat();
    assert_eq!(
        e2e::timeline::handovers(&answers).map(|found| found.len()),
        Ok(1)
    );
    let mut late = answers[0];
    (late.after, late.by) = (e2e::timeline::Stamp::now(), e2e::timeline::Stamp::now());
    answers.push(late);
    let overlap = e2e::timeline::handovers(&answers).expect_err("it overlaps");
    assert_eq!((overlap.late, overlap.early.node), (late, 1));
}

/// A server that stops answering is left for another; when it goes on, it answers what it must not, and has lost
/// what the other took.
#[test]
fn one_that_goes_on_after_it_was_left_is_found() {
    let folders = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
    let servers = servers(&folders);
    let endpoints: Vec<_> = servers.iter().map(MemoryServer::endpoint).collect();
    let plan = Plan {
        connections: 2,
        depth: 8,
        reads_percent: 0,
        zeroes_percent: 0,
        pause: Duration::from_millis(1),
        ..Plan::default()
    };
    let journal = Journal::new(1, BLOCKS);
    let load = Roving::start(endpoints.clone(), 0, "", journal, &plan).expect("it starts");
    load.wait_for_answers(0, 200);
    servers[0].signal(rustix::process::Signal::STOP);
    load.wait_for_answers(1, 200);
    servers[0].signal(rustix::process::Signal::CONT);
    load.wait_for_answers(0, 40);
    load.wait_for_answers(1, 50);
    let trace = load.stop();
    assert!(trace.in_vain > 0, "it was asked after it was left");
    assert!(!trace.wrongly_answered.is_empty(), "and answered");
    let overlap = e2e::timeline::handovers(&trace.answers).expect_err("both answered");
    assert_eq!((overlap.late.node, overlap.early.node), (0, 1));
    assert!(trace.longest_gap() >= Duration::from_millis(250));

    // What was acknowledged by the first is not on the second, and what it was asked in vain is on the first.
    for endpoint in &endpoints {
        let mut client = Client::open(endpoint, "").expect("it opens");
        let image = e2e::verdict::Image::of_volume(&mut client).expect("it reads");
        assert!(!image.judge(&trace.journal).is_empty());
    }
}

#[test]
fn a_value_that_was_read_must_not_go_back() {
    let mut journal = Journal::new(1, 4);
    let mut bytes = vec![0; e2e::BLOCK_BYTES];
    journal.issue_write(2, &mut bytes);
    let read = Content::of(&bytes);
    assert!(
        journal.judge(2, Content::Zero).is_ok(),
        "it may not have happened"
    );
    journal.observe(2, read);
    assert!(journal.judge(2, read).is_ok());
    assert!(
        journal.judge(2, Content::Zero).is_err(),
        "it was seen to have happened"
    );
    journal.issue_in_vain(3, &mut bytes);
    assert!(
        journal.judge(3, Content::of(&bytes)).is_err(),
        "nobody served it"
    );
    assert!(journal.judge(3, Content::Zero).is_ok());
    let folder = tempfile::tempdir().expect("a folder");
    let server = MemoryServer::start(folder.path(), "16K");
    let mut client = Client::open(&server.endpoint(), "").expect("it opens");
    let (offset, data, fua) = (3 * e2e::BLOCK_BYTES as u64, &bytes[..], false);
    client
        .call(Request::Write { offset, data, fua })
        .expect("a write");
    let image = e2e::verdict::Image::of_volume(&mut client).expect("it reads");
    let blocks: Vec<u64> = image
        .judge(&journal)
        .iter()
        .map(|finding| finding.block)
        .collect();
    assert_eq!(blocks, [2, 3], "block 2 was never written there");
}
