//! The bytes of the NBD protocol: its messages, big-endian, and its numbers, as doc/proto.md of
//! NetworkBlockDevice/nbd has them.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// "NBDMAGIC": the first thing that a server says.
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT": before the server's handshake flags, and before each of the client's options.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Before each reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Before each request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Before each simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Before each chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;
/// Zeroes behind the reply to EXPORT_NAME, unless the client does without.
pub const EXPORT_PADDING_BYTES: usize = 124;
/// The longest string, by the specification.
pub const STRING_BYTES_MAX: usize = 4096;

/// Flags of the server's greeting.
pub mod handshake_flag {
    /// Options other than EXPORT_NAME are understood, and answered.
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    /// The padding behind the reply to EXPORT_NAME can be left out.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// The client's answer to the handshake flags.
pub mod client_flag {
    /// It knows how options are answered.
    pub const FIXED_NEWSTYLE: u32 = 1 << 0;
    /// It wants no padding.
    pub const NO_ZEROES: u32 = 1 << 1;
}

/// What the client asks for before it uses an export.
pub mod option {
    /// Use this export; no error can be answered.
    pub const EXPORT_NAME: u32 = 1;
    /// Goodbye.
    pub const ABORT: u32 = 2;
    /// Which exports are there?
    pub const LIST: u32 = 3;
    /// Go on with TLS.
    pub const STARTTLS: u32 = 5;
    /// What is this export like?
    pub const INFO: u32 = 6;
    /// Use this export.
    pub const GO: u32 = 7;
    /// Reply in chunks.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Which metadata contexts are there?
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Report these metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Use 64-bit lengths.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// How an option is answered.
pub mod option_reply {
    /// Done; the last of its replies.
    pub const ACK: u32 = 1;
    /// An export's name.
    pub const SERVER: u32 = 2;
    /// A piece of information on an export.
    pub const INFO: u32 = 3;
    /// A metadata context's number and name.
    pub const META_CONTEXT: u32 = 4;
    /// The option is not known.
    pub const ERROR_UNSUPPORTED: u32 = 1 << 31 | 1;
    /// The option is known and is not allowed now.
    pub const ERROR_POLICY: u32 = 1 << 31 | 2;
    /// The option is malformed or out of place.
    pub const ERROR_INVALID: u32 = 1 << 31 | 3;
    /// There is no such export.
    pub const ERROR_UNKNOWN: u32 = 1 << 31 | 6;
    /// The server is stopping.
    pub const ERROR_SHUTDOWN: u32 = 1 << 31 | 7;
    /// The option is too long.
    pub const ERROR_TOO_BIG: u32 = 1 << 31 | 9;
}

/// Kinds of information on an export.
pub mod info {
    /// Size and flags.
    pub const EXPORT: u16 = 0;
    /// The name under which it is listed.
    pub const NAME: u16 = 1;
    /// Which request sizes it takes.
    pub const BLOCK_SIZE: u16 = 3;
    /// Not of the specification, and not answered: the client's way to say that it sends again, on another connection, what
    /// has no answer when one ends. An error would reach its users instead, and so it is rather cut off.
    pub const SENDS_AGAIN: u16 = 0xf462;
}

/// What an export can do.
pub mod transmission_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Nothing can be written.
    pub const READ_ONLY: u16 = 1 << 1;
    /// FLUSH is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The FUA flag is understood.
    pub const SEND_FUA: u16 = 1 << 3;
    /// TRIM is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// WRITE_ZEROES is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The "don't fragment" flag is understood.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers what all of them have written.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// CACHE is understood.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The FAST_ZERO flag is understood.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Kinds of requests.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write; the data follows.
    pub const WRITE: u16 = 1;
    /// Goodbye.
    pub const DISCONNECT: u16 = 2;
    /// Make durable what has been replied to.
    pub const FLUSH: u16 = 3;
    /// The range is needed no more.
    pub const TRIM: u16 = 4;
    /// The range will be read soon.
    pub const CACHE: u16 = 5;
    /// Write zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// Report the chosen metadata contexts.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of requests.
pub mod command_flag {
    /// Durable before the reply.
    pub const FUA: u16 = 1 << 0;
    /// WRITE_ZEROES keeps the space allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// READ is answered with one chunk.
    pub const DF: u16 = 1 << 2;
    /// BLOCK_STATUS is answered with one extent.
    pub const REQ_ONE: u16 = 1 << 3;
    /// WRITE_ZEROES fails unless it is faster than a write.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Chunks of structured replies.
pub mod chunk {
    /// The flag of a reply's last chunk.
    pub const FLAG_DONE: u16 = 1 << 0;
    /// Nothing but the end.
    pub const NONE: u16 = 0;
    /// Data of a read.
    pub const OFFSET_DATA: u16 = 1;
    /// A metadata context's extents.
    pub const BLOCK_STATUS: u16 = 5;
    /// The request failed.
    pub const ERROR: u16 = 1 << 15 | 1;
}

/// The context `base:allocation`.
pub mod allocation {
    /// Its name.
    pub const NAME: &str = "base:allocation";
    /// Its number, by which replies name it.
    pub const CONTEXT: u32 = 1;
    /// The extent takes no space.
    pub const HOLE: u32 = 1 << 0;
    /// The extent reads as zeroes.
    pub const ZERO: u32 = 1 << 1;
}

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Failure {
    /// EPERM.
    ReadOnly = 1,
    /// EIO.
    Io = 5,
    /// EINVAL.
    Invalid = 22,
    /// ENOSPC.
    NoSpace = 28,
    /// EOVERFLOW.
    TooLarge = 75,
    /// ENOTSUP.
    Unsupported = 95,
    /// ESHUTDOWN.
    ShuttingDown = 108,
}

impl Failure {
    /// Its number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// What the server says first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Greeting {
    /// [`GREETING_MAGIC`].
    pub magic: U64,
    /// [`OPTION_MAGIC`].
    pub style: U64,
    /// Of [`handshake_flag`].
    pub flags: U16,
}

/// Before an option's data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OptionHeader {
    /// [`OPTION_MAGIC`].
    pub magic: U64,
    /// Of [`option`].
    pub option: U32,
    /// Bytes of data that follow.
    pub length: U32,
}

/// Before the data of a reply to an option.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OptionReply {
    /// [`OPTION_REPLY_MAGIC`].
    pub magic: U64,
    /// The option that is answered.
    pub option: U32,
    /// Of [`option_reply`].
    pub kind: U32,
    /// Bytes of data that follow.
    pub length: U32,
}

/// The answer to EXPORT_NAME, and behind a kind the data of [`info::EXPORT`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExportReply {
    /// Bytes.
    pub size_bytes: U64,
    /// Of [`transmission_flag`].
    pub flags: U16,
}

