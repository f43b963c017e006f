//! `volume export`: a secondary that has stopped as planned is an image of one moment, and stays it while it is read.
//!
//! The primary drops a member that stops as planned by an ordinary commit, so that clients feel nothing, and keeps marks
//! of what it misses. So what follows the export is the resync of a node that was shut down for as long.

use crate::api::ExportView;
use crate::arbiter::Change;
use crate::daemon::{Daemon, blocking};
use crate::data_links;
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::volumes::Hosted;
use format::types::DiskState;
use replica::status::{ReplicationState, Role, Status};
use std::sync::Arc;

/// Stops this node's replica; it may be read until [`end`].
pub(crate) async fn begin(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    allow_one_copy: bool,
) -> Result<ExportView, Failure> {
    let status = hosted.status().await?.replica;
    refuse_if_useless(hosted, &status)?;
    let left = status.configuration.in_sync.len() - 1;
    if left < 2 && !allow_one_copy {
        return Err(Failure::protects_data(format!(
            "while this copy of {} is read only one other is kept up to date (--allow-one-copy overrides)",
            hosted.record.name
        )));
    }
    let volume = hosted.record.volume;
    if daemon.arbitration.chosen().is_some() {
        // Without it this copy would be waited for, and clients with it.
        daemon.arbitration.ask(volume, Change::Read).await?;
    }
    let (stopping, volumes) = (hosted.clone(), daemon.clone());
    blocking(move || volumes.volumes.lend(&stopping)).await?;
    let name = hosted.record.name.clone();
    daemon.incident(Incident::ReplicaLent(name));
    Ok(ExportView {
        data: daemon.volumes.registry.paths(&hosted.record).data,
        size_bytes: status.size_bytes,
    })
}

/// Opens the replica again, and has it brought up to date.
pub(crate) async fn end(daemon: &Arc<Daemon>, hosted: &Arc<Hosted>) -> Result<(), Failure> {
    let (lent, volumes) = (hosted.clone(), daemon.clone());
    let opened = blocking(move || Ok(volumes.volumes.take_back(&lent))).await?;
    if let Some(hosted) = opened {
        daemon.incident(Incident::ReplicaOpened(hosted.record.name.clone()));
        data_links::keep(daemon, &hosted);
    }
    Ok(())
}

/// Whether this node's copy is what the volume holds, and nobody's only one.
fn refuse_if_useless(hosted: &Hosted, status: &Status) -> Result<(), Failure> {
    let name = &hosted.record.name;
    if status.role != Role::Secondary || status.configuration.primary.is_none() {
        let others = hosted.record.others().map(|member| member.name.as_str());
        let others: Vec<_> = others.collect();
        return Err(Failure::failed(match &others[..] {
            [] => format!(
                "volume {name} has one copy: end what uses it, stop the daemon and copy the data file"
            ),
            _ => format!(
                "volume {name} is exported by a node that keeps a copy of what another serves: type it on {}",
                others.join(" or ")
            ),
        }));
    }
    let mut peers = status.peers.iter();
    let mirrored = peers.any(|peer| {
        status.configuration.primary == Some(peer.slot)
            && peer.replication == ReplicationState::Established
    });
    let member = status.configuration.in_sync.contains(status.slot);
    if !mirrored || !member || status.disk_state != DiskState::UpToDate {
        return Err(Failure::failed(format!(
            "this copy of {name} is not up to date: `twinblk volume wait {name}` first"
        )));
    }
    Ok(())
}
