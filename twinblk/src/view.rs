//! A replica's status as a person reads it.

use crate::api::{IoView, ReceiptView, ReplicaView, ResyncView, VolumeView};
use crate::registry::Record;
use engine::volume::{IoStatus, VolumeStatus};
use format::types::{NodeSet, Slot};
use replica::status::{
    ConnectionState, PeerStatus, Receipt, ReplicationState, Role, Status as ReplicaStatus,
};

/// The view of a replica that is open. `now` is the reactor's clock; `application_p99_us` is what clients felt
/// during the last resync.
pub(crate) fn of_open(
    record: &Record,
    status: &VolumeStatus,
    now: u64,
    application_p99_us: Option<u64>,
) -> VolumeView {
    let replica = &status.replica;
    let configuration = replica.configuration;
    VolumeView {
        name: record.name.to_string(),
        id: record.volume.to_string(),
        size_bytes: replica.size_bytes,
        role: match replica.role {
            Role::Primary => "Primary",
            Role::Secondary => "Secondary",
            Role::Waiting(_) => "Waiting",
            Role::Stopped => "Stopped",
        }
        .to_owned(),
        primary: configuration.primary.map(|slot| record.node_name(slot)),
        epoch: configuration.epoch,
        state: state_words(record, replica),
        reason: status.refusal.clone(),
        suspect: replica.suspect,
        forced: replica.forced,
        frozen: replica.frozen,
        arbiter: replica.arbiter.map(|standing| format!("{standing:?}")),
        attached: false,
        labels: record.labels.clone(),
        paused: replica.paused,
        replicas: replicas(record, replica),
        resync: walking(replica).map(|peer| resync(record, replica, peer, now)),
        last_receipt: replica
            .last_receipt
            .map(|receipt| receipt_view(receipt, application_p99_us)),
        io: Some(io(&status.io)),
        nbd: Vec::new(),
    }
}

/// The view of a replica that is not open.
pub(crate) fn of_stopped(record: &Record, size_bytes: u64, reason: String) -> VolumeView {
    let replica = |member: &crate::registry::Member| ReplicaView {
        node: member.name.to_string(),
        disk_state: "Unknown".to_owned(),
        connection_state: format!("{:?}", ConnectionState::Connecting),
        in_sync: false,
        out_of_sync_bytes: 0,
    };
    let members = record.members.iter();
    let own = members.filter(|member| member.slot == record.slot);
    VolumeView {
        name: record.name.to_string(),
        id: record.volume.to_string(),
        size_bytes,
        role: "Stopped".to_owned(),
        primary: None,
        epoch: 0,
        state: "Stopped".to_owned(),
        reason: Some(reason),
        suspect: false,
        forced: false,
        frozen: false,
        arbiter: None,
        attached: false,
        labels: record.labels.clone(),
        paused: false,
        replicas: own.chain(record.others()).map(replica).collect(),
        resync: None,
        last_receipt: None,
        io: None,
        nbd: Vec::new(),
    }
}

fn state_words(record: &Record, replica: &ReplicaStatus) -> String {
    let waiting_for = |slot: Slot| format!("Waiting for {}", record.node_name(slot));
    let all: NodeSet = record.members.iter().map(|member| member.slot).collect();
    let in_sync = replica.configuration.in_sync;
    let lost_members = replica.peers.iter().filter(|peer| {
        peer.connection != ConnectionState::Connected && in_sync.contains(peer.slot)
    });
    let lost: NodeSet = lost_members.map(|peer| peer.slot).collect();
    let left_behind = !in_sync.contains(replica.slot);
    let primary = replica
        .configuration
        .primary
        .filter(|primary| *primary != replica.slot);
    if replica.role == Role::Stopped {
        return "Stopped".to_owned();
    }
    if replica.peers.iter().any(|peer| peer.split_brain) {
        return "SplitBrain".to_owned();
    }
    if replica.frozen {
        return "Frozen".to_owned();
    }
    if let Role::Waiting(slot) = replica.role {
        return waiting_for(slot);
    }
    if replica.configuration.primary == Some(replica.slot) && replica.role != Role::Primary {
        // It is about to serve: what waits for protection must find it serving.
        return waiting_for(replica.slot);
    }
    if let Some(peer) = walking(replica).filter(|peer| is_sync(peer)) {
        return format!("Resync {}%", percent(peer));
    }
    // Whoever serves decides who is missed; a replica that does not hear it can only wait for it.
    if let Some(primary) = primary.filter(|primary| lost.contains(*primary)) {
        return waiting_for(primary);
    }
    match lost.first() {
        Some(slot) if !left_behind => waiting_for(slot),
        None if in_sync == all => "Protected".to_owned(),
        _ => "Alone".to_owned(),
    }
}

