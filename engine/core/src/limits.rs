//! Every limit of the core, with its reason and its relation to the others.

use format::frame::PAYLOAD_BYTES_MAX;
use format::log_block::LOG_SLOTS;
use format::types::{BLOCK_BYTES, CHUNK_BYTES, EXTENT_BYTES};

/// The most bytes one data request carries; a front end cuts larger ones. One frame carries it, and
/// the read-modify-write of its edges must still fit one.
pub const DATA_BYTES_MAX: u64 = PAYLOAD_BYTES_MAX as u64 - 2 * BLOCK_BYTES;
/// The most bytes one zero or discard request covers; a front end cuts larger ones. Its extents must
/// fit the activity log many times over.
pub const ZERO_BYTES_MAX: u64 = 16 << 20;
/// Client requests that a node has in hand at once; a front end holds back the rest.
pub const REQUESTS_MAX: usize = 1024;
/// Chunks of one walk that are under way at once: enough to hide a round trip on a fast link, and
/// small beside the arena.
pub const WALK_CHUNKS_MAX: usize = 16;
/// A chunk with at most so many marked blocks, all of them written for certain, is sent without asking
/// for their hashes first: asking would cost more than it saves.
pub const DIRECT_BLOCKS_MAX: u32 = 2;
/// Chunks that a walk brings between two checkpoints (64 MiB): what a broken session brings again.
pub const CHECKPOINT_CHUNKS: usize = 512;
/// Unstable extents at which the engine begins a flush barrier of its own, so that the log always
/// has places to give.
pub const UNSTABLE_EXTENTS_MAX: usize = LOG_SLOTS / 2;
/// A write is unstable at most about this long before the engine begins a barrier of its own.
pub const UNSTABLE_AGE_NANOS: u64 = 1_000_000_000;
/// Within this time after a barrier members hear what has become stable.
pub const STABLE_NOTICE_NANOS: u64 = 20_000_000;
/// Dirty blocks at which a resync makes new writes wait for its target, so that it ends.
pub const DRAIN_BLOCKS: u64 = 1024;
/// The number of a process's first write: 1 stands for all that was written before.
pub const FIRST_SEQUENCE: u64 = 2;
/// How often a walk's pace is decided anew.
pub const PACE_INTERVAL_NANOS: u64 = 100_000_000;
/// How long a page or a hung disk is left alone before it is tried or looked at again.
pub const CHECK_INTERVAL_NANOS: u64 = 1_000_000_000;
/// Two clocks that count the same time apart by more than one part in this many are broken: quartz is good for one
/// in 10,000, and time daemons slew by one in 2,000 at most.
pub const DRIFT_DIVISOR: u64 = 500;
/// What grace exceeds the lease by besides drift: a reply that was decided on within the lease leaves within this.
pub const GRACE_MARGIN_NANOS: u64 = 50_000_000;
/// How long an arbiter that did not answer, or has not moved, is left alone.
pub const ARBITER_RETRY_NANOS: u64 = 250_000_000;

const _: () = assert!(DATA_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(PAYLOAD_BYTES_MAX as u64 >= CHUNK_BYTES);
const _: () = assert!((ZERO_BYTES_MAX / EXTENT_BYTES) as usize * 16 < LOG_SLOTS);
const _: () = assert!(UNSTABLE_EXTENTS_MAX < LOG_SLOTS);
