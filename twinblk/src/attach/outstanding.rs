//! Requests of the kernel's that have not been answered, in the order in which they came.
//!
//! A connection may end with any of them on their way. On the next one all are sent again, oldest first and before
//! anything newer: the server orders overlapping requests by arrival, so that they take effect in the kernel's order
//! whichever of them had been done already.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What the kernel wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// Read.
    Read {
        /// From this byte on.
        offset: u64,
        /// So many bytes.
        length: u32,
    },
    /// Write.
    Write {
        /// From this byte on.
        offset: u64,
        /// This.
        data: Arc<[u8]>,
    },
    /// Make durable what has been answered.
    Flush,
    /// Make the range read as zeroes.
    Zero {
        /// From this byte on.
        offset: u64,
        /// So many bytes.
        length: u32,
        /// Whether it goes on to take space.
        allocated: bool,
    },
}

/// Requests, each with what is needed to answer it.
#[derive(Debug)]
pub(super) struct Outstanding<T> {
    requests: BTreeMap<u64, (Operation, T)>,
    next: u64,
    // Requests from here on have not been sent on the present connection.
    unsent: u64,
}

impl<T> Outstanding<T> {
    pub(super) fn new() -> Outstanding<T> {
        Outstanding {
            requests: BTreeMap::new(),
            next: 0,
            unsent: 0,
        }
    }

    /// Takes a request in.
    pub(super) fn push(&mut self, operation: Operation, answer: T) {
        self.requests.insert(self.next, (operation, answer));
        self.next += 1;
    }

    /// The next to be sent, with the number that its reply will have.
    pub(super) fn send(&mut self) -> Option<(u64, Operation)> {
        let (number, (operation, _)) = self.requests.range(self.unsent..).next()?;
        self.unsent = number + 1;
        Some((*number, operation.clone()))
    }

    /// What was asked by the request of this number, if it has been sent.
    pub(super) fn sent(&self, number: u64) -> Option<&Operation> {
        let request = self.requests.get(&number).filter(|_| number < self.unsent);
        request.map(|(operation, _)| operation)
    }

    /// Takes out the request of this number, which has been sent, to be answered.
    pub(super) fn take(&mut self, number: u64) -> Option<T> {
        self.sent(number)?;
        self.requests.remove(&number).map(|(_, answer)| answer)
    }

    /// There is a new connection, on which nothing has been sent yet.
    pub(super) fn send_again(&mut self) {
        self.unsent = 0;
    }

    /// Takes out all, oldest first: there will be no connection any more.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        let requests = std::mem::take(&mut self.requests);
        requests.into_values().map(|(_, answer)| answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Outstanding};

    fn write(offset: u64) -> Operation {
        Operation::Write {
            offset,
            data: [1, 2, 3].into(),
        }
    }

    fn sent(outstanding: &mut Outstanding<u32>) -> Vec<u64> {
        std::iter::from_fn(|| outstanding.send().map(|(number, _)| number)).collect()
    }

    #[test]
    fn requests_are_sent_once_and_in_order() {
        let mut outstanding = Outstanding::new();
        outstanding.push(write(0), 10);
        outstanding.push(Operation::Flush, 11);
        assert_eq!(sent(&mut outstanding), [0, 1]);
        assert!(sent(&mut outstanding).is_empty());
        outstanding.push(write(0), 12);
        assert_eq!(sent(&mut outstanding), [2]);
        assert_eq!(outstanding.sent(1), Some(&Operation::Flush));
    }

    #[test]
    fn what_was_not_answered_is_sent_again_before_anything_newer() {
        let mut outstanding = Outstanding::new();
        for answer in 0..5 {
            outstanding.push(write(0), answer);
        }
        assert_eq!(sent(&mut outstanding), [0, 1, 2, 3, 4]);
        assert_eq!(outstanding.take(3), Some(3));
        assert_eq!(outstanding.take(0), Some(0));
        outstanding.push(write(0), 5);
        outstanding.send_again();
        assert_eq!(sent(&mut outstanding), [1, 2, 4, 5]);
        assert_eq!(outstanding.take_all(), [1, 2, 4, 5]);
        assert!(sent(&mut outstanding).is_empty());
    }

    #[test]
    fn a_reply_to_what_was_not_sent_answers_nothing() {
        let mut outstanding = Outstanding::new();
        outstanding.push(write(0), 0);
        assert_eq!(outstanding.take(0), None);
        assert_eq!(outstanding.take(7), None);
        sent(&mut outstanding);
        assert_eq!(outstanding.take(0), Some(0));
        assert_eq!(outstanding.take(0), None);
        // On a new connection nothing has been sent.
        outstanding.push(write(0), 1);
        sent(&mut outstanding);
        outstanding.send_again();
        assert_eq!(outstanding.take(1), None);
    }
}
