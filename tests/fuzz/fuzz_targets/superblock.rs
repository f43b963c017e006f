//! Both copies of the superblock, and the choice between them.
#![no_main]

use format::superblock::{Superblock, SuperblockChoice, choose_superblock};
use fuzz::{BLOCK, block};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
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
});
