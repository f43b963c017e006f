//! Where a volume is, and how it is got at.

use super::held::{Answer, Held};
use super::outstanding::Operation;
use crate::nbd::{Connection, Error, Unanswered};
use format::types::Name;
use nbd_server::listener::Address;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A volume of the daemon's.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// Its name, and the export's.
    pub(super) name: Name,
    /// The daemon's.
    pub(super) address: Address,
    /// What this process's own connection carries.
    pub(super) held: Arc<Held>,
}

impl Reach {
    /// Opens it for this process.
    pub(super) async fn open(&self) -> Result<Connection, Error> {
        let name = self.name.to_string();
        Connection::open(&self.address, &name, Unanswered::SentAgain).await
    }

    /// Opens it so many times for somebody else.
    pub(super) async fn sockets(&self, number: usize) -> Result<Vec<OwnedFd>, Error> {
        let mut sockets = Vec::with_capacity(number);
        for _ in 0..number {
            sockets.push(self.open().await?.into_socket()?);
        }
        Ok(sockets)
    }

    /// Returns once the connection has brought an answer to what was asked now; never, if it has ended.
    pub(super) async fn answers(&self, operation: Operation) {
        let (asked, answered) = oneshot::channel();
        self.held.ask(operation, Answer::Alive(asked));
        // Whoever holds the other half gives it up only by answering.
        let _ = answered.await;
    }
}
