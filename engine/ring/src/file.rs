//! Files and sockets as the ring knows them.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// A file, block device or socket. Clones share it; it is closed when the last clone, those of operations
/// in flight included, has gone.
///
/// It is not registered with the ring, though that would spare each operation two atomic additions: when a
/// process is killed, what is registered stays open until a worker of the kernel has torn the whole ring
/// down, behind every operation of a disk that may hang, and is closed by another that closes the files of
/// all killed processes one after the other. Clients would wait for the end of their connections, and
/// removed files be freed where everybody waits for that. What is not registered is held by no more than
/// the operations that use it.
#[derive(Clone, Debug)]
pub struct File {
    descriptor: Rc<OwnedFd>,
}

/// Takes a file or a block device over.
impl From<OwnedFd> for File {
    fn from(descriptor: OwnedFd) -> File {
        File {
            descriptor: Rc::new(descriptor),
        }
    }
}

impl File {
    /// Takes a socket over. It is made a blocking one, since a ring waits by itself.
    pub fn socket(descriptor: OwnedFd) -> io::Result<File> {
        let flags = fcntl_getfl(&descriptor)?;
        let blocking = flags.difference(OFlags::NONBLOCK);
        if flags != blocking {
            fcntl_setfl(&descriptor, blocking)?;
        }
        Ok(File::from(descriptor))
    }

    /// Bounds what the kernel takes of a TCP socket that it has not sent, apart from what is on its way: a send waits
    /// for the rest.
    pub fn bound_unsent(&self, bytes: u32) -> io::Result<()> {
        const LENGTH: libc::socklen_t = 4;
        let value: *const u32 = &bytes;
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT);
        // SAFETY: the descriptor is open, and the option's value is four bytes that outlive the call.
        let result =
            unsafe { libc::setsockopt(self.number(), level, option, value.cast(), LENGTH) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The descriptor's number.
    pub(crate) fn number(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Ends a socket's receiving, sending or both: operations in flight on it end too. On anything
    /// else, and on a socket that has ended already, this does nothing.
    pub fn shut_down(&self, how: rustix::net::Shutdown) {
        let _ = rustix::net::shutdown(self, how);
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
