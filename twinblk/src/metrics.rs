//! What Prometheus reads. All of it is made anew for each scrape from what `status` shows, so that a volume that was
//! removed leaves nothing behind.

use crate::api::{IoView, NodeView, ReplicaView, VolumeView};
use crate::duty;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::sync::atomic::AtomicU64;

/// Roles, disk states, connection states and state words, each a time series that is 1 while it is so.
const ROLES: &[&str] = &["Primary", "Secondary", "Waiting", "Stopped"];
const STATES: &[&str] = &[
    "Protected",
    "Resync",
    "Alone",
    "Frozen",
    "SplitBrain",
    "Waiting",
    "Stopped",
];
const DISK_STATES: &[&str] = &[
    "UpToDate",
    "Outdated",
    "Inconsistent",
    "Failed",
    "Diskless",
    "Unknown",
];
const CONNECTION_STATES: &[&str] = &["Connected", "Connecting", "StandAlone"];

type Labels = Vec<(&'static str, String)>;
type Numbers = Family<Labels, Gauge>;
type Seconds = Family<Labels, Gauge<f64, AtomicU64>>;
type Counts = Family<Labels, Counter>;

/// The text of one scrape.
pub(crate) fn text(nodes: &[NodeView], volumes: &[VolumeView]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("twinblk");
    add_nodes(&mut registry, nodes);
    add_volumes(&mut registry, volumes);
    add_peers(&mut registry, volumes);
    add_resyncs(&mut registry, volumes);
    add_io(&mut registry, volumes);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn family<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn family_in<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Unit,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

fn of_volume(volume: &VolumeView) -> Labels {
    vec![("volume", volume.name.clone())]
}

fn of_peer(volume: &VolumeView, peer: &ReplicaView) -> Labels {
    let mut labels = of_volume(volume);
    labels.push(("peer", peer.node.clone()));
    labels
}

fn set(numbers: &Numbers, labels: &Labels, value: impl TryInto<i64>) {
    let value = value.try_into().unwrap_or(i64::MAX);
    numbers.get_or_create(labels).set(value);
}

/// One time series for each of the words; that of the word that holds is 1.
fn set_word(numbers: &Numbers, labels: &Labels, key: &'static str, words: &[&str], word: &str) {
    for one in words {
        let mut labels = labels.clone();
        labels.push((key, (*one).to_owned()));
        set(numbers, &labels, i64::from(*one == word));
    }
}

/// All replicas but this node's.
fn peers(volume: &VolumeView) -> impl Iterator<Item = &ReplicaView> {
    volume.replicas.iter().skip(1)
}

fn add_nodes(registry: &mut Registry, nodes: &[NodeView]) {
    let info: Numbers = family(registry, "node_info", "This node");
    let connected: Numbers = family(
        registry,
        "node_connected",
        "Whether the control link to another node is up",
    );
    for node in nodes {
        if node.state == "Self" {
            let labels = vec![
                ("node", node.name.clone()),
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ];
            set(&info, &labels, 1);
        } else {
            let labels = vec![("node", node.name.clone())];
            set(&connected, &labels, i64::from(node.state == "Connected"));
        }
    }
}

fn add_volumes(registry: &mut Registry, volumes: &[VolumeView]) {
    let size: Numbers = family_in(registry, "volume_size", "Its size", Unit::Bytes);
    let serving: Numbers = family(
        registry,
        "volume_serving",
        "Whether this node serves its clients, as /health says",
    );
    let role: Numbers = family(registry, "volume_role", "1 for what this node is to it");
    let state: Numbers = family(registry, "volume_state", "1 for the state it is in");
    let epoch: Numbers = family(registry, "volume_epoch", "The configuration's number");
    let replicas: Numbers = family(registry, "volume_replicas", "Copies asked for");
    let in_sync: Numbers = family(registry, "volume_in_sync_replicas", "Copies in sync");
    let out_of_sync: Numbers = family_in(
        registry,
        "volume_out_of_sync",
        "What is marked as different for the replica that is furthest behind",
        Unit::Bytes,
    );
    let suspect: Numbers = family(
        registry,
        "volume_suspect",
        "Acknowledged writes may be missing since a power cut",
    );
    let paused: Numbers = family(registry, "volume_paused", "Resyncs are held back");
    for volume in volumes {
        let labels = of_volume(volume);
        let word = volume.state.split(' ').next().unwrap_or_default();
        let synced = volume.replicas.iter().filter(|replica| replica.in_sync);
        let behind = peers(volume).map(|peer| peer.out_of_sync_bytes).max();
        set(&size, &labels, volume.size_bytes);
        set(&serving, &labels, i64::from(duty::serving(volume).is_ok()));
        set_word(&role, &labels, "role", ROLES, &volume.role);
        set_word(&state, &labels, "state", STATES, word);
        set(&epoch, &labels, volume.epoch);
        set(&replicas, &labels, volume.replicas.len());
        set(&in_sync, &labels, synced.count());
        set(&out_of_sync, &labels, behind.unwrap_or(0));
        set(&suspect, &labels, i64::from(volume.suspect));
        set(&paused, &labels, i64::from(volume.paused));
    }
}

fn add_peers(registry: &mut Registry, volumes: &[VolumeView]) {
    let connection: Numbers = family(
        registry,
        "peer_connection",
        "1 for the state of the data link to another replica",
    );
    let disk: Numbers = family(
        registry,
        "peer_disk",
        "1 for the state of another replica's disk, as last heard",
    );
    let in_sync: Numbers = family(registry, "peer_in_sync", "Whether a write needs it");
    let out_of_sync: Numbers = family_in(
        registry,
        "peer_out_of_sync",
        "What is marked as different for it",
        Unit::Bytes,
    );
    for volume in volumes {
        for peer in peers(volume) {
            let labels = of_peer(volume, peer);
            let state = &peer.connection_state;
            set_word(&connection, &labels, "state", CONNECTION_STATES, state);
            set_word(&disk, &labels, "state", DISK_STATES, &peer.disk_state);
            set(&in_sync, &labels, i64::from(peer.in_sync));
            set(&out_of_sync, &labels, peer.out_of_sync_bytes);
        }
    }
}

fn add_resyncs(registry: &mut Registry, volumes: &[VolumeView]) {
    let total: Numbers = family_in(
        registry,
        "resync_size",
        "What the resync or verify under way had to deal with at its start",
        Unit::Bytes,
    );
    let left: Numbers = family_in(
        registry,
        "resync_remaining",
        "What it has yet to deal with",
        Unit::Bytes,
    );
    let rate: Numbers = family(
        registry,
        "resync_bytes_per_second",
        "How much it deals with in a second",
    );
    for volume in volumes {
        let labels = of_volume(volume);
        let resync = volume.resync.as_ref();
        let [bytes_total, bytes_left, bytes_per_second] = resync.map_or([0; 3], |resync| {
            let left = resync.bytes_total.saturating_sub(resync.bytes_done);
            [resync.bytes_total, left, resync.rate_bytes_per_s]
        });
        set(&total, &labels, bytes_total);
        set(&left, &labels, bytes_left);
        set(&rate, &labels, bytes_per_second);
    }
}

fn add_io(registry: &mut Registry, volumes: &[VolumeView]) {
    let clients: Numbers = family(registry, "volume_clients", "Clients that have it open");
    let reads: Counts = family(registry, "volume_reads", "Reads that have ended");
    let writes: Counts = family(registry, "volume_writes", "Writes that have ended");
    let flushes: Counts = family(registry, "volume_flushes", "Flushes that have ended");
    let read: Counts = family_in(registry, "volume_read", "What was read", Unit::Bytes);
    let written: Counts = family_in(registry, "volume_written", "What was written", Unit::Bytes);
    let latency: Seconds = family_in(
        registry,
        "volume_request_latency",
        "How long so much of the last minute's requests took at most",
        Unit::Seconds,
    );
    for volume in volumes {
        let labels = of_volume(volume);
        let Some(io) = &volume.io else {
            set(&clients, &labels, 0);
            continue;
        };
        set(&clients, &labels, io.clients);
        for (counts, value) in [
            (&reads, io.reads),
            (&writes, io.writes),
            (&flushes, io.flushes),
            (&read, io.read_bytes),
            (&written, io.written_bytes),
        ] {
            counts.get_or_create(&labels).inc_by(value);
        }
        for (quantile, micros) in quantiles(io) {
            let mut labels = labels.clone();
            labels.push(("quantile", quantile.to_owned()));
            let seconds = std::time::Duration::from_micros(micros).as_secs_f64();
            latency.get_or_create(&labels).set(seconds);
        }
    }
}

fn quantiles(io: &IoView) -> [(&'static str, u64); 3] {
    [
        ("0.5", io.latency_p50_us),
        ("0.99", io.latency_p99_us),
        ("0.999", io.latency_p999_us),
    ]
}

#[cfg(test)]
mod tests;
