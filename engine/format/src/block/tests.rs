//! Holds the metadata file's places and the head of its blocks against their documentation.

use super::Head;
use crate::layout::{
    BITMAP_OFFSET, LOG_OFFSET, META_BLOCK_BYTES, SUPERBLOCK_OFFSETS, log_block_offset, page_offset,
};
use crate::log_block::LOG_RING_BLOCKS;
use crate::tests::document::{assert_layouts, assert_rows, layout};
use crate::tests::samples::slot;

#[test]
fn the_document_tells_where_the_fields_lie() {
    let head = layout!(
        "Head",
        Head {
            magic,
            crc,
            length,
            version,
            reserved
        }
    );
    assert_layouts("Metadata file", &[head]);
}

#[test]
fn the_document_tells_where_the_blocks_lie() {
    let ring = LOG_RING_BLOCKS as u64 * META_BLOCK_BYTES;
    let places = [
        (SUPERBLOCK_OFFSETS[0], META_BLOCK_BYTES.to_string()),
        (SUPERBLOCK_OFFSETS[1], META_BLOCK_BYTES.to_string()),
        (LOG_OFFSET, ring.to_string()),
        (BITMAP_OFFSET, "the rest".to_owned()),
    ];
    let rows = places.map(|(offset, bytes)| vec![offset.to_string(), bytes]);
    assert_rows("Metadata file", "Places", &rows);
}

/// As the document's formulas have it.
#[test]
fn blocks_lie_one_after_the_other() {
    assert_eq!(log_block_offset(64 + 3), 131_072 + 3 * 4096);
    assert_eq!(page_offset(slot(5), 7), 1_048_576 + (7 * 8 + 5) * 4096);
}
