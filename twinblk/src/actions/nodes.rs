//! What can be typed about a node, and what nodes tell of themselves.

use crate::api::{Drained, Moved, NodeFacts, NodeView, Stayed};
use crate::control::{Request, Response};
use crate::daemon::{Daemon, blocking};
use crate::event_log::Happening;
use crate::failure::Failure;
use crate::volumes::Hosted;
use engine::volume::VolumeStatus;
use format::types::{DiskState, Name};
use replica::status::{ConnectionState, PeerStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// A node that does not tell of itself by then is shown without.
const FACTS_PATIENCE: Duration = Duration::from_secs(3);
/// A volume that has not changed places by then is left where it is, so that the others get their turn.
const SWAP_PATIENCE: Duration = Duration::from_secs(30);

/// Marks this node as one that is not to serve more than it must, or as such no more.
pub(super) async fn maintain(daemon: &Arc<Daemon>, on: bool) -> Result<(), Failure> {
    let marking = daemon.clone();
    if blocking(move || marking.maintenance.set(on)).await? {
        daemon.events.push(happening(on));
    }
    Ok(())
}

fn happening(on: bool) -> Happening {
    let (name, number, text) = if on {
        (
            "maintenance-begun",
            30,
            "this node is in maintenance: nothing is moved to it",
        )
    } else {
        (
            "maintenance-ended",
            31,
            "this node is in maintenance no more",
        )
    };
    Happening {
        volume: None,
        name,
        number,
        text: text.to_owned(),
    }
}

/// Moves what this node serves to others, one volume after the other: each swap holds its clients up for a moment, and a
/// node that gets all at once would hold them up for longer.
pub(super) async fn drain(daemon: &Arc<Daemon>) -> Drained {
    let mut drained = Drained::default();
    for hosted in daemon.volumes.all() {
        let volume = hosted.record.name.to_string();
        let status = match hosted.status().await {
            Ok(status) => status,
            // What is closed is not served.
            Err(_) if hosted.closed().is_some() => continue,
            Err(failure) => {
                let reason = failure.message;
                drained.stayed.push(Stayed { volume, reason });
                continue;
            }
        };
        if status.replica.configuration.primary != Some(hosted.record.slot) {
            continue;
        }
        let begun = Instant::now();
        match move_away(daemon, &hosted, &status).await {
            Ok(to) => drained.moved.push(Moved {
                volume,
                to: to.to_string(),
                seconds: begun.elapsed().as_secs_f64(),
            }),
            Err(reason) => drained.stayed.push(Stayed { volume, reason }),
        }
    }
    drained
}

/// Has the first replica that can take a volume over do so, and tells which; or why none can.
async fn move_away(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    status: &VolumeStatus,
) -> Result<Name, String> {
    let mut reasons = Vec::new();
    for member in hosted.record.others() {
        let peers = &status.replica.peers;
        let peer = peers.iter().find(|peer| peer.slot == member.slot);
        let in_sync = status.replica.configuration.in_sync.contains(member.slot);
        let taken = match objection(peer, in_sync) {
            Some(objection) => Err(objection.to_owned()),
            None => hand_over(daemon, hosted, &member.name).await,
        };
        match taken {
            Ok(()) => return Ok(member.name.clone()),
            Err(reason) => reasons.push(format!("{} {reason}", member.name)),
        }
    }
    if reasons.is_empty() {
        return Err("it has no other replica".to_owned());
    }
    Err(reasons.join(", "))
}

/// Why a replica cannot take over, as far as this node sees.
fn objection(peer: Option<&PeerStatus>, in_sync: bool) -> Option<&'static str> {
    match peer {
        Some(peer) if peer.connection == ConnectionState::Connected => {
            if !in_sync {
                Some("is not in sync")
            } else if peer.disk_state != Some(DiskState::UpToDate) {
                Some("has no good disk")
            } else {
                None
            }
        }
        _ => Some("is not connected"),
    }
}

pub(super) async fn hand_over(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    to: &Name,
) -> Result<(), String> {
    let facts = facts_of(daemon, to).await;
    if facts.is_some_and(|facts| facts.maintenance) {
        return Err("is in maintenance".to_owned());
    }
    let swap = Request::Act {
        volume: hosted.record.volume,
        action: crate::api::Action::Swap,
    };
    match timeout(SWAP_PATIENCE, daemon.ask(to, swap)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(failure)) => Err(format!("could not take over ({failure})")),
        Err(_) => Err(format!("has not taken over within {SWAP_PATIENCE:?}")),
    }
}

/// What this node tells of itself.
pub(crate) async fn own_facts(daemon: &Arc<Daemon>) -> NodeFacts {
    let own = daemon.config.name.as_str();
    let volumes = daemon.show_all().await;
    let served = volumes.iter();
    let served = served.filter(|volume| volume.primary.as_deref() == Some(own));
    let primaries = served.count();
    NodeFacts {
        primaries,
        secondaries: volumes.len() - primaries,
        maintenance: daemon.maintenance.is_on(),
    }
}

async fn facts_of(daemon: &Arc<Daemon>, node: &Name) -> Option<NodeFacts> {
    let asked = timeout(FACTS_PATIENCE, daemon.ask(node, Request::ShowNode)).await;
    match asked.ok()?.ok()? {
        Response::Node(facts) => Some(facts),
        _ => None,
    }
}

/// Every node, with what those tell of themselves that can be asked.
pub(crate) async fn show(daemon: &Arc<Daemon>) -> Vec<NodeView> {
    let mut views = daemon.show_nodes();
    let mut asked = JoinSet::new();
    for (index, view) in views.iter().enumerate() {
        let name = Name::new(&view.name);
        if let Some(name) = name.filter(|_| view.state != "Connecting") {
            let daemon = daemon.clone();
            asked.spawn(async move { (index, facts_of(&daemon, &name).await) });
        }
    }
    for (index, facts) in asked.join_all().await {
        views[index].facts = facts;
    }
    views
}
