//! What this node does when a replica of a volume comes or goes while the volume is used.
//!
//! First the core is told, and then it is remembered: what is remembered is only whom to talk to, and a start in
//! between leaves a replica that talks to somebody too few or too many. The core lets nobody in whom it
//! does not know. Telling again mends that.

use crate::control::{Membership, ReplicaStep, Response};
use crate::daemon::{Daemon, blocking};
use crate::data_links;
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::registry::{Member, Phase, Record, Verdict};
use crate::volumes::{Hosted, Plan};
use format::types::{Generation, Name, NodeSet, VolumeId};
use replica::command::Command;
use std::sync::Arc;

/// Does this node's part.
pub(super) async fn handle(
    daemon: &Arc<Daemon>,
    from: &Name,
    volume: VolumeId,
    step: ReplicaStep,
) -> Result<Response, Failure> {
    match step {
        ReplicaStep::Tell => tell(&*super::find(daemon, volume)?).await,
        ReplicaStep::Prepare { record, .. } if record.volume != volume => Err(Failure::failed(
            "the plan is refused: it is another volume's".to_owned(),
        )),
        ReplicaStep::Prepare {
            record,
            size_bytes,
            spent,
        } => prepare(daemon, from, record, size_bytes, spent).await,
        ReplicaStep::Add(member) => add(daemon, volume, member).await,
        ReplicaStep::Remove(member) => remove(daemon, volume, member).await,
    }
}

/// Makes the files of a replica that joins; only a commit makes it a replica.
async fn prepare(
    daemon: &Arc<Daemon>,
    from: &Name,
    record: Record,
    size_bytes: u64,
    spent: u8,
) -> Result<Response, Failure> {
    let plan = Plan {
        size_bytes,
        generation: Generation::NONE,
        primary: record.slot,
        joins: Some(NodeSet::from_bits(spent)),
        record,
    };
    super::prepare(daemon, from, plan).await
}

/// Which replicas there are, for all that this one knows.
async fn tell(hosted: &Hosted) -> Result<Response, Failure> {
    let ready = hosted.record.phase == Phase::Ready;
    let spent = match ready {
        true => hosted.status().await?.replica.spent,
        false => NodeSet::EMPTY,
    };
    Ok(Response::Membership(Membership {
        members: hosted.record.members.clone(),
        spent: spent.bits(),
        ready,
    }))
}

/// The volume has another replica.
async fn add(daemon: &Arc<Daemon>, volume: VolumeId, member: Member) -> Result<Response, Failure> {
    if daemon.config.peer(&member.name).is_none() {
        return Err(Failure::failed(format!(
            "{} has no [[peer]] {}: add it to the configuration",
            daemon.config.name, member.name
        )));
    }
    let (reserving, taken) = (daemon.clone(), member.clone());
    blocking(move || {
        reserving.volumes.reserve_for(volume, &taken)?;
        // What was decided of an earlier replica of the node is no more said of this one.
        let decision = reserving.volumes.registry.decision(volume)?;
        match decision.map(|decision| decision.verdict) {
            Some(Verdict::Removed { .. }) => {
                reserving.volumes.registry.confirmed(volume, &taken.name)
            }
            _ => Ok(()),
        }
    })
    .await?;
    let command = Command::AddReplica {
        slot: member.slot,
        replica: Box::new(member.replica()),
    };
    super::find(daemon, volume)?.command(command).await?;
    let (amending, added) = (daemon.clone(), member.clone());
    let hosted = blocking(move || {
        amending.volumes.amend(volume, |members| {
            members.retain(|one| one.slot != added.slot);
            members.push(added);
            members.sort_by_key(|one| one.slot);
        })
    })
    .await?;
    if daemon.links.find(volume, member.slot).is_none() && hosted.closed().is_none() {
        data_links::keep_one(daemon, &hosted, &member);
        let name = hosted.record.name.clone();
        daemon.incident(Incident::ReplicaAdded(name, member.name));
    }
    daemon.duties.look(volume);
    Ok(Response::Done)
}

/// The volume has this replica no more.
async fn remove(
    daemon: &Arc<Daemon>,
    volume: VolumeId,
    member: Member,
) -> Result<Response, Failure> {
    let slot = member.slot;
    let before = super::find(daemon, volume)?;
    before.command(Command::RemoveReplica { slot }).await?;
    daemon.links.forget_one(volume, slot);
    let amending = daemon.clone();
    let hosted = blocking(move || {
        amending.volumes.amend(volume, |members| {
            members.retain(|one| one.slot != slot);
        })
    })
    .await?;
    if before.record.members != hosted.record.members {
        let name = hosted.record.name.clone();
        daemon.incident(Incident::ReplicaRemoved(name, member.name));
    }
    daemon.duties.look(volume);
    Ok(Response::Done)
}
