//! Views for tests.

use super::{IoView, ReplicaView, VolumeView};

/// A volume that alpha serves, mirrored on beta, as alpha sees it.
pub(crate) fn protected() -> VolumeView {
    let replica = |node: &str| ReplicaView {
        node: node.to_owned(),
        disk_state: "UpToDate".to_owned(),
        connection_state: "Connected".to_owned(),
        in_sync: true,
        out_of_sync_bytes: 0,
    };
    VolumeView {
        name: "main".to_owned(),
        id: "07".repeat(16),
        size_bytes: 64 << 20,
        role: "Primary".to_owned(),
        primary: Some("alpha".to_owned()),
        epoch: 3,
        state: "Protected".to_owned(),
        reason: None,
        suspect: false,
        frozen: false,
        arbiter: None,
        forced: false,
        attached: false,
        labels: std::collections::BTreeMap::new(),
        paused: false,
        replicas: vec![replica("alpha"), replica("beta")],
        resync: None,
        last_receipt: None,
        io: Some(IoView {
            clients: 1,
            reads: 5,
            writes: 7,
            flushes: 2,
            read_bytes: 4096,
            written_bytes: 8192,
            latency_p50_us: 120,
            latency_p99_us: 2500,
            latency_p999_us: 7000,
        }),
        nbd: vec!["unix:/run/twinblk/nbd.sock".to_owned()],
    }
}

/// The same after beta was dropped.
pub(crate) fn alone() -> VolumeView {
    let mut view = protected();
    view.state = "Alone".to_owned();
    view.epoch += 1;
    view.replicas[1].in_sync = false;
    view.replicas[1].connection_state = "Connecting".to_owned();
    view.replicas[1].out_of_sync_bytes = 12288;
    view
}

/// The protected volume as beta would see it, if alpha were this node's name for beta.
pub(crate) fn secondary() -> VolumeView {
    let mut view = protected();
    view.role = "Secondary".to_owned();
    view.primary = Some("beta".to_owned());
    view.reason = Some("beta is the primary".to_owned());
    view
}
