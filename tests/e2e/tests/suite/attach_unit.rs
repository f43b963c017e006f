//! The unit that attaches a volume. Run in a guest (`guests.rs`) that systemd has started: elsewhere these tests do nothing.

use crate::attach_kernel::kernel_pair;
use e2e::attached::Attached;
use e2e::foreign::tool;
use e2e::{PATIENCE, wait_for};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const UNIT: &str = "twinblk-attach@pgdata";

fn property(name: &str) -> String {
    let told = tool("systemctl", &["show", "--value", "--property", name, UNIT]);
    told.success().trim().to_owned()
}

fn wait_until(state: &str) {
    wait_for(state, PATIENCE, || {
        (property("ActiveState") == state).then_some(())
    });
}

fn write_durably(path: &Path) {
    let mut file = File::create(path).expect("a file");
    file.write_all(b"it is there\n").expect("it is written");
    file.sync_all().expect("it is durable");
}

/// Killed, it is started again, and goes on with the device. Where another node has the volume it stays away.
#[test]
fn a_device_whose_process_dies_is_gone_on_with() {
    let Some(mut cluster) = kernel_pair("pgdata") else {
        return;
    };
    let configuration = cluster.nodes[0].folder().join("twinblk.toml");
    std::fs::create_dir("/etc/twinblk").expect("the guest is the test's own");
    std::fs::copy(configuration, "/etc/twinblk/twinblk.toml").expect("it is copied");
    tool("systemctl", &["start", UNIT]).success();
    let mut attached = Attached::found(&cluster.nodes[0], "pgdata");
    let place = attached.mkfs();
    write_durably(&place.join("before"));

    attached.kill();
    wait_for("another process", PATIENCE, || {
        (property("NRestarts") == "1").then_some(())
    });
    wait_until("active");
    assert_eq!(
        attached.link().canonicalize().ok().as_deref(),
        Some(Path::new(attached.device()))
    );
    // It gives the kernel connections.
    cluster.alpha().stop();
    cluster.alpha().start();
    write_durably(&place.join("after"));
    assert!(place.join("before").exists());

    cluster.nodes[0].wait_state("pgdata", "Protected");
    cluster.nodes[0].ok(&["volume", "swap", "pgdata"]);
    wait_until("failed");
    assert_eq!(property("NRestarts"), "1");
    assert!(!place.join("after").exists() && !attached.link().exists());
}
