//! One connection to a volume, negotiated.

use super::protocol::{
    self, Broken, Chosen, Export, GREETING_BYTES, OPTION_REPLY_BYTES, Unanswered,
};
use nbd_server::listener::Address;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// A server that has not let us in or turned us away by then is stuck: it may take a volume over meanwhile.
const NEGOTIATION_TIME: Duration = Duration::from_secs(20);

/// The stream below a connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket, for somebody else.
    fn into_socket(self: Box<Self>) -> io::Result<OwnedFd>;
}

impl Wire for UnixStream {
    fn into_socket(self: Box<Self>) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

impl Wire for TcpStream {
    fn into_socket(self: Box<Self>) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

/// A connection that has an export open. Nothing has been read of it but the negotiation.
pub(crate) struct Connection {
    /// What carries it from now on.
    pub(crate) wire: Box<dyn Wire>,
    /// The export.
    pub(crate) export: Export,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody answers, or somebody hung up.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server's own words.
    #[error("{0}")]
    Refused(String),
    /// It does not speak as it should.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// It stops.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Connection {
    /// Opens an export.
    pub(crate) async fn open(
        address: &Address,
        export: &str,
        unanswered: Unanswered,
    ) -> Result<Connection, Error> {
        let opening = async {
            let wire: Box<dyn Wire> = match address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            };
            negotiate(wire, export, unanswered).await
        };
        timeout(NEGOTIATION_TIME, opening)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// The socket, for whoever is to use the export.
    pub(crate) fn into_socket(self) -> io::Result<OwnedFd> {
        self.wire.into_socket()
    }
}

async fn negotiate(
    mut wire: Box<dyn Wire>,
    name: &str,
    unanswered: Unanswered,
) -> Result<Connection, Error> {
    let mut greeting = [0; GREETING_BYTES];
    wire.read_exact(&mut greeting).await?;
    let choice = protocol::choose(&greeting, name, unanswered)?;
    wire.write_all(&choice).await?;
    let mut described = None;
    loop {
        let mut header = [0; OPTION_REPLY_BYTES];
        wire.read_exact(&mut header).await?;
        let (kind, bytes) = protocol::option_reply(&header)?;
        let mut data = vec![0; bytes];
        wire.read_exact(&mut data).await?;
        match protocol::chosen(kind, &data)? {
            Chosen::Export(export) => described = Some(export),
            Chosen::Other => {}
            Chosen::No(reason) => return Err(Error::Refused(reason)),
            Chosen::Yes => {
                let export = described.ok_or(Broken("it does not tell the size"))?;
                return Ok(Connection { wire, export });
            }
        }
    }
}
