//! Where the long-running parts of the program log to.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Logs to standard error from here on; `RUST_LOG` says what.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