fn is_sync(peer: &PeerStatus) -> bool {
    matches!(
        peer.replication,
        ReplicationState::SyncSource | ReplicationState::SyncTarget
    )
}

fn walking(replica: &ReplicaStatus) -> Option<&PeerStatus> {
    let walks = |peer: &&PeerStatus| {
        !matches!(
            peer.replication,
            ReplicationState::Off | ReplicationState::Established
        )
    };
    let mut peers = replica.peers.iter().filter(walks);
    let first = peers.next()?;
    // Of several the one that has furthest to go says how long protection is away.
    Some(peers.fold(first, |worst, peer| {
        if percent(peer) < percent(worst) {
            peer
        } else {
            worst
        }
    }))
}

fn percent(peer: &PeerStatus) -> u64 {
    let progress = peer.progress.unwrap_or_default();
    let done = u128::from(progress.bytes_done.min(progress.bytes_total)) * 100;
    u64::try_from(done / u128::from(progress.bytes_total.max(1))).unwrap_or(100)
}

fn replicas(record: &Record, replica: &ReplicaStatus) -> Vec<ReplicaView> {
    let in_sync = replica.configuration.in_sync;
    let own = ReplicaView {
        node: record.node_name(replica.slot),
        disk_state: format!("{:?}", replica.disk_state),
        connection_state: format!("{:?}", ConnectionState::Connected),
        in_sync: in_sync.contains(replica.slot),
        out_of_sync_bytes: 0,
    };
    let others = replica.peers.iter().map(|peer| ReplicaView {
        node: record.node_name(peer.slot),
        disk_state: peer
            .disk_state
            .map_or_else(|| "Unknown".to_owned(), |state| format!("{state:?}")),
        connection_state: format!("{:?}", peer.connection),
        in_sync: in_sync.contains(peer.slot),
        out_of_sync_bytes: peer.out_of_sync_bytes,
    });
    std::iter::once(own).chain(others).collect()
}

fn resync(record: &Record, replica: &ReplicaStatus, peer: &PeerStatus, now: u64) -> ResyncView {
    let progress = peer.progress.unwrap_or_default();
    let elapsed = u128::from(now.saturating_sub(progress.started_at).max(1));
    let rate = u128::from(progress.bytes_done) * 1_000_000_000 / elapsed;
    let left = u128::from(progress.bytes_total.saturating_sub(progress.bytes_done));
    ResyncView {
        node: record.node_name(peer.slot),
        direction: format!("{:?}", peer.replication),
        waits: replica.resyncing && !replica.has_turn,
        bytes_total: progress.bytes_total,
        bytes_done: progress.bytes_done,
        bytes_on_wire: progress.bytes_on_wire,
        rate_bytes_per_s: u64::try_from(rate).unwrap_or(u64::MAX),
        seconds_left: left
            .checked_div(rate)
            .and_then(|seconds| u64::try_from(seconds).ok()),
    }
}

/// A receipt as a person reads it.
pub(crate) fn receipt_view(receipt: Receipt, application_p99_us: Option<u64>) -> ReceiptView {
    ReceiptView {
        blocks_dirty: receipt.blocks_dirty,
        bytes_moved: receipt.bytes_moved,
        bytes_on_wire: receipt.bytes_on_wire,
        bytes_saved_by_hash: receipt.bytes_saved_by_hash,
        seconds: std::time::Duration::from_nanos(receipt.nanos).as_secs_f64(),
        application_p99_us,
    }
}

fn io(io: &IoStatus) -> IoView {
    let [latency_p50_us, latency_p99_us, latency_p999_us] = io.latency_us;
    IoView {
        clients: io.clients,
        reads: io.reads,
        writes: io.writes,
        flushes: io.flushes,
        read_bytes: io.read_bytes,
        written_bytes: io.written_bytes,
        latency_p50_us,
        latency_p99_us,
        latency_p999_us,
    }
}

#[cfg(test)]
mod tests;
