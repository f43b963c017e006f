//! What the fuzz targets share: the checksums, which a fuzzer would hardly ever guess.
//!
//! A target takes its input once as it is and once with the checksums made right, so that the readers
//! behind them are reached. What is then accepted must be written again as the very same bytes:
//! there is one encoding of everything, and no field that a reader overlooks.
//!
//! Another crate's decoder gets a target by a module here and a program in `targets`, which only links it to the fuzzer:
//! `README.md` tells how they are run.
#![forbid(unsafe_code)]

pub mod bitmap_page;
pub mod frame;
pub mod handshake;
pub mod log_recovery;
pub mod nbd_negotiation;
pub mod nbd_session;
pub mod superblock;

/// Bytes of a metadata block.
pub const BLOCK: usize = 4096;

/// A metadata block that begins with these bytes and has this magic, with a right checksum.
pub fn block(magic: &[u8; 8], content: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let length = content.len().min(BLOCK - 24);
    block[24..24 + length].copy_from_slice(&content[..length]);
    block[..8].copy_from_slice(magic);
    block[12..16].copy_from_slice(&4096u32.to_le_bytes());
    block[16..18].copy_from_slice(&1u16.to_le_bytes());
    let crc = crc32fast::hash(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    block
}

/// A frame's header and body from a header's 48 bytes and a body, with right checksums and lengths.
pub fn frame(header: &[u8; 48], body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = [&header[..], body].concat();
    bytes[..4].copy_from_slice(b"TWBF");
    bytes[4..6].copy_from_slice(&1u16.to_le_bytes());
    bytes[16..20].copy_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    bytes[20..24].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes[32..44].fill(0);
    let crc = crc32fast::hash(&bytes[..44]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    Some(bytes)
}

/// A handshake message of this kind and content, with a right checksum; where `link_key` is given,
/// the keyed hash is appended to the content.
pub fn message(kind: u8, content: &[u8], link_key: Option<&[u8; 32]>) -> Option<Vec<u8>> {
    let mac_bytes = if link_key.is_some() { 32 } else { 0 };
    let length = u32::try_from(content.len() + mac_bytes).ok()?;
    let mut bytes = vec![0; 16];
    bytes[..4].copy_from_slice(b"TWBH");
    bytes[8] = kind;
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(content);
    if let Some(key) = link_key {
        let mac = blake3::keyed_hash(key, &bytes[8..]);
        bytes.extend_from_slice(mac.as_bytes());
    }
    let crc = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    Some(bytes)
}

/// The link's key as docs/FORMATS.md defines it, from the openings' messages.
pub fn link_key(cluster_key: &[u8; 32], dialer: &[u8], acceptor: &[u8]) -> [u8; 32] {
    let label = b"twinblk link key of messages    ";
    let transcript = [&label[..], dialer, acceptor].concat();
    *blake3::keyed_hash(cluster_key, &transcript).as_bytes()
}
