//! The rules that servers get wrong, by their numbers in the list, as far as they are about the
//! negotiation.

use super::{Client, MODERN, info, option, option_bytes, option_reply, queries, wish};
use crate::codec::{OPTION_MAGIC, OptionHeader, transmission_flag};
use crate::limits::{NEGOTIATION_BYTES_MAX, OPTION_BYTES_MAX, OPTIONS_MAX};
use zerocopy::IntoBytes;

#[test]
fn rule_1_many_connections_are_offered() {
    let mut client = Client::new(MODERN);
    let replies = client.option(option::INFO, &wish("pg", &[]));
    let flags = [replies[0].data[10], replies[0].data[11]];
    let flags = u16::from_be_bytes(flags);
    assert!(flags & transmission_flag::CAN_MULTI_CONN != 0);
}

#[test]
fn rule_4_the_payload_that_every_client_may_send_is_advertised() {
    let mut client = Client::new(MODERN);
    let replies = client.option(option::INFO, &wish("pg", &[info::BLOCK_SIZE]));
    assert_eq!(replies[1].data[10..], (32u32 << 20).to_be_bytes());
}

/// A client that has chosen `base:allocation` of `pg`.
fn with_context() -> Client {
    let mut client = Client::new(MODERN);
    client.option(option::STRUCTURED_REPLY, &[]);
    let chosen = client.option(
        option::SET_META_CONTEXT,
        &queries("pg", &["base:allocation"]),
    );
    assert_eq!(chosen.len(), 2);
    client
}

#[test]
fn rule_10_the_contexts_last_set_are_those_of_one_export() {
    assert!(with_context().has_context("pg"));
    assert!(!with_context().has_context("ro"));
}

#[test]
fn rule_10_a_set_replaces_the_one_before_also_when_it_fails() {
    let failing = [
        queries("pg", &[]),
        queries("pg", &["base:other"]),
        queries("nosuch", &["base:allocation"]),
        queries("away", &["base:allocation"]),
        b"malformed".to_vec(),
        vec![0; OPTION_BYTES_MAX as usize + 1],
    ];
    for data in failing {
        let mut client = with_context();
        assert_eq!(client.option(option::SET_META_CONTEXT, &data).len(), 1);
        assert!(!client.has_context("pg"));
    }
    let mut client = with_context();
    client.option(option::LIST_META_CONTEXT, &queries("pg", &[]));
    assert!(client.has_context("pg"), "a list sets nothing");
}

/// There is no TLS yet: STARTTLS is refused, so what was negotiated stays.
#[test]
fn rule_11_starttls_is_refused_and_discards_nothing() {
    let mut client = with_context();
    assert_eq!(
        client.verdict(option::STARTTLS, &[]),
        option_reply::ERROR_UNSUPPORTED
    );
    assert!(client.has_context("pg"));
}

#[test]
fn rule_12_a_client_flag_that_was_not_offered_ends_the_connection() {
    for bit in 2..32 {
        let mut client = Client::connected();
        client.send(&(MODERN | 1 << bit).to_be_bytes());
        assert!(client.closed.is_some() && client.out.is_empty());
    }
}

#[test]
fn rule_12_an_option_without_its_magic_number_ends_the_connection() {
    let mut client = Client::new(MODERN);
    let mut bytes = option_bytes(option::LIST, &[]);
    bytes[0] ^= 1;
    client.send(&bytes);
    assert!(client.closed.is_some() && client.out.is_empty());
}

#[test]
fn rule_12_a_client_without_fixed_newstyle_has_one_option() {
    for flags in [0, 2] {
        let mut client = Client::new(flags);
        client.send(&option_bytes(option::LIST, &[]));
        assert!(client.closed.is_some() && client.out.is_empty());
    }
}

#[test]
fn rule_13_a_long_option_is_drained_and_refused() {
    let long = vec![0; OPTION_BYTES_MAX as usize + 1];
    let mut client = Client::new(MODERN);
    for (option, verdict) in [
        (option::GO, option_reply::ERROR_TOO_BIG),
        (option::LIST, option_reply::ERROR_TOO_BIG),
        (option::SET_META_CONTEXT, option_reply::ERROR_TOO_BIG),
        (option::STARTTLS, option_reply::ERROR_UNSUPPORTED),
        (99, option_reply::ERROR_UNSUPPORTED),
    ] {
        assert_eq!(client.verdict(option, &long), verdict);
    }
    assert_eq!(client.option(option::GO, &wish("pg", &[])).len(), 2);

    let mut client = Client::new(MODERN);
    client.send(&option_bytes(option::EXPORT_NAME, &long));
    assert!(client.closed.is_some() && client.out.is_empty());
}

#[test]
fn rule_13_a_long_option_takes_no_memory() {
    let mut client = Client::new(MODERN);
    let long = option_bytes(option::GO, &vec![0; 900_000]);
    for piece in long.chunks(4096) {
        client.send(piece);
        assert!(client.input.len() < 4096);
    }
    client.out.clear();
    assert_eq!(client.option(option::LIST, &[]).len(), 3);
}

#[test]
fn rule_13_a_length_beyond_all_bounds_ends_the_connection_at_once() {
    let header = OptionHeader {
        magic: OPTION_MAGIC.into(),
        option: option::GO.into(),
        length: u32::MAX.into(),
    };
    let mut client = Client::new(MODERN);
    client.send(header.as_bytes());
    assert!(client.closed.is_some());
}

#[test]
fn rule_13_options_and_their_bytes_are_bounded() {
    let mut client = Client::new(MODERN);
    for _ in 0..OPTIONS_MAX {
        assert_eq!(client.verdict(99, &[]), option_reply::ERROR_UNSUPPORTED);
    }
    client.send(&option_bytes(99, &[]));
    assert!(client.closed.is_some() && client.out.is_empty());

    let mut client = Client::new(MODERN);
    let data = vec![0; OPTION_BYTES_MAX as usize - 16];
    for _ in 0..NEGOTIATION_BYTES_MAX / u64::from(OPTION_BYTES_MAX) {
        assert_eq!(client.verdict(99, &data), option_reply::ERROR_UNSUPPORTED);
    }
    client.send(&option_bytes(99, &[]));
    assert!(client.closed.is_some() && client.out.is_empty());
}

#[test]
fn rule_13_strings_are_bounded() {
    let name = "n".repeat(4097);
    let mut client = Client::new(MODERN);
    assert_eq!(
        client.verdict(option::GO, &wish(&name, &[])),
        option_reply::ERROR_INVALID
    );
    assert_eq!(
        client.verdict(option::INFO, &wish("a\0b", &[])),
        option_reply::ERROR_INVALID
    );
    assert!(client.opened.is_empty());
}

#[test]
fn rule_14_a_server_that_stops_says_so() {
    let mut client = Client::new(MODERN);
    client.negotiation.shut_down();
    let shutdown = option_reply::ERROR_SHUTDOWN;
    assert_eq!(client.verdict(option::LIST, &[]), shutdown);
    assert_eq!(client.verdict(option::INFO, &wish("pg", &[])), shutdown);
    assert_eq!(client.verdict(option::GO, &wish("pg", &[])), shutdown);
    assert!(client.opened.is_empty());
    assert_eq!(client.verdict(option::ABORT, &[]), option_reply::ACK);

    let mut client = Client::new(MODERN);
    client.negotiation.shut_down();
    client.send(&option_bytes(option::EXPORT_NAME, b"pg"));
    assert!(client.closed.is_some() && client.out.is_empty());
}
