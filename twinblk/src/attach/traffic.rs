//! One connection to the volume: negotiated, and then requests out and replies in until it ends.

use super::held::Held;
use super::outstanding::Operation;
use super::protocol::{
    self, Broken, Chosen, Export, GREETING_BYTES, OPTION_REPLY_BYTES, REPLY_BYTES,
};
use nbd_server::codec;
use nbd_server::listener::Address;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// A server that has not let us in or turned us away by then is stuck: it may take a volume over meanwhile.
const NEGOTIATION_TIME: Duration = Duration::from_secs(20);
/// What is gathered before it is written, so that small requests share a system call.
const GATHERED_BYTES: usize = 64 << 10;
/// Data from here on is written from where it lies.
const OWN_WRITE_BYTES: usize = 16 << 10;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
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

/// A connection that has an export open.
pub(super) struct Connection {
    wire: Box<dyn Wire>,
    pub(super) export: Export,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
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
    pub(super) async fn open(address: &Address, export: &str) -> Result<Connection, Error> {
        let opening = async {
            let wire: Box<dyn Wire> = match address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            };
            negotiate(wire, export).await
        };
        timeout(NEGOTIATION_TIME, opening)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// The socket, for whoever is to use the export. Nothing has been read of it but the negotiation.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        self.wire.into_socket()
    }

    /// Carries requests and replies until the connection ends; says why it did. What has no answer by then is still held.
    pub(super) async fn carry(self, held: &Held) -> Error {
        held.send_again();
        let (reader, writer) = tokio::io::split(self.wire);
        tokio::select! {
            ended = receive(reader, held) => ended,
            ended = send(writer, held) => ended,
        }
    }
}

async fn negotiate(mut wire: Box<dyn Wire>, name: &str) -> Result<Connection, Error> {
    let mut greeting = [0; GREETING_BYTES];
    wire.read_exact(&mut greeting).await?;
    wire.write_all(&protocol::choose(&greeting, name)?).await?;
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

async fn send(mut writer: impl AsyncWrite + Unpin, held: &Held) -> Error {
    let mut gathered = Vec::with_capacity(2 * GATHERED_BYTES);
    loop {
        let arrived = held.arrived.notified();
        let sent = send_all(&mut writer, held, &mut gathered).await;
        if let Err(error) = sent {
            return error.into();
        }
        arrived.await;
    }
}

async fn send_all(
    writer: &mut (impl AsyncWrite + Unpin),
    held: &Held,
    gathered: &mut Vec<u8>,
) -> io::Result<()> {
    while let Some((number, operation)) = held.send() {
        protocol::put_request(gathered, number, &operation);
        if let Operation::Write { data, .. } = &operation {
            if data.len() < OWN_WRITE_BYTES {
                gathered.extend_from_slice(data);
            } else {
                writer.write_all(gathered).await?;
                gathered.clear();
                writer.write_all(data).await?;
            }
        }
        if gathered.len() >= GATHERED_BYTES {
            writer.write_all(gathered).await?;
            gathered.clear();
        }
    }
    writer.write_all(gathered).await?;
    gathered.clear();
    Ok(())
}

async fn receive(reader: impl AsyncRead + Unpin, held: &Held) -> Error {
    let mut reader = BufReader::with_capacity(4 * GATHERED_BYTES, reader);
    let mut data = Vec::new();
    loop {
        if let Err(error) = receive_one(&mut reader, held, &mut data).await {
            return error;
        }
    }
}

async fn receive_one(
    reader: &mut (impl AsyncRead + Unpin),
    held: &Held,
    data: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut header = [0; REPLY_BYTES];
    reader.read_exact(&mut header).await?;
    let (number, error) = protocol::reply(&header)?;
    let unasked = Broken("a reply to what was not asked");
    let bytes = held.reply_bytes(number).ok_or(unasked)?;
    if error == codec::Failure::ShuttingDown.number() {
        // It will be done by the next daemon.
        return Err(Error::Stopping);
    }
    if error != 0 {
        held.answer(number, Err(error));
        return Ok(());
    }
    data.resize(bytes, 0);
    reader.read_exact(data).await?;
    held.answer(number, Ok(data));
    Ok(())
}