/// Behind a kind, the data of [`info::BLOCK_SIZE`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of it.
    pub minimum_bytes: U32,
    /// They had better be multiples of it.
    pub preferred_bytes: U32,
    /// The most data of one request.
    pub payload_bytes_max: U32,
}

/// A request.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Request {
    /// [`REQUEST_MAGIC`].
    pub magic: U32,
    /// Of [`command_flag`].
    pub flags: U16,
    /// Of [`command`].
    pub command: U16,
    /// Comes back in the reply.
    pub cookie: U64,
    /// The range's first byte.
    pub offset: U64,
    /// The range's bytes.
    pub length: U32,
}

/// A simple reply; a read's data follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SimpleReply {
    /// [`SIMPLE_REPLY_MAGIC`].
    pub magic: U32,
    /// Zero, or a [`Failure`].
    pub error: U32,
    /// The request's.
    pub cookie: U64,
}

/// Before the data of a chunk.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChunkHeader {
    /// [`CHUNK_MAGIC`].
    pub magic: U32,
    /// [`chunk::FLAG_DONE`] or nothing.
    pub flags: U16,
    /// Of [`chunk`].
    pub kind: U16,
    /// The request's.
    pub cookie: U64,
    /// Bytes of data that follow.
    pub length: U32,
}

/// The data of [`chunk::ERROR`]; a text follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ErrorChunk {
    /// A [`Failure`].
    pub error: U32,
    /// The text's bytes.
    pub text_bytes: U16,
}

/// A piece of the volume in [`chunk::BLOCK_STATUS`], behind the context's number.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extent {
    /// Bytes.
    pub length: U32,
    /// Of [`allocation`].
    pub flags: U32,
}

const _: () = assert!(size_of::<Greeting>() == 18);
const _: () = assert!(size_of::<OptionHeader>() == 16);
const _: () = assert!(size_of::<OptionReply>() == 20);
const _: () = assert!(size_of::<ExportReply>() == 10);
const _: () = assert!(size_of::<BlockSizes>() == 12);
const _: () = assert!(size_of::<Request>() == 28);
const _: () = assert!(size_of::<SimpleReply>() == 16);
const _: () = assert!(size_of::<ChunkHeader>() == 20);
const _: () = assert!(size_of::<ErrorChunk>() == 6);
const _: () = assert!(size_of::<Extent>() == 8);

/// Appends a message.
pub fn put(out: &mut Vec<u8>, message: &(impl IntoBytes + Immutable)) {
    out.extend_from_slice(message.as_bytes());
}

#[cfg(test)]
mod tests;
