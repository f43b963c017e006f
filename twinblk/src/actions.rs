//! What can be typed about a volume that exists, or a node, carried out by the node that must.

mod create;
mod export;
mod grow;
mod nodes;
mod remove;
mod replace;
mod replicas;
mod resolve;
mod take;

pub(crate) use create::create;
pub(crate) use export::{begin as begin_export, end as end_export};
pub(crate) use nodes::{own_facts, show as show_nodes};
pub(crate) use remove::refuse_if_open;
pub(crate) use replace::replace_here;
pub(crate) use take::{give_way, take};

use crate::api::{Action, Drained, NodeAction, Outcome};
use crate::arbitrate;
use crate::control::{Order, Request, Response};
use crate::daemon::{Daemon, blocking};
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::registry::{Decision, Verdict};
use crate::volumes::Hosted;
use engine::volume::VolumeStatus;
use format::types::{Name, NodeSet, Slot};
use replica::command::{Answer, Command};
use replica::status::{ArbiterStanding, ConnectionState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a creation or a change of roles waits for links and for the primary to serve, before a
/// person is told.
const SETTLING: Duration = Duration::from_secs(5);

/// Does it. `passed_on` says that it was typed on another node, which took this one for the right
/// one: it is not passed on again.
pub(crate) async fn act(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    action: Action,
    passed_on: bool,
) -> Result<Outcome, Failure> {
    if !passed_on && let Some(node) = other_node(daemon, hosted, &action).await? {
        let request = Request::Act {
            volume: hosted.record.volume,
            action,
        };
        return match daemon.ask(&node, request).await? {
            Response::Outcome(outcome) => Ok(outcome),
            other => Err(unexpected(&node, &other)),
        };
    }
    refuse_in_maintenance(daemon, &action)?;
    let name = &hosted.record.name;
    let own = &daemon.config.name;
    match action {
        Action::Promote { force } => {
            if force {
                // Who says that the primary is dead may have typed faster than its silence was heard.
                until_primary_is_gone(hosted, 2 * daemon.config.lease).await?;
            }
            change_roles(hosted, Command::Promote { force }).await?;
            Ok(Outcome::line(format!("{name}: {own} is the primary")))
        }
        Action::Demote => {
            change_roles(hosted, Command::Demote).await?;
            Ok(Outcome::line(format!("{name}: no node is the primary")))
        }
        Action::Swap => {
            change_roles(hosted, Command::Swap).await?;
            Ok(Outcome::line(format!("{name}: {own} is the primary")))
        }
        Action::Take => take::act(daemon, hosted).await,
        Action::Verify { repair } => verify(hosted, repair).await,
        Action::Resync { full, to } => resync(daemon, hosted, full, to.as_deref()).await,
        Action::Pause => {
            hosted.command(Command::Pause(true)).await?;
            daemon.resyncs.notify_one();
            Ok(Outcome::line(format!("{name}: resyncs are held back")))
        }
        Action::Resume => {
            hosted.command(Command::Pause(false)).await?;
            daemon.resyncs.notify_one();
            Ok(Outcome::line(format!("{name}: resyncs go on")))
        }
        Action::Resolve {
            discard,
            dry_run: true,
        } => resolve::foretell(daemon, hosted, &discard).await,
        Action::Resolve {
            discard,
            dry_run: false,
        } => resolve::resolve(daemon, hosted, &discard).await,
        Action::Adopt { only_copy } => adopt(daemon, hosted, only_copy).await,
        Action::Grow { size_bytes } => grow::grow(daemon, hosted, size_bytes).await,
        Action::AddReplica { node, backing } => replicas::add(daemon, hosted, &node, backing).await,
        Action::RemoveReplicas { nodes, keep_data } => {
            replicas::remove(daemon, hosted, &nodes, keep_data).await
        }
        Action::ResetArbiter { force } => arbitrate::reset(daemon, hosted, force).await,
        Action::Remove { keep_data } => remove::remove(daemon, hosted, keep_data).await,
    }
}

/// Says which volume a failure is about.
pub(crate) fn of_volume(hosted: &Hosted, failure: &Failure) -> Failure {
    Failure {
        kind: failure.kind,
        message: format!("volume {}: {failure}", hosted.record.name),
    }
}

/// Does it to a node, this one or another.
pub(crate) async fn act_on_node(
    daemon: &Arc<Daemon>,
    node: &str,
    action: NodeAction,
) -> Result<Drained, Failure> {
    let name = Name::new(node).ok_or_else(|| Failure::usage(format!("`{node}` is no node")))?;
    if let NodeAction::Replace { with } = &action {
        return replace::replace(daemon, &name, with).await;
    }
    match daemon.ask(&name, Request::ActOnNode { action }).await? {
        Response::Drained(drained) => Ok(drained),
        other => Err(unexpected(&name, &other)),
    }
}

/// Does it to this node.
pub(crate) async fn act_here(
    daemon: &Arc<Daemon>,
    action: NodeAction,
) -> Result<Response, Failure> {
    let done = match action {
        NodeAction::Drain => {
            nodes::maintain(daemon, true).await?;
            nodes::drain(daemon).await
        }
        NodeAction::Activate => {
            nodes::maintain(daemon, false).await?;
            Drained::default()
        }
        NodeAction::Replace { with } => {
            replace::replace(daemon, &daemon.config.name, &with).await?
        }
    };
    Ok(Response::Drained(done))
}

/// A node that is to be shut down is not to serve more than it must.
fn refuse_in_maintenance(daemon: &Daemon, action: &Action) -> Result<(), Failure> {
    let takes_over = matches!(action, Action::Promote { force: false } | Action::Swap);
    if !(takes_over && daemon.maintenance.is_on()) {
        return Ok(());
    }
    let own = &daemon.config.name;
    Err(Failure::failed(format!(
        "{own} is in maintenance: `twinblk node activate {own}` ends that"
    )))
}

/// The node that must do it, if that is another one and can be asked.
async fn other_node(
    daemon: &Daemon,
    hosted: &Hosted,
    action: &Action,
) -> Result<Option<Name>, Failure> {
    let Ok(status) = hosted.status().await else {
        return Ok(None);
    };
    let own = hosted.record.slot;
    let primary = status.replica.configuration.primary;
    let slot = match action {
        // The primary knows what its clients do, and drives the walks.
        Action::Demote
        | Action::Verify { .. }
        | Action::Pause
        | Action::Resume
        | Action::ResetArbiter { .. }
        | Action::AddReplica { .. }
        | Action::RemoveReplicas { .. }
        | Action::Remove { .. } => primary.filter(|primary| *primary != own),
        // A swap is done by the node that is to become the primary.
        Action::Swap if primary == Some(own) => {
            let mut others = hosted.record.others();
            let other = others.next().map(|member| member.slot);
            if other.is_none() || others.next().is_some() {
                return Err(Failure::failed(
                    "this node is the primary: type `volume swap` on the node that is to be it next",
                ));
            }
            other
        }
        _ => None,
    };
    let member = slot.and_then(|slot| hosted.record.members.iter().find(|one| one.slot == slot));
    let node = member.map(|member| member.name.clone());
    Ok(node.filter(|node| daemon.nodes.session(node).is_ok()))
}

/// Has the roles changed, and waits until the peers that were connected are so again: a change of
/// roles ends the sessions, and what is typed next should find them.
pub(crate) async fn change_roles(hosted: &Hosted, command: Command) -> Result<(), Failure> {
    let before = connected(&hosted.status().await?);
    hosted.command(command).await?;
    until_settled(hosted, before).await?;
    Ok(())
}

/// Waits until the primary, if that is another node, is no longer connected; it may well stay.
async fn until_primary_is_gone(hosted: &Hosted, patience: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let status = hosted.status().await?;
        let primary = status.replica.configuration.primary;
        let there = primary.is_some_and(|primary| connected(&status).contains(primary));
        if !there || begun.elapsed() > patience {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn connected(status: &VolumeStatus) -> NodeSet {
    let peers = status.replica.peers.iter();
    let up = peers.filter(|peer| peer.connection == ConnectionState::Connected);
    up.map(|peer| peer.slot).collect()
}

/// Waits until the peers are connected and the replica serves if it is the primary's; after a while,
/// whatever it still says against serving is the answer.
async fn until_settled(hosted: &Hosted, peers: NodeSet) -> Result<Option<String>, Failure> {
    let begun = Instant::now();
    loop {
        let status = hosted.status().await?;
        let is_primary = status.replica.configuration.primary == Some(hosted.record.slot);
        let refusal = status.refusal.clone().filter(|_| is_primary);
        let missing = peers.difference(connected(&status));
        if (refusal.is_none() && missing.is_empty()) || begun.elapsed() > SETTLING {
            return Ok(refusal);
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the arbiter, where there is one, holds what the primary does: before that nobody can take over from it.
async fn until_arbitrated(hosted: &Hosted) -> Result<Option<String>, Failure> {
    let begun = Instant::now();
    loop {
        let replica = hosted.status().await?.replica;
        let serves = replica.configuration.primary == Some(hosted.record.slot);
        let standing = match replica.arbiter.filter(|_| serves) {
            None | Some(ArbiterStanding::Agrees) => return Ok(None),
            Some(standing) => standing,
        };
        if begun.elapsed() > SETTLING {
            return Ok(Some(format!(
                "until the arbiter holds it no node can take over: {}",
                standing.complaint()
            )));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn verify(hosted: &Hosted, repair: bool) -> Result<Outcome, Failure> {
    let answer = hosted.command(Command::Verify { repair }).await?;
    let Answer::Verified { blocks, differing } = answer else {
        return Ok(Outcome::line(format!(
            "{}: nothing was compared",
            hosted.record.name
        )));
    };
    let found = match (differing, repair) {
        (0, _) => "all are equal".to_owned(),
        (_, true) => format!("{differing} differed and are being copied from the primary"),
        (_, false) => format!("{differing} differ: `volume verify --repair` copies the primary's"),
    };
    Ok(Outcome {
        lines: vec![format!(
            "{}: {blocks} blocks compared, {found}",
            hosted.record.name
        )],
        blocks: Some(blocks),
        differing: Some(differing),
    })
}

async fn resync(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    full: bool,
    to: Option<&str>,
) -> Result<Outcome, Failure> {
    let slot = to.map(|node| slot_of(hosted, node)).transpose()?;
    let to_slot = slot.and_then(|slot| u8::try_from(slot.index()).ok());
    let order = Order::Resync { full, to: to_slot };
    let mut refusal = None;
    let mut asked = Vec::new();
    for member in &hosted.record.members {
        let request = Request::Order {
            volume: hosted.record.volume,
            order,
        };
        match daemon.ask(&member.name, request).await {
            Ok(_) => asked.push(member.name.to_string()),
            Err(failure) => refusal = Some(failure),
        }
    }
    match refusal {
        // One side is enough: the other hears of it in the handshake.
        Some(refusal) if asked.is_empty() => Err(refusal),
        _ => Ok(Outcome::line(format!(
            "{}: {} connect again",
            hosted.record.name,
            asked.join(" and ")
        ))),
    }
}

async fn adopt(daemon: &Arc<Daemon>, hosted: &Hosted, only_copy: bool) -> Result<Outcome, Failure> {
    let volume = hosted.record.volume;
    let volumes = daemon.clone();
    let hosted = blocking(move || volumes.volumes.adopt(volume, only_copy)).await?;
    hosted.volume()?;
    crate::data_links::keep(daemon, &hosted);
    let name = &hosted.record.name;
    daemon.incident(Incident::Adopted(name.clone()));
    Ok(Outcome::line(format!(
        "{name}: the data file has new metadata"
    )))
}

/// Tells a node what was decided, and notes that it has heard it.
pub(crate) async fn tell(
    daemon: &Arc<Daemon>,
    node: &Name,
    decision: &Decision,
) -> Result<(), Failure> {
    let volume = decision.volume;
    let request = match decision.verdict {
        Verdict::Created => Request::Commit { volume },
        Verdict::Removed { keep_data } => {
            let replica = decision.replicas.iter().find(|one| one.name == *node);
            let slot = replica.and_then(|one| u8::try_from(one.slot.index()).ok());
            Request::Remove {
                volume,
                slot,
                keep_data,
            }
        }
    };
    daemon.ask(node, request).await?;
    let (daemon, node) = (daemon.clone(), node.clone());
    blocking(move || daemon.volumes.registry.confirmed(volume, &node)).await
}

/// The slot of a node's replica.
fn slot_of(hosted: &Hosted, node: &str) -> Result<Slot, Failure> {
    let member = Name::new(node).and_then(|name| hosted.record.member(&name).cloned());
    let slot = member.map(|member| member.slot);
    slot.ok_or_else(|| no_replica_on(hosted, node))
}

fn no_replica_on(hosted: &Hosted, node: &str) -> Failure {
    let members = hosted.record.members.iter();
    let names: Vec<_> = members.map(|one| one.name.as_str()).collect();
    Failure::not_found(format!(
        "volume {} has no replica on {node}: it has them on {}",
        hosted.record.name,
        names.join(" and ")
    ))
}

fn unexpected(node: &Name, response: &Response) -> Failure {
    Failure::failed(format!(
        "{node} gave an answer to another question: {response:?}"
    ))
}
