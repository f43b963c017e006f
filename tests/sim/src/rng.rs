//! The one source of chance in a simulated world: all of a run follows from its seed.

/// A splitmix64 generator: small, fast, and good enough to choose faults with.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Rng {
        let mut rng = Rng {
            state: seed ^ 0x6a09_e667_f3bc_c909,
        };
        rng.bits();
        rng
    }

    /// Another generator, so that the draws of one part of the world do not move those of another.
    pub fn fork(&mut self) -> Rng {
        Rng::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// 128 random bits.
    pub fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64) | u128::from(self.bits())
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let high = (u128::from(self.bits()) * u128::from(bound)) >> 64;
        u64::try_from(high).expect("the upper half of a product of two u64")
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An index below `length`, which is not zero.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }

    /// Whether something happens that happens so often in a thousand.
    pub fn permille(&mut self, often: u64) -> bool {
        self.below(1000) < often
    }

    /// An interval whose mean is about `mean`, at most four times as long.
    pub fn interval(&mut self, mean: u64) -> u64 {
        let coin = self.between(1, 4);
        self.below(mean * coin * 4 / 5 + 1)
    }

    /// An index drawn by weight; the weights are not all zero.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = self.below(total);
        for (at, weight) in weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return at,
            }
        }
        unreachable!("a draw lies below the total of the weights")
    }
}

/// Spreads the bits of a number over all 64.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
