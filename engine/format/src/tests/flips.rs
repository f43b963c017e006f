//! No flipped bit goes unseen.

/// Flips every bit of the bytes in turn and expects each to be refused.
pub(crate) fn assert_every_flip_is_seen(bytes: &[u8], refused: impl Fn(&[u8]) -> bool) {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(refused(&bytes), "bit {bit} of byte {at} is not missed");
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(!refused(&bytes), "the bytes themselves are refused");
}

/// Sets every byte of a block to another value, makes the checksum right again, and expects that no
/// reader panics and that whatever is accepted has these bytes and no others.
pub(crate) fn assert_forgeries_are_refused_or_sound<T>(
    bytes: &[u8; 4096],
    decode: impl Fn(&[u8]) -> Option<T>,
    encode: impl Fn(&T) -> Box<[u8; 4096]>,
) {
    for at in 12..bytes.len() {
        for value in [0, 1, 0x80, 0xff] {
            let mut forged = *bytes;
            forged[at] = value;
            let crc = crc32fast::hash(&forged[12..]);
            forged[8..12].copy_from_slice(&crc.to_le_bytes());
            if let Some(decoded) = decode(&forged) {
                assert!(*encode(&decoded) == forged, "byte {at} set to {value}");
            }
        }
    }
}
