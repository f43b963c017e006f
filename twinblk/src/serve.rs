//! `twinblk serve`: the daemon, from its start to its orderly stop.

use crate::config::{Address, Config};
use crate::daemon::{Daemon, blocking};
use crate::exports::VolumeExports;
use crate::failure::{Context, Failure};
use crate::handlers;
use crate::happenings::Incident;
use crate::logging::{self, tell_service_manager};
use crate::{admin, control_links, data_links, http, listener, turns, watchdog, watching};
use nbd_server::listener::Listener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

/// How often what could not be opened is tried again.
const REOPEN_PERIOD: Duration = Duration::from_secs(2);

/// Runs the daemon until it is told to stop.
pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    logging::begin();
    let config = Config::read(config)?;
    // The control plane is light, and the data path has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context(|| "cannot start".to_owned())?;
    let served = runtime.block_on(serve(config));
    // A replica that does not stop must not keep an impatient operator waiting.
    runtime.shutdown_background();
    served
}

fn impatient() -> Failure {
    Failure::failed("told twice to stop: the replicas may not be marked as cleanly stopped")
}

async fn serve(config: Config) -> Result<(), Failure> {
    // Before anything else, so that a stop during the start is an orderly one.
    let doing = || "cannot listen to signals".to_owned();
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    let (daemon, reports) = Daemon::new(config, handlers::handle_own)?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(daemon.clone().listen_to_replicas(reports));
    let listeners = bind(&daemon).await?;
    let opened = daemon.clone();
    let incidents = blocking(move || opened.volumes.open_all(&opened.config.name)).await?;
    incidents
        .into_iter()
        .for_each(|incident| daemon.incident(incident));
    for hosted in daemon.volumes.all() {
        if hosted.closed().is_none() {
            data_links::keep(&daemon, &hosted);
        }
    }
    handlers::settle(&daemon, &daemon.config.name.clone()).await?;
    let Listeners {
        peers,
        admin: admin_socket,
        nbd,
        http,
    } = listeners;
    tokio::spawn(reopen(daemon.clone()));
    tokio::spawn(listener::listen(daemon.clone(), peers));
    for peer in &daemon.config.peers {
        tokio::spawn(control_links::keep_connected(daemon.clone(), peer.clone()));
    }
    let exports = Arc::new(VolumeExports(daemon.clone()));
    for listener in nbd {
        tokio::spawn(listener.serve(exports.clone(), stopped.clone()));
    }
    // Those who ask by the admin socket find every volume that there is.
    watching::begin(&daemon, &stopped);
    tokio::spawn(watching::watch_all(daemon.clone(), stopped.clone()));
    tokio::spawn(turns::take_turns(daemon.clone(), stopped.clone()));
    if let Some(http) = http {
        tokio::spawn(http::serve(daemon.clone(), http));
    }
    tokio::spawn(admin::serve(daemon.clone(), admin_socket, stopped));
    daemon.incident(Incident::Started);
    watchdog::ready();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    daemon.incident(Incident::Stopping);
    tell_service_manager(&[sd_notify::NotifyState::Stopping]);
    // New clients are turned away while the replicas finish what they have in hand.
    stop.send_replace(true);
    let last = daemon.clone();
    let stopping = blocking(move || {
        last.volumes.stop_all();
        last.events.close();
        Ok(())
    });
    tokio::select! {
        stopped = stopping => stopped?,
        _ = terminate.recv() => return Err(impatient()),
        _ = interrupt.recv() => return Err(impatient()),
    }
    // An unused socket's file would only puzzle whoever finds it.
    let _ = std::fs::remove_file(&daemon.config.admin);
    Ok(())
}

/// Goes on trying to open replicas that could not be opened for a reason that may pass.
async fn reopen(daemon: Arc<Daemon>) {
    loop {
        sleep(REOPEN_PERIOD).await;
        let volumes = daemon.clone();
        let Ok(reopened) = blocking(move || Ok(volumes.volumes.reopen())).await else {
            return;
        };
        for hosted in reopened {
            daemon.incident(Incident::ReplicaOpened(hosted.record.name.clone()));
            data_links::keep(&daemon, &hosted);
        }
    }
}

/// All that the daemon listens on.
struct Listeners {
    peers: TcpListener,
    admin: tokio::net::UnixListener,
    nbd: Vec<Listener>,
    http: Option<TcpListener>,
}

/// Everything that can be refused is taken before any replica is opened.
async fn bind(daemon: &Daemon) -> Result<Listeners, Failure> {
    let config = &daemon.config;
    let peers = bind_tcp(&config.listen).await?;
    let http = match &config.http {
        Some(address) => Some(bind_tcp(address).await?),
        None => None,
    };
    let admin = admin::bind(&config.admin).await?;
    let mut nbd = Vec::new();
    for address in &config.nbd {
        nbd.push(Listener::bind(address).await.map_err(Failure::failed)?);
    }
    Ok(Listeners {
        peers,
        admin,
        nbd,
        http,
    })
}

async fn bind_tcp(address: &Address) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address.as_str()).await;
    bound.context(|| format!("cannot listen on {address}"))
}
