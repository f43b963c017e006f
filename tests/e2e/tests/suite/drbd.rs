//! Volumes that begin with what DRBD has. Run in a guest (`guests.rs`), whose kernel has DRBD's driver: elsewhere these
//! tests do nothing.

use crate::attach::{assert_equal, nodes};
use crate::devices::{Device, size_bytes};
use e2e::attached::{Attached, backend};
use e2e::foreign::tool;
use std::path::Path;

const DISK_BYTES: u64 = 64 << 20;
const TEXT: &str = "it was on DRBD before\n";

/// A resource whose peer is away.
fn begin_resource(disk: &Device) {
    let configuration = format!(
        "global {{ usage-count no; }}\nresource pgdata {{\n\
         device /dev/drbd0;\ndisk {};\nmeta-disk internal;\n\
         on guest {{ address 127.0.0.1:7789; }}\non other {{ address 127.0.0.1:7790; }}\n}}\n",
        disk.path
    );
    std::fs::write("/etc/drbd.conf", configuration).expect("the guest is the test's own");
    for folder in ["/var/lib/drbd", "/var/lock", "/var/run/drbd"] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    drbdadm(&["create-md", "--force"]);
    drbdadm(&["up"]);
    drbdadm(&["primary", "--force"]);
}

fn drbdadm(words: &[&str]) {
    tool("drbdadm", &[words, &["pgdata"]].concat()).success();
}

#[test]
fn a_volume_begins_with_a_device_of_drbd() {
    if backend() != "nbd" {
        return;
    }
    let cluster = nodes();
    let disk = Device::new(DISK_BYTES);
    begin_resource(&disk);
    let place = cluster.folder().join("old");
    std::fs::create_dir(&place).expect("a folder");
    let place = place.to_str().expect("temporary folders are UTF-8");
    tool("mkfs.ext4", &["-q", "/dev/drbd0"]).success();
    tool("mount", &["/dev/drbd0", place]).success();
    std::fs::write(Path::new(place).join("file"), TEXT).expect("it is written");

    let create = ["volume", "create", "pgdata", "--from", "/dev/drbd0"];
    let refused = cluster.nodes[0].cli(&create);
    assert!(refused.stderr.contains("busy"), "{refused:?}");
    tool("umount", &[place]).success();
    // What is below holds more, which is DRBD's own.
    let refused = cluster.nodes[0].cli(&["volume", "create", "pgdata", "--from", &disk.path]);
    assert!(refused.stderr.contains("busy"), "{refused:?}");
    cluster.nodes[0].ok(&create);
    let status = cluster.nodes[0].wait_state("pgdata", "Protected");
    assert_eq!(status["size_bytes"], size_bytes("/dev/drbd0"));
    assert!(size_bytes("/dev/drbd0") < DISK_BYTES);
    let wanted = std::fs::read("/dev/drbd0").expect("it is read");
    for node in &cluster.nodes {
        let has = std::fs::read(node.data("pgdata")).expect("it is read");
        assert!(has == wanted, "{} differs", node.name());
    }
    drbdadm(&["down"]);

    let attached = Attached::new(&cluster.nodes[0], "pgdata");
    let text = std::fs::read_to_string(attached.mount().join("file"));
    assert_eq!(text.expect("it is there"), TEXT);
    attached.unmount_clean();
    assert_equal(&cluster, "pgdata");
    let detached = attached.detach(&[]);
    assert_eq!(detached.code, Some(0), "{detached:?}");

    // The old disk becomes a new volume's.
    let (size, backing) = (DISK_BYTES.to_string(), format!("beta={}", disk.path));
    let create = ["volume", "create", "new", "--size", &size, "--backing"];
    let create = [&create[..], &[&backing]].concat();
    let refused = cluster.nodes[0].cli(&create);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    tool("blkdiscard", &["--zeroout", "--length", "1M", &disk.path]).success();
    cluster.nodes[0].ok(&create);
    cluster.nodes[0].wait_state("new", "Protected");
    let has = std::fs::read(&disk.path).expect("it is read");
    assert!(has.iter().all(|byte| *byte == 0), "something is left");
}
