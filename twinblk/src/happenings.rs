//! Events in words: what the core notices, and what the daemon itself does.

use crate::event_log::Happening;
use crate::registry::Record;
use crate::units::Size;
use crate::view::receipt_view;
use format::types::{Configuration, Name};
use replica::notice::Notice;
use replica::status::ArbiterStanding;

/// What happens outside of the core. The core's own notices have the numbers from 100 on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Incident {
    /// The daemon has started.
    Started,
    /// The daemon has been told to stop.
    Stopping,
    /// The control link to a node is up.
    NodeConnected(Name),
    /// The control link to a node has broken.
    NodeLost(Name, String),
    /// Somebody without the cluster key, or whom this node does not know, wanted to connect.
    StrangerRefused(String),
    /// An arbiter has been set.
    ArbiterSet(String),
    /// An operator had the arbiter hold this node's configuration, of this number.
    ArbiterReset(Name, u64),
    /// A volume has been created.
    Created(Name),
    /// A volume has been removed.
    Removed(Name),
    /// A volume has grown.
    Grown(Name, u64),
    /// A data file has got new metadata.
    Adopted(Name),
    /// A volume has another replica, on this node.
    ReplicaAdded(Name, Name),
    /// A volume has the replica of this node no more.
    ReplicaRemoved(Name, Name),
    /// A replica that was closed is open now.
    ReplicaOpened(Name),
    /// A replica has been closed for as long as it is read.
    ReplicaLent(Name),
    /// A replica could not be opened, or its reactor has ended.
    ReplicaFailed(Name, String),
}

impl Incident {
    /// The event to log.
    pub(crate) fn happening(self) -> Happening {
        match self {
            Incident::Started => of_node("started", 1, "the daemon has started"),
            Incident::Stopping => of_node("stopping", 2, "the daemon stops"),
            Incident::NodeConnected(node) => {
                of_node("node-connected", 10, format!("{node} is connected"))
            }
            Incident::NodeLost(node, reason) => of_node(
                "node-lost",
                11,
                format!("the link to {node} has broken: {reason}"),
            ),
            Incident::StrangerRefused(text) => of_node("stranger-refused", 12, text),
            Incident::ArbiterSet(text) => of_node("arbiter-set", 13, text),
            Incident::ArbiterReset(volume, epoch) => of_volume(
                &volume,
                ("arbiter-reset", 14),
                format!("the arbiter was made to hold configuration {epoch}"),
            ),
            Incident::Created(volume) => {
                of_volume(&volume, ("created", 20), "the volume was created")
            }
            Incident::Removed(volume) => {
                of_volume(&volume, ("removed", 21), "the volume was removed")
            }
            Incident::Grown(volume, bytes) => of_volume(
                &volume,
                ("grown", 22),
                format!("the volume has {} now", Size(bytes)),
            ),
            Incident::Adopted(volume) => {
                of_volume(&volume, ("adopted", 23), "the data file has new metadata")
            }
            Incident::ReplicaFailed(volume, reason) => of_volume(
                &volume,
                ("replica-failed", 24),
                format!("the replica is closed: {reason}"),
            ),
            Incident::ReplicaOpened(volume) => {
                of_volume(&volume, ("replica-opened", 25), "the replica is open")
            }
            Incident::ReplicaLent(volume) => of_volume(
                &volume,
                ("replica-exported", 28),
                "the replica is closed while it is being exported",
            ),
            Incident::ReplicaAdded(volume, node) => of_volume(
                &volume,
                ("replica-added", 26),
                format!("the volume has a replica on {node} now"),
            ),
            Incident::ReplicaRemoved(volume, node) => of_volume(
                &volume,
                ("replica-removed", 27),
                format!("the volume has no replica on {node} any more"),
            ),
        }
    }
}

fn of_node(name: &'static str, number: u16, text: impl Into<String>) -> Happening {
    Happening {
        volume: None,
        name,
        number,
        text: text.into(),
    }
}

