//! Every limit of the server, with its reason.

use crate::codec::STRING_BYTES_MAX;
use engine::frontend::PAYLOAD_BYTES_MAX;
use format::types::BLOCK_BYTES;
use replica::limits::DATA_BYTES_MAX;
use std::time::Duration;

/// Requests may begin and end at any byte.
pub const BLOCK_BYTES_MIN: u32 = 1;
/// Requests of whole blocks need no read before the write.
pub const BLOCK_BYTES_PREFERRED: u32 = 4096;
/// The payload that is advertised: what every client may assume of every server. Twice as much is taken.
pub const PAYLOAD_BYTES_ADVERTISED: u32 = 32 << 20;
/// The longest read that may be asked for in one chunk: one part for the core, so that its failure
/// is known before the chunk begins.
pub const UNFRAGMENTED_BYTES_MAX: u64 = DATA_BYTES_MAX;
/// Extents in one reply to BLOCK_STATUS: half a megabyte of reply. The client asks again behind it.
pub const EXTENTS_MAX: usize = 1 << 16;

/// How long a client may take to choose an export: a client that means it takes milliseconds, and
/// one that does not holds one of [`NEGOTIATIONS_MAX`] places.
pub const NEGOTIATION_DEADLINE: Duration = Duration::from_secs(10);
/// How long clients that have not chosen an export are answered "shutting down" before they are cut
/// off.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// Clients that have not chosen an export yet; more wait to be accepted. Half of the descriptors
/// that a process has by default.
pub const NEGOTIATIONS_MAX: usize = 512;
/// Options of one client: `nbdinfo --list` sends two for each export.
pub const OPTIONS_MAX: u32 = 8192;
/// Bytes that a client sends before it has chosen an export: as many options of usual length.
pub const NEGOTIATION_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one option: an export's name and two queries of the greatest length; real ones are a
/// few dozen.
pub const OPTION_BYTES_MAX: u32 = 16 << 10;
/// How long the listener rests when the process is out of descriptors, instead of spinning.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Clients that the kernel holds before they are accepted.
pub const BACKLOG: u32 = 128;

const _: () = assert!(BLOCK_BYTES_PREFERRED as u64 == BLOCK_BYTES);
const _: () = assert!(PAYLOAD_BYTES_ADVERTISED as u64 <= PAYLOAD_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_ADVERTISED >= BLOCK_BYTES_PREFERRED);
const _: () = assert!(
    UNFRAGMENTED_BYTES_MAX >= 65_536,
    "the specification's least"
);
const _: () = assert!(UNFRAGMENTED_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(OPTION_BYTES_MAX as usize >= 3 * (STRING_BYTES_MAX + 4) + 4);
const _: () = assert!(NEGOTIATION_BYTES_MAX >= OPTIONS_MAX as u64 * 128);
const _: () = assert!(EXTENTS_MAX <= 1 << 20, "the specification's most");
