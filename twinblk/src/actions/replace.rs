//! `node replace`: another node gets the replicas that a node has.
//!
//! Every node sees to the volumes that it serves, one after the other. Where the old replica is good the new one comes first, so
//! that no copy is missing meanwhile; one that is of no use goes first, since replicas come only where all others are there.

use super::nodes::hand_over;
use super::{replicas, unexpected};
use crate::api::{Action, Drained, Moved, Stayed};
use crate::control::{Request, Response};
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::volumes::Hosted;
use format::types::Name;
use replica::status::{ConnectionState, Role, Status};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// So often it is looked whether a new replica is in sync,
const PERIOD: Duration = Duration::from_millis(200);
/// and for so long one is waited for that is not connected.
const ABSENCE_MAX: Duration = Duration::from_secs(60);

/// Has every node do its part.
pub(crate) async fn replace(
    daemon: &Arc<Daemon>,
    old: &Name,
    new: &str,
) -> Result<Drained, Failure> {
    let new = Name::new(new).ok_or_else(|| Failure::usage(format!("`{new}` is no node")))?;
    if *old == new {
        return Err(Failure::usage(format!("{old} is to be replaced by itself")));
    }
    let own = &daemon.config.name;
    let peers = daemon.config.peers.iter().map(|peer| &peer.name);
    let nodes: BTreeSet<Name> = peers.chain([own]).cloned().collect();
    if !nodes.contains(old) {
        return Err(Failure::not_found(format!("{own} knows no node {old}")));
    }
    // One that cannot be asked gets no replica.
    daemon.ask(&new, Request::ShowNode).await?;
    let mut asked = JoinSet::new();
    for node in nodes {
        let (daemon, old, with) = (daemon.clone(), old.clone(), new.clone());
        asked.spawn(async move {
            let request = Request::ReplaceNode { node: old, with };
            let answer = daemon.ask(&node, request).await;
            (node, answer)
        });
    }
    let mut all = Drained::default();
    for (node, answer) in asked.join_all().await {
        match answer {
            Ok(Response::Drained(its)) => {
                all.moved.extend(its.moved);
                all.stayed.extend(its.stayed);
            }
            Ok(other) => return Err(unexpected(&node, &other)),
            // That may be why it is replaced.
            Err(_) if node == *old => {}
            Err(failure) => all.stayed.push(Stayed {
                volume: format!("what {node} serves"),
                reason: failure.message,
            }),
        }
    }
    // What nobody serves is told by each of its replicas.
    all.stayed
        .sort_by(|one, other| one.volume.cmp(&other.volume));
    all.stayed.dedup();
    Ok(all)
}

/// Does this node's part.
pub(crate) async fn replace_here(daemon: &Arc<Daemon>, old: &Name, new: &Name) -> Drained {
    let mut drained = Drained::default();
    for hosted in daemon.volumes.all() {
        if hosted.record.member(old).is_none() {
            continue;
        }
        let volume = hosted.record.name.to_string();
        let begun = Instant::now();
        let replaced = match duty(daemon, &hosted).await {
            Ok(Duty::Ours(status)) => replace_one(daemon, &hosted, &status, old, new).await,
            Ok(Duty::Anothers) => continue,
            Err(failure) => Err(failure),
        };
        match replaced {
            Ok(()) => drained.moved.push(Moved {
                volume,
                to: new.to_string(),
                seconds: begun.elapsed().as_secs_f64(),
            }),
            Err(failure) => drained.stayed.push(Stayed {
                volume,
                reason: failure.message,
            }),
        }
    }
    drained
}

/// Who sees to a volume.
enum Duty {
    Ours(Box<Status>),
    Anothers,
}

async fn duty(daemon: &Daemon, hosted: &Hosted) -> Result<Duty, Failure> {
    let status = hosted.status().await?.replica;
    if status.role == Role::Primary {
        return Ok(Duty::Ours(Box::new(status)));
    }
    let members = &hosted.record.members;
    let primary = status.configuration.primary;
    let primary = members.iter().find(|member| Some(member.slot) == primary);
    match primary.filter(|primary| primary.name != daemon.config.name) {
        Some(primary) if daemon.nodes.session(&primary.name).is_ok() => Ok(Duty::Anothers),
        _ => Err(Failure::failed(
            "no node serves it that can be asked: promote it first",
        )),
    }
}

async fn replace_one(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    status: &Status,
    old: &Name,
    new: &Name,
) -> Result<(), Failure> {
    if is_good(hosted, status, old) {
        replicas::add(daemon, hosted, new.as_str(), None).await?;
        until_in_sync(daemon, hosted, new).await?;
        return remove(daemon, hosted, old, new).await;
    }
    remove(daemon, hosted, old, new).await?;
    // What is remembered of the volume has changed.
    let hosted = daemon.volumes.current(hosted);
    let added = match replicas::add(daemon, &hosted, new.as_str(), None).await {
        Ok(_) => until_in_sync(daemon, &hosted, new).await,
        Err(failure) => Err(failure),
    };
    added.map_err(|failure| {
        Failure::failed(format!(
            "{old} has no replica any more, and {new} none that is in sync: `twinblk volume replica add {} {new}` goes \
             on: {failure}",
            hosted.record.name
        ))
    })
}

/// Whether a replica counts as a copy now.
fn is_good(hosted: &Hosted, status: &Status, node: &Name) -> bool {
    let Some(member) = hosted.record.member(node) else {
        return false;
    };
    let mut peers = status.peers.iter();
    let connected = member.slot == hosted.record.slot
        || peers
            .any(|peer| peer.slot == member.slot && peer.connection == ConnectionState::Connected);
    connected && status.configuration.in_sync.contains(member.slot)
}

/// Takes a node's replica away; where it serves the volume itself, the new one takes over before.
async fn remove(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    old: &Name,
    new: &Name,
) -> Result<(), Failure> {
    let (nodes, keep_data) = (vec![old.to_string()], false);
    if *old != daemon.config.name {
        replicas::remove(daemon, &daemon.volumes.current(hosted), &nodes, keep_data).await?;
        return Ok(());
    }
    hand_over(daemon, hosted, new)
        .await
        .map_err(|reason| Failure::failed(format!("{new} {reason}")))?;
    let removing = Request::Act {
        volume: hosted.record.volume,
        action: Action::RemoveReplicas { nodes, keep_data },
    };
    daemon.ask(new, removing).await?;
    Ok(())
}

async fn until_in_sync(daemon: &Daemon, hosted: &Arc<Hosted>, node: &Name) -> Result<(), Failure> {
    let mut seen = Instant::now();
    loop {
        let hosted = daemon.volumes.current(hosted);
        let status = hosted.status().await?.replica;
        if status.role != Role::Primary {
            return Err(Failure::failed(
                "another node serves it by now: type it again",
            ));
        }
        let member = hosted.record.member(node);
        let its = |slot| status.peers.iter().find(|peer| peer.slot == slot);
        let peer = member.and_then(|member| its(member.slot));
        if member.is_some_and(|member| status.configuration.in_sync.contains(member.slot)) {
            return Ok(());
        }
        if peer.is_some_and(|peer| peer.connection == ConnectionState::Connected) {
            seen = Instant::now();
        } else if seen.elapsed() > ABSENCE_MAX {
            return Err(Failure::failed(format!(
                "{node} is not connected: its replica is brought up to date once it is; type it again then"
            )));
        }
        sleep(PERIOD).await;
    }
}
