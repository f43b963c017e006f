//! A small NBD client: fixed newstyle, GO, simple replies, many requests in flight.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
/// What each simple reply begins with.
pub const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_ERROR: u32 = 1 << 31;
const FLAG_FUA: u16 = 1;
const FLAG_NO_HOLE: u16 = 2;
/// A server that is silent for this long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// TCP.
    Tcp(SocketAddr),
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Read.
    Read {
        /// From this byte on.
        offset: u64,
        /// So many bytes.
        length: u32,
    },
    /// Write.
    Write {
        /// From this byte on.
        offset: u64,
        /// This.
        data: &'a [u8],
        /// Durable before the reply.
        fua: bool,
    },
    /// Flush.
    Flush,
    /// Free the space.
    Trim {
        /// From this byte on.
        offset: u64,
        /// So many bytes.
        length: u32,
    },
    /// Zero.
    Zeroes {
        /// From this byte on.
        offset: u64,
        /// So many bytes.
        length: u32,
        /// Keep the space.
        no_hole: bool,
    },
}

impl Request<'_> {
    /// The request as it is sent, with this number.
    pub fn encoded(&self, cookie: u64) -> io::Result<Vec<u8>> {
        let (kind, flags, offset, length, data): (u16, u16, u64, u32, &[u8]) = match *self {
            Request::Read { offset, length } => (0, 0, offset, length, &[]),
            Request::Write { offset, data, fua } => {
                let length = u32::try_from(data.len()).map_err(io::Error::other)?;
                (1, if fua { FLAG_FUA } else { 0 }, offset, length, data)
            }
            Request::Flush => (3, 0, 0, 0, &[]),
            Request::Trim { offset, length } => (4, 0, offset, length, &[]),
            Request::Zeroes {
                offset,
                length,
                no_hole,
            } => (
                6,
                if no_hole { FLAG_NO_HOLE } else { 0 },
                offset,
                length,
                &[],
            ),
        };
        let mut bytes = Vec::with_capacity(28 + data.len());
        bytes.extend(REQUEST_MAGIC.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        Ok(bytes)
    }
}

/// A reply.
#[derive(Debug)]
pub struct Reply {
    /// The request's number.
    pub cookie: u64,
    /// The server's error number; 0 for none.
    pub error: u32,
    /// What a read returns.
    pub data: Vec<u8>,
}

/// A connected socket.
pub trait Stream: Read + Write + Send + AsFd {}
impl<T: Read + Write + Send + AsFd> Stream for T {}

/// A connection to one export.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
    size_bytes: u64,
    reads: HashMap<u64, u32>,
    next: u64,
}

impl Client {
    /// Opens an export. A refusal is [`io::ErrorKind::PermissionDenied`] with the server's words.
    pub fn open(endpoint: &Endpoint, export: &str) -> io::Result<Client> {
        Client::open_within(endpoint, export, SILENCE_MAX)
    }

    /// As [`Self::open`], from a server that is stuck when it is silent for this long.
    pub fn open_within(
        endpoint: &Endpoint,
        export: &str,
        silence_max: Duration,
    ) -> io::Result<Client> {
        let stream: Box<dyn Stream> = match endpoint {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(silence_max))?;
                stream.set_write_timeout(Some(silence_max))?;
                Box::new(stream)
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, silence_max)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(silence_max))?;
                stream.set_write_timeout(Some(silence_max))?;
                Box::new(stream)
            }
        };
        let mut client = Client {
            stream: BufReader::new(stream),
            size_bytes: 0,
            reads: HashMap::new(),
            next: 0,
        };
        client.negotiate(export)?;
        Ok(client)
    }

    /// The export's size.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The socket, for whoever does the rest by himself; nothing may have been asked yet.
    pub fn into_socket(self) -> Box<dyn Stream> {
        self.stream.into_inner()
    }

    /// Sends a request and returns its number; its reply comes from [`Self::receive`].
    pub fn send(&mut self, request: Request<'_>) -> io::Result<u64> {
        let cookie = self.next;
        self.next += 1;
        let bytes = request.encoded(cookie)?;
        if let Request::Read { length, .. } = request {
            self.reads.insert(cookie, length);
        }
        self.stream.get_mut().write_all(&bytes)?;
        Ok(cookie)
    }

    /// Waits for the next reply, whichever request it answers.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let magic = self.u32()?;
        if magic != REPLY_MAGIC {
            return Err(protocol(format!("reply magic {magic:#x}")));
        }
        let error = self.u32()?;
        let cookie = self.u64()?;
        let length = self.reads.remove(&cookie).unwrap_or(0);
        let mut data = vec![0; if error == 0 { length as usize } else { 0 }];
        self.stream.read_exact(&mut data)?;
        Ok(Reply {
            cookie,
            error,
            data,
        })
    }

    /// Sends a request and waits for its reply. A server's error is an [`io::Error`] of that number.
    pub fn call(&mut self, request: Request<'_>) -> io::Result<Vec<u8>> {
        self.send(request)?;
        let reply = self.receive()?;
        match reply.error {
            0 => Ok(reply.data),
            error => Err(io::Error::from_raw_os_error(
                i32::try_from(error).unwrap_or(i32::MAX),
            )),
        }
    }

    fn negotiate(&mut self, export: &str) -> io::Result<()> {
        let greeting = self.bytes(8)?;
        if greeting != *b"NBDMAGIC" || self.u64()? != OPTION_MAGIC {
            return Err(protocol("not a newstyle NBD server".to_owned()));
        }
        let flags = self.u16()?;
        // Fixed newstyle, and no zeroes after EXPORT_NAME if the server can do without.
        self.stream
            .get_mut()
            .write_all(&u32::from(flags & 3).to_be_bytes())?;
        let name = u32::try_from(export.len()).map_err(io::Error::other)?;
        let mut option = Vec::new();
        option.extend(OPTION_MAGIC.to_be_bytes());
        option.extend(OPTION_GO.to_be_bytes());
        option.extend((name + 6).to_be_bytes());
        option.extend(name.to_be_bytes());
        option.extend(export.as_bytes());
        option.extend(0u16.to_be_bytes());
        self.stream.get_mut().write_all(&option)?;
        loop {
            if self.u64()? != OPTION_REPLY_MAGIC || self.u32()? != OPTION_GO {
                return Err(protocol(
                    "a reply to an option that was not asked".to_owned(),
                ));
            }
            let kind = self.u32()?;
            let length = self.u32()?;
            let payload = self.bytes(length as usize)?;
            match kind {
                REPLY_ACK => return Ok(()),
                REPLY_INFO if payload.len() == 12 && payload[..2] == [0, 0] => {
                    self.size_bytes = payload[2..10]
                        .iter()
                        .fold(0, |size, byte| size << 8 | u64::from(*byte));
                }
                REPLY_INFO => {}
                kind if kind & REPLY_ERROR != 0 => {
                    let words = String::from_utf8_lossy(&payload).into_owned();
                    let text = format!("refused ({}): {words}", kind & !REPLY_ERROR);
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
                }
                kind => return Err(protocol(format!("option reply {kind}"))),
            }
        }
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u16(&mut self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.stream.read_exact(&mut bytes)?;
        Ok(u16::from_be_bytes(bytes))
    }

    fn u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.stream.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.stream.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }
}

fn protocol(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
