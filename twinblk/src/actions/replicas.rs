//! `volume replica add` and `rm`: another copy of a volume that is in use, or one fewer.
//!
//! Both are done by the primary, step by step, and each step may be done again: the same command, typed again
//! after whatever has cut it short, goes on where it was. Why the steps are in this order is argued in the core
//! (`engine/core/src/replicas.rs`): a new replica is opened once everybody knows it, the primary last; and one that goes
//! loses its files once everybody has forgotten it, the primary first.

use crate::actions::{no_replica_on, tell, unexpected};
use crate::api::Outcome;
use crate::control::{Membership, ReplicaStep, Request, Response};
use crate::daemon::{Daemon, blocking};
use crate::failure::{Failure, FailureKind};
use crate::registry::{Decision, Member, Phase, Record, Verdict};
use crate::volumes::Hosted;
use format::types::{Name, NodeSet, Slot, VolumeId};
use replica::status::{ConnectionState, Role, Status};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the others have to hear that a replica has left the in-sync set.
const HEARSAY: Duration = Duration::from_secs(10);

/// What the replicas of a volume know of each other.
struct Known {
    members: Vec<Member>,
    spent: NodeSet,
}

/// Gives a volume another replica.
pub(crate) async fn add(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    node: &str,
    backing: Option<PathBuf>,
) -> Result<Outcome, Failure> {
    let name = node_name(node)?;
    let volume = hosted.record.volume;
    let status = serving(hosted).await?;
    let id = daemon.nodes.id(&name);
    let id = if name == daemon.config.name {
        Ok(daemon.local.node)
    } else {
        id
    }?;
    refuse_if_leaving(daemon, volume, &name).await?;
    let known = known(daemon, hosted, &BTreeSet::from([name.clone()])).await?;
    let there = known.members.iter().find(|member| member.name == name);
    if let Some(there) = there.filter(|there| there.node != id) {
        return Err(Failure::protects_data(format!(
            "volume {0} has a replica on another node of the name {name} ({1}): `twinblk volume replica rm {0} \
             {name}` first",
            hosted.record.name, there.node
        )));
    }
    let slot = match there {
        Some(there) => there.slot,
        None => free_slot(hosted, &known)?,
    };
    let member = Member {
        slot,
        name,
        node: id,
    };
    let its = ask_membership(daemon, &member.name, volume).await?;
    refuse_if_another(hosted, &known, &member, its.as_ref())?;
    let ready = its.is_some_and(|its| its.ready);
    let told = hosted.record.member(&member.name).is_some();
    if ready && told {
        return Ok(Outcome::line(format!(
            "{}: {node} has a replica already",
            hosted.record.name
        )));
    }
    refuse_if_apart(hosted, &status, slot)?;
    daemon.creating(volume, true);
    let added = add_steps(daemon, hosted, &status, &known, &member, (ready, backing)).await;
    daemon.creating(volume, false);
    added?;
    let mut outcome = Outcome::line(format!(
        "{0}: {node} has a replica and is being brought up to date: `twinblk volume wait {0}`",
        hosted.record.name
    ));
    if !ready && let Err(failure) = daemon.ask(&member.name, Request::Commit { volume }).await {
        outcome
            .lines
            .push(format!("{node}: it will hear of it later: {failure}"));
    }
    Ok(outcome)
}

async fn add_steps(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    status: &Status,
    known: &Known,
    member: &Member,
    (ready, backing): (bool, Option<PathBuf>),
) -> Result<(), Failure> {
    let volume = hosted.record.volume;
    let mut members: Vec<Member> = known.members.clone();
    members.retain(|one| one.slot != member.slot);
    let others = members.clone();
    members.push(member.clone());
    members.sort_by_key(|one| one.slot);
    if !ready {
        // What an attempt that was cut short has left there knows less than there is to know.
        daemon.ask(&member.name, Request::Abort { volume }).await?;
        let record = Record {
            volume,
            name: hosted.record.name.clone(),
            slot: member.slot,
            members,
            backing,
            thick: hosted.record.thick,
            labels: hosted.record.labels.clone(),
            phase: Phase::Prepared {
                coordinator: daemon.config.name.clone(),
            },
        };
        let (size_bytes, spent) = (status.size_bytes, known.spent.bits());
        let step = ReplicaStep::Prepare {
            record,
            size_bytes,
            spent,
        };
        let prepare = Request::Replica { volume, step };
        daemon.ask(&member.name, prepare).await?;
    }
    for other in in_order(&others, hosted.record.slot) {
        let step = ReplicaStep::Add(member.clone());
        daemon
            .ask(&other.name, Request::Replica { volume, step })
            .await?;
    }
    Ok(())
}

