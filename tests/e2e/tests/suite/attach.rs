//! Volumes as block devices, through FUSE and a loop device. Both need root: elsewhere these tests do nothing. Some of them are
//! run once more in a guest, where the kernel's nbd driver carries the requests (`guests.rs`).

use e2e::arbiter::{Arbiter, Kind};
use e2e::attached::{Attached, amount, backend, command, possible};
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::program::{self, Running};
use e2e::verdict::differing_blocks;
use e2e::{PATIENCE, rounds, wait_for};
use rustix::process::{Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// After a supersession nobody is kept waiting for longer.
const SUPERSEDED_MAX: Duration = Duration::from_secs(30);

/// In an emulated machine, all of a file's exercise takes this long at most.
const EXERCISE_MAX: Duration = Duration::from_secs(2_400);

/// Two nodes with a volume that the first serves.
pub(crate) fn pair(volume: &str, size: &str) -> Option<Cluster> {
    if !possible() {
        return None;
    }
    let cluster = nodes();
    cluster.create(volume, size);
    Some(cluster)
}

/// Two nodes whose volumes can be attached.
pub(crate) fn nodes() -> Cluster {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    cluster.nodes.iter().for_each(Attached::prepare);
    cluster.start();
    cluster
}

/// fio in a folder, which verifies at the end all that it has written. Its pace is fixed, so that it lasts.
pub(crate) fn fio(folder: &Path, log: &Path, seconds: usize) -> Running {
    let mut command = Command::new("fio");
    command
        .args([
            "--name=load",
            "--rw=randwrite",
            "--bssplit=4k/60:16k/30:128k/10",
        ])
        .args(["--ioengine=libaio", "--iodepth=16", "--fsync=64"])
        .arg(format!("--size={}", amount(32 << 20)))
        .args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1"])
        .arg("--verify_state_save=0")
        // Each round writes all, in two seconds.
        .arg(format!("--loops={}", seconds.div_ceil(2)))
        .arg(format!("--rate={}", amount(16 << 20)))
        .arg(format!("--directory={}", folder.display()));
    Running::start(command, log).expect("fio is installed")
}

pub(crate) fn assert_fio(fio: Running, log: &Path) {
    let ended = fio.wait(2 * PATIENCE);
    let told = std::fs::read_to_string(log).unwrap_or_default();
    let ended = ended.unwrap_or_else(|| panic!("fio does not end: {told}"));
    assert!(
        ended.success() && told.contains("err= 0"),
        "{ended}: {told}"
    );
}

pub(crate) fn assert_equal(cluster: &Cluster, volume: &str) {
    cluster.nodes[0].wait_state(volume, "Protected");
    let [one, other] = [0, 1].map(|node| cluster.nodes[node].data(volume));
    assert_eq!(differing_blocks(&one, &other).expect("both are read"), 0);
}

#[test]
fn a_restart_of_the_daemon_is_a_pause() {
    let Some(mut cluster) = pair("pause", "128M") else {
        return;
    };
    let attached = Attached::new(&cluster.nodes[0], "pause");
    let folder = attached.mkfs();
    let log = cluster.folder().join("fio.log");
    let kills = rounds(3, 30);
    let load = fio(&folder, &log, 2 * kills + 2);
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(1000));
        // Both ways of going: at once, and in good order as in an upgrade.
        if kill % 2 == 0 {
            cluster.alpha().kill();
        } else {
            cluster.alpha().stop();
        }
        std::thread::sleep(Duration::from_millis(300));
        cluster.alpha().start();
    }
    assert_fio(load, &log);
    attached.unmount_clean();
    assert_eq!(attached.log().matches("requests go on").count(), kills);
    assert_equal(&cluster, "pause");
    // The other side's copy alone is the same file system.
    let detached = attached.detach(&[]);
    assert_eq!(detached.code, Some(0), "{detached:?}");
    cluster.nodes[0].ok(&["volume", "swap", "pause"]);
    let there = Attached::new(&cluster.nodes[1], "pause");
    tool("e2fsck", &["-fn", there.device()]).success();
}

#[test]
fn members_come_and_go_below_a_mount() {
    let Some(mut cluster) = pair("members", "128M") else {
        return;
    };
    let attached = Attached::new(&cluster.nodes[0], "members");
    let folder = attached.mkfs();
    let log = cluster.folder().join("fio.log");
    let load = fio(&folder, &log, 8);
    // Each turn is two configurations at least, and the daemon's restart comes right behind them.
    for _ in 0..2 {
        cluster.beta().kill();
        cluster.nodes[0].wait_state("members", "Alone");
        cluster.beta().start();
        cluster.nodes[0].wait_state("members", "Protected");
        cluster.alpha().kill();
        cluster.alpha().start();
        // Without beta it would not be let serve.
        cluster.nodes[0].wait_state("members", "Protected");
    }
    assert_fio(load, &log);
    attached.unmount_clean();
    assert_equal(&cluster, "members");
}

