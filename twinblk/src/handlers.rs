//! What this node does when another one asks, or when it asks itself.

mod replicas;

use crate::control::{Fate, Request, Response};
use crate::daemon::{Answering, Daemon, blocking};
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::registry::{Phase, Verdict};
use crate::volumes::{Hosted, Plan};
use crate::{actions, arbitrate, data_links};
use format::types::{Generation, Name, VolumeId};
use replica::command::Command;
use std::sync::Arc;

/// What this node asks itself.
pub(crate) fn handle_own(daemon: Arc<Daemon>, own: Name, request: Request) -> Answering {
    Box::pin(handle(daemon, own, request))
}

/// Does it. `from` is the node that asks.
pub(crate) async fn handle(
    daemon: Arc<Daemon>,
    from: Name,
    request: Request,
) -> Result<Response, Failure> {
    match request {
        Request::Prepare {
            record,
            size_bytes,
            generation,
            primary,
        } => {
            let plan = Plan {
                record,
                size_bytes,
                generation,
                primary,
                joins: None,
            };
            prepare(&daemon, &from, plan).await
        }
        Request::Commit { volume } => commit(&daemon, volume).await,
        Request::Abort { volume } => {
            blocking(move || daemon.volumes.abort(volume)).await?;
            Ok(Response::Done)
        }
        Request::Fate { volume } => fate(&daemon, &from, volume).map(Response::Fate),
        Request::Remove {
            volume,
            slot,
            keep_data,
        } => remove(&daemon, volume, slot, keep_data).await,
        Request::Extend { volume, size_bytes } => extend(daemon, volume, size_bytes).await,
        Request::Order { volume, order } => {
            find(&daemon, volume)?.command(Command::from(order)).await?;
            Ok(Response::Done)
        }
        Request::Replica { volume, step } => replicas::handle(&daemon, &from, volume, step).await,
        Request::Act { volume, action } => {
            let hosted = find(&daemon, volume)?;
            actions::act(&daemon, &hosted, action, true)
                .await
                .map(Response::Outcome)
        }
        Request::PrepareArbiter { change, request } => {
            arbitrate::prepare(&daemon, &from, change, request).await?;
            Ok(Response::Done)
        }
        Request::CommitArbiter { change } => {
            arbitrate::commit(&daemon, change).await?;
            Ok(Response::Done)
        }
        Request::AbortArbiter { change } => {
            blocking(move || daemon.arbitration.abort(change)).await?;
            Ok(Response::Done)
        }
        Request::ArbiterFate { change } => Ok(Response::Fate(arbiter_fate(&daemon, change))),
        Request::Show { volume } => {
            let hosted = find(&daemon, volume)?;
            Ok(Response::View(Box::new(daemon.show(&hosted).await)))
        }
        Request::GiveWay { volume } => actions::give_way(&daemon, &*find(&daemon, volume)?).await,
        Request::ShowNode => Ok(Response::Node(actions::own_facts(&daemon).await)),
        Request::ReplaceNode { node, with } => {
            let done = actions::replace_here(&daemon, &node, &with).await;
            Ok(Response::Drained(done))
        }
        Request::ActOnNode { action } => actions::act_here(&daemon, action).await,
    }
}

fn find(daemon: &Daemon, volume: VolumeId) -> Result<Arc<Hosted>, Failure> {
    let missing = || Failure::not_found(format!("there is no replica of volume {volume} here"));
    daemon.volumes.with_id(volume).ok_or_else(missing)
}

fn arbiter_fate(daemon: &Daemon, change: Generation) -> Fate {
    match daemon.arbitration.verdict(change) {
        None => Fate::Undecided,
        Some(true) => Fate::Created,
        Some(false) => Fate::Undone,
    }
}

/// A plan from another node is not believed further than it must be.
fn check(daemon: &Daemon, from: &Name, plan: &Plan) -> Result<(), Failure> {
    let refused = |why: String| Err(Failure::failed(format!("the plan is refused: {why}")));
    let record = &plan.record;
    let own = record
        .members
        .iter()
        .find(|member| member.slot == record.slot);
    if !own.is_some_and(|own| own.node == daemon.local.node && own.name == daemon.config.name) {
        return refused("its slot is not of this node".to_owned());
    }
    if record.phase
        != (Phase::Prepared {
            coordinator: from.clone(),
        })
    {
        return refused("it is not of the node that sends it".to_owned());
    }
    for member in record.others() {
        if daemon.config.peer(&member.name).is_none() {
            return refused(format!(
                "{} has no [[peer]] {}: add it to the configuration",
                daemon.config.name, member.name
            ));
        }
    }
    Ok(())
}

