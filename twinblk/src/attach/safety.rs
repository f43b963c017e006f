//! What a process needs that stands between a file system and its disk.
//!
//! When memory runs short, the kernel writes dirty pages back, and waits for that. Were it to wait for this process,
//! which itself waited for memory, neither would ever go on.

use rustix::mm::MlockAllFlags;

/// Keeps all memory resident, has allocations not wait for writeback, and is the last to be killed for memory. To be
/// called before there are other threads, which inherit it.
pub(super) fn keep_out_of_writeback() {
    let locked = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
    complain("lock the memory", locked.err().map(Into::into));
    let flusher = rustix::process::configure_io_flusher_behavior(true);
    complain(
        "be told apart from other writers",
        flusher.err().map(Into::into),
    );
    let last = std::fs::write("/proc/self/oom_score_adj", "-1000");
    complain("be exempt from being killed for memory", last.err());
}

/// Each of them makes a deadlock less likely, and none is needed otherwise.
fn complain(what: &str, error: Option<std::io::Error>) {
    if let Some(error) = error {
        tracing::warn!("cannot {what}: {error}; where memory runs short, this volume may hang");
    }
}