pub(crate) fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).expect("the file is there").blocks() * 512
}

#[test]
fn discards_free_blocks_on_both_nodes() {
    let file_bytes = amount(64 << 20);
    let Some(cluster) = pair("trim", "128M") else {
        return;
    };
    let attached = Attached::new(&cluster.nodes[0], "trim");
    let folder = attached.mkfs();
    let files = [0, 1].map(|node| cluster.nodes[node].data("trim"));
    let before = files.each_ref().map(|file| allocated(file));
    let path = folder.join("large");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&vec![7; file_bytes]).expect("it is written");
    file.sync_all().expect("it is durable");
    drop(file);
    for (file, before) in files.iter().zip(before) {
        assert!(allocated(file) >= before + file_bytes as u64);
    }
    std::fs::remove_file(&path).expect("it is removed");
    tool("sync", &["--file-system", folder.to_str().expect("text")]).success();
    tool("fstrim", &[folder.to_str().expect("text")]).success();
    for (file, before) in files.iter().zip(before) {
        let (now, slack) = (allocated(file), 4 << 20);
        assert!(
            now <= before + slack,
            "{now} of {before}: {}",
            file.display()
        );
    }
    attached.unmount_clean();
    assert_equal(&cluster, "trim");
}

/// What fsx does how often. Pages are written and dropped all the time, so that the device is read, not only the kernel's memory.
const EXERCISE: &str = "[weights]
close_open = 1
invalidate = 1
mapread = 10
mapwrite = 3
read = 10
write = 10
truncate = 3
fsync = 1
fdatasync = 1
posix_fallocate = 1
punch_hole = 3
posix_fadvise = 10
copy_file_range = 1
";

#[test]
fn a_file_is_exercised() {
    const OPERATIONS: &str = "50000";
    let Some(cluster) = pair("exercised", "64M") else {
        return;
    };
    let weights = cluster.folder().join("fsx.toml");
    std::fs::write(&weights, EXERCISE).expect("it is written");
    let attached = Attached::new(&cluster.nodes[0], "exercised");
    let file = attached.mkfs().join("file");
    let mut fsx = Command::new("fsx");
    fsx.args(["-N", OPERATIONS, "-S", "42"]);
    fsx.arg("-f").arg(weights).arg(file);
    program::run(fsx, EXERCISE_MAX).success();
    attached.unmount_clean();
    assert_equal(&cluster, "exercised");
}

/// XFS, since ext4 grows online only for those with CAP_SYS_RESOURCE, which root has not everywhere.
#[test]
fn a_file_system_grows_online() {
    const DATA_BYTES: usize = 400 << 20;
    let Some(cluster) = pair("grown", "320M") else {
        return;
    };
    let attached = Attached::new(&cluster.nodes[0], "grown");
    tool("mkfs.xfs", &["-q", attached.device()]).success();
    let folder = attached.mount();
    cluster.nodes[0].ok(&["volume", "grow", "grown", "--size", "640M"]);
    wait_for("the device to grow", PATIENCE, || {
        let size = tool("blockdev", &["--getsize64", attached.device()]).success();
        (size.trim() == "671088640").then_some(())
    });
    tool("xfs_growfs", &[folder.to_str().expect("text")]).success();
    // Of a length that is no divisor of anything's.
    let piece: Vec<u8> = (0..=250).collect();
    let mut data = piece.repeat(DATA_BYTES / piece.len());
    data.extend([7; 5]);
    std::fs::write(folder.join("large"), &data).expect("there is room");
    attached.unmount();
    tool("xfs_repair", &["-n", attached.device()]).success();
    let read = std::fs::read(attached.mount().join("large"));
    assert!(
        read.expect("it is there") == data,
        "what was written is read"
    );
    attached.unmount();
    assert_equal(&cluster, "grown");
}

/// A file below a mount that stays open: the mount cannot quite vanish, and who has it goes on to try.
fn left_open(folder: &Path) -> File {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).open(folder.join("open"));
    let mut file = file.expect("a file");
    file.write_all(b"before\n").expect("it is written");
    file.sync_all().expect("it is durable");
    file
}

/// A volume's content on a node, by its file: nothing may still be on its way.
fn digest(cluster: &Cluster, node: usize, volume: &str) -> String {
    let data = cluster.nodes[node].data(volume);
    let told = tool("sha256sum", &[data.to_str().expect("text")]).success();
    told.split(' ').next().unwrap_or_default().to_owned()
}

