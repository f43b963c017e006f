//! The asking end of a link to a witness.

use super::entry::Entry;
use super::protocol::{Answer, MESSAGE_BYTES_MAX, Question, purpose};
use super::register::{Asking, Change, Register};
use crate::backoff::Backoff;
use crate::failure::Failure;
use crate::framing;
use crate::link::{Local, greet};
use format::types::{Configuration, VolumeId};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

/// Volumes that ask at once; more wait their turn.
const CONNECTIONS_MAX: usize = 4;
/// The longest rest between two attempts to connect: a witness that is back must be found soon, since everything
/// may be waiting for it.
const REST_MAX: Duration = Duration::from_millis(200);

/// A witness, by its addresses.
pub(crate) struct Witness {
    local: Local,
    addresses: Vec<String>,
    patience: Duration,
    // The address that has answered last is tried first.
    first: AtomicUsize,
    places: Semaphore,
    // Connections that wait for the next question.
    idle: Mutex<Vec<TcpStream>>,
    rest: Mutex<Rest>,
}

/// When to try again.
#[derive(Debug)]
struct Rest {
    until: Instant,
    backoff: Backoff,
}

impl Rest {
    fn none() -> Rest {
        Rest {
            until: Instant::now(),
            backoff: Backoff::up_to(REST_MAX),
        }
    }
}

impl Witness {
    /// One whose answers are waited for so long.
    pub(crate) fn new(local: Local, addresses: Vec<String>, patience: Duration) -> Witness {
        Witness {
            local,
            addresses,
            patience,
            first: AtomicUsize::new(0),
            places: Semaphore::new(CONNECTIONS_MAX),
            idle: Mutex::default(),
            rest: Mutex::new(Rest::none()),
        }
    }

    async fn ask_in_time(
        &self,
        volume: VolumeId,
        change: Change,
    ) -> Result<Option<Configuration>, Failure> {
        let asked = timeout(self.patience, self.try_to_ask(volume, change)).await;
        asked.map_err(|_| {
            // Whatever made one silent has made the others so: the next question begins with a new one.
            lock(&self.idle).clear();
            Failure::failed(format!(
                "the witness on {} has not answered within {:?}",
                self.addresses.join(" and "),
                self.patience
            ))
        })?
    }

    async fn try_to_ask(
        &self,
        volume: VolumeId,
        change: Change,
    ) -> Result<Option<Configuration>, Failure> {
        let entry = |configuration| Entry {
            volume,
            configuration,
        };
        match change {
            Change::Read => self.exchange(volume, &Question::Read { volume }).await,
            Change::Propose(next) => {
                let next = entry(next);
                self.exchange(volume, &Question::Propose { next }).await
            }
            Change::Seed(first) => {
                let first = entry(first);
                self.exchange(volume, &Question::Seed { first }).await
            }
            Change::Replace(by) => {
                let held = self.exchange(volume, &Question::Read { volume }).await?;
                let question = Question::Replace {
                    held: held.map(entry),
                    by: entry(by),
                };
                self.exchange(volume, &question).await
            }
        }
    }

    /// Asks on an idle connection, or on a new one.
    async fn exchange(
        &self,
        volume: VolumeId,
        question: &Question,
    ) -> Result<Option<Configuration>, Failure> {
        // It is never closed.
        let _place = self.places.acquire().await.map_err(Failure::failed)?;
        loop {
            // The guard must not live across the wait.
            let Some(mut stream) = lock(&self.idle).pop() else {
                break;
            };
            // One that has been idle may have been closed meanwhile; asking again changes nothing more.
            if let Ok(answer) = say(&mut stream, question).await {
                lock(&self.idle).push(stream);
                return self.understand(volume, answer);
            }
        }
        let mut stream = self.connect().await?;
        let answer = say(&mut stream, question)
            .await
            .map_err(|failure| self.complain(&failure))?;
        lock(&self.idle).push(stream);
        self.understand(volume, answer)
    }

    fn understand(
        &self,
        volume: VolumeId,
        answer: Answer,
    ) -> Result<Option<Configuration>, Failure> {
        let understood = match answer {
            Answer::Holds { entry } => entry.of(volume).map(Some),
            Answer::Empty => Ok(None),
            Answer::Refused { reason } => Err(Failure::failed(reason)),
        };
        understood.map_err(|failure| self.complain(&failure))
    }

    fn complain(&self, failure: &Failure) -> Failure {
        let addresses = self.addresses.join(" and ");
        Failure::failed(format!("the witness on {addresses}: {failure}"))
    }

    /// Tries its addresses in turn, after a rest where that has just failed.
    async fn connect(&self) -> Result<TcpStream, Failure> {
        let until = lock(&self.rest).until;
        sleep_until(until).await;
        let mut last = Failure::failed("the witness has no address");
        let count = self.addresses.len();
        let share = self.patience / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let first = self.first.load(Ordering::Relaxed);
        for index in (first..first + count).map(|index| index % count) {
            let address = &self.addresses[index];
            let connected = timeout(share, connect_to(&self.local, address)).await;
            match connected.unwrap_or_else(|_| Err(Failure::failed("no answer"))) {
                Ok(stream) => {
                    self.first.store(index, Ordering::Relaxed);
                    *lock(&self.rest) = Rest::none();
                    return Ok(stream);
                }
                Err(failure) => {
                    last = Failure::failed(format!("the witness on {address}: {failure}"));
                }
            }
        }
        let mut rest = lock(&self.rest);
        rest.until = Instant::now() + rest.backoff.pause();
        Err(last)
    }
}

impl Register for Witness {
    fn ask(&self, volume: VolumeId, change: Change) -> Asking<'_> {
        Box::pin(self.ask_in_time(volume, change))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

async fn connect_to(local: &Local, address: &str) -> Result<TcpStream, Failure> {
    let (stream, welcome) = greet(local, address, purpose()).await?;
    match welcome.accepted {
        Ok(()) => Ok(stream),
        Err(reason) => Err(Failure::failed(format!(
            "{} answers there and refuses: {reason}",
            welcome.name
        ))),
    }
}

async fn say(stream: &mut TcpStream, question: &Question) -> Result<Answer, Failure> {
    framing::send(stream, question, MESSAGE_BYTES_MAX).await?;
    framing::receive(stream, MESSAGE_BYTES_MAX).await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment or one push.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
