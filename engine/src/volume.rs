//! A replica that is open: its reactor's thread, and the mailbox by which the control plane talks to it.

use crate::frontend::Session;
use crate::mailbox::{Mailbox, Message, Reply};
use crate::reactor::Reactor;
use crate::store::{self, Found};
use format::superblock::Replica;
use format::types::{Generation, Name, REPLICAS_MAX, Slot, VolumeId};
use replica::Settings;
use replica::command::{Answer, Command, Refusal};
use replica::event::SessionId;
use replica::notice::Notice;
use replica::status::Status;
use ring::SetupError;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

#[cfg(test)]
mod tests;

/// Where a replica's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// The data file or block device: exactly the volume's bytes.
    pub data: PathBuf,
    /// The metadata file.
    pub meta: PathBuf,
}

/// What a new replica is made from; the same on all of the volume's nodes but for `slot`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Creation {
    /// The volume.
    pub volume: VolumeId,
    /// Its name.
    pub name: Name,
    /// Its size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// This replica's slot.
    pub slot: Slot,
    /// All replicas; all are in sync from the start, since all are known to be zero.
    pub replicas: [Option<Replica>; REPLICAS_MAX],
    /// The first generation.
    pub generation: Generation,
    /// The first primary.
    pub primary: Slot,
}

/// How a replica is driven; from the configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The core's timings.
    pub settings: Settings,
    /// The arena's size in bytes.
    pub arena_bytes: usize,
    /// How long the reactor spins for completions before it sleeps, at most, in nanoseconds.
    pub spin_nanos_max: u64,
}

/// What an open replica tells the control plane, from the reactor's thread: handlers only pass it
/// on.
#[derive(Debug)]
pub enum VolumeEvent {
    /// Something that a person may want to know.
    Notice(Notice),
    /// A data link has ended. With `retry` a new one is wanted, else an operator must act.
    LinkLost {
        /// Whose.
        peer: Slot,
        /// Which, as [`Volume::attach_peer`] told: a later link may have been handed over meanwhile.
        session: SessionId,
        /// Whether to dial again.
        retry: bool,
    },
    /// An operator's command wants a link that had been given up dialled again.
    LinkWanted {
        /// Whose.
        peer: Slot,
    },
    /// The reactor has ended by itself; one sentence why.
    Failed(String),
}

/// Latencies and counts of client requests since the reactor's start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct IoStatus {
    /// Reads, writes (zeroes among them) and flushes that have ended.
    pub reads: u64,
    /// As above.
    pub writes: u64,
    /// As above.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Percentiles of all of them over the last minute or so: 50, 99, 99.9, in microseconds.
    pub latency_us: [u64; 3],
    /// Clients.
    pub clients: u32,
}

/// What an open replica tells when asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeStatus {
    /// What the core knows.
    pub replica: Status,
    /// Why it serves no clients, if it does not.
    pub refusal: Option<String>,
    /// What its clients see.
    pub io: IoStatus,
}

/// A replica that is open. Clones share it.
#[derive(Clone, Debug)]
pub struct Volume {
    mailbox: Arc<Mailbox>,
    sessions: Arc<AtomicU64>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Volume {
    /// Makes a replica's files, durably. `paths.data` must not exist or be a block device of the size.
    pub fn create(paths: &Paths, creation: &Creation) -> Result<(), OpenError> {
        store::create(paths, creation)
    }

    /// Makes new metadata for a good data file whose metadata is lost. With `only_copy` the volume
    /// begins anew with this file; else a good replica brings it up to date, by comparing everything.
    pub fn adopt(paths: &Paths, creation: &Creation, only_copy: bool) -> Result<(), OpenError> {
        store::adopt(paths, creation, only_copy)
    }

    /// Extends the files of a replica, open or not, so that [`Command::Grow`] can follow. Doing it again
    /// does no harm; if no growth follows, the next opening undoes it.
    pub fn extend(paths: &Paths, size_bytes: u64) -> Result<(), OpenError> {
        store::extend(paths, size_bytes)
    }

    /// Opens a replica and starts its reactor.
    pub fn open(
        paths: &Paths,
        options: Options,
        events: impl Fn(VolumeEvent) + Send + 'static,
    ) -> Result<Volume, OpenError> {
        let found = store::open(paths)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let name = format!("volume-{}", found.opening.superblock.name);
        let failed = |message: String| OpenError {
            path: paths.data.clone(),
            message,
            protects_data: false,
        };
        let events = Arc::new(Mutex::new(events));
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || drive(found, &options, &events, &sender))
            .map_err(|error| failed(format!("cannot start its thread: {error}")))?;
        match receiver.recv() {
            Ok(Ok(mailbox)) => Ok(Volume {
                mailbox,
                sessions: Arc::default(),
                thread: Arc::new(Mutex::new(Some(thread))),
            }),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(mpsc::RecvError) => Err(failed("its reactor failed to start".to_owned())),
        }
    }

