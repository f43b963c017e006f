//! What the daemon tells, as tables and lines for a person.

use crate::api::{ArbiterView, ConfigurationView, NodeView, ReplicaView, ResyncView, VolumeView};
use crate::event_log::EventView;
use crate::units::Size;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write;

/// Digits of a node's id that a person is shown.
const NODE_ID_DIGITS: usize = 12;

fn table(header: &[&str], right_aligned: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right_aligned.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn text(table: &Table) -> String {
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// `node ls`.
pub(super) fn nodes(nodes: &[NodeView]) -> String {
    let header = ["NODE", "ADDRESS", "ID", "ROLES", "STATUS", "REASON"];
    let mut table = table(&header, &[]);
    for node in nodes {
        let id = node.id.as_deref().unwrap_or("-");
        let maintenance = node.facts.is_some_and(|facts| facts.maintenance);
        table.add_row([
            node.name.as_str(),
            &node.addresses.join(", "),
            // As much of it as tells nodes apart; --quiet and --json print it whole.
            id.get(..NODE_ID_DIGITS).unwrap_or(id),
            &roles(node),
            &if maintenance {
                format!("{}, maintenance", node.state)
            } else {
                node.state.clone()
            },
            node.reason.as_deref().unwrap_or(""),
        ]);
    }
    text(&table)
}

fn roles(node: &NodeView) -> String {
    node.facts.map_or_else(
        || "-".to_owned(),
        |facts| {
            format!(
                "{} primary, {} secondary",
                facts.primaries, facts.secondaries
            )
        },
    )
}

/// `volume ls`.
pub(super) fn volumes(volumes: &[VolumeView]) -> String {
    let header = [
        "VOLUME",
        "SIZE",
        "PRIMARY",
        "REPLICAS",
        "STATE",
        "OUT OF SYNC",
    ];
    let mut table = table(&header, &[1, 5]);
    for volume in volumes {
        let show = |replica: &ReplicaView| format!("{} {}", replica.node, replica.disk_state);
        table.add_row([
            volume.name.clone(),
            Size(volume.size_bytes).to_string(),
            volume.primary.clone().unwrap_or_else(|| "-".to_owned()),
            volume
                .replicas
                .iter()
                .map(show)
                .collect::<Vec<_>>()
                .join(", "),
            state(volume),
            Size(out_of_sync(volume)).to_string(),
        ]);
    }
    text(&table)
}

/// The state's words, and how much longer it takes.
fn state(volume: &VolumeView) -> String {
    let left = volume
        .resync
        .as_ref()
        .and_then(|resync| resync.seconds_left);
    match left.filter(|_| volume.state.starts_with("Resync")) {
        Some(seconds) => format!("{}, {seconds} s left", volume.state),
        None => volume.state.clone(),
    }
}

fn out_of_sync(volume: &VolumeView) -> u64 {
    volume
        .replicas
        .iter()
        .map(|replica| replica.out_of_sync_bytes)
        .max()
        .unwrap_or(0)
}

/// `volume status`.
pub(super) fn volume(volume: &VolumeView) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_volume(&mut out, volume);
    out
}

fn write_volume(out: &mut String, volume: &VolumeView) -> std::fmt::Result {
    let VolumeView {
        name,
        id,
        role,
        epoch,
        ..
    } = volume;
    writeln!(
        out,
        "{name}  {}  {}",
        Size(volume.size_bytes),
        state(volume)
    )?;
    if let Some(reason) = &volume.reason {
        writeln!(out, "  {reason}")?;
    }
    let primary = volume.primary.as_deref().unwrap_or("nobody");
    writeln!(
        out,
        "  this node is {role}, the primary is {primary}; epoch {epoch}, id {id}"
    )?;
    for (set, words) in [
        (
            volume.suspect,
            "acknowledged writes may be missing since a power cut",
        ),
        (volume.forced, "promoted by force, and not healed yet"),
        (
            volume.frozen,
            "requests are held until a member or the arbiter answers",
        ),
        (
            volume.paused,
            "resyncs are held back: `twinblk volume resume` lets them go on",
        ),
    ] {
        if set {
            writeln!(out, "  {words}")?;
        }
    }
    if let Some(words) = volume.arbiter.as_deref().and_then(standing) {
        writeln!(out, "  {words}")?;
    }
    writeln!(out, "{}", replicas(&volume.replicas))?;
    if let Some(resync) = &volume.resync {
        write_resync(out, resync)?;
    }
    if let Some(receipt) = &volume.last_receipt {
        writeln!(out, "  last resync: {receipt}")?;
    }
    if let Some(io) = &volume.io {
        writeln!(
            out,
            "  {} clients; {} reads, {} writes, {} flushes; 50% within {} us, 99% within {} us",
            io.clients, io.reads, io.writes, io.flushes, io.latency_p50_us, io.latency_p99_us
        )?;
    }
    Ok(())
}

fn write_resync(out: &mut String, resync: &ResyncView) -> std::fmt::Result {
    writeln!(
        out,
        "  {} with {}: {} of {}, {}/s, {} on the wire",
        resync.direction,
        resync.node,
        Size(resync.bytes_done),
        Size(resync.bytes_total),
        Size(resync.rate_bytes_per_s),
        Size(resync.bytes_on_wire)
    )?;
    if resync.waits {
        writeln!(
            out,
            "  it waits for its turn: other volumes are being resynced"
        )?;
    }
    Ok(())
}

/// What a person should know of the arbiter.
fn standing(standing: &str) -> Option<&'static str> {
    Some(match standing {
        "Unasked" => "the arbiter has not been asked: there was no reason to",
        "Unreachable" => {
            "the arbiter does not answer, and changes of the configuration wait: `twinblk arbiter status` \
             says why"
        }
        "Empty" => {
            "the arbiter holds nothing of it: connect all replicas, or `twinblk arbiter reset`"
        }
        "Behind" => {
            "the arbiter holds less than this node and decides nothing: `twinblk arbiter reset`"
        }
        "Foreign" => "the arbiter holds what this volume never was: `twinblk arbiter reset`",
        _ => return None,
    })
}

