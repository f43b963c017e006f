//! Finds an extent's record: an open-addressed table, probed one place after another.

/// Places at the start; always a power of two.
const PLACES_MIN: usize = 1024;
/// 2^32 divided by the golden ratio: multiplying by it spreads neighbouring extents.
const SPREAD: u32 = 0x9E37_79B9;

/// An extent and its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pair {
    extent: u32,
    record: u32,
}

/// Records by extent. At most half of the places are taken, so that runs stay short.
#[derive(Debug)]
pub(super) struct Index {
    places: Vec<Option<Pair>>,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            places: vec![None; PLACES_MIN],
            len: 0,
        }
    }

    /// The extent's record.
    pub(super) fn get(&self, extent: u32) -> Option<u32> {
        self.places[self.find(extent)].map(|pair| pair.record)
    }

    /// Gives the extent, which has none, a record.
    pub(super) fn insert(&mut self, extent: u32, record: u32) {
        if (self.len + 1) * 2 > self.places.len() {
            let twice = self.places.len() * 2;
            let before = std::mem::replace(&mut self.places, vec![None; twice]);
            for pair in before.into_iter().flatten() {
                let place = self.find(pair.extent);
                self.places[place] = Some(pair);
            }
        }
        let place = self.find(extent);
        assert!(self.places[place].is_none(), "extent {extent} has a record");
        self.places[place] = Some(Pair { extent, record });
        self.len += 1;
    }

    /// Forgets the extent, which has a record.
    pub(super) fn remove(&mut self, extent: u32) {
        let mut hole = self.find(extent);
        assert!(
            self.places[hole].take().is_some(),
            "extent {extent} has no record"
        );
        self.len -= 1;
        // What the extent had pushed on moves back, so that no search ends too early at the hole.
        let mut place = hole;
        loop {
            place = self.after(place);
            let Some(pair) = self.places[place] else {
                return;
            };
            let home = self.home(pair.extent);
            if self.distance(home, place) >= self.distance(hole, place) {
                self.places[hole] = self.places[place].take();
                hole = place;
            }
        }
    }

    /// Where the extent is, or where it would go.
    fn find(&self, extent: u32) -> usize {
        let mut place = self.home(extent);
        while self.places[place].is_some_and(|pair| pair.extent != extent) {
            place = self.after(place);
        }
        place
    }

    /// Where a search for the extent begins: the product's upper bits, which depend on all of it.
    fn home(&self, extent: u32) -> usize {
        let bits = self.places.len().ilog2();
        (extent.wrapping_mul(SPREAD) >> (u32::BITS - bits)) as usize
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    /// Steps from one place on to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }
}