    /// Hands an authenticated data link over, with what has been received behind the handshake, and tells
    /// its number.
    pub fn attach_peer(&self, peer: Slot, socket: OwnedFd, received: Vec<u8>) -> SessionId {
        let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed) + 1);
        self.mailbox.post(Message::Peer {
            peer,
            session,
            socket,
            received,
        });
        session
    }

    /// Hands a negotiated client over, with what has been received behind the negotiation.
    pub fn attach_client(&self, socket: OwnedFd, received: Vec<u8>, session: Box<dyn Session>) {
        self.mailbox.post(Message::Client {
            socket,
            received,
            session,
        });
    }

    /// Has the core carry a command out; `reply` is called on the reactor's thread, also if the reactor
    /// ends before (and on the caller's if it had ended already). After [`Command::Stop`] was answered the
    /// reactor ends.
    pub fn command(
        &self,
        command: Command,
        reply: impl FnOnce(Result<Answer, Refusal>) + Send + 'static,
    ) {
        let ended = || {
            Err(Refusal::NotNow(
                "the volume is not open any more".to_owned(),
            ))
        };
        self.mailbox
            .post(Message::Command(command, Reply::new(reply, ended)));
    }

    /// Asks for the status; `None` if the reactor has ended.
    pub fn status(&self, reply: impl FnOnce(Option<VolumeStatus>) + Send + 'static) {
        self.mailbox
            .post(Message::Status(Reply::new(reply, || None)));
    }

    /// Waits until the reactor has ended.
    pub fn join(&self) {
        // Those who come later wait for the lock, and so for the thread.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // Its panics have been told already.
            let _ = thread.join();
        }
    }
}

/// The reactor's thread.
fn drive(
    found: Found,
    options: &Options,
    events: &Arc<Mutex<impl Fn(VolumeEvent) + Send + 'static>>,
    started: &mpsc::SyncSender<Result<Arc<Mailbox>, SetupError>>,
) {
    let tell = |event| (events.lock().unwrap_or_else(PoisonError::into_inner))(event);
    let handler = Arc::clone(events);
    let run = move || {
        let pass_on = move |event| (handler.lock().unwrap_or_else(PoisonError::into_inner))(event);
        let reactor = match Reactor::new(found, options, Box::new(pass_on)) {
            Ok(reactor) => reactor,
            Err(error) => {
                // Whoever waits for this is still there.
                let _ = started.send(Err(error));
                return Ok(());
            }
        };
        let _ = started.send(Ok(reactor.mailbox()));
        reactor.run()
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tell(VolumeEvent::Failed(format!("the ring has failed: {error}"))),
        Err(panic) => tell(VolumeEvent::Failed(format!(
            "a bug: {}",
            panic_text(&*panic)
        ))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    let formatted = || panic.downcast_ref::<String>().map(String::as_str);
    literal.or_else(formatted).unwrap_or("it panicked")
}

/// Why a replica's files could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct OpenError {
    /// Which file.
    pub path: PathBuf,
    /// One sentence: what is wrong and what to do.
    pub message: String,
    /// Whether the file is left alone because touching it could lose data (exit code 3).
    pub protects_data: bool,
}
