//! The two codecs: what peers say, and what NBD clients say.
#![forbid(unsafe_code)]

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::frontend::{Parsed, Session};
use format::frame::{Acks, Frame, HEADER_BYTES, PayloadSummary, decode_header};
use nbd_server::session::{Agreement, NbdSession};
use std::hint::black_box;

const VOLUME_BYTES: u64 = 1 << 30;
const REQUESTS: u32 = 32;

fn write_frame() -> Frame {
    Frame::Write {
        sequence: 77,
        offset: 8192,
        length: 4096,
        fua: false,
        stable_through: 70,
    }
}

fn ack_frame() -> Frame {
    let mut acks = Acks::default();
    for sequence in 1..=15 {
        assert!(acks.push(sequence), "a frame carries 15");
    }
    Frame::Acks(acks)
}

fn frames(criterion: &mut Criterion) {
    let payload = vec![0x5a; 4096];
    let mut group = criterion.benchmark_group("peer frames");
    group.bench_function("checksum of 4 KiB", |bencher| {
        bencher.iter(|| PayloadSummary::of(black_box(&payload)));
    });
    let summary = PayloadSummary::of(&payload);
    for (name, frame, payload) in [
        ("write", write_frame(), Some(summary)),
        ("15 acks", ack_frame(), None),
    ] {
        let mut out = BytesMut::with_capacity(4096);
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&frame).encode(9, payload, &mut out);
            });
        });
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| {
                let header = decode_header(black_box(&out[..HEADER_BYTES])).expect("a good header");
                Frame::decode(&header, &out[HEADER_BYTES..]).expect("a good frame")
            });
        });
    }
    group.finish();
}

/// 32 requests to write 4 KiB as they lie in a client's stream, without their payloads, which the
/// engine takes away before it shows the session the rest.
fn requests() -> Vec<u8> {
    let mut bytes = Vec::new();
    for cookie in 0..u64::from(REQUESTS) {
        bytes.extend(0x2560_9513u32.to_be_bytes());
        bytes.extend(0u16.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend((cookie * 4096).to_be_bytes());
        bytes.extend(4096u32.to_be_bytes());
    }
    bytes
}

fn sessions(criterion: &mut Criterion) {
    let stream = requests();
    let mut session = NbdSession::new(Agreement {
        structured_replies: true,
        ..Agreement::default()
    });
    let mut out = Vec::with_capacity(4096);
    let mut ids = Vec::with_capacity(REQUESTS as usize);
    let mut group = criterion.benchmark_group("nbd session");
    group.throughput(Throughput::Elements(u64::from(REQUESTS)));
    group.bench_function("32 writes, parsed and replied to", |bencher| {
        bencher.iter(|| {
            let mut input = &stream[..];
            while let Parsed::Request { consumed, request } =
                session.parse(input, VOLUME_BYTES, &mut out)
            {
                ids.push(request.id);
                input = &input[consumed..];
                if input.is_empty() {
                    break;
                }
            }
            for id in ids.drain(..) {
                session.done(id, Ok(()), &mut out);
            }
            black_box(&out);
            out.clear();
        });
    });
    group.finish();
}

criterion_group!(benches, frames, sessions);
criterion_main!(benches);
