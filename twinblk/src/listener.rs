//! The port on which other nodes come in: strangers are turned away, and nodes handed to whom they want.

use crate::complaints::Complaints;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::link::{Caller, Purpose, kept};
use crate::volumes::Hosted;
use crate::{control_links, data_links};
use format::hello::Hello;
use format::types::Slot;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Connections that have not proved themselves; more wait to be accepted.
const HALF_OPEN_MAX: usize = 64;
/// How long the listener rests when the process is out of descriptors, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections of other nodes for as long as the daemon runs.
pub(crate) async fn listen(daemon: Arc<Daemon>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    let complaints = Arc::new(Complaints::default());
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (daemon, complaints) = (daemon.clone(), complaints.clone());
                tokio::spawn(async move {
                    if let Err(failure) = accept(&daemon, stream).await {
                        let text = complaints.worth_saying(&format!("{from}: {failure}"));
                        if let Some(text) = text {
                            daemon.incident(Incident::StrangerRefused(text));
                        }
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection of a node: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Sees a connection through its handshake and hands it over. An error is a stranger's.
async fn accept(daemon: &Arc<Daemon>, stream: TcpStream) -> Result<(), Failure> {
    let caller = Caller::hear(&daemon.local, stream).await?;
    let admitted = admit(daemon, &caller.hello);
    let link = caller
        .answer(&daemon.local, admitted.as_ref().map(|_| ()))
        .await?;
    match admitted {
        Ok(Admitted::Control) => control_links::run(daemon, link),
        Ok(Admitted::Data(hosted, slot)) => {
            data_links::attach_accepted(daemon, &hosted, slot, link);
        }
        // It has the key, so it is no stranger: it has been told, and tries again.
        Err(failure) => tracing::debug!("a link of {} is refused: {failure}", link.name),
    }
    Ok(())
}

enum Admitted {
    Control,
    Data(Arc<Hosted>, Slot),
}

fn admit(daemon: &Daemon, peer: &Hello) -> Result<Admitted, Failure> {
    if daemon.config.peer(&peer.name).is_none() {
        return Err(Failure::failed(format!(
            "{} has no [[peer]] {}: add it to the configuration",
            daemon.config.name, peer.name
        )));
    }
    if peer.node == daemon.local.node {
        return Err(Failure::failed(format!(
            "{} and {} have the same node id: one state folder is a copy of the other's; remove its \
             `node` file",
            daemon.config.name, peer.name
        )));
    }
    match peer.link {
        Purpose::Control => {
            let standing = daemon.nodes.standing(&peer.name);
            if kept(daemon.local.node, peer.node, false, standing) {
                Ok(Admitted::Control)
            } else {
                Err(Failure::failed("there is a link already"))
            }
        }
        Purpose::Data { volume, slot } => {
            let hosted = data_links::admits(daemon, volume, slot, peer)?;
            Ok(Admitted::Data(hosted, slot))
        }
    }
}
