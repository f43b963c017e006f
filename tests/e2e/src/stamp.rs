//! What a block is filled with, so that whoever reads it knows which write it came from.

use crate::BLOCK_BYTES;
use crate::random::Random;

#[cfg(test)]
mod tests;

const MAGIC: [u8; 8] = *b"twinmark";
const CHECKSUM_AT: usize = BLOCK_BYTES - 8;

/// Which write a block came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The volume, by a number that the test gave it.
    pub volume: u64,
    /// The block's number in the volume.
    pub block: u64,
    /// The block's how-manieth version it is.
    pub version: u64,
}

/// What a block was found to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Zeroes.
    Zero,
    /// A whole stamp.
    Stamp(Stamp),
    /// Anything else: torn, or never written by a recording client.
    Broken,
}

impl Stamp {
    /// Fills the block. All of it depends on the stamp, so that a torn block does not pass for a whole one.
    pub fn fill(&self, block: &mut [u8]) {
        let mut random =
            Random::new(self.volume ^ self.block.rotate_left(20) ^ self.version.rotate_left(44));
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&random.bits().to_le_bytes());
        }
        let head = [self.volume, self.block, self.version];
        block[..8].copy_from_slice(&MAGIC);
        for (word, value) in block[8..32].chunks_exact_mut(8).zip(head) {
            word.copy_from_slice(&value.to_le_bytes());
        }
        let sum = checksum(block);
        block[CHECKSUM_AT..].copy_from_slice(&sum);
    }
}

impl Content {
    /// Reads a block.
    pub fn of(block: &[u8]) -> Content {
        if block.iter().all(|byte| *byte == 0) {
            return Content::Zero;
        }
        if block[..8] != MAGIC || block[CHECKSUM_AT..] != checksum(block) {
            return Content::Broken;
        }
        let word = |at: usize| {
            block[at..at + 8]
                .iter()
                .rev()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        Content::Stamp(Stamp {
            volume: word(8),
            block: word(16),
            version: word(24),
        })
    }
}

fn checksum(block: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(&block[..CHECKSUM_AT]).as_bytes()[..8]);
    sum
}
