//! Tests of the peer frames.

mod document;

use super::{
    Fault, Frame, HEADER_BYTES, Header, PayloadSummary, REASON_BYTES_MAX, decode_header, kind,
};
use crate::damage::Damage;
use crate::tests::samples::frames;
use crate::tests::strategy::any_frame;
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::Index;
use zerocopy::IntoBytes;

fn summary(frame: &Frame) -> Option<PayloadSummary> {
    let length = u32::try_from(frame.payload_bytes()).expect("a payload is below 4 GiB");
    frame
        .has_payload()
        .then_some(PayloadSummary { length, crc: 7 })
}

fn encoded(frame: &Frame, epoch: u64) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode(epoch, summary(frame), &mut out);
    out
}

fn decoded(bytes: &[u8]) -> Result<(Header, Frame), Damage> {
    let header = decode_header(&bytes[..HEADER_BYTES])?;
    let frame = Frame::decode(&header, &bytes[HEADER_BYTES..])?;
    Ok((header, frame))
}

proptest! {
    #[test]
    fn a_frame_survives_the_wire(frame in any_frame(), epoch in any::<u64>()) {
        let bytes = encoded(&frame, epoch);
        prop_assert_eq!(bytes.len() as u64, frame.wire_bytes());
        let (header, back) = decoded(&bytes).expect("it is whole");
        prop_assert_eq!(&back, &frame);
        prop_assert_eq!(header.epoch(), epoch);
        prop_assert_eq!(header.payload_length() as u64, frame.payload_bytes());
        let crc = summary(&frame).map_or(0, |summary| summary.crc);
        prop_assert_eq!(header.check_payload(crc), Ok(()));
        prop_assert!(header.check_payload(crc ^ 1).is_err());
    }

    /// Whatever a sender that knows the checksums does to a frame, nothing panics, and what is
    /// accepted is a frame that could be sent, in the only bytes that it has.
    #[test]
    fn a_forged_frame_is_refused_or_sound(
        frame in any_frame(),
        forged in vec((any::<Index>(), any::<u8>()), 1..4),
        flags in 0u8..4,
    ) {
        let bytes = encoded(&frame, 1);
        let mut header = decode_header(&bytes[..HEADER_BYTES]).expect("it is whole");
        let mut body = bytes[HEADER_BYTES..].to_vec();
        if !body.is_empty() {
            for (at, byte) in forged {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        header.body_crc = crc32fast::hash(&body);
        header.flags = flags;
        if let Ok(header) = decode_header(header.encode().as_bytes())
            && let Ok(frame) = Frame::decode(&header, &body)
        {
            let mut again = BytesMut::new();
            frame.encode(1, summary(&frame), &mut again);
            prop_assert_eq!(&again[HEADER_BYTES..], &body[..]);
        }
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    for (_, frame) in frames() {
        let bytes = encoded(&frame, 5);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(
                    decoded(&flipped).is_err(),
                    "bit {bit} of byte {at} of {frame:?}"
                );
            }
        }
    }
}

/// The list of examples is complete: every kind that has a shape has an example, and no other.
#[test]
fn every_kind_has_a_shape_and_an_example() {
    let mut kinds: Vec<u8> = frames().iter().map(|(_, frame)| frame.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let shaped: Vec<u8> = (0..=u8::MAX)
        .filter(|number| kind::shape(*number).is_some())
        .collect();
    assert_eq!(kinds, shaped);
}

#[test]
fn encoding_into_room_allocates_nothing() {
    for (_, frame) in frames() {
        let bytes = usize::try_from(frame.wire_bytes()).expect("it is small");
        let mut out = BytesMut::with_capacity(bytes);
        let place = out.as_ptr();
        frame.encode(0, summary(&frame), &mut out);
        assert_eq!(out.as_ptr(), place, "{frame:?}");
    }
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let reason: Box<str> = "x".chars().chain("é".repeat(300).chars()).collect();
    let frame = Frame::Error { reason };
    let (_, back) = decoded(&encoded(&frame, 1)).expect("it is whole");
    let Frame::Error { reason } = back else {
        panic!("another frame: {back:?}");
    };
    assert_eq!(reason.len(), REASON_BYTES_MAX - 1);
    assert!(reason.ends_with('é'));
}

#[test]
fn a_payload_belongs_to_those_kinds_that_have_one() {
    let read = |length, fault| Frame::ReadDone {
        token: 1,
        length,
        fault,
    };
    assert!(read(8192, None).has_payload());
    assert!(!read(0, Some(Fault::Disk)).has_payload());
    assert!(read(0, None).invalid().is_some());
    assert!(read(8192, Some(Fault::Disk)).invalid().is_some());
    assert_eq!(Frame::ChunkData { chunk: 0, mask: 6 }.payload_bytes(), 8192);
}

#[test]
fn no_impossible_frame_is_decoded() {
    let impossible = [
        Frame::ChunkData { chunk: 0, mask: 5 },
        Frame::ChunkZero { chunk: 0, mask: 0 },
        Frame::ChunkZero {
            chunk: 1 << 29,
            mask: 1,
        },
        Frame::Read {
            token: 0,
            offset: 512,
            length: 4096,
        },
        Frame::Read {
            token: 0,
            offset: u64::MAX - 4095,
            length: 4096,
        },
        Frame::Read {
            token: 0,
            offset: 0,
            length: 512 << 10,
        },
        Frame::Marks {
            first_chunk: u32::MAX,
            masks: Box::new([1]),
        },
    ];
    for frame in impossible {
        assert!(frame.invalid().is_some(), "{frame:?}");
    }
}

/// Every run of blocks and nothing else is a run.
#[test]
fn runs_are_known_by_their_ends() {
    for first in 0..32 {
        for last in first..32 {
            let mask = (first..=last).fold(0, |mask, bit| mask | 1 << bit);
            assert_eq!(
                Frame::ChunkZero { chunk: 0, mask }.invalid(),
                None,
                "{mask:x}"
            );
            if last > first + 1 {
                let holed = mask & !(1 << (first + 1));
                assert!(
                    Frame::ChunkZero {
                        chunk: 0,
                        mask: holed
                    }
                    .invalid()
                    .is_some()
                );
            }
        }
    }
}
