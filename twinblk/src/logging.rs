//! How the long-running commands tell what they do: lines on standard error, and the service manager.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Begins to log; `RUST_LOG` chooses how much.
pub(crate) fn begin() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,fuser=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Without a service manager nobody is told.
pub(crate) fn tell_service_manager(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}
