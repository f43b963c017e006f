//! The order of overlapping operations: each waits for the earlier ones that it conflicts with.
//!
//! An operation counts its `blockers`, the earlier conflicting operations that are still here; it may
//! start when there are none left. Operations are found by place: narrow ones in a list ordered by
//! their first byte, of which a search sees a window as wide as the widest of them, and the few wide
//! ones in a list of their own, so that they do not widen that window.

use format::frame::PAYLOAD_BYTES_MAX;
use format::types::Span;

/// What an operation does to its span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It conflicts with writes only.
    Read,
    /// Writes, zeroes and operations on chunks: it conflicts with everything.
    Write,
}

/// The longest span that counts as narrow: that of the largest write.
const NARROW_BYTES_MAX: u64 = PAYLOAD_BYTES_MAX as u64;

/// One operation.
#[derive(Clone, Copy, Debug)]
struct Operation {
    span: Span,
    access: Access,
    /// Its place in the order of all operations.
    arrival: u64,
    /// Earlier conflicting operations that have not left.
    blockers: u32,
}

/// Where an operation lies: what the searches walk over. Ordered by the first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    span: Span,
    operation: u32,
}

/// Where all operations lie, save those with empty spans, which conflict with nothing.
#[derive(Debug, Default)]
struct Places {
    /// Ordered.
    narrow: Vec<Place>,
    /// In no order.
    wide: Vec<Place>,
}

impl Places {
    fn insert(&mut self, place: Place) {
        if place.span.length > NARROW_BYTES_MAX {
            self.wide.push(place);
        } else if place.span.length > 0 {
            let at = self.narrow.partition_point(|other| *other < place);
            self.narrow.insert(at, place);
        }
    }

    fn remove(&mut self, place: Place) {
        if place.span.length > NARROW_BYTES_MAX {
            self.wide.retain(|other| *other != place);
        } else if place.span.length > 0 {
            let at = self.narrow.partition_point(|other| *other < place);
            self.narrow.remove(at);
        }
    }

    /// The operations that share a byte with the span.
    fn overlapping(&self, span: Span) -> impl Iterator<Item = u32> + '_ {
        // A narrow operation that reaches into the span begins less than its own width before it.
        let from = span.offset.saturating_sub(NARROW_BYTES_MAX);
        let first = self
            .narrow
            .partition_point(|place| place.span.offset < from);
        let near = self.narrow[first..]
            .iter()
            .take_while(move |near| near.span.offset < span.end());
        near.chain(&self.wide)
            .filter(move |place| span.length > 0 && place.span.overlaps(span))
            .map(|place| place.operation)
    }
}

/// The operations that have entered and not left.
#[derive(Debug, Default)]
pub struct Inflight {
    /// By number; numbers are small and dense.
    operations: Vec<Option<Operation>>,
    places: Places,
    /// How many have entered so far.
    arrivals: u64,
    len: usize,
}

impl Inflight {
    /// No operation.
    pub fn new() -> Inflight {
        Inflight::default()
    }

    /// Enters an operation at the end of the order. `true`: no earlier one conflicts with it, it may
    /// start. `false`: a later [`leave`](Self::leave) or [`downgrade`](Self::downgrade) lists it.
    pub fn enter(&mut self, operation: u32, span: Span, access: Access) -> bool {
        let number = operation as usize;
        if self.operations.len() <= number {
            self.operations.resize(number + 1, None);
        }
        assert!(
            self.operations[number].is_none(),
            "operation {operation} entered twice"
        );

        let mut blockers = 0;
        for other in self.places.overlapping(span) {
            blockers += u32::from(conflict(access, self.get(other).access));
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.len += 1;
        self.operations[number] = Some(Operation {
            span,
            access,
            arrival,
            blockers,
        });
        self.places.insert(Place { span, operation });
        blockers == 0
    }

    /// The operation is over, whether it was started or not. Those that may start now are appended
    /// to `ready`, in order of arrival.
    pub fn leave(&mut self, operation: u32, ready: &mut Vec<u32>) {
        let gone = *self.get(operation);
        self.places.remove(Place {
            span: gone.span,
            operation,
        });
        self.operations[operation as usize] = None;
        self.len -= 1;
        self.unblock(&gone, |waiting| conflict(waiting, gone.access), ready);
    }

    /// Lets waiting and new reads pass a started write, which still holds back later writes: it has
    /// been answered, but has still to reach the target of a resync. Reads that may start now are
    /// appended to `ready`, in order of arrival.
    pub fn downgrade(&mut self, operation: u32, ready: &mut Vec<u32>) {
        let write = *self.get(operation);
        assert!(
            write.blockers == 0,
            "operation {operation} has not been started"
        );
        if write.access == Access::Read {
            return;
        }
        if let Some(entry) = &mut self.operations[operation as usize] {
            // What holds back writes and lets reads pass is just what a read does.
            entry.access = Access::Read;
        }
        self.unblock(&write, |waiting| waiting == Access::Read, ready);
    }

    /// Whether the operation lies over all of the span and lets nobody else in.
    pub fn holds_alone(&self, operation: u32, span: Span) -> bool {
        let entry = self.operations.get(operation as usize);
        let entry = entry.and_then(Option::as_ref);
        entry.is_some_and(|entry| entry.access == Access::Write && entry.span.covers(span))
    }

    /// Whether no earlier operation holds the operation back.
    pub fn is_free(&self, operation: u32) -> bool {
        let entry = self.operations.get(operation as usize);
        entry.is_some_and(|entry| entry.is_some_and(|entry| entry.blockers == 0))
    }

    /// How many operations are here.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no operation is here.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One blocker less for each later operation that overlaps `earlier` and whose access is
    /// `released`.
    fn unblock(
        &mut self,
        earlier: &Operation,
        released: impl Fn(Access) -> bool,
        ready: &mut Vec<u32>,
    ) {
        let first = ready.len();
        for number in self.places.overlapping(earlier.span) {
            let Some(later) = &mut self.operations[number as usize] else {
                unreachable!("operation {number} has a place and is not here");
            };
            if later.arrival > earlier.arrival && released(later.access) {
                assert!(later.blockers > 0, "operation {number} started too early");
                later.blockers -= 1;
                if later.blockers == 0 {
                    ready.push(number);
                }
            }
        }
        ready[first..].sort_unstable_by_key(|number| self.get(*number).arrival);
    }

    fn get(&self, operation: u32) -> &Operation {
        match self.operations.get(operation as usize) {
            Some(Some(entry)) => entry,
            _ => panic!("operation {operation} is not here"),
        }
    }
}

/// Whether one of them has to wait for the other.
fn conflict(one: Access, other: Access) -> bool {
    one == Access::Write || other == Access::Write
}

#[cfg(test)]
mod tests;
