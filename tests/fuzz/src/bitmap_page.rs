//! A page of a bitmap.

use crate::block;
use format::bitmap_page::BitmapPage;

/// Takes any bytes.
pub fn take(input: &[u8]) {
    let as_it_is = BitmapPage::decode(input);
    assert!(as_it_is.is_err() || input.len() == crate::BLOCK);
    let bytes = block(b"twinblkM", input);
    if let Ok(page) = BitmapPage::decode(&bytes) {
        assert!(page.encode()[..] == bytes);
        assert_eq!(
            BitmapPage::decode_at(page.slot, page.index, &bytes),
            Ok(Some(page))
        );
    }
}
