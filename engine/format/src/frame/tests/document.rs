//! Holds the frames against their documentation.

use crate::frame::body::{
    ChunkBody, ChunkOutcomeBody, ConfigurationBody, DiskBody, FlushBody, HashesBody, IdentityBody,
    MarksBody, NumberBody, OutcomeBody, PingBody, ReadBody, WriteBody, ZeroBody, fault,
    identity_flags as flag,
};
use crate::frame::header::HeaderBytes;
use crate::frame::kind;
use crate::tests::document::{assert_layouts, assert_numbers, assert_rows, layout};
use crate::tests::samples::frames;

#[test]
#[rustfmt::skip]
fn the_document_tells_where_the_fields_lie() {
    let layouts = [
        layout!("Header", HeaderBytes {
            magic, version, kind, flags, epoch, body_length, body_crc, payload_length, payload_crc,
            reserved, header_crc,
        }),
        layout!("Identity body", IdentityBody {
            volume, size_bytes, node, boot, incarnation, known_incarnation, configuration,
            data_generation, proposal, pending_admission, marked_blocks, flags, disk_state,
            lease_ms, reserved,
        }),
        layout!("Marks body", MarksBody { first_chunk, reserved }),
        layout!("Configuration body", ConfigurationBody { configuration }),
        layout!("Number body", NumberBody { number }),
        layout!("Disk body", DiskBody { disk_state, reserved }),
        layout!("Ping body", PingBody { sent_at, stable_through }),
        layout!("Write body", WriteBody { sequence, offset, stable_through }),
        layout!("Zero body", ZeroBody { sequence, offset, length, stable_through }),
        layout!("Outcome body", OutcomeBody { number, fault, reserved }),
        layout!("Flush body", FlushBody { token, covers, stable_through }),
        layout!("Read body", ReadBody { token, offset, length, reserved }),
        layout!("Hashes body", HashesBody { chunk, mask, walk, reserved }),
        layout!("Chunk body", ChunkBody { chunk, mask }),
        layout!("Chunk-outcome body", ChunkOutcomeBody { chunk, mask, fault, reserved }),
    ];
    assert_layouts("Frames", &layouts);
}

/// Number, name, bytes of the body, its list, payload and flags of every kind.
#[test]
fn the_document_tells_what_each_kind_allows() {
    let mut kinds: Vec<(u8, &str)> = frames()
        .iter()
        .map(|(name, frame)| (frame.kind(), *name))
        .collect();
    kinds.sort_unstable();
    let shape_row = |(number, name): &(u8, &str)| {
        let shape = kind::shape(*number).expect("a frame has a shape");
        let list = match shape.item {
            0 => "–".to_owned(),
            item => format!("{item} × {}", shape.items_max),
        };
        let payload = match shape.payload {
            (0, 0) => "–".to_owned(),
            (min, max) => format!("{min} to {max}"),
        };
        let flags = match shape.flags {
            0 => "–".to_owned(),
            flags => flags.to_string(),
        };
        let fixed = shape.body_fixed.to_string();
        vec![
            number.to_string(),
            (*name).to_owned(),
            fixed,
            list,
            payload,
            flags,
        ]
    };
    let rows: Vec<Vec<String>> = kinds.iter().map(shape_row).collect();
    assert_rows("Frames", "Kinds", &rows);
}

#[test]
fn the_document_numbers_flags_faults_and_walks() {
    let header_flags = [
        (kind::FLAG_FUA.into(), "fua"),
        (kind::FLAG_UNMAP.into(), "unmap"),
    ];
    assert_numbers("Frames", "Header flags", &header_flags);
    let identity_flags = [
        (flag::HISTORY_COMPLETE, "history_complete"),
        (flag::PROPOSAL, "proposal"),
        (flag::PENDING_ADMISSION, "pending_admission"),
        (flag::SUSPECT, "suspect"),
        (flag::CRASHED_PRIMARY, "crashed_primary"),
        (flag::DISCARDED, "discarded"),
        (flag::FORCED, "forced"),
        (flag::MARKS_VALID, "marks_valid"),
        (flag::ARBITRATED, "arbitrated"),
    ];
    assert_eq!(
        identity_flags.iter().fold(0, |all, (bit, _)| all | bit),
        flag::ALL
    );
    let identity_flags = identity_flags.map(|(bit, name)| (bit.into(), name));
    assert_numbers("Frames", "Identity flags", &identity_flags);
    let faults: Vec<(u64, String)> = (0..=u8::MAX)
        .filter_map(|number| {
            let name = match fault(number).ok()? {
                None => "none".to_owned(),
                Some(fault) => format!("{fault:?}"),
            };
            Some((number.into(), name))
        })
        .collect();
    let faults: Vec<(u64, &str)> = faults
        .iter()
        .map(|(number, name)| (*number, name.as_str()))
        .collect();
    assert_numbers("Frames", "Faults", &faults);
    assert_numbers(
        "Frames",
        "Walks",
        &[(1, "Push"), (2, "Pull"), (3, "Compare")],
    );
}
