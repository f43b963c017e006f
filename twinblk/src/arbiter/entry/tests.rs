use super::{ENTRY_BYTES_MAX, Entry};
use crate::arbiter::testing::{configuration, volume};
use format::types::{Configuration, Generation, NodeSet, Slot, VolumeId};

/// Never changed but with a new format: registers of running clusters hold such texts.
const GOLDEN: &str = concat!(
    r#"{"format":1,"volume":"000102030405060708090a0b0c0d0e0f","epoch":7,"#,
    r#""generation":"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff","primary":1,"in_sync":[0,1],"crc":"f3780937"}"#
);
const GOLDEN_WITHOUT_PRIMARY: &str = concat!(
    r#"{"format":1,"volume":"000102030405060708090a0b0c0d0e0f","epoch":18446744073709551615,"#,
    r#""generation":"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff","primary":null,"in_sync":[7],"crc":"8fc7b58c"}"#
);

fn counting(from: u8) -> [u8; 16] {
    std::array::from_fn(|index| from + u8::try_from(index).expect("16 fit"))
}

fn golden() -> [(Entry, &'static str); 2] {
    let slot = |number| Slot::new(number).expect("it is a slot");
    let entry = |epoch, primary, in_sync| Entry {
        volume: VolumeId(counting(0)),
        configuration: Configuration {
            epoch,
            generation: Generation(counting(0xf0)),
            primary,
            in_sync,
        },
    };
    [
        (entry(7, Some(slot(1)), NodeSet::from_bits(3)), GOLDEN),
        (
            entry(u64::MAX, None, NodeSet::only(slot(7))),
            GOLDEN_WITHOUT_PRIMARY,
        ),
    ]
}

#[test]
fn the_text_is_what_it_has_always_been() {
    for (entry, text) in golden() {
        let encoded = entry.encode().expect("it has a text");
        assert_eq!(String::from_utf8_lossy(&encoded), text);
        assert_eq!(Entry::decode(text.as_bytes()), Ok(entry));
    }
}

#[test]
fn the_longest_text_is_within_the_bound() {
    let longest = Entry {
        volume: VolumeId([0xff; 16]),
        configuration: Configuration {
            epoch: u64::MAX,
            generation: Generation([0xff; 16]),
            primary: None,
            in_sync: NodeSet::from_bits(0xff),
        },
    };
    let text = longest.encode().expect("it has a text");
    assert!(2 * text.len() < ENTRY_BYTES_MAX, "{}", text.len());
    assert_eq!(Entry::decode(&text), Ok(longest));
}

#[test]
fn no_flipped_bit_and_no_cut_goes_unseen() {
    for bytes in golden().map(|(_, text)| text.as_bytes().to_vec()) {
        for at in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(Entry::decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn other_texts_of_the_same_entry_are_none() {
    let (_, text) = golden()[0];
    for foreign in [
        text.replace(':', ": "),
        text.replace("[0,1]", "[1,0]"),
        text.replace("[0,1]", "[0,1,1]"),
        text.replace("[0,1]", "[]"),
        text.replace("[0,1]", "[0,8]"),
        text.replace("\"format\":1", "\"format\":2"),
        text.replace("f0f1", "F0F1"),
        text.replace("\"epoch\":7", "\"epoch\":7.0"),
        text.replace("{\"format\"", "{\"more\":0,\"format\""),
        format!("{text}\n"),
        format!("{text}{}", " ".repeat(ENTRY_BYTES_MAX)),
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
    ] {
        assert!(Entry::decode(foreign.as_bytes()).is_err(), "{foreign}");
    }
}

#[test]
fn the_entry_of_another_volume_is_refused() {
    let entry = Entry {
        volume: volume(1),
        configuration: configuration(1, 1),
    };
    assert_eq!(entry.of(volume(1)), Ok(configuration(1, 1)));
    assert!(entry.of(volume(2)).is_err());
}
