//! However the client's bytes are cut on their way, the negotiation makes the same of them; and
//! whatever they are, it does not panic.

use super::{Client, MODERN, option, option_bytes, queries, wish};
use proptest::prelude::*;

fn export() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("pg"),
        Just("ro"),
        Just("away"),
        Just("nosuch"),
        Just("")
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let query = prop_oneof![
        Just("base:allocation"),
        Just("base:"),
        Just("x-y:z"),
        Just("")
    ];
    let contexts = (9..11u32, export(), prop::collection::vec(query, 0..4))
        .prop_map(|(option, export, asked)| option_bytes(option, &queries(export, &asked)));
    let asking = (export(), prop::collection::vec(0..5u16, 0..4))
        .prop_map(|(export, wanted)| option_bytes(option::INFO, &wish(export, &wanted)));
    let going = export().prop_map(|export| option_bytes(option::GO, &wish(export, &[])));
    let naming = export().prop_map(|export| option_bytes(option::EXPORT_NAME, export.as_bytes()));
    let plain = (0..14u32).prop_map(|option| option_bytes(option, &[]));
    let random = (0..14u32, prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(option, data)| option_bytes(option, &data));
    let long = (0..14u32).prop_map(|option| option_bytes(option, &[0; 17_000]));
    let garbage = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        6 => contexts, 6 => asking, 1 => going, 1 => naming,
        4 => plain, 4 => random, 1 => long, 1 => garbage,
    ]
}

fn outcome(client: Client) -> impl PartialEq + std::fmt::Debug {
    let session = client.session.map(|session| format!("{session:?}"));
    // What a session has not been given may stand in the buffer; what a lost client has sent may not
    // have been looked at.
    let left = session.as_ref().map(|_| client.input.to_vec());
    (client.out, client.opened, client.closed, session, left)
}

proptest! {
    #[test]
    fn splits_change_nothing(
        flags in prop_oneof![8 => Just(MODERN), 1 => 0..5u32],
        messages in prop::collection::vec(message(), 0..12),
        lengths in prop::collection::vec(1..100usize, 0..100),
    ) {
        let stream = [flags.to_be_bytes().to_vec(), messages.concat()].concat();
        let mut whole = Client::connected();
        whole.send(&stream);
        let mut cut = Client::connected();
        let mut rest = &stream[..];
        for length in lengths {
            let (piece, left) = rest.split_at(length.min(rest.len()));
            cut.send(piece);
            rest = left;
        }
        cut.send(rest);
        prop_assert_eq!(outcome(whole), outcome(cut));
    }

    #[test]
    fn garbage_panics_nothing(garbage in prop::collection::vec(any::<u8>(), 0..2000)) {
        Client::connected().send(&garbage);
        Client::new(MODERN).send(&garbage);
        for option in 0..14 {
            Client::new(MODERN).send(&option_bytes(option, &garbage));
        }
    }
}
