//! Keeps a volume within reach: connects again whenever the connection ends, as long as nobody else has served it.
//!
//! Where the kernel's driver carries the requests, it has connections of its own, which are opened and given to it along with
//! this one. This one then carries nothing but signs of life.

use super::given::Given;
use super::kernel_device::NotGiven;
use super::outstanding::Operation;
use super::place::Place;
use super::reach::Reach;
use super::reign::{Reign, Standing};
use super::traffic;
use crate::api::VolumeView;
use crate::client::{Client, Lines};
use crate::event_log::EventView;
use crate::failure::{Failure, FailureKind};
use crate::nbd::{Connection, Error, Unanswered};
use format::types::Name;
use nbd_server::listener::Address;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::watch;
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
    pub(super) reach: Reach,
    pub(super) client: Client,
    pub(super) reign: Reign,
    /// Tells the size when the volume has grown.
    pub(super) grown: watch::Sender<u64>,
    /// Where the reign is noted, if another process may have to go on with the device.
    pub(super) notes: Option<Place>,
}

/// Why nothing is kept any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The device must not be used any more, for this reason.
    Superseded(String),
    /// Somebody has ended the device.
    Gone,
}

/// What a look at the volume shows.
pub(super) enum Look {
    Serving,
    Held(String),
    Superseded(String),
}

impl Keeper {
    /// Carries requests for as long as the reign lasts that the device was attached in; says why it has ended. Without a
    /// first connection it is made here.
    pub(super) async fn keep(mut self, first: Option<Connection>, mut given: Option<Given>) -> End {
        let mut connection = match first {
            Some(connection) => connection,
            None => match self.connect_again(&mut given).await {
                Ok(connection) => connection,
                Err(end) => return end,
            },
        };
        loop {
            let reach = self.reach.clone();
            let ended = tokio::select! {
                ended = traffic::carry(connection, &reach.held) => ended,
                () = keep_up(&mut given, &reach) => return End::Gone,
                superseded = self.watch() => return End::Superseded(superseded),
            };
            if let Some(given) = &given {
                if given.is_gone().await {
                    return End::Gone;
                }
                given.end();
            }
            tracing::warn!("{}: requests are held: {ended}", self.reach.name);
            connection = match self.connect_again(&mut given).await {
                Ok(connection) => connection,
                Err(end) => return end,
            };
            tracing::info!("{}: requests go on", self.reach.name);
        }
    }

    /// Waits until the volume can be opened again. The other end of that is that it was superseded.
    async fn connect_again(&mut self, given: &mut Option<Given>) -> Result<Connection, End> {
        let mut told = String::new();
        loop {
            let reason = match self.look().await {
                Look::Superseded(reason) => return Err(End::Superseded(reason)),
                Look::Held(reason) => reason,
                Look::Serving => match self.open(given).await? {
                    Ok(connection) => return Ok(connection),
                    Err(reason) => reason,
                },
            };
            if reason != told {
                tracing::info!("{}: {reason}", self.reach.name);
                told = reason;
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Opens the volume, which this node serves, for this process and for the kernel.
    async fn open(&mut self, given: &mut Option<Given>) -> Result<Result<Connection, String>, End> {
        let number = given.as_ref().map_or(0, Given::number);
        let opened = async {
            let connection = self.reach.open().await?;
            Ok::<_, Error>((connection, self.reach.sockets(number).await?))
        };
        let (connection, sockets) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error.to_string())),
        };
        // It may have changed hands in between, and opening it may have brought it back: nothing is sent before that is
        // known.
        match self.look().await {
            Look::Serving => {}
            Look::Held(reason) => return Ok(Err(reason)),
            Look::Superseded(reason) => return Err(End::Superseded(reason)),
        }
        let Some(given) = given else {
            return Ok(Ok(connection));
        };
        match given.renew(sockets).await {
            Ok(()) => Ok(Ok(connection)),
            Err(NotGiven::Gone) => Err(End::Gone),
            Err(NotGiven::NotNow(reason)) => Ok(Err(reason)),
        }
    }

    /// Opens the volume for the kernel, for the first time.
    pub(super) async fn open_for_kernel(&mut self, number: usize) -> Result<Vec<OwnedFd>, Failure> {
        let opened = self.reach.sockets(number).await;
        let name = &self.reach.name;
        let sockets = opened.map_err(|error| {
            Failure::failed(format!("volume {name} cannot be opened again: {error}"))
        })?;
        let name = name.clone();
        match self.look().await {
            Look::Serving => Ok(sockets),
            Look::Held(reason) | Look::Superseded(reason) => {
                Err(Failure::failed(format!("volume {name}: {reason}")))
            }
        }
    }

    /// Looks at the volume while there is no connection.
    pub(super) async fn look(&mut self) -> Look {
        match self.view().await {
            Err(reason) => reason,
            Ok(view) => match self.judge(&view, false) {
                Standing::Serving => Look::Serving,
                Standing::Held(reason) => Look::Held(reason),
                Standing::Superseded(reason) => Look::Superseded(reason),
            },
        }
    }

    /// Judges a view, and notes how far the reign is known to have lasted.
    fn judge(&mut self, view: &VolumeView, connected: bool) -> Standing {
        let before = self.reign.clone();
        let standing = self.reign.judge(view, connected);
        if let (true, Some(place)) = (self.reign != before, &self.notes) {
            // Whoever reads an older note gives the device up sooner than it must.
            if let Err(failure) = place.note(&self.reign) {
                tracing::warn!("{failure}");
            }
        }
        standing
    }

    async fn view(&self) -> Result<VolumeView, Look> {
        let name = self.reach.name.to_string();
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
                let next = timeout(LOOK_PERIOD, next_of(events, &self.reach.name));
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
            let sign = Operation::Read {
                offset: 0,
                length: SIGN_BYTES,
            };
            self.reach.answers(sign).await;
        }
        if let Standing::Superseded(reason) = self.judge(&view, connected) {
            return Some(reason);
        }
        if view.size_bytes > self.reach.held.size_bytes() {
            self.reach.held.set_size(view.size_bytes);
            self.grown.send_replace(view.size_bytes);
        }
        None
    }
}

/// Gives the kernel others for the connections that it loses, until its device is gone, if it has one.
async fn keep_up(given: &mut Option<Given>, reach: &Reach) {
    match given {
        Some(given) => given.keep_up(reach).await,
        None => std::future::pending().await,
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
    let opened = Connection::open(address, &name, Unanswered::SentAgain).await;
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
