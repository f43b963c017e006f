//! The volumes of this node as NBD exports.

use crate::actions;
use crate::config::Mode;
use crate::daemon::Daemon;
use crate::volumes::Hosted;
use engine::volume::VolumeStatus;
use nbd_server::exports::{ExportInfo, Exports, Opened, Refusal};
use std::sync::Arc;

/// The volumes as exports of their own names.
pub(crate) struct VolumeExports(pub(crate) Arc<Daemon>);

impl VolumeExports {
    async fn find(&self, name: &str) -> Result<(Arc<Hosted>, VolumeStatus), Refusal> {
        let unknown = |failure: crate::failure::Failure| Refusal::Unknown(failure.message);
        let hosted = self.0.volumes.named(name).map_err(unknown)?;
        if hosted.is_sealed() {
            return Err(Refusal::Policy(format!("volume {name} is being removed")));
        }
        let closed = |failure: crate::failure::Failure| Refusal::Policy(failure.message);
        let status = hosted.status().await.map_err(closed)?;
        if hosted.gives_way(status.replica.configuration.epoch) {
            let text = format!("volume {name} is about to be served by another node");
            return Err(Refusal::Policy(text));
        }
        match status.refusal {
            Some(reason) => Err(Refusal::Policy(format!("volume {name}: {reason}"))),
            None => Ok((hosted, status)),
        }
    }
}

impl VolumeExports {
    /// Opening a volume brings it here in on-demand mode, if nobody else serves or uses it. Whether its primary is
    /// really gone is for the arbiter to say. Where it is to stay where it is, `refusal` stands.
    async fn take_over(&self, name: &str, refusal: Refusal) -> Result<(), Refusal> {
        let chosen = self.0.arbitration.chosen();
        let on_demand = chosen.is_some_and(|chosen| chosen.mode == Mode::OnDemand);
        let hosted = self.0.volumes.named(name).ok();
        let hosted = hosted.filter(|hosted| on_demand && !hosted.is_sealed());
        let Some(hosted) = hosted else {
            return Err(refusal);
        };
        let Ok(status) = hosted.status().await else {
            return Err(refusal);
        };
        if status.replica.configuration.primary == Some(hosted.record.slot) {
            return Err(refusal);
        }
        let taken = actions::take(&self.0, &hosted).await;
        taken.map_err(|failure| Refusal::Policy(actions::of_volume(&hosted, &failure).message))
    }
}

impl Exports for VolumeExports {
    fn list(&self) -> Vec<String> {
        self.0
            .volumes
            .all()
            .iter()
            .map(|hosted| hosted.record.name.to_string())
            .collect()
    }

    async fn info(&self, name: &str) -> Result<ExportInfo, Refusal> {
        let (_, status) = self.find(name).await?;
        Ok(ExportInfo {
            size_bytes: status.replica.size_bytes,
            read_only: false,
        })
    }

    async fn open(&self, name: &str) -> Result<Opened, Refusal> {
        let (hosted, status) = match self.find(name).await {
            Ok(found) => found,
            Err(refusal) => {
                self.take_over(name, refusal).await?;
                self.find(name).await?
            }
        };
        let info = ExportInfo {
            size_bytes: status.replica.size_bytes,
            read_only: false,
        };
        let volume = hosted
            .volume()
            .map_err(|failure| Refusal::Policy(failure.message))?;
        let epoch = status.replica.configuration.epoch;
        let attach = Box::new(move |client: nbd_server::exports::Client| {
            // A removal or a move that began meanwhile has seen no client, and must not get one now.
            if !hosted.is_sealed() && !hosted.gives_way(epoch) {
                volume.attach_client(client.socket, client.received, client.session);
            }
        });
        Ok(Opened { info, attach })
    }
}