/// Takes replicas from a volume. Those that go together need not answer: of three copies two may be dead.
pub(crate) async fn remove(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    nodes: &[String],
    keep_data: bool,
) -> Result<Outcome, Failure> {
    let names: BTreeSet<Name> = nodes
        .iter()
        .map(|node| node_name(node))
        .collect::<Result<_, _>>()?;
    if names.contains(&daemon.config.name) {
        return Err(Failure::protects_data(format!(
            "{} serves volume {}: swap to another node first",
            daemon.config.name, hosted.record.name
        )));
    }
    serving(hosted).await?;
    let known = known(daemon, hosted, &names).await;
    let known = known.map_err(|failure| Failure {
        message: format!("{failure} (nodes that are gone for good are named together)"),
        ..failure
    })?;
    let mut leaving = Vec::new();
    for name in &names {
        leaving.push(leaving_member(daemon, hosted, &known, name).await?);
    }
    let goes = |member: &&Member| !names.contains(&member.name);
    let staying: Vec<Member> = known.members.iter().filter(goes).cloned().collect();
    for member in &leaving {
        forget_everywhere(daemon, hosted, &staying, member).await?;
    }
    let decision = Decision {
        volume: hosted.record.volume,
        name: hosted.record.name.clone(),
        verdict: Verdict::Removed { keep_data },
        unconfirmed: names.iter().cloned().collect(),
        replicas: leaving,
    };
    let (deciding, decided) = (daemon.clone(), decision.clone());
    blocking(move || deciding.volumes.registry.decide_also(&decided)).await?;
    let mut outcome = Outcome::default();
    for name in &names {
        let line = format!("{}: {name} has no replica any more", decision.name);
        outcome.lines.push(line);
        if let Err(failure) = tell(daemon, name, &decision).await {
            outcome.lines.push(format!(
                "{name} will remove its files when it hears of it: {failure}"
            ));
        }
    }
    Ok(outcome)
}

/// A node's replica that is to go. Where nobody knows it, it may be there itself, left by an attempt that was cut short.
async fn leaving_member(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    known: &Known,
    name: &Name,
) -> Result<Member, Failure> {
    let named = |member: &&Member| member.name == *name;
    if let Some(member) = known.members.iter().find(named) {
        return Ok(member.clone());
    }
    let its = ask_membership(daemon, name, hosted.record.volume).await?;
    let its = its.map(|its| its.members).unwrap_or_default();
    let own = its.iter().find(named).cloned();
    own.ok_or_else(|| no_replica_on(hosted, name.as_str()))
}

