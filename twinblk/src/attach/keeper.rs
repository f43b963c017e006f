//! Keeps a volume within reach: connects again whenever the connection ends, as long as nobody else has served it.

use super::connection::{Connection, Error};
use super::held::{Answer, Held};
use super::outstanding::Operation;
use super::reign::{Reign, Standing};
use crate::api::VolumeView;
use crate::client::{Client, Lines};
use crate::event_log::EventView;
use crate::failure::{Failure, FailureKind};
use format::types::Name;
use nbd_server::listener::Address;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

/// How often a daemon that is away is looked for.
const RETRY_PERIOD: Duration = Duration::from_millis(50);
/// How often the volume is looked at although nothing was told of it.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
/// A daemon that answers later than this is taken to be away.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// What is read to see that the connection lives.
const SIGN_BYTES: u32 = 4096;

/// Who keeps it.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) name: Name,
    pub(super) client: Client,
    pub(super) address: Address,
    pub(super) held: Arc<Held>,
    pub(super) reign: Reign,
    /// Tells the size when the volume has grown.
    pub(super) grown: watch::Sender<u64>,
}

/// What a look at the volume shows.
enum Look {
    Serving,
    Held(String),
    Superseded(String),
}

impl Keeper {
    /// Carries requests for as long as the reign lasts that the device was attached in; says why it has ended.
    pub(super) async fn keep(mut self, first: Connection) -> String {
        let mut connection = first;
        loop {
            let held = self.held.clone();
            let ended = tokio::select! {
                ended = connection.carry(&held) => ended,
                superseded = self.watch() => return superseded,
            };
            tracing::warn!("{}: requests are held: {ended}", self.name);
            connection = match self.connect_again().await {
                Ok(connection) => connection,
                Err(superseded) => return superseded,
            };
            tracing::info!("{}: requests go on", self.name);
        }
    }

    /// Waits until the volume can be opened again. The other end of that is that it was superseded.
    async fn connect_again(&mut self) -> Result<Connection, String> {
        let mut told = String::new();
        loop {
            let reason = match self.look().await {
                Look::Superseded(reason) => return Err(reason),
                Look::Held(reason) => reason,
                Look::Serving => match self.open().await? {
                    Ok(connection) => return Ok(connection),
                    Err(reason) => reason,
                },
            };
            if reason != told {
                tracing::info!("{}: {reason}", self.name);
                told = reason;
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Opens the volume, which this node serves. It may have changed hands in between, and opening it may have brought
    /// it back: nothing is sent before that is known.
    async fn open(&mut self) -> Result<Result<Connection, String>, String> {
        let opened = Connection::open(&self.address, &self.name.to_string()).await;
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match self.look().await {
            Look::Serving => Ok(Ok(connection)),
            Look::Held(reason) => Ok(Err(reason)),
            Look::Superseded(reason) => Err(reason),
        }
    }

    /// Looks at the volume while there is no connection.
    async fn look(&mut self) -> Look {
        match self.view().await {
            Err(reason) => reason,
            Ok(view) => match self.reign.judge(&view, false) {
                Standing::Serving => Look::Serving,
                Standing::Held(reason) => Look::Held(reason),
                Standing::Superseded(reason) => Look::Superseded(reason),
            },
        }
    }

    async fn view(&self) -> Result<VolumeView, Look> {
        let name = self.name.to_string();
        match timeout(ANSWER_TIME, self.client.volume(&name)).await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(failure)) if failure.kind == FailureKind::NotFound => {
                Err(Look::Superseded("the volume was removed".to_owned()))
            }
            Ok(Err(failure)) => Err(Look::Held(failure.message)),
            Err(_) => Err(Look::Held("the daemon does not answer".to_owned())),
        }
    }

    /// Follows the volume while there is a connection, until it has been superseded.
    async fn watch(&mut self) -> String {
        let client = self.client.clone();
        loop {
            let mut events = follow(&client).await.ok();
            loop {
                if let Some(superseded) = self.look_connected().await {
                    return superseded;
                }
                let Some(events) = events.as_mut() else { break };
                let next = timeout(LOOK_PERIOD, next_of(events, &self.name));
                if let Ok(false) = next.await {
                    break;
                }
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Looks at the volume while there is a connection.
    async fn look_connected(&mut self) -> Option<String> {
        let view = match self.view().await {
            Ok(view) => view,
            Err(Look::Superseded(reason)) => return Some(reason),
            Err(_) => return None,
        };
        let connected = self.reign.needs_proof(&view);
        if connected {
            self.connection_lives().await;
        }
        if let Standing::Superseded(reason) = self.reign.judge(&view, connected) {
            return Some(reason);
        }
        if view.size_bytes > self.held.size_bytes() {
            self.held.set_size(view.size_bytes);
            self.grown.send_replace(view.size_bytes);
        }
        None
    }

    /// Returns once the connection has brought an answer to what was asked now; never, if it has ended.
    async fn connection_lives(&self) {
        let (asked, answered) = oneshot::channel();
        let operation = Operation::Read {
            offset: 0,
            length: SIGN_BYTES,
        };
        self.held.ask(operation, Answer::Alive(asked));
        // Whoever holds the other half gives it up only by answering.
        let _ = answered.await;
    }
}

/// The events from now on.
async fn follow(client: &Client) -> Result<Lines<'_>, Failure> {
    let mut newest = 0;
    let mut past = client.events(0, false).await?;
    while let Some(line) = past.next().await? {
        newest = serde_json::from_str::<EventView>(&line).map_or(newest, |event| event.id);
    }
    client.events(newest, true).await
}

/// Waits for an event of the volume; tells whether there was one before the end of all.
async fn next_of(events: &mut Lines<'_>, name: &Name) -> bool {
    while let Ok(Some(line)) = events.next().await {
        let event = serde_json::from_str::<EventView>(&line);
        let volume = event.ok().and_then(|event| event.volume);
        if volume.is_some_and(|volume| volume == name.to_string()) {
            return true;
        }
    }
    false
}

/// Opens a volume for the first time, which may bring it here.
pub(super) async fn begin(
    client: &Client,
    address: &Address,
    name: &Name,
) -> Result<(Connection, Reign), Failure> {
    let name = name.to_string();
    let opened = Connection::open(address, &name).await;
    let connection = opened.map_err(|error| match error {
        Error::Refused(reason) => Failure::failed(reason),
        error => Failure::failed(format!(
            "volume {name} cannot be opened on {address}: {error}"
        )),
    })?;
    let view = client.volume(&name).await?;
    let reign = Reign::of(&view);
    let reign = reign.map_err(|reason| Failure::failed(format!("volume {name}: {reason}")))?;
    Ok((connection, reign))
}
