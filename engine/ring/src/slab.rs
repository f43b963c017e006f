//! The operations in flight.

use crate::operation::{Operation, OperationKey};

/// Operations by key; places are used again under a new generation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    operation: Option<InFlight<T>>,
}

/// An operation from its submission to its completion.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    pub(crate) operation: Operation,
    pub(crate) token: T,
    /// Bytes that earlier answers of the kernel have done.
    pub(crate) done: usize,
    /// Whether the kernel has it.
    pub(crate) submitted: bool,
    /// Whether it is not to be submitted again.
    pub(crate) cancelled: bool,
}

/// Generations stay below this, so that no key's user data is one of the ring's own.
const GENERATIONS: u32 = 1 << 30;

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab {
            places: Vec::new(),
            vacant: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, operation: InFlight<T>) -> OperationKey {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place {
                generation: 0,
                operation: None,
            });
            u32::try_from(self.places.len() - 1).expect("operations are fewer than 2^32")
        });
        let place = &mut self.places[index as usize];
        place.operation = Some(operation);
        OperationKey {
            index,
            generation: place.generation,
        }
    }

    pub(crate) fn get_mut(&mut self, key: OperationKey) -> Option<&mut InFlight<T>> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        place.operation.as_mut()
    }

    pub(crate) fn remove(&mut self, key: OperationKey) -> Option<InFlight<T>> {
        self.get_mut(key)?;
        let place = &mut self.places[key.index as usize];
        place.generation = (place.generation + 1) % GENERATIONS;
        self.vacant.push(key.index);
        place.operation.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }
}
