//! The requests of one client that have not been answered, by the numbers that the engine knows them by.

use crate::reply::{Reading, Status};

/// A request that has not been answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pending {
    /// Answered with data.
    Read(Reading),
    /// Answered with extents.
    Status(Status),
    /// Answered with its result.
    Plain {
        /// The client's name for it.
        cookie: u64,
    },
}

/// The requests in flight. Numbers are used again, so that it grows to what a client has in flight
/// at most and never allocates again.
#[derive(Default, Debug)]
pub(crate) struct Requests {
    entries: Vec<Option<Pending>>,
    free: Vec<u32>,
}

impl Requests {
    /// Adds a request and numbers it.
    pub(crate) fn insert(&mut self, request: Pending) -> u32 {
        if let Some(id) = self.free.pop() {
            self.entries[id as usize] = Some(request);
            return id;
        }
        let id = u32::try_from(self.entries.len()).expect("the engine holds requests back");
        self.entries.push(Some(request));
        id
    }

    /// The request of this number.
    pub(crate) fn get_mut(&mut self, id: u32) -> &mut Pending {
        let entry = self.entries.get_mut(id as usize).and_then(Option::as_mut);
        entry.expect("the engine names requests in flight only")
    }

    /// Takes the request of this number out.
    pub(crate) fn remove(&mut self, id: u32) -> Pending {
        let entry = self.entries.get_mut(id as usize).and_then(Option::take);
        self.free.push(id);
        entry.expect("the engine names requests in flight only")
    }

    /// What it has room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> (usize, usize) {
        (self.entries.capacity(), self.free.capacity())
    }
}
