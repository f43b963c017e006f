use super::{GRAIN_BYTES, Image, PIECE_BYTES, copy_to_file, copy_to_stream, create};
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A file of so many bytes with data at these places.
fn file(size_bytes: u64, data: &[(u64, Vec<u8>)]) -> tempfile::NamedTempFile {
    let named = tempfile::NamedTempFile::new().expect("a file can be made");
    named.as_file().set_len(size_bytes).expect("it is extended");
    for (offset, bytes) in data {
        let bytes = &bytes[..bytes.len().min(length(size_bytes.saturating_sub(*offset)))];
        let written = named.as_file().write_all_at(bytes, *offset);
        written.expect("it is written");
    }
    named
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("it is in memory")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn copies_are_what_was_copied(
        size_bytes in 0..5 * PIECE_BYTES as u64,
        data in prop::collection::vec(
            (0..5 * PIECE_BYTES as u64, prop::collection::vec(0u8..3, 0..GRAIN_BYTES * 3)), 0..4),
    ) {
        let from = file(size_bytes, &data);
        let wanted = std::fs::read(from.path()).expect("it is read");
        let mut image = Image::open(from.path()).expect("it is an image");
        prop_assert_eq!(image.size_bytes(), size_bytes);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("copy");
        let to = create(&path, size_bytes).expect("it is new");
        copy_to_file(&mut image, &to, |_| true).expect("it is copied");
        prop_assert!(std::fs::read(&path).expect("it is read") == wanted);
        let mut image = Image::open(from.path()).expect("it is an image");
        let mut stream = Vec::new();
        copy_to_stream(&mut image, &mut stream, |_| true).expect("it is copied");
        prop_assert!(stream == wanted);
        prop_assert!(create(&path, size_bytes).is_err(), "nothing is written over");
    }
}

#[test]
fn zeroes_take_no_space_in_a_copy() {
    let mut bytes = vec![0; 8 * PIECE_BYTES];
    bytes[3 * PIECE_BYTES] = 1;
    let from = file(16 * PIECE_BYTES as u64, &[(0, bytes)]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copy");
    let to = create(&path, 16 * PIECE_BYTES as u64).expect("it is new");
    let mut image = Image::open(from.path()).expect("it is an image");
    copy_to_file(&mut image, &to, |_| true).expect("it is copied");
    let occupied = std::fs::metadata(&path).expect("it is there").blocks() * 512;
    assert!(occupied <= 4 * GRAIN_BYTES as u64, "{occupied} bytes");
}

#[test]
fn what_is_no_raw_image_is_refused() {
    let mut named = tempfile::NamedTempFile::new().expect("a file can be made");
    named.write_all(b"QFI\xfb and more").expect("it is written");
    let refused = Image::open(named.path()).expect_err("it is qcow2");
    assert!(refused.message.contains("qemu-img convert"), "{refused}");
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Image::open(folder.path()).is_err());
}
