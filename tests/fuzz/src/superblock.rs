//! Both copies of the superblock, and the choice between them.

use crate::{BLOCK, block};
use format::superblock::{Superblock, SuperblockChoice, choose_superblock};

/// Takes any bytes.
pub fn take(input: &[u8]) {
    let (first, second) = input.split_at(input.len().min(BLOCK));
    choose_superblock([first, second]);
    let half = input.len() / 2;
    let first = block(b"twinblkS", &input[..half]);
    let second = block(b"twinblkS", &input[half..]);
    for bytes in [&first, &second] {
        if let Ok(superblock) = Superblock::decode(bytes) {
            assert!(superblock.encode()[..] == bytes[..]);
        }
    }
    if let SuperblockChoice::Found { superblock, repair } = choose_superblock([&first, &second]) {
        assert!(repair.iter().any(Option::is_none));
        assert_eq!(superblock.invalid(), None);
    }
}
