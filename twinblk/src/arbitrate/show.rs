//! `arbiter status`.

use crate::api::{ArbiterView, ArbiterVolumeView, ConfigurationView};
use crate::arbiter::Change;
use crate::arbitration::Chosen;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::registry::Record;
use crate::volumes::Hosted;
use format::types::{Configuration, VolumeId};
use std::cmp::Ordering;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Asks the arbiter what it holds for every volume of this node. This, like all that an operator types, is apart
/// from what replicas ask it.
pub(crate) async fn show(daemon: &Arc<Daemon>) -> ArbiterView {
    let Some(chosen) = daemon.arbitration.chosen() else {
        return ArbiterView {
            kind: "manual".to_owned(),
            addresses: Vec::new(),
            source: None,
            mode: "Manual".to_owned(),
            reachable: None,
            reason: None,
            volumes: Vec::new(),
        };
    };
    // Any volume will do to see whether it answers.
    let probed = chosen.register.ask(VolumeId::NONE, Change::Read).await;
    let mut asking = JoinSet::new();
    for hosted in daemon.volumes.all() {
        asking.spawn(show_volume(chosen.clone(), hosted));
    }
    let mut volumes = asking.join_all().await;
    volumes.sort_by(|one, other| one.name.cmp(&other.name));
    ArbiterView {
        kind: chosen.settings.kind().to_owned(),
        addresses: chosen.settings.addresses().to_vec(),
        source: Some(if chosen.from_file { "file" } else { "set" }.to_owned()),
        mode: format!("{:?}", chosen.mode),
        reachable: Some(probed.is_ok()),
        reason: probed.err().map(|failure| failure.message),
        volumes,
    }
}

async fn show_volume(chosen: Chosen, hosted: Arc<Hosted>) -> ArbiterVolumeView {
    let record = &hosted.record;
    let held = chosen.register.ask(record.volume, Change::Read).await;
    let own = hosted.status().await;
    let own = own.map(|status| status.replica.configuration);
    let failures = [held.as_ref().err(), own.as_ref().err()];
    let reason = failures.into_iter().flatten().next().cloned();
    ArbiterVolumeView {
        name: record.name.to_string(),
        id: record.volume.to_string(),
        state: state(&held, &own).to_owned(),
        reason: reason.map(|failure| failure.message),
        register: held
            .ok()
            .flatten()
            .map(|configuration| view(record, &configuration)),
        node: own.ok().map(|configuration| view(record, &configuration)),
    }
}

/// How what the register holds stands to what the node holds.
pub(super) fn state(
    held: &Result<Option<Configuration>, Failure>,
    own: &Result<Configuration, Failure>,
) -> &'static str {
    match (held, own) {
        (Ok(None), _) => "Empty",
        (Ok(Some(held)), Ok(own)) if held == own => "Same",
        (Ok(Some(held)), Ok(own)) => match held.epoch.cmp(&own.epoch) {
            Ordering::Greater => "Ahead",
            Ordering::Less => "Behind",
            Ordering::Equal => "Different",
        },
        (Err(_), _) | (_, Err(_)) => "Unknown",
    }
}

fn view(record: &Record, configuration: &Configuration) -> ConfigurationView {
    let node = |slot| record.node_name(slot);
    ConfigurationView {
        epoch: configuration.epoch,
        generation: configuration.generation.to_string(),
        primary: configuration.primary.map(node),
        in_sync: configuration.in_sync.iter().map(node).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::state;
    use crate::arbiter::testing::configuration;
    use crate::failure::Failure;

    #[test]
    fn register_and_node_are_compared() {
        let own = Ok(configuration(5, 1));
        for (held, words) in [
            (None, "Empty"),
            (Some(configuration(5, 1)), "Same"),
            (Some(configuration(6, 1)), "Ahead"),
            (Some(configuration(4, 1)), "Behind"),
            (Some(configuration(5, 2)), "Different"),
        ] {
            assert_eq!(state(&Ok(held), &own), words);
        }
        let unknown = || Failure::failed("no answer");
        assert_eq!(state(&Err(unknown()), &own), "Unknown");
        assert_eq!(
            state(&Ok(Some(configuration(5, 1))), &Err(unknown())),
            "Unknown"
        );
    }
}
