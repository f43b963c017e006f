//! A replica that is open: its reactor's thread, and the mailbox by which the control plane talks
//! to it.

use crate::frontend::Session;
use crate::mailbox::{Mailbox, Message, Reply};
use crate::reactor::Reactor;
use crate::store::{self, Found};
use format::superblock::Replica;
use format::types::{NodeSet, Slot};
use replica::arbiter::Register;
use replica::command::{Answer, Command, Refusal};
use replica::event::SessionId;
use ring::SetupError;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

pub use crate::config::{Creation, Options, Paths};
pub use crate::report::{IoStatus, OpenError, VolumeEvent, VolumeStatus};

#[cfg(test)]
mod tests;

/// A replica that is open. Clones share it.
#[derive(Clone, Debug)]
pub struct Volume {
    mailbox: Arc<Mailbox>,
    sessions: Arc<AtomicU64>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Volume {
    /// Makes a replica's files, durably. `paths.data` must not exist or be a block device of the
    /// size.
    pub fn create(paths: &Paths, creation: &Creation) -> Result<(), OpenError> {
        store::create(paths, creation)
    }

    /// As [`Volume::create`], for a replica that joins a volume which is in use: a good replica brings it up to date, by
    /// comparing everything. The `spent` slots are of replicas that there were.
    pub fn create_joining(
        paths: &Paths,
        creation: &Creation,
        spent: NodeSet,
    ) -> Result<(), OpenError> {
        store::create_joining(paths, creation, spent)
    }

    /// Takes the space in advance that the metadata of a replica, open or not, needs for one more replica of its volume, so
    /// that [`Command::AddReplica`] can follow. Doing it again does no harm.
    pub fn reserve_for(paths: &Paths, slot: Slot, replica: &Replica) -> Result<(), OpenError> {
        store::reserve_for(paths, slot, replica)
    }

    /// Makes new metadata for a good data file whose metadata is lost. With `only_copy` the volume
    /// begins anew with this file; else a good replica brings it up to date, by comparing
    /// everything.
    pub fn adopt(paths: &Paths, creation: &Creation, only_copy: bool) -> Result<(), OpenError> {
        store::adopt(paths, creation, only_copy)
    }

    /// Extends the files of a replica, open or not, so that [`Command::Grow`] can follow. Doing it
    /// again does no harm; if no growth follows, the next opening undoes it.
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

    /// Hands an authenticated data link over, with what has been received behind the handshake, and
    /// tells its number.
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

    /// Has the core carry a command out; `reply` is called on the reactor's thread, also if the
    /// reactor ends before (and on the caller's if it had ended already). After [`Command::Stop`]
    /// was answered the reactor ends.
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

    /// Answers the question of [`VolumeEvent::AskArbiter`], once for each.
    pub fn arbiter_answered(&self, register: Register) {
        self.mailbox.post(Message::Arbiter(register));
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
