//! `volume rm`: refused while somebody may use it; then decided, and told to everybody in time.

use crate::actions::tell;
use crate::api::Outcome;
use crate::daemon::{Daemon, blocking};
use crate::failure::Failure;
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
    // A replica that cannot be opened has no clients.
    if let Ok(status) = hosted.status().await {
        let primary = status.replica.configuration.primary;
        if let Some(primary) = primary.filter(|primary| *primary != record.slot) {
            let primary = record.node_name(primary);
            return Err(Failure::protects_data(format!(
                "{primary} cannot be asked and may serve {0}: connect it, or `twinblk volume promote {0} \
                 --force` here first if it is gone for good",
                record.name
            )));
        }
        if status.io.clients > 0 {
            return Err(Failure::protects_data(format!(
                "volume {} is open by {} clients: disconnect them first",
                record.name, status.io.clients
            )));
        }
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
    };
    let (daemon, decided) = (daemon.clone(), decision.clone());
    blocking(move || daemon.volumes.registry.decide(&decided)).await?;
    Ok(decision)
}
