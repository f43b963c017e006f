//! Volumes that begin with an image, and images of volumes that are in use.

use e2e::attached::possible;
use e2e::checks::{assert_copies, event_names};
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::nbd::Request;
use e2e::node::Node;
use e2e::program;
use e2e::verdict::differing_blocks;
use e2e::{PATIENCE, wait_for};
use rustix::process::Signal;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the cut-off writer writes to, far from each other, so that reading them all takes a while.
const PLACES: u64 = 32;
const PLACE_BYTES: u64 = 4 << 20;
const BLOCK: usize = 4096;

/// An image with holes, data, written zeroes, and an end within a block.
fn image(path: &Path) -> Vec<u8> {
    let file = std::fs::File::create(path).expect("it is made");
    file.set_len((9 << 20) + 100).expect("it is extended");
    let data: Vec<u8> = (0..3u32 << 20).map(|n| (n % 251) as u8).collect();
    file.write_all_at(&data, 1 << 20).expect("it is written");
    file.write_all_at(&vec![0; 1 << 20], 5 << 20)
        .expect("it is written");
    file.write_all_at(b"the end", (9 << 20) + 93)
        .expect("it is written");
    std::fs::read(path).expect("it is read")
}

#[test]
fn a_volume_begins_with_an_image() {
    let cluster = Cluster::pair();
    let path = cluster.folder().join("image.raw");
    let wanted = image(&path);
    let path = path.to_str().expect("it is text");
    let created = cluster.nodes[0].ok(&["volume", "create", "main", "--from", path]);
    assert!(created.contains("holds"), "{created}");
    let status = cluster.nodes[0].wait_state("main", "Protected");
    assert_eq!(status["size_bytes"], (9 << 20) + 4096);
    for node in &cluster.nodes {
        let has = std::fs::read(node.data("main")).expect("it is read");
        assert!(has[..wanted.len()] == wanted, "{} differs", node.name());
        assert!(has[wanted.len()..].iter().all(|byte| *byte == 0));
    }
    let small = ["volume", "create", "small", "--from", path, "--size", "4M"];
    let refused = cluster.nodes[0].cli(&small);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let large = ["volume", "create", "large", "--from", path, "--size", "1G"];
    cluster.nodes[0].ok(&large);
    let status = cluster.nodes[0].wait_state("large", "Protected");
    assert_eq!(status["size_bytes"], 1 << 30);
}

#[test]
fn a_volume_begins_with_a_block_device() {
    if !possible() {
        eprintln!("skipped: loop devices need root");
        return;
    }
    let cluster = Cluster::pair();
    let path = cluster.folder().join("disk.raw");
    let mut wanted = image(&path);
    wanted.truncate(9 << 20);
    let file = std::fs::File::options().write(true).open(&path);
    let cut = file.and_then(|file| file.set_len(wanted.len() as u64));
    cut.expect("it is cut");
    let path = path.to_str().expect("it is text");
    let device = tool("losetup", &["--find", "--show", "--read-only", path]).success();
    let create = ["volume", "create", "main", "--from", device.trim()];
    let mut options = std::fs::File::options();
    let exclusive = rustix::fs::OFlags::EXCL.bits();
    options.custom_flags(i32::try_from(exclusive).expect("a flag"));
    let used = options.read(true).open(device.trim());
    let refused = cluster.nodes[0].cli(&create);
    drop(used.expect("nobody uses it yet"));
    let created = cluster.nodes[0].cli(&create);
    tool("losetup", &["--detach", device.trim()]).success();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("busy"), "{refused:?}");
    assert_eq!(created.code, Some(0), "{created:?}");
    cluster.nodes[0].wait_state("main", "Protected");
    for node in &cluster.nodes {
        let has = std::fs::read(node.data("main")).expect("it is read");
        assert!(has == wanted, "{} differs", node.name());
    }
}

#[test]
fn no_volume_is_left_with_part_of_an_image() {
    let cluster = Cluster::pair();
    let path = cluster.folder().join("image.raw");
    let file = std::fs::File::create(&path).expect("it is made");
    let piece = vec![1; 1 << 20];
    for offset in (0..512 << 20).step_by(1 << 20) {
        file.write_all_at(&piece, offset).expect("it is written");
    }
    let path = path.to_str().expect("it is text");
    let mut command = twinblk(
        &cluster.nodes[0],
        &["volume", "create", "main", "--from", path],
    );
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    wait_for("some of it to be written", PATIENCE, || {
        let status = cluster.nodes[0].status("main")?;
        (status["io"]["writes"].as_u64()? > 0).then_some(())
    });
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    wait_for("the volume to be gone", PATIENCE, || {
        let gone = |node: &Node| node.status("main").is_none() && !node.data("main").exists();
        cluster.nodes.iter().all(gone).then_some(())
    });
}