/// Makes the files; only a commit makes them a replica.
async fn prepare(daemon: &Arc<Daemon>, from: &Name, plan: Plan) -> Result<Response, Failure> {
    check(daemon, from, &plan)?;
    let daemon = daemon.clone();
    blocking(move || daemon.volumes.prepare(&plan)).await?;
    Ok(Response::Done)
}

async fn extend(
    daemon: Arc<Daemon>,
    volume: VolumeId,
    size_bytes: u64,
) -> Result<Response, Failure> {
    blocking(move || daemon.volumes.extend(volume, size_bytes)).await?;
    Ok(Response::Done)
}

async fn commit(daemon: &Arc<Daemon>, volume: VolumeId) -> Result<Response, Failure> {
    let volumes = daemon.clone();
    blocking(move || volumes.volumes.commit(volume)).await?;
    let hosted = find(daemon, volume)?;
    match hosted.closed() {
        None => data_links::keep(daemon, &hosted),
        Some(reason) => {
            daemon.incident(Incident::ReplicaFailed(hosted.record.name.clone(), reason));
        }
    }
    Ok(Response::Done)
}

async fn remove(
    daemon: &Arc<Daemon>,
    volume: VolumeId,
    slot: Option<u8>,
    keep_data: bool,
) -> Result<Response, Failure> {
    if let Some(hosted) = daemon.volumes.with_id(volume) {
        // Who was away for long may say it of an earlier replica, while this one is the best there is.
        if slot.is_some_and(|slot| hosted.record.slot.index() != usize::from(slot)) {
            return Ok(Response::Done);
        }
        // Whatever the coordinator knew, nothing is taken from under a client of this node.
        hosted.seal(true);
        let clients = hosted.status().await.map_or(0, |status| status.io.clients);
        if let Err(refusal) = actions::refuse_if_open(daemon, &hosted, clients) {
            hosted.seal(false);
            return Err(refusal);
        }
    }
    daemon.links.forget(volume);
    let volumes = daemon.clone();
    let removed = blocking(move || volumes.volumes.remove(volume, keep_data)).await?;
    if let Some(incident) = removed {
        daemon.incident(incident);
    }
    daemon.duties.look(volume);
    Ok(Response::Done)
}

/// What this node, as a coordinator, knows of a node's replica of a volume: what it has not decided and does not
/// have does not exist. It is the last to remember a replica that was added, so that all others know it by then.
fn fate(daemon: &Daemon, from: &Name, volume: VolumeId) -> Result<Fate, Failure> {
    if daemon.is_creating(volume) {
        return Ok(Fate::Undecided);
    }
    let decision = daemon.volumes.registry.decision(volume)?;
    Ok(match decision.map(|decision| decision.verdict) {
        Some(Verdict::Created) => Fate::Created,
        Some(Verdict::Removed { .. }) | None => match daemon.volumes.with_id(volume) {
            Some(hosted)
                if hosted.record.phase == Phase::Ready && hosted.record.member(from).is_some() =>
            {
                Fate::Created
            }
            _ => Fate::Undone,
        },
    })
}

/// Brings a node that has just been connected up to date about what was decided while it was
/// away, and asks it about what it alone has decided. Also done with this node itself at its start.
pub(crate) async fn settle(daemon: &Arc<Daemon>, node: &Name) -> Result<(), Failure> {
    arbitrate::settle(daemon, node).await?;
    for decision in daemon.volumes.registry.decisions()? {
        if decision.unconfirmed.contains(node) {
            actions::tell(daemon, node, &decision).await?;
        }
    }
    for hosted in daemon.volumes.all() {
        let volume = hosted.record.volume;
        match &hosted.record.phase {
            Phase::Prepared { coordinator }
                if coordinator == node && *node != daemon.config.name => {}
            _ => continue,
        }
        match daemon.ask(node, Request::Fate { volume }).await? {
            Response::Fate(Fate::Created) => {
                commit(daemon, volume).await?;
            }
            Response::Fate(Fate::Undone) => {
                let volumes = daemon.clone();
                blocking(move || volumes.volumes.abort(volume)).await?;
            }
            // The coordinator tells when it knows.
            _ => {}
        }
    }
    Ok(())
}
