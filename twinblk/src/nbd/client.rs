//! A small client: a window of writes, reads one after the other.

use super::connection::{Connection, Error, Wire};
use super::protocol::{Ask, REPLY_BYTES, Unanswered, put_request, reply};
use nbd_server::codec::command;
use nbd_server::listener::Address;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf, split};

/// What is gathered of one direction.
const BUFFER_BYTES: usize = 1 << 18;

/// A client with an export open.
pub(crate) struct NbdClient {
    reader: BufReader<ReadHalf<Box<dyn Wire>>>,
    writer: BufWriter<WriteHalf<Box<dyn Wire>>>,
}

impl NbdClient {
    /// Opens an export.
    pub(crate) async fn open(address: &Address, export: &str) -> Result<NbdClient, Error> {
        let connection = Connection::open(address, export, Unanswered::Lost).await?;
        let (reader, writer) = split(connection.wire);
        Ok(NbdClient {
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            writer: BufWriter::with_capacity(BUFFER_BYTES, writer),
        })
    }

    async fn request(&mut self, cookie: u64, ask: Ask) -> io::Result<()> {
        let mut header = Vec::with_capacity(28);
        put_request(&mut header, cookie, ask);
        self.writer.write_all(&header).await
    }

    /// Sends a write; its reply comes by [`NbdClient::reply`].
    pub(crate) async fn send_write(
        &mut self,
        cookie: u64,
        offset: u64,
        content: &[u8],
    ) -> io::Result<()> {
        let ask = Ask {
            command: command::WRITE,
            flags: 0,
            offset,
            length: u32::try_from(content.len()).map_err(io::Error::other)?,
        };
        self.request(cookie, ask).await?;
        self.writer.write_all(content).await
    }

    /// Lets what was sent leave.
    pub(crate) async fn push(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    /// Waits for a reply, and tells whose it is.
    pub(crate) async fn reply(&mut self) -> Result<u64, Error> {
        let mut header = [0; REPLY_BYTES];
        self.reader.read_exact(&mut header).await?;
        match reply(&header)? {
            (cookie, 0) => Ok(cookie),
            (_, error) => Err(Error::Refused(format!("the server says error {error}"))),
        }
    }

    /// Whether a reply is at hand, so that waiting for it takes no time.
    pub(crate) fn has_reply(&self) -> bool {
        self.reader.buffer().len() >= REPLY_BYTES
    }

    /// Reads so many bytes from this offset on.
    pub(crate) async fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        let ask = Ask {
            command: command::READ,
            flags: 0,
            offset,
            length: u32::try_from(length).map_err(io::Error::other)?,
        };
        self.request(0, ask).await?;
        self.push().await?;
        self.reply().await?;
        self.reader.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Makes durable what was acknowledged.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.request(0, Ask::whole(command::FLUSH)).await?;
        self.push().await?;
        self.reply().await.map(|_| ())
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.request(0, Ask::whole(command::DISCONNECT)).await?;
        self.push().await
    }
}
