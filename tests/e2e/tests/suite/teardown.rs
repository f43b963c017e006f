//! What the kernel holds back of a killed daemon: its clients' sockets, its files and their locks.

use e2e::checks::assert_holds;
use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::rounds;
use std::time::{Duration, Instant};

/// How soon a client must see its connection end.
const NOTICED_MAX: Duration = Duration::from_secs(2);
/// How soon a successor must have opened the files and serve.
const SERVED_MAX: Duration = Duration::from_secs(4);

fn single() -> Cluster {
    let mut cluster = Cluster::prepared(&["alpha"]);
    cluster.start();
    cluster.create("main", "256M");
    cluster
}

/// Kills the daemon under load and starts it again.
fn kill_and_restart(cluster: &mut Cluster, journal: Journal, seed: u64) -> Journal {
    let plan = Plan {
        seed,
        ..Plan::default()
    };
    let load = Load::start(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    let load = load.expect("it serves");
    load.wait_for_acknowledged(2_000);
    cluster.alpha().kill();
    let killed = Instant::now();
    let client = std::thread::spawn(move || (load.wait(), killed.elapsed()));
    cluster.alpha().start();
    let mut successor = cluster.nodes[0].open("main");
    let served = killed.elapsed();
    let (report, noticed) = client.join().expect("the connections end");
    report.assert_reads();
    println!("seed {seed}: noticed after {noticed:?}, served again after {served:?}");
    assert!(noticed < NOTICED_MAX, "noticed after {noticed:?}");
    assert!(served < SERVED_MAX, "served again after {served:?}");
    let mut journal = report.journal;
    assert_holds(&mut successor, &journal).settle(&mut journal);
    journal
}

#[test]
fn a_killed_daemon_lets_go_of_everything_at_once() {
    let mut cluster = single();
    let mut journal = Journal::new(1, 64 << 10);
    for round in 0..rounds(3, 30) {
        journal = kill_and_restart(&mut cluster, journal, round as u64);
    }
}

/// Freeing a file in many pieces takes a file system long where it tells the disk of each. What a killed
/// process's ring lets go of last is freed by one worker of the kernel for the whole machine, and every
/// socket that another killed daemon's ring lets go of waits behind it.
#[test]
fn removing_one_daemon_s_files_does_not_hold_another_up() {
    let mut cluster = single();
    let mut journal = Journal::new(1, 64 << 10);
    for round in 0..rounds(1, 3) {
        let other = single();
        let scattered = Plan::single_blocks(5_000, round as u64);
        let load = Load::start(
            &other.nodes[0].endpoint(),
            "main",
            Journal::new(1, 64 << 10),
            &scattered,
        );
        load.expect("it serves").wait().assert_clean();
        let remover = std::thread::spawn(move || drop(other));
        journal = kill_and_restart(&mut cluster, journal, round as u64);
        remover.join().expect("a folder is removed");
    }
}