fn replicas(replicas: &[ReplicaView]) -> String {
    let mut table = table(
        &["  NODE", "DISK", "CONNECTION", "IN SYNC", "OUT OF SYNC"],
        &[4],
    );
    for replica in replicas {
        table.add_row([
            format!("  {}", replica.node).as_str(),
            &replica.disk_state,
            &replica.connection_state,
            if replica.in_sync { "yes" } else { "no" },
            &Size(replica.out_of_sync_bytes).to_string(),
        ]);
    }
    text(&table)
}

/// `arbiter status`.
pub(super) fn arbiter(arbiter: &ArbiterView) -> String {
    let ArbiterView { kind, mode, .. } = arbiter;
    let Some(reachable) = arbiter.reachable else {
        return "there is no arbiter: failover is by hand; `twinblk arbiter set` adds one\n"
            .to_owned();
    };
    let source = match arbiter.source.as_deref() {
        Some("file") => "from the configuration file",
        _ => "by `arbiter set`",
    };
    let standing = match &arbiter.reason {
        _ if reachable => "it answers".to_owned(),
        Some(reason) => format!("it does not answer: {reason}"),
        None => "it does not answer".to_owned(),
    };
    let addresses = arbiter.addresses.join(", ");
    let mut out = format!("{kind}  {addresses}  {mode}, {source}\n  {standing}\n");
    let header = [
        "  VOLUME",
        "STATE",
        "ARBITER HOLDS",
        "THIS NODE HOLDS",
        "REASON",
    ];
    let mut table = table(&header, &[]);
    for volume in &arbiter.volumes {
        table.add_row([
            format!("  {}", volume.name),
            volume.state.clone(),
            configuration(volume.register.as_ref()),
            configuration(volume.node.as_ref()),
            volume.reason.clone().unwrap_or_default(),
        ]);
    }
    if !arbiter.volumes.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", text(&table));
    }
    out
}

fn configuration(configuration: Option<&ConfigurationView>) -> String {
    let Some(configuration) = configuration else {
        return "-".to_owned();
    };
    format!(
        "{}: primary {}, in sync {}",
        configuration.epoch,
        configuration.primary.as_deref().unwrap_or("nobody"),
        configuration.in_sync.join(" and ")
    )
}

/// A line of `events`.
pub(super) fn event(event: &EventView) -> String {
    let volume = event.volume.as_deref().unwrap_or("-");
    format!(
        "{}  {}  {volume}  {}  {}",
        event.at, event.node, event.name, event.text
    )
}
