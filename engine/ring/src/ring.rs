//! The ring: submissions in, completions out, nothing in flight left behind.

use crate::arena::Arena;
use crate::operation::{Done, Operation, OperationKey, Progress};
use crate::registration::Registrations;
use crate::setup::{self, IN_FLIGHT_MAX, SetupError};
use crate::slab::{InFlight, Slab};
use crate::waker::Waker;
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, types};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// User data of the read that lets a [`Waker`] end a wait.
const WAKE: u64 = u64::MAX;
/// The size of the counter that the wake-up reads.
const WAKE_COUNTER_BYTES: u32 = 8;
/// User data of cancellations, whose own answers say nothing of interest.
const CANCEL: u64 = u64::MAX - 1;
/// How long a ring that is dropped waits for what cannot be cancelled. Should a disk not answer by
/// then, its memory is given up rather than unmapped beneath it.
const DRAIN: Duration = Duration::from_secs(10);

/// An operation that has ended.
#[derive(Debug)]
pub struct Completion<T> {
    /// What was given with the operation.
    pub token: T,
    /// How it ended, and what it owned.
    pub done: Done,
}

/// An io_uring with an arena. It belongs to the thread that made it.
///
/// A `T` goes with each operation and comes back with its completion.
pub struct Ring<T> {
    uring: ManuallyDrop<IoUring>,
    arena: Arena,
    registrations: Registrations,
    operations: ManuallyDrop<Slab<T>>,
    /// The ring's own submissions: the wake-up's read and cancellations.
    own: VecDeque<Entry>,
    /// Not yet in the submission queue.
    ready: VecDeque<OperationKey>,
    /// Cancelled before the kernel saw them.
    never_begun: VecDeque<OperationKey>,
    /// How many completions the kernel owes, the wake-up's and those of cancellations included.
    owed: usize,
    waker: Waker,
    /// Where the wake-up's read puts the counter. In a box, so that it stays where it is.
    wake_counter: ManuallyDrop<Box<u64>>,
    woken: bool,
}

impl<T> Ring<T> {
    /// Sets a ring up over this arena.
    pub fn new(arena: Arena) -> Result<Ring<T>, SetupError> {
        let uring = setup::build()?;
        let registrations = Registrations::new(&uring.submitter(), &arena);
        let mut ring = Ring {
            uring: ManuallyDrop::new(uring),
            arena,
            registrations,
            operations: ManuallyDrop::new(Slab::new()),
            own: VecDeque::new(),
            ready: VecDeque::new(),
            never_begun: VecDeque::new(),
            owed: 0,
            waker: Waker::new()?,
            wake_counter: ManuallyDrop::new(Box::new(0)),
            woken: false,
        };
        ring.arm_waker();
        Ok(ring)
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Whether the arena has memory that [`Ring::give_back_unused`] may give back, now or later.
    pub fn is_arena_occupied(&self) -> bool {
        self.registrations.is_occupied()
    }

    /// Gives the kernel back what memory of the arena no operation has used since this was last called and no slot occupies.
    pub fn give_back_unused(&mut self) {
        self.registrations
            .sweep(&self.uring.submitter(), &self.arena);
    }

    /// What wakes this ring from other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Takes an operation over; it leaves with the next [`Ring::turn`].
    ///
    /// # Panics
    ///
    /// If its range does not lie within its buffer.
    pub fn submit(&mut self, operation: Operation, token: T) -> OperationKey {
        operation.check();
        let key = self.operations.insert(InFlight {
            operation,
            token,
            done: 0,
            submitted: false,
            cancelled: false,
        });
        self.ready.push_back(key);
        key
    }

    /// Asks for an operation to end early. It ends all the same: as cancelled, or as if nothing had
    /// been asked.
    pub fn cancel(&mut self, key: OperationKey) {
        let Some(in_flight) = self.operations.get_mut(key) else {
            return;
        };
        if std::mem::replace(&mut in_flight.cancelled, true) {
            return;
        }
        if in_flight.submitted {
            let entry = opcode::AsyncCancel::new(key.user_data()).build();
            self.own.push_back(entry.user_data(CANCEL));
        } else {
            self.never_begun.push_back(key);
        }
    }

    /// How many operations have not ended.
    pub fn in_flight(&self) -> usize {
        self.operations.len()
    }

    /// Hands everything over to the kernel, and waits for a completion or a wake-up, at most this
    /// long (`None`: for ever).
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        loop {
            self.fill();
            let room = self.owed < IN_FLIGHT_MAX;
            let more = !self.own.is_empty() || (room && !self.ready.is_empty());
            let idle = more || !self.never_begun.is_empty() || self.woken;
            let taken = self.enter(if idle { Some(Duration::ZERO) } else { timeout })?;
            if !taken || !more {
                return Ok(());
            }
        }
    }

    /// Whether [`Ring::next`] would find something after a turn that does not wait; cheap.
    pub fn has_completions(&mut self) -> bool {
        self.woken
            || !self.never_begun.is_empty()
            || !self.uring.completion().is_empty()
            || self.uring.submission().taskrun()
    }

