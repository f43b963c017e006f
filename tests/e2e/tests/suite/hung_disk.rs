//! A disk that answers nothing for a while, neither data nor metadata: a file system of its own, frozen. Needs root and loop
//! devices: elsewhere this test says so and does nothing.

use e2e::arbiter::{Arbiter, Kind};
use e2e::checks::{assert_holds, event_names, replica};
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::nbd::Request;
use e2e::verdict::Image;
use e2e::{BLOCK_BYTES, wait_for};
use format::types::EXTENT_BYTES;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// 256 MiB.
const BLOCKS: u64 = 64 << 10;
/// Half a minute until the disk counts as hung, and what the others need to follow.
const FOLLOWED_MAX: Duration = Duration::from_secs(120);

/// A frozen file system. Nothing of it can end before it is thawed.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(folder: PathBuf) -> Frozen {
        tool("fsfreeze", &["--freeze", &folder.display().to_string()]).success();
        Frozen(folder)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        tool("fsfreeze", &["--unfreeze", &self.0.display().to_string()]);
    }
}

/// A pair that fails over by itself, whose first node has its state on a file system of its own.
fn pair_with_own_disk() -> (Cluster, Arbiter) {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut arbiter = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&arbiter, "automatic");
    arbiter.start();
    let (state, image) = (
        cluster.nodes[0].state(),
        cluster.nodes[0].folder().join("disk"),
    );
    std::fs::create_dir_all(&state).expect("the state folder");
    let file = std::fs::File::create(&image).expect("the disk");
    file.set_len(1 << 30).expect("its size");
    tool("mkfs.ext4", &["-q", &image.display().to_string()]).success();
    let script = format!(
        "mount -o loop '{}' '{}' && exec \"$@\"",
        image.display(),
        state.display()
    );
    let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    cluster.nodes[0].wrap(&words);
    cluster.start();
    (cluster, arbiter)
}

#[test]
fn who_cannot_write_its_metadata_is_followed_and_comes_back_by_itself() {
    if !e2e::attached::possible() {
        eprintln!("skipped: freezing a file system needs root and loop devices");
        return;
    }
    let (cluster, _arbiter) = pair_with_own_disk();
    cluster.create("main", "256M");
    let journal = Journal::new(1, BLOCKS);
    let plan = Plan::requests(100);
    let report = Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    let mut journal = report.journal;
    // Where nothing has been written the activity log has to say so first.
    let blocks = EXTENT_BYTES / BLOCK_BYTES as u64;
    let untouched: HashSet<u64> = journal.untouched().collect();
    let is_cold = |extent: &u64| {
        let mut all = extent * blocks..(extent + 1) * blocks;
        all.all(|block| untouched.contains(&block))
    };
    let cold = (0..BLOCKS / blocks).find(is_cold);
    let offset = cold.expect("there are more extents than requests") * EXTENT_BYTES;

    let mut client = cluster.nodes[0].open("main");
    let begun = Instant::now();
    let frozen = Frozen::freeze(cluster.nodes[0].inside(&cluster.nodes[0].state()));
    let waits = std::thread::spawn(move || {
        let (data, fua) = (&[1; BLOCK_BYTES][..], false);
        client.call(Request::Write { offset, data, fua })
    });
    let mut client = wait_for("beta to serve", FOLLOWED_MAX, || {
        cluster.nodes[1].try_open("main").ok()
    });
    println!("served {:?} after the disk hung", begun.elapsed());
    // Alpha has heard of it from the arbiter, and lets nobody wait for its disk.
    let told = waits.join().expect("it ends").map(drop);
    let told = told.expect_err("another serves by then").kind();
    assert!(told != ErrorKind::WouldBlock, "nobody told the client");
    assert_holds(&mut client, &journal).settle(&mut journal);
    drop(client);

    drop(frozen);
    cluster.nodes[1].wait_state("main", "Protected");
    let status = cluster.nodes[1].status("main").expect("it has a replica");
    assert_eq!(replica(&status, "alpha")["in_sync"], true);
    assert!(!event_names(&cluster.nodes[1]).contains(&"split-brain".to_owned()));
    let data = cluster.nodes[0].inside(&cluster.nodes[0].data("main"));
    let image = Image::of_file(&data).expect("it reads");
    assert_eq!(image.judge(&journal), []);
}
