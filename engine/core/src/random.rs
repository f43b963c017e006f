//! Random numbers drawn from the seed that the shell has taken from the system.

use format::types::Generation;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), two
/// streams side by side: uniqueness is what generations need, not secrecy.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: [u64; 2],
}

impl Random {
    /// A generator for this seed.
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    pub(crate) fn new(seed: u128) -> Random {
        Random {
            state: [seed as u64, (seed >> 64) as u64],
        }
    }

    fn draw(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// 64 bits, never 0.
    pub(crate) fn number(&mut self) -> u64 {
        Self::draw(&mut self.state[0]).max(1)
    }

    /// A new generation.
    pub(crate) fn generation(&mut self) -> Generation {
        let [first, second] = self.state.each_mut().map(Self::draw);
        let bytes = (u128::from(second) << 64 | u128::from(first.max(1))).to_le_bytes();
        Generation(bytes)
    }
}
