use super::{of_open, of_stopped};
use crate::api::VolumeView;
use crate::registry::{Member, Phase, Record};
use engine::volume::{IoStatus, VolumeStatus};
use format::types::{Configuration, DiskState, Generation, Name, NodeId, NodeSet, Slot, VolumeId};
use replica::status::{
    ConnectionState, PeerStatus, Progress, ReplicationState, Role, Status as ReplicaStatus,
};

fn slot(index: u8) -> Slot {
    Slot::new(index).expect("it is a slot")
}

fn record() -> Record {
    let member = |index: u8, node: &str| Member {
        slot: slot(index),
        name: Name::new(node).expect("it is a name"),
        node: NodeId([index + 1; 16]),
    };
    Record {
        volume: VolumeId([7; 16]),
        name: Name::new("a").expect("it is a name"),
        slot: slot(0),
        members: vec![member(0, "alpha"), member(1, "beta")],
        backing: None,
        thick: false,
        labels: Default::default(),
        phase: Phase::Ready,
    }
}

/// Alpha is the primary, both are in sync.
fn protected() -> ReplicaStatus {
    ReplicaStatus {
        resyncing: false,
        has_turn: false,
        slot: slot(0),
        role: Role::Primary,
        size_bytes: 1 << 30,
        configuration: Configuration {
            epoch: 3,
            generation: Generation([1; 16]),
            primary: Some(slot(0)),
            in_sync: NodeSet::from_bits(3),
        },
        disk_state: DiskState::UpToDate,
        suspect: false,
        forced: false,
        frozen: false,
        arbiter: None,
        paused: false,
        spent: NodeSet::EMPTY,
        peers: vec![PeerStatus {
            slot: slot(1),
            connection: ConnectionState::Connected,
            replication: ReplicationState::Established,
            disk_state: Some(DiskState::UpToDate),
            out_of_sync_bytes: 0,
            split_brain: false,
            progress: None,
        }],
        last_receipt: None,
    }
}

fn view(replica: ReplicaStatus) -> VolumeView {
    let status = VolumeStatus {
        replica,
        refusal: None,
        io: IoStatus::default(),
    };
    of_open(&record(), &status, 10_000_000_000, None)
}

fn state(change: impl FnOnce(&mut ReplicaStatus)) -> String {
    let mut replica = protected();
    change(&mut replica);
    view(replica).state
}

#[test]
fn state_words_say_what_a_person_wants_to_know() {
    assert_eq!(state(|_| {}), "Protected");
    assert_eq!(state(|replica| replica.role = Role::Stopped), "Stopped");
    let frozen = state(|replica| {
        replica.frozen = true;
        replica.peers[0].connection = ConnectionState::Connecting;
    });
    assert_eq!(frozen, "Frozen");
    assert_eq!(
        state(|replica| replica.role = Role::Waiting(slot(1))),
        "Waiting for beta"
    );
    assert_eq!(
        state(|replica| replica.peers[0].split_brain = true),
        "SplitBrain"
    );
    let lost = |replica: &mut ReplicaStatus| {
        replica.peers[0].connection = ConnectionState::Connecting;
        replica.peers[0].replication = ReplicationState::Off;
    };
    assert_eq!(state(lost), "Waiting for beta");
    let alone = |replica: &mut ReplicaStatus| {
        lost(replica);
        replica.configuration.in_sync = NodeSet::only(slot(0));
    };
    assert_eq!(state(alone), "Alone");
    let behind = |replica: &mut ReplicaStatus| {
        lost(replica);
        replica.role = Role::Secondary;
        replica.configuration.primary = Some(slot(1));
        replica.configuration.in_sync = NodeSet::only(slot(1));
    };
    assert_eq!(state(behind), "Waiting for beta");
    assert_eq!(
        state(|replica| replica.configuration.primary = None),
        "Protected"
    );
}

#[test]
fn a_walk_shows_its_progress() {
    let mut replica = protected();
    replica.configuration.in_sync = NodeSet::only(slot(0));
    replica.peers[0].replication = ReplicationState::SyncSource;
    replica.peers[0].progress = Some(Progress {
        bytes_total: 1000,
        bytes_done: 639,
        bytes_on_wire: 700,
        started_at: 9_000_000_000,
    });
    let seen = view(replica.clone());
    assert_eq!(seen.state, "Resync 63%");
    let resync = seen.resync.expect("it is under way");
    assert_eq!(resync.rate_bytes_per_s, 639);
    assert_eq!(resync.seconds_left, Some(0));
    replica.configuration.in_sync = NodeSet::from_bits(3);
    replica.peers[0].replication = ReplicationState::VerifySource;
    let seen = view(replica);
    assert_eq!(seen.state, "Protected");
    assert_eq!(
        seen.resync.expect("it is under way").direction,
        "VerifySource"
    );
}

#[test]
fn a_walk_that_has_not_moved_has_no_time_left_to_tell() {
    let mut replica = protected();
    replica.peers[0].replication = ReplicationState::SyncTarget;
    replica.peers[0].progress = Some(Progress {
        bytes_total: 1000,
        ..Progress::default()
    });
    let resync = view(replica).resync.expect("it is under way");
    assert_eq!((resync.rate_bytes_per_s, resync.seconds_left), (0, None));
}

#[test]
fn every_replica_is_named_this_nodes_first() {
    let seen = view(protected());
    let nodes: Vec<_> = seen
        .replicas
        .iter()
        .map(|replica| replica.node.as_str())
        .collect();
    assert_eq!(nodes, ["alpha", "beta"]);
    assert!(seen.replicas.iter().all(|replica| replica.in_sync));
    let of_beta = Record {
        slot: slot(1),
        ..record()
    };
    let stopped = of_stopped(&of_beta, 0, "it is damaged".to_owned());
    let nodes: Vec<_> = stopped
        .replicas
        .iter()
        .map(|replica| replica.node.as_str())
        .collect();
    assert_eq!(nodes, ["beta", "alpha"]);
    assert_eq!(seen.primary.as_deref(), Some("alpha"));
}
