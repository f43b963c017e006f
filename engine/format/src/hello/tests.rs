//! Tests of the handshake's messages, and of the proofs.

use super::bytes::{self, HelloBody, OpeningBody, PrefixBytes, ProofBody, WelcomeBody};
use super::{
    Agreement, Disagreement, Hello, Link, LinkKey, Opening, PREFIX_BYTES, Prefix, Proof, Role,
    Welcome, decode_prefix, negotiate, proof, verify,
};
use crate::damage::Damage;
use crate::frame::REASON_BYTES_MAX;
use crate::tests::document::{assert_layouts, assert_numbers, assert_rows, layout};
use crate::tests::flips::assert_every_flip_is_seen;
use crate::tests::samples::{cluster_key, hello_messages, link_key, name, openings};
use crate::tests::strategy::{any_name, any_slot};
use crate::types::{NodeId, VolumeId};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

/// Splits a message as its reader does.
fn split(message: &[u8]) -> Result<(Prefix, &[u8]), Damage> {
    let (prefix, body) = message.split_at(PREFIX_BYTES);
    Ok((decode_prefix(prefix)?, body))
}

/// Whether any reader takes the message.
fn is_accepted(message: &[u8], key: &LinkKey) -> bool {
    split(message).is_ok_and(|(prefix, body)| {
        Opening::decode(&prefix, body).is_ok()
            || Proof::decode(&prefix, body).is_ok()
            || Hello::decode(&prefix, body, key).is_ok()
            || Welcome::decode(&prefix, body, key).is_ok()
    })
}

fn any_opening() -> impl Strategy<Value = Opening> {
    (1..=u16::MAX, any::<u16>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
        |(min, more, features, nonce)| Opening {
            versions: (min, min.saturating_add(more)),
            features,
            nonce,
        },
    )
}

fn any_link() -> impl Strategy<Value = Link> {
    let data = (any::<[u8; 16]>(), any_slot()).prop_map(|(volume, slot)| Link::Data {
        volume: VolumeId(volume),
        slot,
    });
    prop_oneof![Just(Link::Control), data]
}