fn twinblk(node: &Node, words: &[&str]) -> Command {
    let mut command = Command::new(program::twinblk());
    command.arg("--admin").arg(node.folder().join("admin.sock"));
    command.args(words);
    command
}

fn signal(child: &Child, signal: Signal) {
    let process = i32::try_from(child.id()).ok();
    let process = process.and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(process.expect("it runs"), signal).expect("it is told");
}

/// Writes one number after the other, each to the next place and after the one before was answered, until it is told to stop;
/// the last number.
fn count(node: &Node, stop: &AtomicBool) -> u64 {
    let mut client = node.open("main");
    let mut data = vec![0; BLOCK];
    for number in 1u64.. {
        data[..8].copy_from_slice(&number.to_le_bytes());
        let offset = number % PLACES * PLACE_BYTES;
        let data = &data;
        let write = Request::Write {
            offset,
            data,
            fua: false,
        };
        client.call(write).expect("it is answered");
        if stop.load(Ordering::Relaxed) {
            return number;
        }
    }
    unreachable!("there are enough numbers")
}

#[test]
fn an_export_is_the_volume_at_one_moment() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "128M");
    let path = cluster.folder().join("main.raw");
    let to = path.to_str().expect("it is text");
    let export = ["volume", "export", "main", to];
    let refused = cluster.nodes[1].cli(&export);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let refused = cluster.nodes[0].cli(&export);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("type it on beta"), "{refused:?}");
    assert!(!path.exists());
    fill(&cluster.nodes[0]);

    let stop = AtomicBool::new(false);
    let (counted, first) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| count(&cluster.nodes[0], &stop));
        wait_for("some numbers", PATIENCE, || {
            let status = cluster.nodes[0].status("main")?;
            (status["io"]["writes"].as_u64()? > 1000).then_some(())
        });
        let export = [&export[..], &["--allow-one-copy"]].concat();
        cluster.nodes[1].ok(&export);
        let first = cluster.nodes[0]
            .status("main")
            .map(|status| status["io"]["writes"].clone());
        stop.store(true, Ordering::Relaxed);
        (counting.join().expect("nothing fails"), first)
    });
    println!("{counted} numbers, {first:?} writes when the export was done");
    let file = std::fs::File::open(&path).expect("it is there");
    let numbers: Vec<u64> = (0..PLACES)
        .map(|place| {
            let mut bytes = [0; 8];
            let read = file.read_exact_at(&mut bytes, place * PLACE_BYTES);
            read.expect("it is read");
            u64::from_le_bytes(bytes)
        })
        .collect();
    // What was written last, and of every place the latest until then.
    let last = numbers.iter().copied().max().expect("there are places");
    let cut: Vec<u64> = (0..PLACES)
        .map(|place| last - (last + PLACES - place) % PLACES)
        .collect();
    assert_eq!(numbers, cut, "it is not of one moment");
    assert!(last > 500 && last < counted, "{last} of {counted}");

    cluster.nodes[0].wait_state("main", "Protected");
    let files = [cluster.nodes[0].data("main"), cluster.nodes[1].data("main")];
    assert_eq!(differing_blocks(&files[0], &files[1]).ok(), Some(0));
    assert!(event_names(&cluster.nodes[1]).contains(&"replica-exported".to_owned()));
    // What exists is not written over.
    let again = cluster.nodes[1].cli(&[&export[..], &["--allow-one-copy"]].concat());
    assert_eq!(again.code, Some(1), "{again:?}");
    cluster.alpha().stop();
}

/// Data everywhere, so that there is something to be read.
fn fill(node: &Node) {
    let mut client = node.open("main");
    let data = vec![7; 1 << 20];
    for offset in (0..PLACES * PLACE_BYTES).step_by(1 << 20) {
        let data = &data;
        let write = Request::Write {
            offset,
            data,
            fua: false,
        };
        client.call(write).expect("it is written");
    }
    let zero = vec![0; BLOCK];
    for place in 0..PLACES {
        let write = Request::Write {
            offset: place * PLACE_BYTES,
            data: &zero,
            fua: false,
        };
        client.call(write).expect("it is written");
    }
}

