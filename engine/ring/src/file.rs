//! Files and sockets as the ring knows them.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Places of a ring's file table that have been given up since it last looked.
pub(crate) type Released = Rc<RefCell<Vec<u32>>>;

/// A file or socket, registered with the ring where it had room. Clones share it; it is closed when
/// the last clone, those of operations in flight included, has gone.
#[derive(Clone, Debug)]
pub struct File {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    descriptor: OwnedFd,
    registration: Option<Registration>,
}

#[derive(Debug)]
struct Registration {
    index: u32,
    released: Released,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.released.borrow_mut().push(self.index);
    }
}

impl File {
    pub(crate) fn new(descriptor: OwnedFd, registered: Option<(u32, &Released)>) -> File {
        let registration = registered.map(|(index, released)| Registration {
            index,
            released: Rc::clone(released),
        });
        File {
            shared: Rc::new(Shared {
                descriptor,
                registration,
            }),
        }
    }

    /// Its place in the file table of the ring that counts its releases there.
    pub(crate) fn registration(&self, released: &Released) -> Option<u32> {
        let registration = self.shared.registration.as_ref()?;
        Rc::ptr_eq(&registration.released, released).then_some(registration.index)
    }

    /// The descriptor's number.
    pub(crate) fn number(&self) -> i32 {
        self.shared.descriptor.as_raw_fd()
    }

    /// Ends a socket's receiving, sending or both: operations in flight on it end too. On anything
    /// else, and on a socket that has ended already, this does nothing.
    pub fn shut_down(&self, how: rustix::net::Shutdown) {
        let _ = rustix::net::shutdown(self, how);
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.descriptor.as_fd()
    }
}
