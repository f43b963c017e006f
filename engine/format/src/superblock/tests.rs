//! Tests of the superblock and of the choice between its copies.

use super::{
    Superblock, SuperblockBytes, SuperblockChoice, SuperblockRefusal, WireReplica,
    choose_superblock, superblock_flags as flag,
};
use crate::block::{BLOCK, NEWER};
use crate::tests::document::{assert_layouts, assert_numbers, layout};
use crate::tests::flips::{assert_every_flip_is_seen, assert_forgeries_are_refused_or_sound};
use crate::tests::samples::{slot, superblock};
use crate::tests::strategy::any_superblock;
use crate::types::VolumeId;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

proptest! {
    #[test]
    fn a_superblock_survives_the_disk(superblock in any_superblock()) {
        let bytes = superblock.encode();
        prop_assert_eq!(Superblock::decode(&bytes[..]), Ok(superblock));
    }

    #[test]
    fn the_newer_copy_counts(superblock in any_superblock(), newer in any::<u64>()) {
        let second = Superblock { sequence: newer, ..superblock.clone() };
        let choice = choose_superblock([&superblock.encode()[..], &second.encode()[..]]);
        let SuperblockChoice::Found { superblock: found, repair } = choice else {
            panic!("both are sound: {choice:?}");
        };
        prop_assert_eq!(found.sequence, superblock.sequence.max(newer));
        prop_assert!(repair[0].is_some() == (superblock.sequence < newer));
        prop_assert!(repair[1].is_some() == (superblock.sequence > newer));
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let bytes = superblock().encode();
    assert_every_flip_is_seen(&bytes[..], |bytes| Superblock::decode(bytes).is_err());
}

#[test]
fn forgeries_are_refused_or_sound() {
    assert_forgeries_are_refused_or_sound(
        &superblock().encode(),
        |bytes| Superblock::decode(bytes).ok(),
        Superblock::encode,
    );
}

/// Either copy may be spoiled in any byte: the other is used and the spoiled one named.
#[test]
fn one_damaged_copy_is_repaired_from_the_other() {
    let good = superblock().encode();
    for at in 0..BLOCK {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        for spoiled in [0, 1] {
            let copies = if spoiled == 0 {
                [&bad[..], &good[..]]
            } else {
                [&good[..], &bad[..]]
            };
            let SuperblockChoice::Found {
                superblock: found,
                repair,
            } = choose_superblock(copies)
            else {
                panic!("one copy is sound");
            };
            assert_eq!(*found, superblock());
            assert!(repair[spoiled].is_some() && repair[1 - spoiled].is_none());
        }
    }
}

/// A copy as a later version would write it: sound, but for its number.
fn of_version(version: u16) -> Box<[u8; BLOCK]> {
    let mut bytes = superblock().encode();
    bytes[16..18].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn refusal(first: &[u8], second: &[u8]) -> SuperblockRefusal {
    match choose_superblock([first, second]) {
        SuperblockChoice::Refused(refusal) => refusal,
        found => panic!("{found:?} should have been refused"),
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let good = superblock().encode();
    let newer = of_version(2);
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    assert_eq!(Superblock::decode(&newer[..]), Err(NEWER));
    assert_eq!(refusal(&newer[..], &newer[..]), SuperblockRefusal::Newer);
    assert_eq!(refusal(&good[..], &newer[..]), SuperblockRefusal::Newer);
    assert_eq!(refusal(&newer[..], &damaged[..]), SuperblockRefusal::Newer);
    assert_eq!(refusal(&[], &[]), SuperblockRefusal::NotTwinblk);
    assert_eq!(
        refusal(&[7; BLOCK], &[0; BLOCK]),
        SuperblockRefusal::NotTwinblk
    );
    assert!(matches!(
        refusal(&damaged[..], &damaged[..]),
        SuperblockRefusal::Damaged(..)
    ));
    assert!(matches!(
        refusal(&damaged[..], &[]),
        SuperblockRefusal::Damaged(..)
    ));
    assert!(Superblock::decode(&of_version(0)[..]).is_err());
}

#[test]
fn copies_that_cannot_both_belong_here_are_refused() {
    let good = superblock().encode();
    let other_volume = Superblock {
        volume: VolumeId([1; 16]),
        ..superblock()
    }
    .encode();
    let other_slot = Superblock {
        slot: slot(1),
        ..superblock()
    }
    .encode();
    let other_content = Superblock {
        clean: false,
        ..superblock()
    }
    .encode();
    assert_eq!(
        refusal(&good[..], &other_volume[..]),
        SuperblockRefusal::Foreign
    );
    assert_eq!(
        refusal(&good[..], &other_slot[..]),
        SuperblockRefusal::Foreign
    );
    assert_eq!(
        refusal(&good[..], &other_content[..]),
        SuperblockRefusal::Contradiction
    );
}

#[test]
fn an_impossible_superblock_is_none() {
    assert!(
        Superblock {
            size_bytes: 512,
            ..superblock()
        }
        .invalid()
        .is_some()
    );
    assert!(
        Superblock {
            size_bytes: u64::MAX - 4095,
            ..superblock()
        }
        .invalid()
        .is_some()
    );
    assert!(
        Superblock {
            slot: slot(7),
            ..superblock()
        }
        .invalid()
        .is_some()
    );
}

#[test]
#[rustfmt::skip]
fn the_document_tells_where_the_fields_lie() {
    let layouts = [
        layout!("Superblock", SuperblockBytes {
            head, sequence, volume, size_bytes, log_instance, boot, data_generation, configuration,
            proposal, pending_admission, flags, slot, disk_state, marks_valid, history_length,
            reserved, mark_floor, name, replicas, history, unused,
        }),
        layout!("Replica", WireReplica { node, name }),
    ];
    assert_layouts("Superblock", &layouts);
    let flags = [
        (flag::HISTORY_COMPLETE, "history_complete"),
        (flag::PROPOSAL, "proposal"),
        (flag::PENDING_ADMISSION, "pending_admission"),
        (flag::SUSPECT, "suspect"),
        (flag::CRASHED_PRIMARY, "crashed_primary"),
        (flag::DISCARDED, "discarded"),
        (flag::FORCED, "forced"),
        (flag::CLEAN, "clean"),
        (flag::ARBITRATED, "arbitrated"),
    ];
    assert_eq!(flags.iter().fold(0, |all, (bit, _)| all | bit), flag::ALL);
    assert_numbers(
        "Superblock",
        "Superblock flags",
        &flags.map(|(bit, name)| (bit.into(), name)),
    );
}
