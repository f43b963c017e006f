//! How the control plane talks to a reactor: a queue and an eventfd, and no lock that the data path
//! takes otherwise.

use crate::frontend::Session;
use crate::report::VolumeStatus;
use format::types::Slot;
use replica::arbiter::Register;
use replica::command::{Answer, Command, Refusal};
use replica::event::SessionId;
use ring::Waker;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something for the reactor to do.
pub(crate) enum Message {
    /// An authenticated data link.
    Peer {
        peer: Slot,
        session: SessionId,
        socket: OwnedFd,
        received: Vec<u8>,
    },
    /// A negotiated client.
    Client {
        socket: OwnedFd,
        received: Vec<u8>,
        session: Box<dyn Session>,
    },
    /// The arbiter's answer.
    Arbiter(Register),
    /// An operator's command.
    Command(Command, Reply<Result<Answer, Refusal>>),
    /// A question.
    Status(Reply<Option<VolumeStatus>>),
}

/// Where an answer goes. One that is dropped unanswered says that the reactor has ended.
pub(crate) struct Reply<T> {
    call: Option<Box<dyn FnOnce(T) + Send>>,
    ended: fn() -> T,
}

impl<T> Reply<T> {
    /// Calls this with the answer, or with what `ended` makes.
    pub(crate) fn new(call: impl FnOnce(T) + Send + 'static, ended: fn() -> T) -> Reply<T> {
        Reply {
            call: Some(Box::new(call)),
            ended,
        }
    }

    /// Answers.
    pub(crate) fn answer(mut self, answer: T) {
        if let Some(call) = self.call.take() {
            call(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call((self.ended)());
        }
    }
}

/// The queue. It is closed when the reactor ends.
pub(crate) struct Mailbox {
    messages: Mutex<Option<VecDeque<Message>>>,
    waker: Waker,
}

impl Mailbox {
    /// An open one for the ring with this waker.
    pub(crate) fn new(waker: Waker) -> Mailbox {
        Mailbox {
            messages: Mutex::new(Some(VecDeque::new())),
            waker,
        }
    }

    /// Gives the reactor a message. If it has ended, the message is dropped, and a reply in it
    /// answered.
    pub(crate) fn post(&self, message: Message) {
        let mut messages = self.lock();
        if let Some(messages) = messages.as_mut() {
            messages.push_back(message);
            self.waker.wake();
        } else {
            // The reply may take its time: not under the lock.
            drop(messages);
            drop(message);
        }
    }

    /// The oldest message.
    pub(crate) fn take(&self) -> Option<Message> {
        self.lock().as_mut()?.pop_front()
    }

    /// Takes no more messages, and drops those that are left.
    pub(crate) fn close(&self) {
        let left = self.lock().take();
        drop(left);
    }

    /// A panic while the queue was locked leaves it whole: each change is one call.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Message>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}
