//! LUKS over a volume, and below its replicas. Run in a guest (`guests.rs`), whose kernel has dm-crypt: elsewhere these
//! tests do nothing.

use crate::attach::{allocated, assert_equal, nodes};
use crate::attach_kernel::{is_used, kernel_pair};
use crate::devices::{Device, size_bytes};
use e2e::attached::{Attached, amount, backend};
use e2e::foreign::tool;
use e2e::{PATIENCE, wait_for};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const SECRET: &str = "nobody reads this who has only the disk\n";
/// What a container begins with.
const MAGIC: &[u8] = b"LUKS\xba\xbe";
/// What a container needs of its device for itself.
const HEADER_BYTES: u64 = 16 << 20;
const REPLICA_BYTES: u64 = 48 << 20;
/// The guest is the test's own.
const KEY: &str = "/etc/passphrase";

/// Makes a container, whose key is quickly derived.
fn format(device: &str) {
    std::fs::write(KEY, "correct horse battery staple").expect("it is written");
    let words = [
        "luksFormat",
        "--batch-mode",
        "--sector-size=4096",
        "--pbkdf=pbkdf2",
        "--pbkdf-force-iterations=1000",
    ];
    tool(
        "cryptsetup",
        &[&words[..], &["--key-file", KEY, device]].concat(),
    )
    .success();
}

/// A container that is open.
struct Opened {
    name: &'static str,
    device: String,
}

impl Opened {
    fn new(container: &str, name: &'static str) -> Opened {
        let words = ["open", "--allow-discards", "--key-file", KEY];
        tool("cryptsetup", &[&words[..], &[container, name]].concat()).success();
        let device = format!("/dev/mapper/{name}");
        Opened { name, device }
    }

    fn place(&self) -> PathBuf {
        Path::new("/mnt").join(self.name)
    }

    fn mount(&self) -> PathBuf {
        let place = self.place();
        std::fs::create_dir_all(&place).expect("a folder");
        tool("mount", &[&self.device, text(&place)]).success();
        place
    }

    fn unmount_clean(&self) {
        tool("umount", &[text(&self.place())]).success();
        tool("e2fsck", &["-fn", &self.device]).success();
    }

