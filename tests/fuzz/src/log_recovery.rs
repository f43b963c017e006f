//! The ring of the activity log, whose blocks the input changes here and there.

use crate::{BLOCK, block};
use format::log_block::{LOG_CONTEXT, LOG_RING_BLOCKS, LogBlock, NO_EXTENT, Recovered, recover};

const INSTANCE: u64 = 7;

/// A sound block of an otherwise empty log, for the decoder's input to be cut from.
fn sound(sequence: u64) -> Box<[u8; BLOCK]> {
    let block = LogBlock {
        instance: INSTANCE,
        sequence,
        updates: Vec::new(),
        context: vec![NO_EXTENT; LOG_CONTEXT],
    };
    block.encode()
}

/// Three bytes of the input change one byte of one block; its checksum stays right.
fn patched(input: &[u8]) -> Vec<Box<[u8; BLOCK]>> {
    let newest = usize::from(input.first().copied().unwrap_or(0));
    let oldest = newest.saturating_sub(LOG_RING_BLOCKS - 1);
    let mut ring = vec![Box::new([0; BLOCK]); LOG_RING_BLOCKS];
    for sequence in oldest..=newest {
        ring[sequence % LOG_RING_BLOCKS] = sound(sequence as u64);
    }
    for patch in input.get(1..).unwrap_or_default().chunks_exact(4) {
        let bytes = &mut ring[usize::from(patch[0]) % LOG_RING_BLOCKS];
        let at = 24 + usize::from(u16::from_le_bytes([patch[1], patch[2]])) % (BLOCK - 24);
        bytes[at] = patch[3];
        **bytes = block(b"twinblkL", &bytes[24..]);
    }
    ring
}

/// Takes any bytes.
pub fn take(input: &[u8]) {
    recover(input.chunks(BLOCK), INSTANCE);
    if let Ok(decoded) = LogBlock::decode(&block(b"twinblkL", input)) {
        assert!(decoded.encode()[..] == block(b"twinblkL", input));
    }
    let ring = patched(input);
    if let Recovered::Extents(extents) = recover(ring.iter().map(|block| &block[..]), INSTANCE) {
        assert!(extents.is_sorted_by(|earlier, later| earlier < later));
        assert!(!extents.contains(&NO_EXTENT));
    }
}