fn of_volume(
    volume: &Name,
    (name, number): (&'static str, u16),
    text: impl Into<String>,
) -> Happening {
    Happening {
        volume: Some(volume.to_string()),
        ..of_node(name, number, text)
    }
}

/// The event of a notice of this replica's core.
pub(crate) fn of_notice(record: &Record, notice: &Notice) -> Happening {
    Happening {
        volume: Some(record.name.to_string()),
        name: notice.name(),
        number: notice.number(),
        text: sentence(record, notice),
    }
}

fn sentence(record: &Record, notice: &Notice) -> String {
    let node = |slot| record.node_name(slot);
    match notice {
        Notice::Handshake { peer, row } => format!("handshake with {}: {row}", node(*peer)),
        Notice::Disconnected { peer, reason } => {
            format!("the data link to {} has ended: {reason}", node(*peer))
        }
        Notice::Configured(configuration) => configured(record, configuration),
        Notice::Promoted { forced: false } => "this node is the primary".to_owned(),
        Notice::Promoted { forced: true } => {
            "this node is the primary by force; what only others had acknowledged is given up"
                .to_owned()
        }
        Notice::Demoted { reason } => format!("this node is no longer the primary: {reason}"),
        Notice::Disk { slot, state } => format!("the disk of {} is {state:?}", node(*slot)),
        Notice::SplitBrain { peer } => format!(
            "split brain with {}: both have gone on from a common past; `twinblk volume resolve {} \
             --discard NODE --dry-run` tells what each choice loses",
            node(*peer),
            record.name
        ),
        Notice::ResyncStarted {
            peer,
            bytes,
            full_because,
        } => {
            let why = full_because.map_or_else(String::new, |why| format!(", everything: {why}"));
            format!(
                "resync with {} has begun: {} marked{why}",
                node(*peer),
                Size(*bytes)
            )
        }
        Notice::ResyncDone { peer, receipt } => {
            format!(
                "resync with {} has ended: {}",
                node(*peer),
                receipt_view(*receipt, None)
            )
        }
        Notice::VerifyDone { peer, differing: 0 } => {
            format!("verify with {} has ended: everything is equal", node(*peer))
        }
        Notice::VerifyDone { peer, differing } => {
            format!(
                "verify with {} has ended: {differing} blocks differed",
                node(*peer)
            )
        }
        Notice::ReadRepaired { peer } => {
            let peer = node(*peer);
            format!("a read error was served by {peer} and the blocks rewritten")
        }
        Notice::Suspect(true) => "acknowledged writes may be missing since a power cut".to_owned(),
        Notice::Suspect(false) => "what a power cut may have taken is back".to_owned(),
        Notice::Waiting { .. }
        | Notice::SlowPeer { .. }
        | Notice::ServesFlushed
        | Notice::Frozen
        | Notice::Thawed
        | Notice::Arbiter(_)
        | Notice::FailoverStarted { .. } => of_quorum(record, notice),
        Notice::Metadata(text) => text.clone(),
    }
}

fn of_quorum(record: &Record, notice: &Notice) -> String {
    match notice {
        Notice::Waiting { peer } => {
            format!(
                "waiting for {} to confirm that this node may serve",
                record.node_name(*peer)
            )
        }
        Notice::SlowPeer { peer } => {
            let peer = record.node_name(*peer);
            format!("{peer} answers, but too slowly: it is dropped")
        }
        Notice::Frozen => {
            "requests are held: a member does not answer, and no arbiter has dropped it".to_owned()
        }
        Notice::ServesFlushed => {
            "a power cut may have taken acknowledged writes, and no node that has them \
                                  has returned: what was flushed is served"
                .to_owned()
        }
        Notice::Arbiter(ArbiterStanding::Agrees) => "the arbiter answers".to_owned(),
        Notice::Arbiter(standing) => standing.complaint().to_owned(),
        Notice::FailoverStarted { quiet } => format!(
            "nothing was heard of the primary for {} ms: this node takes over if the arbiter agrees",
            quiet / 1_000_000
        ),
        _ => "requests go on".to_owned(),
    }
}

fn configured(record: &Record, configuration: &Configuration) -> String {
    let node = |slot| record.node_name(slot);
    let members: Vec<String> = configuration.in_sync.iter().map(node).collect();
    let primary = configuration
        .primary
        .map_or_else(|| "nobody".to_owned(), node);
    format!(
        "configuration {}: primary {primary}, in sync {}",
        configuration.epoch,
        members.join(" and ")
    )
}

#[cfg(test)]
mod tests;
