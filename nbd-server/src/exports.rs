//! What the server serves: the seam to the program around it.

use engine::frontend::Session;
use std::fmt;
use std::os::fd::OwnedFd;

/// What a client is told of an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExportInfo {
    /// Its size.
    pub size_bytes: u64,
    /// Nothing can be written.
    pub read_only: bool,
}

/// Why an export cannot be had. The text is for a person and says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is none of this name.
    #[error("{0}")]
    Unknown(String),
    /// It is not served here, or not now.
    #[error("{0}")]
    Policy(String),
}

/// An export that has been opened for one client.
pub struct Opened {
    /// What it is like, now that it is open.
    pub info: ExportInfo,
    /// Takes the client over. Not called if the client goes away first.
    pub attach: Box<dyn FnOnce(Client) + Send>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// A client that has chosen its export.
pub struct Client {
    /// Its socket, which blocks.
    pub socket: OwnedFd,
    /// What has been received of it behind the negotiation.
    pub received: Vec<u8>,
    /// Its protocol from here on.
    pub session: Box<dyn Session>,
}

/// The exports, which the program around the server has.
pub trait Exports: Send + Sync + 'static {
    /// Their names.
    fn list(&self) -> Vec<String>;

    /// What an export is like. Never opens it.
    fn info(&self, name: &str) -> impl Future<Output = Result<ExportInfo, Refusal>> + Send;

    /// Opens an export for a client. It may take its time: the client's deadline stands still.
    fn open(&self, name: &str) -> impl Future<Output = Result<Opened, Refusal>> + Send;
}
