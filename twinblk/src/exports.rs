//! The volumes of this node as NBD exports.

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
        match status.refusal {
            Some(reason) => Err(Refusal::Policy(format!("volume {name}: {reason}"))),
            None => Ok((hosted, status)),
        }
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
        let (hosted, status) = self.find(name).await?;
        let info = ExportInfo {
            size_bytes: status.replica.size_bytes,
            read_only: false,
        };
        let volume = hosted
            .volume()
            .map_err(|failure| Refusal::Policy(failure.message))?;
        let attach = Box::new(move |client: nbd_server::exports::Client| {
            // A removal that began meanwhile has seen no client, and must not get one now.
            if !hosted.is_sealed() {
                volume.attach_client(client.socket, client.received, client.session);
            }
        });
        Ok(Opened { info, attach })
    }
}
