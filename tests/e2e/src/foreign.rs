//! Servers and clients of other projects.

use crate::nbd::Endpoint;
use crate::program::{self, Output, Running};
use crate::wait_for;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// nbdkit with a store in memory: a server that the recording client can be tried on alone. With one
/// thread, since with several it does not keep overlapping requests in order, and twinblk does.
#[derive(Debug)]
pub struct MemoryServer {
    socket: PathBuf,
    server: Running,
}

impl MemoryServer {
    /// Starts one in the folder.
    ///
    /// # Panics
    /// If nbdkit is not installed; `scripts/setup` installs it.
    pub fn start(folder: &Path, size: &str) -> MemoryServer {
        let socket = folder.join("memory.sock");
        let mut command = Command::new("nbdkit");
        command
            .args(["--foreground", "--threads=1", "--unix"])
            .arg(&socket)
            .args(["memory", size]);
        let server =
            Running::start(command, &folder.join("nbdkit.log")).expect("nbdkit is installed");
        wait_for("nbdkit's socket", crate::PATIENCE, || {
            socket.exists().then_some(())
        });
        MemoryServer { socket, server }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.server.signal(signal);
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket.clone())
    }
}

/// Runs a tool of another project.
///
/// # Panics
/// If it cannot be started, or has not ended in time.
pub fn tool(program: &str, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(words);
    program::run(command, Duration::from_secs(300))
}
