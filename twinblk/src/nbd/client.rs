//! A small NBD client: what any client would send, and nothing else.

use nbd_server::listener::Address;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpStream, UnixStream};

const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const CLIENT_FLAGS: u32 = 0b11;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_ERROR_BIT: u32 = 1 << 31;
const REPLY_BYTES_MAX: u32 = 4096;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

/// A client with an export open.
pub(crate) struct NbdClient {
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    writer: BufWriter<Box<dyn AsyncWrite + Send + Unpin>>,
}

impl NbdClient {
    /// Opens an export.
    pub(crate) async fn open(address: &Address, export: &str) -> io::Result<NbdClient> {
        let (reader, writer): (
            Box<dyn AsyncRead + Send + Unpin>,
            Box<dyn AsyncWrite + Send + Unpin>,
        ) = match address {
            Address::Unix(path) => {
                let (reader, writer) = UnixStream::connect(path).await?.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Address::Tcp(address) => {
                let (reader, writer) = TcpStream::connect(address).await?.into_split();
                (Box::new(reader), Box::new(writer))
            }
        };
        let mut client = NbdClient {
            reader: BufReader::with_capacity(1 << 18, reader),
            writer: BufWriter::with_capacity(1 << 18, writer),
        };
        let greeting = (
            client.reader.read_u64().await?,
            client.reader.read_u64().await?,
        );
        if greeting != (GREETING_MAGIC, OPTION_MAGIC) {
            return Err(io::Error::other("this is no NBD server"));
        }
        client.reader.read_u16().await?;
        client.writer.write_u32(CLIENT_FLAGS).await?;
        client.go(export).await?;
        Ok(client)
    }

    async fn go(&mut self, export: &str) -> io::Result<()> {
        let length = u32::try_from(export.len()).map_err(io::Error::other)?;
        self.writer.write_u64(OPTION_MAGIC).await?;
        self.writer.write_u32(OPTION_GO).await?;
        self.writer.write_u32(4 + length + 2).await?;
        self.writer.write_u32(length).await?;
        self.writer.write_all(export.as_bytes()).await?;
        self.writer.write_u16(0).await?;
        self.writer.flush().await?;
        loop {
            let magic = self.reader.read_u64().await?;
            let _option = self.reader.read_u32().await?;
            let kind = self.reader.read_u32().await?;
            let length = self.reader.read_u32().await?;
            if magic != OPTION_REPLY_MAGIC || length > REPLY_BYTES_MAX {
                return Err(io::Error::other("the server broke the protocol"));
            }
            let mut data = vec![0; length as usize];
            self.reader.read_exact(&mut data).await?;
            if kind & REPLY_ERROR_BIT != 0 {
                return Err(io::Error::other(
                    String::from_utf8_lossy(&data).into_owned(),
                ));
            }
            if kind == REPLY_ACK {
                return Ok(());
            }
        }
    }

    async fn request(
        &mut self,
        kind: u16,
        cookie: u64,
        offset: u64,
        length: u32,
    ) -> io::Result<()> {
        let mut header = Vec::with_capacity(28);
        header.extend_from_slice(&REQUEST_MAGIC.to_be_bytes());
        header.extend_from_slice(&0u16.to_be_bytes());
        header.extend_from_slice(&kind.to_be_bytes());
        header.extend_from_slice(&cookie.to_be_bytes());
        header.extend_from_slice(&offset.to_be_bytes());
        header.extend_from_slice(&length.to_be_bytes());
        self.writer.write_all(&header).await
    }

    /// Sends a write; its reply comes by [`NbdClient::reply`].
    pub(crate) async fn send_write(
        &mut self,
        cookie: u64,
        offset: u64,
        content: &[u8],
    ) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.request(WRITE, cookie, offset, length).await?;
        self.writer.write_all(content).await
    }

    /// Lets what was sent leave.
    pub(crate) async fn push(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    /// Waits for a reply, and tells whose it is.
    pub(crate) async fn reply(&mut self) -> io::Result<u64> {
        let magic = self.reader.read_u32().await?;
        let error = self.reader.read_u32().await?;
        let cookie = self.reader.read_u64().await?;
        match (magic, error) {
            (REPLY_MAGIC, 0) => Ok(cookie),
            (REPLY_MAGIC, error) => Err(io::Error::other(format!("the server says error {error}"))),
            _ => Err(io::Error::other("the server broke the protocol")),
        }
    }

    /// Whether a reply is at hand, so that waiting for it takes no time.
    pub(crate) fn has_reply(&self) -> bool {
        self.reader.buffer().len() >= 16
    }

    /// Reads so many bytes from this offset on.
    pub(crate) async fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let length = u32::try_from(length).map_err(io::Error::other)?;
        self.request(READ, 0, offset, length).await?;
        self.push().await?;
        self.reply().await?;
        self.reader.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Makes durable what was acknowledged.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.request(FLUSH, 0, 0, 0).await?;
        self.push().await?;
        self.reply().await.map(|_| ())
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.request(DISCONNECT, 0, 0, 0).await?;
        self.push().await
    }
}