#[test]
fn an_export_that_is_cut_short_leaves_nothing_and_nothing_closed() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "128M");
    fill(&cluster.nodes[0]);
    let words = ["volume", "export", "main", "-", "--allow-one-copy"];
    let begin = |node: &Node| {
        let mut command = twinblk(node, &words);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        node.wait_status("main", "being exported", |status| {
            let reason = status["reason"].as_str();
            reason.is_some_and(|reason| reason.contains("exported"))
        });
        child
    };
    // Nobody reads, and whoever exports is killed.
    let mut child = begin(&cluster.nodes[1]);
    let second = cluster.nodes[1].cli(&words);
    assert_eq!(second.code, Some(1), "{second:?}");
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    cluster.nodes[0].wait_state("main", "Protected");
    // The daemon is killed: what was read is not what it was taken for.
    let mut child = begin(&cluster.nodes[1]);
    cluster.beta().kill();
    cluster.beta().start();
    let mut output = Vec::new();
    let mut stream = child.stdout.take().expect("it is a pipe");
    stream.read_to_end(&mut output).expect("it is read");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    cluster.nodes[0].wait_state("main", "Protected");
    // Read to its end, it is the volume.
    let mut child = begin(&cluster.nodes[1]);
    let mut stream = child.stdout.take().expect("it is a pipe");
    output.clear();
    stream.read_to_end(&mut output).expect("it is read");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let has = std::fs::read(cluster.nodes[0].data("main")).expect("it is read");
    assert!(output == has, "another image");
    cluster.nodes[0].wait_state("main", "Protected");
}

#[test]
fn of_three_copies_one_is_exported_while_two_go_on() {
    let cluster = {
        let mut cluster = Cluster::prepared(&["alpha", "beta", "gamma"]);
        cluster.start();
        cluster
    };
    wait_for("the nodes to meet", PATIENCE, || {
        let words = [
            "volume",
            "create",
            "main",
            "--size",
            "64M",
            "--replicas",
            "alpha,beta,gamma",
        ];
        (cluster.nodes[0].cli(&words).code == Some(0)).then_some(())
    });
    cluster.nodes[0].wait_state("main", "Protected");
    let load = Load::start(
        &cluster.nodes[0].endpoint(),
        "main",
        Journal::new(1, 16 << 10),
        &Plan::default(),
    );
    let load = load.expect("it is served");
    load.wait_for_acknowledged(1000);
    let path = cluster.folder().join("main.raw");
    let to = path.to_str().expect("it is text");
    cluster.nodes[2].ok(&["volume", "export", "main", to]);
    load.wait_for_acknowledged(load.acknowledged() + 1000);
    let report = load.stop();
    report.assert_clean();
    cluster.nodes[0].wait_state("main", "Protected");
    assert_copies(&cluster, "main", &report.journal);
    let image = std::fs::metadata(&path).expect("it is there");
    assert_eq!(image.len(), 64 << 20);
}

/// What a command of the rescue page prints beside a node's files.
fn rescue(node: &Node, nth: usize) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/RESCUE.md");
    let page = std::fs::read_to_string(page).expect("the page is read");
    let commands: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("od "))
        .collect();
    let mut command = Command::new("sh");
    let metadata = node.metadata("main");
    let folder = metadata.parent().expect("it is in a folder");
    command.args(["-c", commands[nth]]).current_dir(folder);
    program::run(command, PATIENCE).success().trim().to_owned()
}

#[test]
fn the_rescue_page_finds_the_copy_to_take() {
    let mut cluster = Cluster::pair();
    cluster.create("main", "64M");
    cluster.beta().kill();
    cluster.nodes[0].wait_state("main", "Alone");
    fill_one(&cluster.nodes[0]);
    let epoch = cluster.nodes[0].status("main").expect("it is there")["epoch"].clone();
    cluster.alpha().stop();
    assert_eq!(rescue(&cluster.nodes[0], 0), epoch.to_string());
    assert_eq!(rescue(&cluster.nodes[0], 1), "1");
    let other: u64 = rescue(&cluster.nodes[1], 0).parse().expect("a number");
    assert!(Some(other) < epoch.as_u64(), "beta says {other}");
}

fn fill_one(node: &Node) {
    let mut client = node.open("main");
    let write = Request::Write {
        offset: 0,
        data: &[1; BLOCK],
        fua: true,
    };
    client.call(write).expect("it is written");
}
