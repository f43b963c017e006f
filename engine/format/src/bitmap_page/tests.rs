//! Tests of the bitmap page.

use super::{BitmapPage, BitmapPageBytes};
use crate::block::BLOCK;
use crate::tests::document::{assert_layouts, layout};
use crate::tests::flips::{assert_every_flip_is_seen, assert_forgeries_are_refused_or_sound};
use crate::tests::samples::{bitmap_page, slot};
use crate::tests::strategy::any_bitmap_page;
use proptest::prelude::{prop_assert_eq, proptest};

proptest! {
    #[test]
    fn a_page_survives_the_disk(page in any_bitmap_page()) {
        let bytes = page.encode();
        prop_assert_eq!(BitmapPage::decode_at(page.slot, page.index, &bytes[..]), Ok(Some(page)));
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let bytes = bitmap_page().encode();
    assert_every_flip_is_seen(&bytes[..], |bytes| BitmapPage::decode(bytes).is_err());
}

#[test]
fn forgeries_are_refused_or_sound() {
    assert_forgeries_are_refused_or_sound(
        &bitmap_page().encode(),
        |bytes| BitmapPage::decode(bytes).ok(),
        BitmapPage::encode,
    );
}

#[test]
fn a_hole_is_no_page_and_a_page_elsewhere_is_damage() {
    let BitmapPage {
        slot: own, index, ..
    } = bitmap_page();
    assert_eq!(BitmapPage::decode_at(own, index, &[0; BLOCK]), Ok(None));
    assert!(BitmapPage::decode_at(own, index, &[]).is_err());
    let bytes = bitmap_page().encode();
    assert!(BitmapPage::decode_at(slot(0), index, &bytes[..]).is_err());
    assert!(BitmapPage::decode_at(own, index + 1, &bytes[..]).is_err());
}

#[test]
fn no_page_lies_past_the_largest_volume() {
    assert!(
        BitmapPage {
            index: u32::MAX,
            ..bitmap_page()
        }
        .invalid()
        .is_some()
    );
}

#[test]
fn the_document_tells_where_the_fields_lie() {
    let page = layout!(
        "Bitmap page",
        BitmapPageBytes {
            head,
            epoch,
            index,
            slot,
            reserved,
            masks,
        }
    );
    assert_layouts("Bitmaps", &[page]);
}
