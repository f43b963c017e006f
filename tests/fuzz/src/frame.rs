//! A peer's frame: header and body.

use bytes::BytesMut;
use format::frame::{Frame, HEADER_BYTES, PAYLOAD_BYTES_MAX, PayloadSummary, decode_header};

/// Reads a stream that begins with a frame.
fn read(bytes: &[u8]) {
    let Some((header_bytes, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return;
    };
    let Ok(header) = decode_header(header_bytes) else {
        return;
    };
    assert!(header.body_length() < 8192 && header.payload_length() <= PAYLOAD_BYTES_MAX);
    let Some(body) = rest.get(..header.body_length()) else {
        return;
    };
    let Ok(frame) = Frame::decode(&header, body) else {
        return;
    };
    let crc = u32::from_le_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
    assert_eq!(header.check_payload(crc), Ok(()));
    let length = u32::try_from(header.payload_length()).expect("it is limited");
    let payload = frame
        .has_payload()
        .then_some(PayloadSummary { length, crc });
    let mut again = BytesMut::new();
    frame.encode(header.epoch(), payload, &mut again);
    assert!(again[..] == bytes[..HEADER_BYTES + body.len()]);
}

/// Takes any bytes.
pub fn take(input: &[u8]) {
    read(input);
    if let Some((header, body)) = input.split_first_chunk()
        && let Some(bytes) = crate::frame(header, body)
    {
        read(&bytes);
    }
}