/// Waits until the process that served the device has ended, by itself and with a complaint.
fn assert_superseded(attached: &mut Attached, begun: Instant) {
    let ended = attached.wait_for_end();
    assert!(begun.elapsed() < SUPERSEDED_MAX, "{:?}", begun.elapsed());
    assert_eq!(ended.code(), Some(1), "{}", attached.log());
    assert!(
        attached.log().contains("beta is the primary"),
        "{}",
        attached.log()
    );
}

/// Waits until nobody waits for a device that will not come back. A whole machine is looked at, if it is the test's own.
fn assert_nobody_waits(begun: Instant) {
    if backend() != "nbd" {
        return;
    }
    let left = SUPERSEDED_MAX.saturating_sub(begun.elapsed());
    wait_for("nobody to wait", left, || {
        let processes = std::fs::read_dir("/proc").expect("it is there");
        let mut states = processes.flatten().filter_map(|entry| {
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let state = status.lines().find(|line| line.starts_with("State:"))?;
            Some(state.contains("D (disk sleep)"))
        });
        (!states.any(|waits| waits)).then_some(())
    });
}

#[test]
fn a_volume_that_was_moved_takes_nothing_more_from_the_old_mount() {
    let Some(cluster) = pair("moved", "64M") else {
        return;
    };
    let mut attached = Attached::new(&cluster.nodes[0], "moved");
    let folder = attached.mkfs();
    let mut open = left_open(&folder);
    // Dirty, and not yet written back when the volume goes.
    let _ = open.write_all(&vec![1; 1 << 20]);
    let begun = Instant::now();
    cluster.nodes[0].ok(&["volume", "swap", "moved"]);
    let there = Attached::new(&cluster.nodes[1], "moved");
    let place = there.mount();
    let text = std::fs::read(place.join("open")).expect("it is there");
    assert!(text.starts_with(b"before\n"));
    there.unmount_clean();
    let before = [0, 1].map(|node| digest(&cluster, node, "moved"));

    wait_for("the old mount to vanish", SUPERSEDED_MAX, || {
        (!folder.join("open").exists() && !attached.link().exists()).then_some(())
    });
    let _ = open.write_all(&vec![2; 1 << 20]);
    open.sync_all().expect_err("nothing is durable any more");
    let device = attached.device().to_owned();
    File::open(&device)
        .and_then(|mut file| std::io::Read::read(&mut file, &mut [0; 4096]))
        .expect_err("the device reads no more");
    assert_nobody_waits(begun);
    drop(open);
    assert_superseded(&mut attached, begun);
    assert_eq!([0, 1].map(|node| digest(&cluster, node, "moved")), before);
    let listed = tool("losetup", &["--list", "--noheadings"]).success();
    assert!(
        !listed.contains(&attached.link().display().to_string()),
        "{listed}"
    );
}

#[test]
fn who_was_away_when_another_took_over_fails_what_was_held() {
    let Some(mut cluster) = pair("held", "64M") else {
        return;
    };
    let mut attached = Attached::new(&cluster.nodes[0], "held");
    let folder = attached.mkfs();
    drop(left_open(&folder));
    cluster.alpha().kill();
    // Somebody is in the middle of it, and held.
    let mut command = Command::new("dd");
    let target = format!("of={}", folder.join("direct").display());
    command
        .args(["if=/dev/zero", "bs=64k", "count=64", "oflag=direct"])
        .arg(target);
    let log = cluster.folder().join("dd.log");
    let mut writer = Running::start(command, &log).expect("dd is installed");
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        writer.ended().is_none(),
        "it is held, and not told of an error"
    );

    cluster.nodes[1].ok(&["volume", "promote", "held", "--force"]);
    let there = Attached::new(&cluster.nodes[1], "held");
    let place = there.mount();
    std::fs::write(place.join("after"), "beta's\n").expect("it is written");
    there.unmount_clean();
    let before = digest(&cluster, 1, "held");
    assert!(writer.ended().is_none(), "nobody knows at alpha yet");

    let begun = Instant::now();
    cluster.alpha().start();
    let ended = writer.wait(SUPERSEDED_MAX).expect("it is not kept waiting");
    assert!(!ended.success());
    assert_nobody_waits(begun);
    assert_superseded(&mut attached, begun);
    cluster.nodes[1].wait_state("held", "Protected");
    assert_eq!(
        [0, 1].map(|node| digest(&cluster, node, "held")),
        [before.clone(), before]
    );

    // What was given up there is no obstacle: moved back, it is attached again.
    let detached = there.detach(&[]);
    assert_eq!(detached.code, Some(0), "{detached:?}");
    cluster.nodes[1].ok(&["volume", "swap", "held"]);
    let again = Attached::new(&cluster.nodes[0], "held");
    let text = std::fs::read_to_string(again.mount().join("after"));
    assert_eq!(text.expect("it is there"), "beta's\n");
    again.unmount_clean();
}

