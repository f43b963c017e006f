//! Real daemons, a client that records what it was promised, and the verdict on what is left of it.
//!
//! [`cluster`] and [`node`] run daemons on loopback, or on [`hosts`] that can be parted; [`nbd`] is a small client of our own, [`load`]
//! keeps many requests in flight with it and writes into a [`journal`] what was issued and what was
//! acknowledged, outside the nodes. [`verdict`] then reads the volume, or a raw file, and says which
//! blocks read neither their last acknowledged version nor a later one. Generators such as fio prove
//! nothing of this kind: they end with the server, and their saved state counts writes that never happened.
//!
//! Where a volume fails over, [`roving`] goes on at whichever node serves and notes when each answer arrived;
//! [`timeline`] says whether two nodes answered at once.
#![forbid(unsafe_code)]

pub mod agent;
pub mod arbiter;
pub mod attached;
pub mod checks;
pub mod cluster;
pub mod docker;
pub mod engine;
pub mod foreign;
pub mod guest;
pub mod hosts;
pub mod http;
pub mod journal;
pub mod line;
pub mod link;
pub mod load;
pub mod machines;
pub mod nbd;
pub mod node;
pub mod ports;
pub mod program;
pub mod random;
pub mod roving;
pub mod scene;
pub mod stamp;
pub mod timeline;
pub mod trees;
pub mod verdict;

use std::time::{Duration, Instant};

/// The unit of stamps and of the journal, in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// How long a test waits for anything before it calls it stuck: far above what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The first number, or the second where the long run was asked for (`scripts/test --long`).
pub fn rounds(default: usize, long: usize) -> usize {
    if std::env::var_os("TWINBLK_LONG").is_some() {
        long
    } else {
        default
    }
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// If there is none within the time.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            begin.elapsed() < limit,
            "waited {limit:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
