//! `arbiter set`: an arbiter for a pair that runs without one, on all nodes or on none.

use crate::api::{ArbiterRequest, Outcome};
use crate::arbiter::{self, Change};
use crate::arbitration::{Phase, Record};
use crate::control::{Fate, Request, Response};
use crate::daemon::{Daemon, blocking};
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::hexadecimal;
use format::types::{Generation, Name, VolumeId};
use replica::command::Command;
use std::sync::Arc;

/// Sets an arbiter on every node: first all prepare it, then this one decides, then all take it into use.
pub(crate) async fn set(daemon: &Arc<Daemon>, request: ArbiterRequest) -> Result<Outcome, Failure> {
    if let Some(complaint) = request.arbiter.invalid() {
        return Err(Failure::usage(complaint));
    }
    daemon.arbitration.refuse_if_chosen()?;
    let own = daemon.config.name.clone();
    let others: Vec<Name> = daemon
        .config
        .peers
        .iter()
        .map(|peer| peer.name.clone())
        .collect();
    for node in &others {
        daemon.nodes.session(node)?;
    }
    let change = Generation(hexadecimal::random()?);
    daemon.arbitration.begin(change)?;
    let decided = decide(daemon, &own, &others, change, &request).await;
    if decided.is_err() {
        for node in others.iter().chain([&own]) {
            // Who cannot be told asks when it is connected again, and hears the same.
            let _ = daemon.ask(node, Request::AbortArbiter { change }).await;
        }
    }
    daemon.arbitration.end();
    decided?;
    let mut outcome = Outcome::line(format!(
        "the arbiter is the {} on {} now",
        request.arbiter.kind(),
        request.arbiter.addresses().join(" and ")
    ));
    for node in &others {
        if let Err(failure) = daemon.ask(node, Request::CommitArbiter { change }).await {
            let line = format!("{node} will hear of it later: {failure}");
            outcome.lines.push(line);
        }
    }
    Ok(outcome)
}

/// What has been prepared everywhere holds as soon as this node has committed it.
async fn decide(
    daemon: &Arc<Daemon>,
    own: &Name,
    others: &[Name],
    change: Generation,
    request: &ArbiterRequest,
) -> Result<(), Failure> {
    for node in others.iter().chain([own]) {
        let prepare = Request::PrepareArbiter {
            change,
            request: request.clone(),
        };
        daemon.ask(node, prepare).await?;
    }
    commit(daemon, change).await
}

/// Sees whether an arbiter that another node sets would do for this one, and remembers it.
pub(crate) async fn prepare(
    daemon: &Arc<Daemon>,
    from: &Name,
    change: Generation,
    request: ArbiterRequest,
) -> Result<(), Failure> {
    if let Some(complaint) = request.arbiter.invalid() {
        return Err(Failure::usage(complaint));
    }
    let register = arbiter::open(&request.arbiter, &daemon.local)?;
    register.ask(VolumeId::NONE, Change::Read).await?;
    let record = Record {
        change,
        arbiter: request.arbiter,
        mode: request.mode,
        phase: Phase::Prepared {
            coordinator: from.clone(),
        },
    };
    let daemon = daemon.clone();
    blocking(move || daemon.arbitration.prepare(record)).await
}

/// Takes what was prepared into use.
pub(crate) async fn commit(daemon: &Arc<Daemon>, change: Generation) -> Result<(), Failure> {
    let committing = daemon.clone();
    let chosen = blocking(move || committing.arbitration.commit(change)).await?;
    let failover = chosen.mode.with(daemon.config.failover.times);
    daemon.volumes.arbitrate(failover);
    for hosted in daemon.volumes.all() {
        // One that is closed hears of it when it is opened.
        if let Err(failure) = hosted.command(Command::Arbitrate(failover)).await {
            tracing::warn!("volume {}: {failure}", hosted.record.name);
        }
    }
    daemon.incident(Incident::ArbiterSet(format!(
        "the arbiter is the {} on {}",
        chosen.settings.kind(),
        chosen.settings.addresses().join(" and ")
    )));
    Ok(())
}

/// Asks a node that has just been connected about what it alone has decided.
pub(crate) async fn settle(daemon: &Arc<Daemon>, node: &Name) -> Result<(), Failure> {
    let Some(change) = daemon.arbitration.undecided_by(node) else {
        return Ok(());
    };
    match daemon.ask(node, Request::ArbiterFate { change }).await? {
        Response::Fate(Fate::Created) => commit(daemon, change).await,
        Response::Fate(Fate::Undone) => {
            let daemon = daemon.clone();
            blocking(move || daemon.arbitration.abort(change)).await
        }
        // The coordinator tells when it knows.
        _ => Ok(()),
    }
}