proptest! {
    #[test]
    fn an_opening_survives_the_wire(opening in any_opening()) {
        let message = opening.encode();
        let (prefix, body) = split(&message).expect("it is whole");
        prop_assert_eq!(Opening::decode(&prefix, body), Ok(opening));
    }

    #[test]
    fn a_proof_survives_the_wire(mac in any::<[u8; 32]>()) {
        let message = Proof { mac }.encode();
        let (prefix, body) = split(&message).expect("it is whole");
        prop_assert_eq!(Proof::decode(&prefix, body), Ok(Proof { mac }));
    }

    #[test]
    fn a_hello_survives_the_wire(node in any::<[u8; 16]>(), name in any_name(), link in any_link()) {
        let hello = Hello { node: NodeId(node), name, link };
        let message = hello.encode(&link_key());
        let (prefix, body) = split(&message).expect("it is whole");
        prop_assert_eq!(Hello::decode(&prefix, body, &link_key()), Ok(hello));
    }

    #[test]
    fn a_welcome_survives_the_wire(
        node in any::<[u8; 16]>(),
        name in any_name(),
        accepted in prop_oneof![Just(Ok(())), ".{0,99}".prop_map(|text| Err(text.into_boxed_str()))],
    ) {
        let welcome = Welcome { node: NodeId(node), name, accepted };
        let message = welcome.encode(&link_key());
        let (prefix, body) = split(&message).expect("it is whole");
        prop_assert_eq!(Welcome::decode(&prefix, body, &link_key()), Ok(welcome));
    }

    #[test]
    fn noise_is_no_message(noise in any::<[u8; 64]>()) {
        assert!(!is_accepted(&noise, &link_key()));
    }

    /// A stranger who knows all of the format but the key can alter nothing behind the proofs.
    #[test]
    fn nothing_sealed_can_be_forged(at in PREFIX_BYTES.., value in 1..=u8::MAX) {
        for (_, mut message) in hello_messages().into_iter().skip(2) {
            let at = PREFIX_BYTES + at % (message.len() - PREFIX_BYTES);
            message[at] ^= value;
            let crc = crc32fast::hash(&message[8..]);
            message[4..8].copy_from_slice(&crc.to_le_bytes());
            assert!(!is_accepted(&message, &link_key()));
        }
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    for (_, message) in hello_messages() {
        assert_every_flip_is_seen(&message, |message| !is_accepted(message, &link_key()));
    }
}

/// A change of anything that was said changes the proof and the link's key.
#[test]
fn a_proof_holds_for_one_link_and_one_role() {
    let (dialer, acceptor) = openings();
    let key = cluster_key();
    let right = proof(&key, Role::Dialer, &dialer, &acceptor);
    assert!(verify(
        &right,
        &proof(&key, Role::Dialer, &dialer, &acceptor)
    ));
    let mut other_key = key;
    other_key[31] ^= 1;
    let altered = |change: fn(&mut Opening)| {
        let mut opening = dialer;
        change(&mut opening);
        proof(&key, Role::Dialer, &opening, &acceptor)
    };
    let wrong = [
        proof(&key, Role::Acceptor, &dialer, &acceptor),
        proof(&key, Role::Dialer, &acceptor, &dialer),
        proof(&other_key, Role::Dialer, &dialer, &acceptor),
        altered(|opening| opening.nonce[31] ^= 1),
        altered(|opening| opening.versions.1 = 2),
        altered(|opening| opening.features ^= 1),
        *blake3::keyed_hash(&key, b"").as_bytes(),
    ];
    for wrong in wrong {
        assert!(!verify(&right, &wrong));
    }
}

#[test]
fn a_message_belongs_to_its_link() {
    let (dialer, mut acceptor) = openings();
    acceptor.nonce[0] ^= 1;
    let other = LinkKey::new(&cluster_key(), &dialer, &acceptor);
    for (_, message) in hello_messages().into_iter().skip(2) {
        assert!(is_accepted(&message, &link_key()));
        assert!(!is_accepted(&message, &other));
    }
}

#[test]
fn the_highest_common_version_is_spoken() {
    let (dialer, acceptor) = openings();
    let agreement = Agreement {
        version: 3,
        features: 8,
    };
    assert_eq!(negotiate(&dialer, &acceptor), Ok(agreement));
    assert_eq!(negotiate(&acceptor, &dialer), Ok(agreement));
    let old = Opening {
        versions: (1, 1),
        ..dialer
    };
    let disagreement = Disagreement::Versions {
        mine: (1, 1),
        theirs: (2, 4),
    };
    assert_eq!(negotiate(&old, &acceptor), Err(disagreement));
    assert_eq!(negotiate(&dialer, &dialer), Err(Disagreement::Mirror));
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let welcome = Welcome {
        node: NodeId::NONE,
        name: name("beta"),
        accepted: Err(format!("x{}", "é".repeat(400)).into()),
    };
    let message = welcome.encode(&link_key());
    let (prefix, body) = split(&message).expect("its reason is within bounds");
    let read = Welcome::decode(&prefix, body, &link_key()).expect("it is whole");
    let reason = read.accepted.expect_err("the link is refused");
    assert_eq!(reason.len(), REASON_BYTES_MAX - 1);
}

/// A reader never has to find room for more than this.
#[test]
fn lengths_are_bounded_before_anything_is_allocated() {
    for kind in 0..=u8::MAX {
        for length in [1 << 10, 1 << 20, u32::MAX] {
            let mut prefix = hello_messages()[0].1[..PREFIX_BYTES].to_vec();
            prefix[8] = kind;
            prefix[12..].copy_from_slice(&length.to_le_bytes());
            assert!(decode_prefix(&prefix).is_err());
        }
    }
}

#[test]
fn the_document_tells_where_the_fields_lie() {
    let layouts = [
        layout!(
            "Prefix",
            PrefixBytes {
                magic,
                crc,
                kind,
                reserved,
                length
            }
        ),
        layout!(
            "Opening body",
            OpeningBody {
                version_min,
                version_max,
                reserved,
                features,
                nonce,
            }
        ),
        layout!("Proof body", ProofBody { mac }),
        layout!(
            "Hello body",
            HelloBody {
                node,
                name,
                link,
                slot,
                reserved,
                volume
            }
        ),
        layout!(
            "Welcome body",
            WelcomeBody {
                node,
                name,
                accepted,
                reserved
            }
        ),
    ];
    assert_layouts("Handshake", &layouts);
    let messages = [
        (bytes::OPENING, "opening"),
        (bytes::PROOF, "proof"),
        (bytes::HELLO, "hello"),
        (bytes::WELCOME, "welcome"),
    ];
    let rows = messages.map(|(kind, name)| {
        let (least, most) = bytes::body_bounds(kind).expect("it is a kind").into_inner();
        let lengths = if least == most {
            least.to_string()
        } else {
            format!("{least} to {most}")
        };
        vec![kind.to_string(), name.to_owned(), lengths]
    });
    assert_rows("Handshake", "Messages", &rows);
    let links = [(bytes::LINK_CONTROL, "control"), (bytes::LINK_DATA, "data")];
    assert_numbers(
        "Handshake",
        "Links",
        &links.map(|(number, name)| (number.into(), name)),
    );
}
