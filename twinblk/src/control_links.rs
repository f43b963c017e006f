//! Keeps the control links up: one for each other node, dialled by both sides.

use crate::backoff::Backoff;
use crate::config::Peer;
use crate::control::serve;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::handlers;
use crate::happenings::Incident;
use crate::link::{Link, Purpose, Standing, dial};
use std::sync::Arc;

/// A control link may be silent for as many leases before it is given up: it decides nothing by
/// itself, and a short pause of a machine is no reason to break it.
const LEASES_OF_PATIENCE: u32 = 2;

/// Keeps the link to a node up, for as long as the daemon runs.
pub(crate) async fn keep_connected(daemon: Arc<Daemon>, peer: Peer) {
    let mut backoff = Backoff::default();
    loop {
        while matches!(daemon.nodes.standing(&peer.name), Standing::Up { .. }) {
            daemon.nodes.changed(&peer.name).await;
            backoff = Backoff::default();
        }
        match dial(&daemon.local, &peer, Purpose::Control).await {
            Ok(link) => run(&daemon, link),
            Err(failure) => daemon.nodes.not_reached(&peer.name, failure),
        }
        tokio::select! {
            () = backoff.rest() => {}
            () = daemon.nodes.changed(&peer.name) => {}
        }
    }
}

/// Takes an established link into use, in the place of any earlier one.
pub(crate) fn run(daemon: &Arc<Daemon>, link: Link) {
    let Some(life) = daemon.nodes.begin(daemon.local.node, &link) else {
        return;
    };
    let name = link.name.clone();
    if life.first {
        daemon.incident(Incident::NodeConnected(name.clone()));
    }
    let patience = daemon.config.lease * LEASES_OF_PATIENCE;
    let serving = {
        let (daemon, name) = (daemon.clone(), name.clone());
        serve(link.into_stream(), life.end, patience, move |request| {
            handlers::handle(daemon.clone(), name.clone(), request)
        })
    };
    let settling = {
        let (daemon, name) = (daemon.clone(), name.clone());
        tokio::spawn(async move {
            daemon.links.kick(&name);
            if let Err(failure) = handlers::settle(&daemon, &name).await {
                tracing::warn!("settling with {name} what it has missed: {failure}");
            }
        })
    };
    let daemon = daemon.clone();
    tokio::spawn(async move {
        let failure = tokio::select! {
            failure = serving => failure,
            _ = life.replaced => Failure::failed("another link has taken its place"),
        };
        settling.abort();
        if daemon.nodes.end(&name, life.number, &failure) {
            daemon.incident(Incident::NodeLost(name, failure.message));
        }
    });
}