    fn close(self) {
        tool("cryptsetup", &["close", self.name]).success();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is UTF-8")
}

fn write_durably(path: &Path, data: &[u8]) {
    let mut file = File::create(path).expect("a file");
    file.write_all(data).expect("it is written");
    file.sync_all().expect("it is durable");
}

fn assert_secret(path: &Path) {
    let text = std::fs::read_to_string(path);
    assert_eq!(text.expect("it is there"), SECRET);
}

/// A disk, or what stands for one, holds a container and nothing that can be read.
fn assert_encrypted(path: &Path) {
    let data = std::fs::read(path).expect("it is read");
    assert!(data.starts_with(MAGIC), "{}", path.display());
    let secret = SECRET.as_bytes();
    let found = data.windows(secret.len()).any(|bytes| bytes == secret);
    assert!(!found, "{}", path.display());
}

#[test]
fn a_volume_holds_a_container() {
    let Some(cluster) = kernel_pair("vault") else {
        return;
    };
    let mut attached = Attached::new(&cluster.nodes[0], "vault");
    format(attached.device());
    let ours = Opened::new(attached.device(), "ours");
    tool("mkfs.ext4", &["-q", &ours.device]).success();
    let place = ours.mount();
    write_durably(&place.join("before"), SECRET.as_bytes());
    let refused = attached.detach(&[]);
    let shown = format!("is mounted on {}", place.display());
    assert!(refused.stderr.contains(&shown), "{refused:?}");

    // The other node gets it, with all of it open here.
    cluster.nodes[0].ok(&["volume", "swap", "vault"]);
    let ended = attached.wait_for_end();
    assert_eq!(ended.code(), Some(1), "{}", attached.log());
    assert!(!place.join("before").exists(), "its mount is still there");
    ours.close();
    wait_for("the device to go", PATIENCE, || {
        (!is_used(attached.device())).then_some(())
    });
    let there = Attached::new(&cluster.nodes[1], "vault");
    let theirs = Opened::new(there.device(), "theirs");
    let place = theirs.mount();
    assert_secret(&place.join("before"));
    write_durably(&place.join("after"), SECRET.as_bytes());
    theirs.unmount_clean();
    theirs.close();
    assert_eq!(there.detach(&[]).code, Some(0));
    cluster.nodes[1].wait_state("vault", "Protected");

    cluster.nodes[1].ok(&["volume", "swap", "vault"]);
    let again = Attached::new(&cluster.nodes[0], "vault");
    let ours = Opened::new(again.device(), "ours");
    let place = ours.mount();
    for name in ["before", "after"] {
        assert_secret(&place.join(name));
    }
    ours.unmount_clean();
    ours.close();
    assert_eq!(again.detach(&[]).code, Some(0));
    assert_equal(&cluster, "vault");
    for node in &cluster.nodes {
        assert_encrypted(&node.data("vault"));
    }
}

/// Discards pass a container if it is told so. It grows when it is told so.
#[test]
fn a_container_passes_discards_on_and_grows() {
    let file_bytes = amount(64 << 20);
    let Some(cluster) = kernel_pair("sparse") else {
        return;
    };
    let attached = Attached::new(&cluster.nodes[0], "sparse");
    format(attached.device());
    let opened = Opened::new(attached.device(), "opened");
    tool("mkfs.ext4", &["-q", &opened.device]).success();
    let place = opened.mount();
    let files = [0, 1].map(|node| cluster.nodes[node].data("sparse"));
    let before = files.each_ref().map(|file| allocated(file));
    let large = place.join("large");
    write_durably(&large, &vec![7; file_bytes]);
    for (file, before) in files.iter().zip(before) {
        assert!(allocated(file) >= before + file_bytes as u64);
    }
    std::fs::remove_file(&large).expect("it is removed");
    tool("sync", &["--file-system", text(&place)]).success();
    tool("fstrim", &[text(&place)]).success();
    for (file, before) in files.iter().zip(before) {
        let (now, slack) = (allocated(file), 4 << 20);
        assert!(now <= before + slack, "{now} of {before}");
    }
    cluster.nodes[0].ok(&["volume", "grow", "sparse", "--size", "96M"]);
    wait_for("the device to grow", PATIENCE, || {
        (size_bytes(attached.device()) == 96 << 20).then_some(())
    });
    tool("cryptsetup", &["resize", "--key-file", KEY, opened.name]).success();
    assert_eq!(size_bytes(&opened.device), (96 << 20) - HEADER_BYTES);
    opened.unmount_clean();
    opened.close();
    assert_equal(&cluster, "sparse");
}

/// How often a disk was flushed, as the kernel counts.
fn flushes(disk: &Device) -> u64 {
    const FLUSHES: usize = 15;
    let name = disk.path.replace("/dev/", "");
    let counts = std::fs::read_to_string(format!("/sys/block/{name}/stat"));
    let counts = counts.expect("it is a disk");
    let count = counts.split_whitespace().nth(FLUSHES);
    count
        .and_then(|count| count.parse().ok())
        .expect("a number")
}

#[test]
fn a_container_holds_a_replica() {
    if backend() != "nbd" {
        return;
    }
    let mut cluster = nodes();
    let disks = [0, 1].map(|_| Device::new(HEADER_BYTES + REPLICA_BYTES));
    disks.iter().for_each(|disk| format(&disk.path));
    let open = || {
        let names = ["alpha-disk", "beta-disk"];
        [0, 1].map(|node| Opened::new(&disks[node].path, names[node]))
    };
    let opened = open();
    let mut create = vec!["volume", "create", "main", "--size", "48M"];
    let backing = [0, 1].map(|node| {
        let name = cluster.nodes[node].name();
        format!("--backing={name}={}", opened[node].device)
    });
    create.extend(backing.iter().map(String::as_str));
    // What nobody has written yet is no zeroes.
    let refused = cluster.nodes[0].cli(&create);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    for opened in &opened {
        tool("blkdiscard", &["--zeroout", "--length=1M", &opened.device]).success();
    }
    cluster.nodes[0].ok(&create);
    cluster.nodes[0].wait_state("main", "Protected");

    let attached = Attached::new(&cluster.nodes[0], "main");
    let place = attached.mkfs();
    let before = disks.each_ref().map(flushes);
    write_durably(&place.join("before"), SECRET.as_bytes());
    for (disk, before) in disks.iter().zip(before) {
        assert!(flushes(disk) > before, "{} was not flushed", disk.path);
    }
    cluster.alpha().stop();
    cluster.alpha().start();
    write_durably(&place.join("after"), SECRET.as_bytes());
    // Zeroes are written, which takes its time.
    tool("fstrim", &["--length=4M", text(&place)]).success();
    attached.unmount_clean();
    assert_eq!(attached.detach(&[]).code, Some(0));
    cluster.nodes[0].wait_state("main", "Protected");
    let [one, other] = opened
        .each_ref()
        .map(|opened| std::fs::read(&opened.device));
    assert!(one.expect("it is read") == other.expect("it is read"));

    cluster.alpha().stop();
    cluster.beta().stop();
    opened.into_iter().for_each(Opened::close);
    disks.iter().for_each(|disk| assert_encrypted(disk.file()));
    // Whoever opens the containers may come after the daemons.
    cluster.start();
    cluster.nodes[0].wait_state("main", "Stopped");
    let opened = open();
    cluster.nodes[0].wait_state("main", "Protected");
    let attached = Attached::new(&cluster.nodes[0], "main");
    let place = attached.mount();
    for name in ["before", "after"] {
        assert_secret(&place.join(name));
    }
    attached.unmount_clean();
    assert_eq!(attached.detach(&[]).code, Some(0));
    cluster.alpha().stop();
    cluster.beta().stop();
    opened.into_iter().for_each(Opened::close);
}
