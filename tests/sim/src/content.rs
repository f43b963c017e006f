//! What simulated bytes are: a tag for every sector of 512 bytes.
//!
//! A tag tells the write that it came from and its place in that write, so that no two sectors that
//! were ever written are equal by chance, and a misplaced one is found.

use crate::rng::mix;
use format::frame::{Digest, ZERO_BLOCK_DIGEST};
use format::types::{BLOCK_BYTES, Span};
use std::rc::Rc;

/// The unit in which clients read and write.
pub const SECTOR_BYTES: u64 = 512;
/// Sectors in a block.
pub const BLOCK_SECTORS: usize = (BLOCK_BYTES / SECTOR_BYTES) as usize;

/// What a sector holds; 0 is a sector of zeroes.
pub type Tag = u64;
/// What a block holds.
pub type Block = [Tag; BLOCK_SECTORS];
/// A block of zeroes.
pub const ZERO_BLOCK: Block = [0; BLOCK_SECTORS];
/// A range of block numbers.
pub type Blocks = std::ops::Range<u32>;

/// A piece of data, shared by whoever has it in hand.
pub type Content = Rc<Vec<Tag>>;

/// How many sectors these bytes are.
pub fn sectors(bytes: u64) -> usize {
    usize::try_from(bytes / SECTOR_BYTES).expect("a volume of the simulator is small")
}

/// The numbers of the blocks that the span touches.
pub fn blocks(span: Span) -> Blocks {
    let wide = span.widened();
    let number = |bytes: u64| u32::try_from(bytes / BLOCK_BYTES).expect("a volume has few blocks");
    number(wide.offset)..number(wide.end())
}

/// The `nth` block of a content that begins with a whole block.
pub fn block_of(content: &[Tag], nth: usize) -> Block {
    let mut block = ZERO_BLOCK;
    block.copy_from_slice(&content[nth * BLOCK_SECTORS..(nth + 1) * BLOCK_SECTORS]);
    block
}

/// The tag of the `nth` sector of a write.
pub fn tag(write: u64, nth: usize) -> Tag {
    write << 16 | nth as u64
}

/// What a shell's hash makes of a block.
pub fn digest(block: &Block) -> Digest {
    if *block == ZERO_BLOCK {
        return ZERO_BLOCK_DIGEST;
    }
    let (mut low, mut high) = (0x243f_6a88_85a3_08d3_u64, 0x1319_8a2e_0370_7344_u64);
    for tag in block {
        low = mix(low ^ tag);
        high = mix(high.rotate_left(23) ^ tag).wrapping_add(low);
    }
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&low.to_le_bytes());
    digest[8..].copy_from_slice(&high.to_le_bytes());
    digest
}
