//! Histories of the volume: one, until an operator forces another.

use crate::oracle::Oracle;
use format::types::{Configuration, Generation};
use std::collections::BTreeMap;

/// One history.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// What its clients may read.
    pub oracle: Oracle,
    /// Its latest committed configuration.
    pub latest: Configuration,
}

/// All histories, and which one every generation belongs to.
#[derive(Debug)]
pub struct Lineages {
    all: Vec<Lineage>,
    generations: BTreeMap<Generation, usize>,
}

impl Lineages {
    /// The history of a new volume.
    pub fn new(first: Configuration) -> Lineages {
        Lineages {
            all: vec![Lineage {
                oracle: Oracle::default(),
                latest: first,
            }],
            generations: BTreeMap::from([(first.generation, 0)]),
        }
    }

    /// Which history a generation belongs to, if it is known.
    pub fn of(&self, generation: Generation) -> Option<usize> {
        self.generations.get(&generation).copied()
    }

    /// A new generation in a history.
    pub fn extend(&mut self, generation: Generation, lineage: usize) {
        self.generations.insert(generation, lineage);
    }

    /// A new generation forks a history.
    pub fn fork(&mut self, generation: Generation, lineage: usize) -> usize {
        let id = self.all.len();
        self.all.push(self.all[lineage].clone());
        self.generations.insert(generation, id);
        id
    }

    /// One history.
    pub fn get(&self, id: usize) -> &Lineage {
        &self.all[id]
    }

    /// One history, to change.
    pub fn get_mut(&mut self, id: usize) -> &mut Lineage {
        &mut self.all[id]
    }

    /// Their number.
    pub fn count(&self) -> usize {
        self.all.len()
    }
}
