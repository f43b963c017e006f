//! What is the kernel's nbd driver's own. Run in a guest (`guests.rs`): elsewhere these tests do nothing.

use crate::attach::{assert_equal, assert_fio, fio, pair};
use e2e::attached::{Attached, backend, command};
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::program;
use e2e::{PATIENCE, wait_for};
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;

/// Longer than the kernel waits for an answer before it asks again.
const SILENCE: Duration = Duration::from_secs(14);

pub(crate) fn kernel_pair(volume: &str) -> Option<Cluster> {
    (backend() == "nbd").then(|| pair(volume, "64M"))?
}

pub(crate) fn is_used(device: &str) -> bool {
    let name = device.strip_prefix("/dev/").expect("it is a device");
    Path::new("/sys/block").join(name).join("pid").exists()
}

#[test]
fn a_device_is_the_kernel_s_own() {
    let Some(cluster) = kernel_pair("own") else {
        return;
    };
    let attached = Attached::with(&cluster.nodes[0], "own", &["--device", "/dev/nbd5"]);
    assert_eq!(attached.device(), "/dev/nbd5");
    let queue = |name: &str| {
        let value = std::fs::read_to_string(Path::new("/sys/block/nbd5/queue").join(name));
        value.expect("it is there").trim().to_owned()
    };
    assert_eq!(queue("logical_block_size"), "512");
    assert_eq!(
        (queue("write_cache"), queue("fua")),
        ("write back".to_owned(), "1".to_owned())
    );
    assert_ne!(queue("discard_max_bytes"), "0");
    assert_ne!(queue("write_zeroes_max_bytes"), "0");
    // It is taken.
    let folder = cluster.nodes[1].folder().to_owned();
    let words = ["attach", "own", "--device", "/dev/nbd5"];
    cluster.nodes[0].ok(&["volume", "create", "other", "--size", "8M"]);
    let other = cluster.nodes[0].folder().to_owned();
    let words_of_other = ["attach", "other", "--device", "/dev/nbd5"];
    let refused = program::run(command(&other, &words_of_other), PATIENCE);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("/dev/nbd5"),
        "{refused:?}"
    );
    let refused = program::run(command(&folder, &words), PATIENCE);
    assert!(refused.stderr.contains("primary"), "{refused:?}");
    // Any other.
    let told = program::run(command(&other, &["attach", "other"]), PATIENCE);
    assert_eq!(told.code, Some(0), "{told:?}");
    let other = Attached::found(&cluster.nodes[0], "other");
    assert!(other.device().starts_with("/dev/nbd") && other.device() != "/dev/nbd5");
    for attached in [&attached, &other] {
        let detached = attached.detach(&[]);
        assert_eq!(detached.code, Some(0), "{detached:?}");
        assert!(!is_used(attached.device()) && !attached.link().exists());
    }
}

#[test]
fn a_daemon_that_is_silent_for_long_is_a_pause() {
    let Some(mut cluster) = kernel_pair("silent") else {
        return;
    };
    let attached = Attached::new(&cluster.nodes[0], "silent");
    let folder = attached.mkfs();
    let log = cluster.folder().join("fio.log");
    let load = fio(&folder, &log, 6);
    std::thread::sleep(Duration::from_secs(2));
    cluster.alpha().signal(Signal::STOP);
    std::thread::sleep(SILENCE);
    cluster.alpha().signal(Signal::CONT);
    assert_fio(load, &log);
    attached.unmount_clean();
    assert_equal(&cluster, "silent");
}

/// Nothing but the device is left of it, and that goes on: the next process takes it over, with the mount.
#[test]
fn a_device_outlives_the_process_that_serves_it() {
    let Some(mut cluster) = kernel_pair("outlives") else {
        return;
    };
    let mut attached = Attached::new(&cluster.nodes[0], "outlives");
    let folder = attached.mkfs();
    let log = cluster.folder().join("fio.log");
    let load = fio(&folder, &log, 6);
    std::thread::sleep(Duration::from_secs(1));
    attached.kill();
    std::fs::write(folder.join("after"), "still there").expect("it is written");
    let synced = std::fs::File::open(folder.join("after")).and_then(|file| file.sync_all());
    synced.expect("the daemon is there");
    // It is in use, and nobody but the kernel knows of it.
    let refused = attached.detach(&[]);
    assert!(refused.stderr.contains("is mounted on"), "{refused:?}");
    // Nobody gives the kernel another connection meanwhile.
    cluster.alpha().kill();
    cluster.alpha().start();
    let again = Attached::new(&cluster.nodes[0], "outlives");
    assert_eq!(again.device(), attached.device());
    assert_fio(load, &log);
    let text = std::fs::read_to_string(folder.join("after"));
    assert_eq!(text.expect("it is there"), "still there");
    assert!(
        again.log().contains("was left by a process"),
        "{}",
        again.log()
    );
    again.unmount_clean();
    let detached = again.detach(&[]);
    assert_eq!(detached.code, Some(0), "{detached:?}");
    assert!(!is_used(again.device()));
    assert_equal(&cluster, "outlives");
}

#[test]
fn an_ext4_grows_online() {
    let Some(cluster) = kernel_pair("larger") else {
        return;
    };
    let attached = Attached::new(&cluster.nodes[0], "larger");
    let folder = attached.mkfs();
    let log = cluster.folder().join("fio.log");
    let load = fio(&folder, &log, 4);
    cluster.nodes[0].ok(&["volume", "grow", "larger", "--size", "96M"]);
    wait_for("the device to grow", PATIENCE, || {
        let size = tool("blockdev", &["--getsize64", attached.device()]).success();
        (size.trim() == "100663296").then_some(())
    });
    tool("resize2fs", &[attached.device()]).success();
    assert_fio(load, &log);
    let room = rustix::fs::statvfs(&folder).expect("it is mounted");
    assert!(room.f_blocks * room.f_frsize > 80 << 20);
    attached.unmount_clean();
    assert_equal(&cluster, "larger");
}
