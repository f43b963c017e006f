//! A small NBD client: what any client would send, and nothing else.

use super::blocks::BLOCK_BYTES;
use std::io;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

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
const WRITE_BYTES: u32 = 4096;
const _: () = assert!(WRITE_BYTES as usize == BLOCK_BYTES);
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

/// A client with an export open.
pub(super) struct NbdClient {
    reader: BufReader<OwnedReadHalf>,
    writer: BufWriter<OwnedWriteHalf>,
}

impl NbdClient {
    /// Opens an export.
    pub(super) async fn open(socket: &Path, export: &str) -> io::Result<NbdClient> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
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

    /// Sends a write of a block; its reply comes by [`NbdClient::reply`].
    pub(super) async fn send_write(
        &mut self,
        cookie: u64,
        block: usize,
        content: &[u8],
    ) -> io::Result<()> {
        let offset = (block * BLOCK_BYTES) as u64;
        self.request(WRITE, cookie, offset, WRITE_BYTES).await?;
        self.writer.write_all(content).await
    }

    /// Lets what was sent leave.
    pub(super) async fn push(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    /// Waits for a reply, and tells whose it is.
    pub(super) async fn reply(&mut self) -> io::Result<u64> {
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
    pub(super) fn has_reply(&self) -> bool {
        self.reader.buffer().len() >= 16
    }

    /// Reads blocks from this one on.
    pub(super) async fn read(&mut self, block: usize, blocks: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; blocks * BLOCK_BYTES];
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.request(READ, 0, (block * BLOCK_BYTES) as u64, length)
            .await?;
        self.push().await?;
        self.reply().await?;
        self.reader.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Makes durable what was acknowledged.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.request(FLUSH, 0, 0, 0).await?;
        self.push().await?;
        self.reply().await.map(|_| ())
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.request(DISCONNECT, 0, 0, 0).await?;
        self.push().await
    }
}