/// The device's process is no client while the daemon starts again, and nobody must take the volume away meanwhile.
#[test]
fn a_device_keeps_its_volume_over_a_restart() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    cluster.nodes.iter().for_each(Attached::prepare);
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, "on-demand");
    witness.start();
    cluster.start();
    cluster.create("kept", "64M");
    // Opened where nobody uses it, it comes.
    let attached = Attached::new(&cluster.nodes[1], "kept");
    assert_eq!(
        cluster.nodes[1].wait_state("kept", "Protected")["attached"],
        true
    );
    let server = attached.server();
    kill_process(server, Signal::STOP).expect("it lives");
    cluster.beta().kill();
    cluster.beta().start();
    cluster.nodes[1].wait_state("kept", "Protected");
    let refused = cluster.nodes[0].try_open("kept").map(drop);
    kill_process(server, Signal::CONT).expect("it lives");
    let refused = refused.expect_err("beta has it").to_string();
    assert!(refused.contains("beta"), "{refused}");
    let removed = cluster.nodes[1].cli(&["volume", "rm", "kept"]);
    assert_eq!(removed.code, Some(3), "{removed:?}");
    attached.mkfs();
    attached.unmount_clean();
    let detached = attached.detach(&[]);
    assert_eq!(detached.code, Some(0), "{detached:?}");
    drop(cluster.nodes[0].open("kept"));
}

#[test]
fn attach_and_detach_say_what_is_wrong() {
    let Some(cluster) = pair("plain", "64M") else {
        return;
    };
    let folder = cluster.nodes[0].folder().to_owned();
    let run = |words: &[&str]| program::run(command(&folder, words), PATIENCE);
    let wrong = run(&["attach", "nothing"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("no volume"), "{wrong:?}");
    let wrong = run(&["detach", "plain"]);
    assert!(wrong.stderr.contains("is not attached"), "{wrong:?}");
    let mut plain = Command::new("setpriv");
    plain
        .args(["--reuid=65534", "--clear-groups"])
        .arg(program::twinblk());
    plain.args(["volume", "attach", "plain", "--config", "/dev/null"]);
    let wrong = program::run(plain, PATIENCE);
    assert!(wrong.stderr.contains("needs root"), "{wrong:?}");
    let beta = cluster.nodes[1].folder().to_owned();
    let wrong = program::run(command(&beta, &["attach", "plain"]), PATIENCE);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("primary"), "{wrong:?}");

    let told = run(&["attach", "plain"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let attached = Attached::found(&cluster.nodes[0], "plain");
    assert_eq!(told.stdout.trim(), attached.link().display().to_string());
    let wrong = run(&["attach", "plain"]);
    assert!(wrong.stderr.contains("attached already"), "{wrong:?}");
    let place = attached.mkfs();
    let wrong = run(&["detach", "plain"]);
    let mounted = format!("is mounted on {}", place.display());
    assert!(
        wrong.code == Some(1) && wrong.stderr.contains(&mounted),
        "{wrong:?}"
    );
    attached.unmount_clean();
    let told = run(&["detach", "plain"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(!attached.link().exists());
    drop(attached);
}

#[test]
fn what_a_process_has_left_that_was_killed_is_cleared_away() {
    let Some(mut cluster) = pair("left", "64M") else {
        return;
    };
    let folder = cluster.nodes[0].folder().to_owned();
    let run = |words: &[&str]| program::run(command(&folder, words), PATIENCE);
    let told = run(&["attach", "left"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let mut killed = Attached::found(&cluster.nodes[0], "left");
    let place = killed.mkfs();
    killed.kill();
    wait_for("the end of the mount", PATIENCE, || {
        std::fs::write(place.join("more"), [0; 4096])
            .and_then(|()| {
                let file = File::open(place.join("more"))?;
                file.sync_all()
            })
            .err()
    });
    let told = run(&["attach", "left"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(!place.join("lost+found").exists(), "the dead mount is gone");
    let attached = Attached::found(&cluster.nodes[0], "left");
    attached.mount();
    // With the daemon away it can still be given up.
    cluster.alpha().kill();
    let told = attached.detach(&["--force"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(!attached.link().exists());
    drop(killed);
}
