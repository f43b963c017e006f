//! A page of a bitmap.
#![no_main]

use format::bitmap_page::BitmapPage;
use fuzz::block;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let as_it_is = BitmapPage::decode(input);
    assert!(as_it_is.is_err() || input.len() == fuzz::BLOCK);
    let bytes = block(b"twinblkM", input);
    if let Ok(page) = BitmapPage::decode(&bytes) {
        assert!(page.encode()[..] == bytes);
        assert_eq!(BitmapPage::decode_at(page.slot, page.index, &bytes), Ok(Some(page)));
    }
});