    /// The next operation that has ended.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is no iterator: later there may be more"
    )]
    pub fn next(&mut self) -> Option<Completion<T>> {
        if let Some(key) = self.never_begun.pop_front() {
            return self.complete(key, Err(cancelled()));
        }
        loop {
            let entry = self.uring.completion().next()?;
            self.owed -= 1;
            match entry.user_data() {
                CANCEL => {}
                WAKE => {
                    self.woken = true;
                    self.arm_waker();
                }
                user_data => {
                    let key = OperationKey::from_user_data(user_data);
                    if let Some(result) = self.answered(key, entry.result()) {
                        return self.complete(key, result);
                    }
                }
            }
        }
    }

    /// Whether a [`Waker`] has woken the ring since this was last asked. Ask after [`Ring::next`]
    /// has nothing more.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// Takes the kernel's answer to an operation; its result, if that was the end of it.
    fn answered(&mut self, key: OperationKey, answer: i32) -> Option<io::Result<usize>> {
        let in_flight = self.operations.get_mut(key)?;
        in_flight.submitted = false;
        match in_flight.operation.progress(in_flight.done, answer) {
            Progress::Ended(result) => Some(result),
            Progress::More(_) if in_flight.cancelled => Some(Err(cancelled())),
            Progress::More(done) => {
                in_flight.done = done;
                self.ready.push_back(key);
                None
            }
        }
    }

    fn complete(&mut self, key: OperationKey, result: io::Result<usize>) -> Option<Completion<T>> {
        let in_flight = self.operations.remove(key)?;
        Some(Completion {
            token: in_flight.token,
            done: in_flight.operation.finish(result),
        })
    }

    /// Moves what is ready into the submission queue, as far as there is room.
    fn fill(&mut self) {
        let (submitter, mut queue, _) = self.uring.split();
        while !queue.is_full() {
            let entry = if let Some(entry) = self.own.pop_front() {
                entry
            } else if self.owed >= IN_FLIGHT_MAX {
                return;
            } else if let Some(key) = self.ready.pop_front() {
                let operation = self.operations.get_mut(key);
                let Some(in_flight) = operation.filter(|operation| !operation.cancelled) else {
                    continue;
                };
                in_flight.submitted = true;
                let at = in_flight.operation.offset_in(&self.arena);
                let place = at.and_then(|at| self.registrations.place(&submitter, &self.arena, at));
                let entry = in_flight.operation.entry(in_flight.done, place);
                entry.user_data(key.user_data())
            } else {
                return;
            };
            // SAFETY: an operation owns what its entry refers to and stays in the slab, unchanged,
            // until the kernel has answered that entry; the memory that it points to does not move
            // with the slab. The wake-up's counter outlives the ring's last completion likewise.
            let pushed = unsafe { queue.push(&entry) };
            assert!(pushed.is_ok(), "a queue that is not full has room");
            self.owed += 1;
        }
    }

    /// Hands the submission queue over and waits for a completion, at most this long; whether the
    /// kernel took the queue.
    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let (submitter, queue, _) = self.uring.split();
        let entered = match timeout {
            None => submitter.submit_and_wait(1),
            Some(Duration::ZERO) => {
                if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                    return Ok(true);
                }
                submitter.submit()
            }
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR), _)) => Ok(true),
            // Completions have overflown, or memory is short: both pass as completions are taken.
            Err((Some(libc::EBUSY | libc::EAGAIN), _)) => Ok(false),
            Err((_, error)) => Err(error),
        }
    }

    fn arm_waker(&mut self) {
        let counter: *mut u64 = &raw mut **self.wake_counter;
        let descriptor = types::Fd(self.waker.descriptor());
        let read = opcode::Read::new(descriptor, counter.cast(), WAKE_COUNTER_BYTES).build();
        self.own.push_back(read.user_data(WAKE));
    }

    /// Cancels all that is in flight and waits for it; whether it has all ended.
    fn drain(&mut self) -> bool {
        self.ready.clear();
        self.own.clear();
        let everything = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.own.push_back(everything.user_data(CANCEL));
        let begun = Instant::now();
        loop {
            self.fill();
            let entered = self.enter(Some(Duration::from_millis(100)));
            while self.uring.completion().next().is_some() {
                self.owed -= 1;
            }
            if self.owed == 0 {
                return true;
            }
            if entered.is_err() || begun.elapsed() > DRAIN {
                return false;
            }
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        if !self.drain() {
            tracing::error!("a disk does not answer: giving up the memory of its operations");
            return;
        }
        // SAFETY: nothing uses these fields after this; the kernel refers to none of the memory.
        unsafe {
            ManuallyDrop::drop(&mut self.uring);
            ManuallyDrop::drop(&mut self.operations);
            ManuallyDrop::drop(&mut self.wake_counter);
        }
    }
}

fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}
