//! Lengths that lie, and names that are none.

use super::*;

/// A string behind its length.
fn string(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("test strings are short");
    [&length.to_be_bytes(), text].concat()
}

#[test]
fn a_wish_is_read() {
    let data = [&string(b"pg")[..], &[0, 3, 0, 3, 0, 1, 0xff, 0xff]].concat();
    let wanted = Wanted {
        name: true,
        block_sizes: true,
        sends_again: false,
    };
    assert_eq!(wish(&data), Ok(("pg".to_owned(), wanted)));
    let nothing = [&string(b"")[..], &[0, 0]].concat();
    assert_eq!(wish(&nothing), Ok((String::new(), Wanted::default())));
}

#[test]
fn every_shorter_or_longer_wish_is_malformed() {
    let data = [&string(b"pg")[..], &[0, 1, 0, 3]].concat();
    for length in 0..data.len() {
        assert!(wish(&data[..length]).is_err(), "{length} bytes");
    }
    assert!(wish(&[&data[..], &[0]].concat()).is_err());
}

#[test]
fn queries_are_read() {
    let count = 2u32.to_be_bytes();
    let data = [
        string(b"pg"),
        count.to_vec(),
        string(b"base:"),
        string(b"x-y:z"),
    ]
    .concat();
    let expected: Vec<&[u8]> = vec![b"base:", b"x-y:z"];
    assert_eq!(queries(&data), Ok(("pg".to_owned(), expected)));
    for length in 0..data.len() {
        assert!(queries(&data[..length]).is_err(), "{length} bytes");
    }
    assert!(queries(&[&data[..], &[0]].concat()).is_err());
}

#[test]
fn a_count_that_lies_is_found_before_it_is_believed() {
    let data = [string(b"pg"), u32::MAX.to_be_bytes().to_vec()].concat();
    assert_eq!(queries(&data), Err(Malformed("the option ends too early")));
}

#[test]
fn names_are_text_of_bounded_length() {
    assert_eq!(
        export_name(&[b'a'; STRING_BYTES_MAX]).map(|name| name.len()),
        Ok(4096)
    );
    assert!(export_name(&[b'a'; STRING_BYTES_MAX + 1]).is_err());
    assert!(export_name(b"a\0b").is_err());
    assert!(export_name(b"\xff").is_err());
    assert_eq!(export_name("größe".as_bytes()), Ok("größe".to_owned()));
    let long_query = [string(b"pg"), vec![0, 0, 0, 1], string(&[b'q'; 4097])].concat();
    assert!(queries(&long_query).is_err());
}
