//! The register in etcd, through its JSON gateway: one key for each volume, changed by transactions that compare
//! the key's revision.

mod gateway;
#[cfg(test)]
mod tests;
mod tls;

use super::entry::Entry;
use super::register::{Asking, Change, Register};
use crate::config::EtcdSettings;
use crate::failure::Failure;
use format::types::{Configuration, VolumeId};
use gateway::{Connection, Credentials, Endpoint, Found};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Volumes that ask at once; more wait their turn.
const CONNECTIONS_MAX: usize = 4;
/// How often a change is tried again because another came between: each time another node has got on.
const ROUNDS_MAX: usize = 8;

/// An etcd cluster.
pub(crate) struct Etcd {
    endpoints: Vec<Endpoint>,
    prefix: String,
    credentials: Option<Credentials>,
    patience: Duration,
    // The endpoint that has answered last is asked first.
    first: AtomicUsize,
    token: Mutex<Option<String>>,
    places: Semaphore,
}

impl Etcd {
    /// One whose answers are waited for so long. Reads the files that the settings name.
    pub(crate) fn new(settings: &EtcdSettings, patience: Duration) -> Result<Etcd, Failure> {
        let tls = tls::connector(settings)?;
        let endpoints = settings
            .endpoints
            .iter()
            .map(|text| Endpoint::parse(text, tls.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Etcd {
            endpoints,
            prefix: settings.prefix.trim_end_matches('/').to_owned(),
            credentials: Credentials::read(settings)?,
            patience,
            first: AtomicUsize::new(0),
            token: Mutex::default(),
            places: Semaphore::new(CONNECTIONS_MAX),
        })
    }

    async fn ask_in_time(
        &self,
        volume: VolumeId,
        change: Change,
    ) -> Result<Option<Configuration>, Failure> {
        let asked = timeout(self.patience, self.ask_in_turn(volume, change)).await;
        asked.map_err(|_| {
            Failure::failed(format!("etcd has not answered within {:?}", self.patience))
        })?
    }

    /// Asks the endpoints in turn, until one has answered. What an earlier one may still do after its time is
    /// over does not matter: it compares revisions too.
    async fn ask_in_turn(
        &self,
        volume: VolumeId,
        change: Change,
    ) -> Result<Option<Configuration>, Failure> {
        // It is never closed.
        let _place = self.places.acquire().await.map_err(Failure::failed)?;
        let count = self.endpoints.len();
        let share = self.patience / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let first = self.first.load(Ordering::Relaxed);
        let mut last = Failure::failed("etcd has no endpoint");
        for index in (first..first + count).map(|index| index % count) {
            let endpoint = &self.endpoints[index];
            let asked = timeout(share, self.ask_one(endpoint, volume, change)).await;
            match asked.unwrap_or_else(|_| Err(Failure::failed("no answer"))) {
                Ok(held) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(held);
                }
                Err(failure) => {
                    last = Failure {
                        message: format!("etcd at {endpoint}: {failure}"),
                        ..failure
                    };
                }
            }
        }
        Err(last)
    }

    async fn ask_one(
        &self,
        endpoint: &Endpoint,
        volume: VolumeId,
        change: Change,
    ) -> Result<Option<Configuration>, Failure> {
        let mut connection = endpoint.connect().await?;
        self.authenticate(&mut connection).await?;
        let asked = self.change(&mut connection, volume, change).await;
        if !connection.is_denied() {
            return asked;
        }
        // A token does not live for ever: another, once.
        *lock(&self.token) = None;
        self.authenticate(&mut connection).await?;
        self.change(&mut connection, volume, change).await
    }

    async fn authenticate(&self, connection: &mut Connection) -> Result<(), Failure> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let known = lock(&self.token).clone();
        let token = match known {
            Some(token) => token,
            None => {
                let token = connection.authenticate(credentials).await?;
                *lock(&self.token) = Some(token.clone());
                token
            }
        };
        connection.use_token(token);
        Ok(())
    }

    async fn change(
        &self,
        connection: &mut Connection,
        volume: VolumeId,
        change: Change,
    ) -> Result<Option<Configuration>, Failure> {
        let key = format!("{}/{volume}", self.prefix);
        for _ in 0..ROUNDS_MAX {
            let found = connection.read(&key).await?;
            let held = match (understand(&key, volume, found.as_ref()), change) {
                (Ok(held), _) => held,
                // Garbage is never taken for a configuration or for nothing, but an operator may replace it.
                (Err(_), Change::Replace(_)) => None,
                (Err(failure), _) => return Err(failure),
            };
            let Some(next) = change.decide(held) else {
                return Ok(held);
            };
            let entry = Entry {
                volume,
                configuration: next,
            };
            let revision = found.map_or(0, |found| found.revision);
            if connection.swap(&key, revision, &entry.encode()?).await? {
                return Ok(Some(next));
            }
        }
        Err(Failure::failed(format!(
            "the key {key} is changed by others all the time"
        )))
    }
}

fn understand(
    key: &str,
    volume: VolumeId,
    found: Option<&Found>,
) -> Result<Option<Configuration>, Failure> {
    let Some(found) = found else {
        return Ok(None);
    };
    let entry = Entry::decode(&found.value).and_then(|entry| entry.of(volume));
    entry.map(Some).map_err(|failure| {
        Failure::protects_data(format!(
            "the key {key} holds no configuration ({failure}): `twinblk arbiter reset NAME --force` on the \
             volume's primary replaces it"
        ))
    })
}

impl Register for Etcd {
    fn ask(&self, volume: VolumeId, change: Change) -> Asking<'_> {
        Box::pin(self.ask_in_time(volume, change))
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
