//! How another thread wakes a ring that waits.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Wakes the ring that it was taken from. Clones wake the same ring.
#[derive(Clone, Debug)]
pub struct Waker {
    eventfd: Arc<OwnedFd>,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        Ok(Waker {
            eventfd: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
        })
    }

    /// Ends the ring's wait, or its next one.
    pub fn wake(&self) {
        // The counter can only refuse when it has not been read 2^64 times; then it wakes anyway.
        let _ = rustix::io::write(&*self.eventfd, &1u64.to_ne_bytes());
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}
