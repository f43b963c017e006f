//! The numbers of a reign's writes, and through which of them all have completed.

use std::collections::VecDeque;

/// Hands out numbers from 2 on; number 1 stands for all that was written before the reign.
#[derive(Debug)]
pub struct Sequences {
    /// All numbers through this one have completed.
    completed_through: u64,
    /// Whether each number after it has completed; the first has not.
    after: VecDeque<bool>,
}

impl Default for Sequences {
    fn default() -> Self {
        Sequences::new()
    }
}

impl Sequences {
    /// A new reign.
    pub fn new() -> Sequences {
        Sequences {
            completed_through: 1,
            after: VecDeque::new(),
        }
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has no end and is never iterated over"
    )]
    pub fn next(&mut self) -> u64 {
        self.after.push_back(false);
        self.last()
    }

    /// The number that was handed out last; 1 if none was.
    pub fn last(&self) -> u64 {
        self.completed_through + self.after.len() as u64
    }

    /// The write with this number has completed, or will never be.
    ///
    /// # Panics
    ///
    /// If the number was not handed out or has completed before.
    pub fn complete(&mut self, sequence: u64) {
        let place = sequence.checked_sub(self.completed_through + 1);
        let place = place.and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.after.get_mut(place)) {
            Some(completed) if !*completed => *completed = true,
            _ => panic!("write {sequence} is not under way"),
        }
        while self.after.front() == Some(&true) {
            self.after.pop_front();
            self.completed_through += 1;
        }
    }

    /// All numbers through this one have completed.
    pub fn completed_through(&self) -> u64 {
        self.completed_through
    }
}

#[cfg(test)]
mod tests;
