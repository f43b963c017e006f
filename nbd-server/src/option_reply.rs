//! How options are answered.

use crate::codec::{
    BlockSizes, ExportReply, OPTION_REPLY_MAGIC, OptionReply, STRING_BYTES_MAX, allocation, info,
    option, option_reply, put,
};
use crate::exports::Refusal;
use crate::limits::{BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, PAYLOAD_BYTES_ADVERTISED};
use crate::option_data::Wanted;
use zerocopy::big_endian::U16;
use zerocopy::{Immutable, IntoBytes};

/// Appends a reply whose data is these parts, one after the other.
fn reply(option: u32, kind: u32, data: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = data.iter().map(|part| part.len()).sum();
    let header = OptionReply {
        magic: OPTION_REPLY_MAGIC.into(),
        option: option.into(),
        kind: kind.into(),
        length: u32::try_from(length).expect("replies are short").into(),
    };
    put(out, &header);
    data.iter().for_each(|part| out.extend_from_slice(part));
}

/// Done.
pub(crate) fn ack(option: u32, out: &mut Vec<u8>) {
    reply(option, option_reply::ACK, &[], out);
}

/// Failed, and why.
pub(crate) fn error(option: u32, kind: u32, text: &str, out: &mut Vec<u8>) {
    let text = &text[..text.floor_char_boundary(STRING_BYTES_MAX)];
    reply(option, kind, &[text.as_bytes()], out);
}

/// Not known.
pub(crate) fn unsupported(option: u32, out: &mut Vec<u8>) {
    error(
        option,
        option_reply::ERROR_UNSUPPORTED,
        "the server does not know this option",
        out,
    );
}

/// The export cannot be had.
pub(crate) fn refusal(option: u32, refusal: &Refusal, out: &mut Vec<u8>) {
    let (kind, text) = match refusal {
        Refusal::Unknown(text) => (option_reply::ERROR_UNKNOWN, text),
        Refusal::Policy(text) => (option_reply::ERROR_POLICY, text),
    };
    error(option, kind, text, out);
}

/// An export's name, in answer to LIST.
pub(crate) fn export(name: &str, out: &mut Vec<u8>) {
    let length = u32::try_from(name.len()).expect("names are short");
    let data: [&[u8]; 2] = [&length.to_be_bytes(), name.as_bytes()];
    reply(option::LIST, option_reply::SERVER, &data, out);
}

/// The context `base:allocation`, by this number.
pub(crate) fn context(option: u32, number: u32, out: &mut Vec<u8>) {
    let data: [&[u8]; 2] = [&number.to_be_bytes(), allocation::NAME.as_bytes()];
    reply(option, option_reply::META_CONTEXT, &data, out);
}

/// What an export is like, in answer to INFO and GO.
pub(crate) fn info(
    option: u32,
    name: &str,
    export: ExportReply,
    wanted: Wanted,
    out: &mut Vec<u8>,
) {
    let sizes = BlockSizes {
        minimum_bytes: BLOCK_BYTES_MIN.into(),
        preferred_bytes: BLOCK_BYTES_PREFERRED.into(),
        payload_bytes_max: PAYLOAD_BYTES_ADVERTISED.into(),
    };
    item(option, info::EXPORT, &export, out);
    if wanted.name {
        item(option, info::NAME, name.as_bytes(), out);
    }
    if wanted.block_sizes {
        item(option, info::BLOCK_SIZE, &sizes, out);
    }
}

fn item(option: u32, kind: u16, data: &(impl IntoBytes + Immutable + ?Sized), out: &mut Vec<u8>) {
    reply(
        option,
        option_reply::INFO,
        &[U16::new(kind).as_bytes(), data.as_bytes()],
        out,
    );
}
