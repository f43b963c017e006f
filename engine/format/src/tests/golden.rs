//! The bytes of every format, kept in `tests/golden` as `hexdump -C` would show them.
//!
//! They are compared in both directions, so that no change of a format goes unseen. To change one on
//! purpose run the tests with `TWINBLK_GOLDEN=write` and read what git then shows.

use crate::bitmap_page::BitmapPage;
use crate::frame::{Frame, HEADER_BYTES, PayloadSummary, decode_header};
use crate::hello::{Hello, Opening, PREFIX_BYTES, Proof, Welcome, decode_prefix};
use crate::log_block::LogBlock;
use crate::superblock::Superblock;
use crate::tests::samples::{bitmap_page, frames, hello_messages, link_key, log_block, superblock};
use bytes::BytesMut;
use std::fmt::Write;
use std::path::PathBuf;

const EPOCH: u64 = 0x0e0f;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

fn hexdump(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut last: Option<&[u8]> = None;
    let mut repeats = false;
    for (nth, line) in bytes.chunks(16).enumerate() {
        if last == Some(line) && (nth + 1) * 16 < bytes.len() {
            if !repeats {
                text.push_str("*\n");
            }
            repeats = true;
            continue;
        }
        (last, repeats) = (Some(line), false);
        let mut hex = String::new();
        for (at, byte) in line.iter().enumerate() {
            let gap = if at == 8 { "  " } else { " " };
            write!(hex, "{gap}{byte:02x}").expect("a string takes all");
        }
        let printable = |byte: &u8| {
            let shown = byte.is_ascii_graphic() || *byte == b' ';
            if shown { char::from(*byte) } else { '.' }
        };
        let ascii: String = line.iter().map(printable).collect();
        writeln!(text, "{:08x} {hex:<50} |{ascii}|", nth * 16).expect("a string takes all");
    }
    writeln!(text, "{:08x}", bytes.len()).expect("a string takes all");
    text
}

fn parse(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for line in text.lines().filter(|line| *line != "*") {
        let (offset, rest) = line.split_once(' ').unwrap_or((line, ""));
        let offset = usize::from_str_radix(offset, 16).expect("a line begins with its offset");
        while bytes.len() < offset && bytes.len() >= 16 {
            bytes.extend_from_within(bytes.len() - 16..);
        }
        let hex = rest.split('|').next().unwrap_or("").split_whitespace();
        bytes.extend(hex.map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hex")));
    }
    bytes
}

/// Compares every file of the folder with the bytes of its name, and gives the files' bytes to
/// `decodes`.
fn check(folder_name: &str, samples: &[(&str, Vec<u8>)], decodes: impl Fn(&str, &[u8]) -> bool) {
    let folder = folder(folder_name);
    if std::env::var("TWINBLK_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        for (name, bytes) in samples {
            let path = folder.join(name).with_extension("hex");
            std::fs::write(path, hexdump(bytes)).expect("the golden bytes can be written");
        }
    }
    for (name, bytes) in samples {
        let path = folder.join(name).with_extension("hex");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(text, hexdump(bytes), "{} has changed", path.display());
        assert_eq!(
            &parse(&text),
            bytes,
            "{} is not what it shows",
            path.display()
        );
        assert!(
            decodes(name, &parse(&text)),
            "{} cannot be read",
            path.display()
        );
    }
    let files = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .count();
    assert_eq!(
        files,
        samples.len(),
        "every file of {folder_name} has a sample"
    );
}

#[test]
fn metadata_has_its_golden_bytes() {
    let samples = [
        ("superblock", superblock().encode().to_vec()),
        ("log-block", log_block().encode().to_vec()),
        ("bitmap-page", bitmap_page().encode().to_vec()),
    ];
    check("metadata", &samples, |name, bytes| match name {
        "superblock" => Superblock::decode(bytes) == Ok(superblock()),
        "log-block" => LogBlock::decode(bytes) == Ok(log_block()),
        _ => BitmapPage::decode(bytes) == Ok(bitmap_page()),
    });
}

#[test]
fn frames_have_their_golden_bytes() {
    let encoded = |frame: &Frame| {
        let length = u32::try_from(frame.payload_bytes()).expect("payloads are short");
        let payload = PayloadSummary {
            length,
            crc: 0x0102_0304,
        };
        let mut out = BytesMut::new();
        frame.encode(EPOCH, frame.has_payload().then_some(payload), &mut out);
        out.to_vec()
    };
    let frames = frames();
    let samples: Vec<_> = frames
        .iter()
        .map(|(name, frame)| (*name, encoded(frame)))
        .collect();
    check("frames", &samples, |name, bytes| {
        let header = decode_header(&bytes[..HEADER_BYTES]).expect("a golden header");
        let decoded = Frame::decode(&header, &bytes[HEADER_BYTES..]);
        header.epoch() == EPOCH
            && frames
                .iter()
                .any(|(of, frame)| *of == name && decoded.as_ref() == Ok(frame))
    });
}

#[test]
fn the_handshake_has_its_golden_bytes() {
    check("handshake", &hello_messages(), |name, bytes| {
        let (prefix, body) = bytes.split_at(PREFIX_BYTES);
        let prefix = decode_prefix(prefix).expect("a golden prefix");
        match name {
            "opening" => Opening::decode(&prefix, body).is_ok(),
            "proof" => Proof::decode(&prefix, body).is_ok(),
            "hello-control" | "hello-data" => Hello::decode(&prefix, body, &link_key()).is_ok(),
            _ => Welcome::decode(&prefix, body, &link_key()).is_ok(),
        }
    });
}

#[test]
fn a_hexdump_can_be_read_back() {
    let mut bytes = vec![0; 100];
    bytes[50] = 1;
    bytes.extend([7; 64]);
    for length in 0..bytes.len() {
        assert_eq!(parse(&hexdump(&bytes[..length])), &bytes[..length]);
    }
}
