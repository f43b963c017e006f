//! `volume rm`: refused while somebody may use it; then decided, and told to everybody in time.

use crate::actions::tell;
use crate::api::Outcome;
use crate::control::{Request, Response};
use crate::daemon::{Daemon, blocking};
use crate::failure::{Failure, FailureKind};
use crate::registry::{Decision, Verdict};
use crate::volumes::Hosted;
use std::sync::Arc;

/// Removes a volume on all nodes.
pub(crate) async fn remove(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    keep_data: bool,
) -> Result<Outcome, Failure> {
    // From here on no client comes in; none may be there.
    hosted.seal(true);
    let decided = decide(daemon, hosted, keep_data).await;
    if decided.is_err() {
        hosted.seal(false);
    }
    let decision = decided?;
    let mut outcome = Outcome::line(format!("{}: removed", decision.name));
    for node in &decision.unconfirmed {
        if let Err(failure) = tell(daemon, node, &decision).await {
            outcome
                .lines
                .push(format!("{node} will hear of it later: {failure}"));
        }
    }
    Ok(outcome)
}

async fn decide(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    keep_data: bool,
) -> Result<Decision, Failure> {
    let record = &hosted.record;
    match hosted.status().await {
        Ok(status) => {
            let primary = status.replica.configuration.primary;
            if let Some(primary) = primary.filter(|primary| *primary != record.slot) {
                let primary = record.node_name(primary);
                return Err(Failure::protects_data(format!(
                    "{primary} cannot be asked and may serve {0}: connect it, or `twinblk volume promote \
                     {0} --force` here first if it is gone for good",
                    record.name
                )));
            }
            refuse_if_open(daemon, hosted, status.io.clients)?;
        }
        // This replica serves nobody, and knows nothing of the others.
        Err(_) => refuse_if_served(daemon, hosted).await?,
    }
    let decision = Decision {
        volume: record.volume,
        name: record.name.clone(),
        verdict: Verdict::Removed { keep_data },
        unconfirmed: record
            .members
            .iter()
            .map(|member| member.name.clone())
            .collect(),
        replicas: record.members.clone(),
    };
    let (daemon, decided) = (daemon.clone(), decision.clone());
    blocking(move || daemon.volumes.registry.decide_also(&decided)).await?;
    Ok(decision)
}

/// Refuses where clients of this node have the volume open, or it is a device here.
pub(crate) fn refuse_if_open(
    daemon: &Daemon,
    hosted: &Hosted,
    clients: u32,
) -> Result<(), Failure> {
    let name = &hosted.record.name;
    if daemon.is_attached(hosted) {
        return Err(Failure::protects_data(format!(
            "volume {name} is a block device of {}: `twinblk volume detach {name}` there first",
            daemon.config.name
        )));
    }
    if clients == 0 {
        return Ok(());
    }
    Err(Failure::protects_data(format!(
        "volume {name} is open by {clients} clients: disconnect them first"
    )))
}

/// Refuses where another node serves the volume, or cannot say that it does not.
async fn refuse_if_served(daemon: &Arc<Daemon>, hosted: &Hosted) -> Result<(), Failure> {
    let record = &hosted.record;
    for member in record.others() {
        let name = &record.name;
        let request = Request::Show {
            volume: record.volume,
        };
        let why = match daemon.ask(&member.name, request).await {
            Ok(Response::View(view)) if view.role == "Primary" || view.role == "Waiting" => {
                format!(
                    "type `twinblk volume rm {name}` on {}, the primary",
                    member.name
                )
            }
            Ok(_) => continue,
            // It has no replica, or no longer.
            Err(failure) if failure.kind == FailureKind::NotFound => continue,
            Err(failure) => format!("whether it is served is not known: {failure}"),
        };
        return Err(Failure::protects_data(format!(
            "volume {name} is stopped here; {why}"
        )));
    }
    Ok(())
}
