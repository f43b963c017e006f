//! What the kernel's side and the connection's side share: the requests in between.

use super::outstanding::{Operation, Outstanding};
use fuser::{Errno, ReplyData, ReplyEmpty, ReplyWrite};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot, watch};

/// How a request is answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// With what was read.
    Data(ReplyData),
    /// With the number of bytes that were written.
    Written(ReplyWrite, u32),
    /// With nothing.
    Done(ReplyEmpty),
    /// Not to the kernel: somebody wants to know that the connection lives.
    Alive(oneshot::Sender<()>),
}

impl Answer {
    /// Answers; an error is the number that the kernel knows it by.
    pub(super) fn give(self, result: Result<&[u8], u32>) {
        let errno = |number: u32| Errno::from_i32(i32::try_from(number).unwrap_or_default());
        match (self, result) {
            (Answer::Data(reply), Ok(data)) => reply.data(data),
            (Answer::Data(reply), Err(number)) => reply.error(errno(number)),
            (Answer::Written(reply, bytes), Ok(_)) => reply.written(bytes),
            (Answer::Written(reply, _), Err(number)) => reply.error(errno(number)),
            (Answer::Done(reply), Ok(_)) => reply.ok(),
            (Answer::Done(reply), Err(number)) => reply.error(errno(number)),
            // Also a refusal is a sign of life; and who has asked may have gone.
            (Answer::Alive(asked), _) => drop(asked.send(())),
        }
    }
}

/// Requests between the kernel and the volume.
#[derive(Debug)]
pub(super) struct Held {
    inner: Mutex<Inner>,
    /// There is something to be sent.
    pub(super) arrived: Notify,
    size_bytes: AtomicU64,
    openers: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    outstanding: Outstanding<Answer>,
    // Everything fails at once.
    given_up: bool,
}

/// The number of the error that whoever asks for something is told when it is too late.
pub(super) const EIO: u32 = 5;

impl Held {
    pub(super) fn new(size_bytes: u64) -> Held {
        Held {
            inner: Mutex::new(Inner {
                outstanding: Outstanding::new(),
                given_up: false,
            }),
            arrived: Notify::new(),
            size_bytes: AtomicU64::new(size_bytes),
            openers: watch::Sender::new(0),
        }
    }

    /// Takes a request in. It is answered when the volume has done it, however long that takes.
    pub(super) fn ask(&self, operation: Operation, answer: Answer) {
        let mut inner = self.lock();
        if inner.given_up {
            drop(inner);
            return answer.give(Err(EIO));
        }
        inner.outstanding.push(operation, answer);
        drop(inner);
        self.arrived.notify_one();
    }

    /// The next request to be sent.
    pub(super) fn send(&self) -> Option<(u64, Operation)> {
        self.lock().outstanding.send()
    }

    /// How many bytes of data come with the good reply to a request; `None` if it has not been sent.
    pub(super) fn reply_bytes(&self, number: u64) -> Option<usize> {
        match self.lock().outstanding.sent(number)? {
            Operation::Read { length, .. } => Some(*length as usize),
            _ => Some(0),
        }
    }

    /// Answers a request.
    pub(super) fn answer(&self, number: u64, result: Result<&[u8], u32>) {
        let taken = self.lock().outstanding.take(number);
        if let Some(answer) = taken {
            answer.give(result);
        }
    }

    /// Everything that has no answer is sent again.
    pub(super) fn send_again(&self) {
        self.lock().outstanding.send_again();
        self.arrived.notify_one();
    }

    /// Fails everything, now and from now on. Nothing more is sent.
    pub(super) fn give_up(&self) {
        let mut inner = self.lock();
        inner.given_up = true;
        let all = inner.outstanding.take_all();
        drop(inner);
        all.into_iter().for_each(|answer| answer.give(Err(EIO)));
    }

    /// The volume's size.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// The volume has grown.
    pub(super) fn set_size(&self, bytes: u64) {
        self.size_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Somebody has opened the file.
    pub(super) fn opened(&self) {
        self.openers.send_modify(|openers| *openers += 1);
    }

    /// Somebody has closed it.
    pub(super) fn closed(&self) {
        self.openers
            .send_modify(|openers| *openers = openers.saturating_sub(1));
    }

    /// Waits until nobody has the file open.
    pub(super) async fn unused(&self) {
        let mut openers = self.openers.subscribe();
        // The sender lives as long as this.
        let _ = openers.wait_for(|openers| *openers == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
