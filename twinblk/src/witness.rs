//! `twinblk witness`: one small process on a third machine that holds the registers of many volumes.

mod config;
mod state;
#[cfg(test)]
mod tests;

use crate::arbiter::protocol::{Answer, MESSAGE_BYTES_MAX, Question, purpose};
use crate::arbiter::{Change, Entry};
use crate::complaints::Complaints;
use crate::daemon::blocking;
use crate::failure::{Context, Failure};
use crate::framing;
use crate::key::ClusterKey;
use crate::link::{Caller, Local};
use crate::{logging, watchdog};
use config::WitnessConfig;
use format::types::Name;
use state::State;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections that have not proved themselves; more wait to be accepted.
const HALF_OPEN_MAX: usize = 32;
/// Connections of nodes: four of each of 64 nodes. Each takes a few KiB.
const CONNECTIONS_MAX: usize = 256;
/// A connection without a question for this long is closed; its node opens another when it has one.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long the listener rests when the process is out of descriptors, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer may lie unacknowledged before the connection is given up.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// The name by which a witness greets.
const NAME: &str = "witness";

/// Runs the witness until it is told to stop.
pub(crate) fn run(config: &Path) -> Result<(), Failure> {
    logging::begin();
    let config = WitnessConfig::read(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context(|| "cannot start".to_owned())?;
    let served = runtime.block_on(until_stopped(config));
    runtime.shutdown_background();
    served
}

async fn until_stopped(config: WitnessConfig) -> Result<(), Failure> {
    let doing = || "cannot listen to signals".to_owned();
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    let witness = Witness::open(&config)?;
    let listener = TcpListener::bind(config.listen.as_str());
    let listener = listener
        .await
        .context(|| format!("cannot listen on {}", config.listen))?;
    tracing::info!(
        "the witness listens on {} and holds {} registers in {}",
        config.listen,
        witness.state.count(),
        config.state_dir.display()
    );
    watchdog::ready();
    // Whatever was answered is durable, so that nothing needs to be finished.
    tokio::select! {
        () = witness.listen(listener) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    logging::tell_service_manager(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("the witness stops");
    Ok(())
}

/// One of a bounded number of connections.
type Place = OwnedSemaphorePermit;

/// What its connections share.
struct Witness {
    local: Local,
    state: Arc<State>,
    connections: Arc<Semaphore>,
    complaints: Complaints,
}

impl Witness {
    fn open(config: &WitnessConfig) -> Result<Arc<Witness>, Failure> {
        let key = ClusterKey::read(&config.key_file)?;
        let state = State::open(&config.state_dir)?;
        let local = Local {
            node: state.node(),
            name: Name::new(NAME).expect("it is a name"),
            key,
            lease: UNACKNOWLEDGED_MAX,
        };
        Ok(Arc::new(Witness {
            local,
            state: Arc::new(state),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            complaints: Complaints::default(),
        }))
    }

    /// Accepts connections; they end when this does.
    async fn listen(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(HALF_OPEN_MAX));
        let mut connections = JoinSet::new();
        // The semaphore is never closed.
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, from)) => {
                    connections.spawn(self.clone().meet(stream, from, place));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }

    /// A connection from its beginning to its end.
    async fn meet(self: Arc<Self>, stream: TcpStream, from: SocketAddr, half_open: Place) {
        let admitted = self.admit(stream).await;
        drop(half_open);
        match admitted {
            Ok(Some((stream, _connection))) => self.serve(stream).await,
            // It has the key, so it is no stranger, and it has been told.
            Ok(None) => {}
            Err(failure) => self.complain(&format!("{from}: {failure}")),
        }
    }

    fn complain(&self, what: &str) {
        if let Some(text) = self.complaints.worth_saying(what) {
            tracing::warn!("{text}");
        }
    }

    /// Sees a connection through its handshake. An error is a stranger's.
    async fn admit(&self, stream: TcpStream) -> Result<Option<(TcpStream, Place)>, Failure> {
        let caller = Caller::hear(&self.local, stream).await?;
        let connection = if caller.hello.link != purpose() {
            Err(Failure::failed(
                "this is a witness and no node: name it in [arbiter] and not in [[peer]]",
            ))
        } else {
            let place = self.connections.clone().try_acquire_owned();
            place.map_err(|_| Failure::failed("there are too many connections already"))
        };
        let link = caller
            .answer(&self.local, connection.as_ref().map(|_| ()))
            .await?;
        match connection {
            Ok(connection) => Ok(Some((link.into_stream(), connection))),
            Err(failure) => {
                self.complain(&format!("{}: {failure}", link.name));
                Ok(None)
            }
        }
    }

    /// Answers the questions of a connection until it ends.
    async fn serve(&self, mut stream: TcpStream) {
        loop {
            let receiving = framing::receive::<Question>(&mut stream, MESSAGE_BYTES_MAX);
            let question = match timeout(IDLE_MAX, receiving).await {
                Ok(Ok(question)) => question,
                Ok(Err(failure)) => {
                    tracing::debug!("a connection has ended: {failure}");
                    return;
                }
                Err(_) => return,
            };
            let state = self.state.clone();
            let answer = blocking(move || answer(&state, question)).await;
            let answer = answer.unwrap_or_else(|failure| {
                tracing::warn!("a question is refused: {failure}");
                Answer::Refused {
                    reason: failure.message.chars().take(256).collect(),
                }
            });
            if let Err(failure) = framing::send(&mut stream, &answer, MESSAGE_BYTES_MAX).await {
                tracing::debug!("a connection has ended: {failure}");
                return;
            }
        }
    }
}

fn answer(state: &State, question: Question) -> Result<Answer, Failure> {
    let (volume, change, condition) = question.change().map_err(Failure::failed)?;
    let held = state.ask(volume, change, condition)?;
    if let Change::Replace(by) = change {
        tracing::warn!("volume {volume}: replaced by force with {by:?}, and holds {held:?} now");
    }
    Ok(held.map_or(Answer::Empty, |configuration| Answer::Holds {
        entry: Entry {
            volume,
            configuration,
        },
    }))
}