/// The primary forgets it first, which drops it where it is in sync; then the others that stay.
async fn forget_everywhere(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    staying: &[Member],
    member: &Member,
) -> Result<(), Failure> {
    let volume = hosted.record.volume;
    for other in in_order(staying, hosted.record.slot).into_iter().rev() {
        let begun = Instant::now();
        loop {
            let step = ReplicaStep::Remove(member.clone());
            let request = Request::Replica { volume, step };
            match daemon.ask(&other.name, request).await {
                Ok(_) => break,
                // It may not have heard yet that the replica is in sync no more.
                Err(failure)
                    if failure.kind == FailureKind::Failed
                        && other.slot != hosted.record.slot
                        && begun.elapsed() < HEARSAY => {}
                Err(failure) => return Err(failure),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// This node's replica, which is to come last.
fn in_order(members: &[Member], own: Slot) -> Vec<&Member> {
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_by_key(|member| member.slot == own);
    members
}

fn node_name(node: &str) -> Result<Name, Failure> {
    Name::new(node).ok_or_else(|| Failure::usage(format!("`{node}` is no node")))
}

/// The status of this replica, which has to serve the volume.
async fn serving(hosted: &Hosted) -> Result<Status, Failure> {
    let status = hosted.status().await?.replica;
    if status.role == Role::Primary {
        return Ok(status);
    }
    Err(Failure::failed(format!(
        "no node that can be asked serves volume {}: replicas come and go only while one does",
        hosted.record.name
    )))
}

/// What all replicas know but those that are to come or to go. Each of them has to answer.
async fn known(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    targets: &BTreeSet<Name>,
) -> Result<Known, Failure> {
    let volume = hosted.record.volume;
    let mut known = Known {
        members: Vec::new(),
        spent: NodeSet::EMPTY,
    };
    let mut left: Vec<Member> = hosted.record.members.clone();
    let mut asked = targets.clone();
    while let Some(member) = left.pop() {
        if asked.insert(member.name.clone()) {
            let its = ask_membership(daemon, &member.name, volume).await?;
            let its = its.ok_or_else(|| {
                Failure::failed(format!(
                    "{} has no replica of volume {} any more: remove that one first",
                    member.name, hosted.record.name
                ))
            })?;
            known.spent = known.spent.union(NodeSet::from_bits(its.spent));
            left.extend(its.members);
        }
        if !known.members.iter().any(|one| one.slot == member.slot) {
            known.members.push(member);
        }
    }
    known.members.sort_by_key(|member| member.slot);
    Ok(known)
}

/// What a node's replica knows; nothing, if it has none.
async fn ask_membership(
    daemon: &Arc<Daemon>,
    node: &Name,
    volume: VolumeId,
) -> Result<Option<Membership>, Failure> {
    let step = ReplicaStep::Tell;
    match daemon.ask(node, Request::Replica { volume, step }).await {
        Ok(Response::Membership(membership)) => Ok(Some(membership)),
        Ok(other) => Err(unexpected(node, &other)),
        Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn free_slot(hosted: &Hosted, known: &Known) -> Result<Slot, Failure> {
    let taken: NodeSet = known.members.iter().map(|member| member.slot).collect();
    let taken = taken.union(known.spent);
    Slot::all()
        .find(|slot| !taken.contains(*slot))
        .ok_or_else(|| {
            Failure::failed(format!(
                "volume {} has had eight replicas, and the place of none is used again: copy it to a new volume",
                hosted.record.name
            ))
        })
}

/// An earlier replica of the node has to be gone.
async fn refuse_if_leaving(
    daemon: &Arc<Daemon>,
    volume: VolumeId,
    node: &Name,
) -> Result<(), Failure> {
    let Some(decision) = daemon.volumes.registry.decision(volume)? else {
        return Ok(());
    };
    if decision.unconfirmed.contains(node) {
        return tell(daemon, node, &decision).await;
    }
    Ok(())
}

/// What is left of an earlier replica of the node is no part of a new one, and its removal comes to its end first.
fn refuse_if_another(
    hosted: &Hosted,
    known: &Known,
    member: &Member,
    its: Option<&Membership>,
) -> Result<(), Failure> {
    let mut own = its.into_iter().flat_map(|its| &its.members);
    let own = own.find(|one| one.name == member.name);
    let elsewhere = own.is_some_and(|own| own.slot != member.slot);
    let left = elsewhere && its.is_some_and(|its| its.ready);
    if !left && !known.spent.contains(member.slot) {
        return Ok(());
    }
    Err(Failure::protects_data(format!(
        "{1} has an earlier replica of volume {0} that was not removed to the end: `twinblk volume replica rm {0} {1}` \
         first",
        hosted.record.name, member.name
    )))
}

/// As when a volume grows, every other replica is to be connected: one that cannot be told must not be left behind.
fn refuse_if_apart(hosted: &Hosted, status: &Status, new: Slot) -> Result<(), Failure> {
    let mut apart = status
        .peers
        .iter()
        .filter(|peer| peer.slot != new && peer.connection != ConnectionState::Connected);
    match apart.next() {
        None => Ok(()),
        Some(peer) => Err(Failure::failed(format!(
            "{} is not connected: every replica must be when another one comes",
            hosted.record.node_name(peer.slot)
        ))),
    }
}
