//! Numbers in an order of use: linked both ways, so that any of them moves in constant time.

/// A number's neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// It is not in the list.
    Out,
    /// It is.
    In {
        older: Option<u32>,
        newer: Option<u32>,
    },
}

/// Small dense numbers, from the least to the most recently used.
#[derive(Debug, Default)]
pub(super) struct List {
    /// By number.
    links: Vec<Link>,
    oldest: Option<u32>,
    newest: Option<u32>,
    len: usize,
}

impl List {
    /// Puts the number at the end, wherever it was before.
    pub(super) fn push_newest(&mut self, number: u32) {
        self.remove(number);
        if self.links.len() <= number as usize {
            self.links.resize(number as usize + 1, Link::Out);
        }
        let older = self.newest.replace(number);
        self.links[number as usize] = Link::In { older, newer: None };
        self.set_newer(older, Some(number));
        self.len += 1;
    }

    /// Takes the number out, if it is in.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(Link::In { older, newer }) = self.links.get(number as usize).copied() else {
            return;
        };
        self.links[number as usize] = Link::Out;
        self.set_newer(older, newer);
        self.set_older(newer, older);
        self.len -= 1;
    }

    /// The least recently used.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    /// The one used next after this one.
    pub(super) fn newer(&self, number: u32) -> Option<u32> {
        match self.links.get(number as usize) {
            Some(Link::In { newer, .. }) => *newer,
            _ => None,
        }
    }

    /// All, from the least recently used on.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.oldest, |number| self.newer(*number))
    }

    /// How many are in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn set_newer(&mut self, of: Option<u32>, value: Option<u32>) {
        match of {
            None => self.oldest = value,
            Some(number) => {
                if let Link::In { newer, .. } = &mut self.links[number as usize] {
                    *newer = value;
                }
            }
        }
    }

    fn set_older(&mut self, of: Option<u32>, value: Option<u32>) {
        match of {
            None => self.newest = value,
            Some(number) => {
                if let Link::In { older, .. } = &mut self.links[number as usize] {
                    *older = value;
                }
            }
        }
    }
}
