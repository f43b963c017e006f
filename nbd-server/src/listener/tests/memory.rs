//! Volumes in memory, each client with a thread of its own: the least that can stand in for an engine.

use crate::exports::{Client, ExportInfo, Exports, Opened, Refusal};
use engine::frontend::{Allocation, ClientKind, ClientRequest, Next, Parsed, Session};
use format::types::{BLOCK_BYTES, Span};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// The size of the volume `pg`.
pub(super) const SIZE_BYTES: usize = 32 << 20;

/// A piece of a read is at most this long, so that reads come in several.
const PIECE_BYTES: usize = 60_000;

/// A volume `pg`, and a volume `away` that is served elsewhere.
pub(super) struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    opened: Mutex<Vec<String>>,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory {
            bytes: Arc::new(Mutex::new(vec![0; SIZE_BYTES])),
            opened: Mutex::default(),
        }
    }

    /// Names that clients have wanted to open, in order.
    pub(super) fn opened(&self) -> Vec<String> {
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Exports for Memory {
    fn list(&self) -> Vec<String> {
        vec!["pg".to_owned()]
    }

    async fn info(&self, name: &str) -> Result<ExportInfo, Refusal> {
        match name {
            "pg" => Ok(ExportInfo {
                size_bytes: SIZE_BYTES as u64,
                read_only: false,
            }),
            "away" => Err(Refusal::Policy(
                "away is served by beta: connect there".to_owned(),
            )),
            _ => Err(Refusal::Unknown(format!("there is no volume \"{name}\""))),
        }
    }

    async fn open(&self, name: &str) -> Result<Opened, Refusal> {
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
        let info = self.info(name).await?;
        let bytes = Arc::clone(&self.bytes);
        let attach = move |client| {
            std::thread::spawn(move || {
                // A client that goes away in the middle is nothing to this server.
                let _ = Server::new(client, bytes).run();
            });
        };
        Ok(Opened {
            info,
            attach: Box::new(attach),
        })
    }
}

/// One client.
struct Server {
    /// Only read and written, for which a TCP socket is as good.
    socket: UnixStream,
    received: Vec<u8>,
    session: Box<dyn Session>,
    bytes: Arc<Mutex<Vec<u8>>>,
    out: Vec<u8>,
}

impl Server {
    fn new(client: Client, bytes: Arc<Mutex<Vec<u8>>>) -> Server {
        Server {
            socket: client.socket.into(),
            received: client.received,
            session: client.session,
            bytes,
            out: Vec::new(),
        }
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let parsed = self
                .session
                .parse(&self.received, SIZE_BYTES as u64, &mut self.out);
            match parsed {
                Parsed::More => {
                    self.socket.write_all(&self.out)?;
                    self.out.clear();
                    self.receive()?;
                }
                Parsed::Consumed(consumed) => drop(self.received.drain(..consumed)),
                Parsed::Request { consumed, request } => {
                    self.received.drain(..consumed);
                    self.carry_out(request)?;
                }
                Parsed::Drain { .. } => return Err(io::Error::other("it drains by itself")),
                Parsed::Goodbye => return self.socket.write_all(&self.out),
                Parsed::Broken(reason) => return Err(io::Error::other(reason)),
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            received => {
                self.received.extend_from_slice(&buffer[..received]);
                Ok(())
            }
        }
    }

    fn carry_out(&mut self, request: ClientRequest) -> io::Result<()> {
        let ClientRequest { id, kind, span } = request;
        let index = |offset| usize::try_from(offset).expect("within the volume");
        let (start, end) = (index(span.offset), index(span.end()));
        if let ClientKind::Write { .. } = kind {
            while self.received.len() < end - start {
                self.receive()?;
            }
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            ClientKind::Write { .. } => {
                bytes[start..end].copy_from_slice(&self.received[..end - start]);
                self.received.drain(..end - start);
            }
            ClientKind::Zero { .. } => bytes[start..end].fill(0),
            ClientKind::Flush => {}
            ClientKind::Read => {
                for (index, data) in bytes[start..end].chunks(PIECE_BYTES).enumerate() {
                    let offset = start + index * PIECE_BYTES;
                    let piece = Span::new(offset as u64, data.len() as u64);
                    self.session.data(id, piece, &mut self.out);
                    self.out.extend_from_slice(data);
                }
            }
            ClientKind::Extents => {
                let block_bytes = index(BLOCK_BYTES);
                let blocks = bytes[start..end]
                    .chunks(block_bytes)
                    .map(|block| Allocation {
                        length: block.len() as u64,
                        hole: block.iter().all(|byte| *byte == 0),
                    });
                let pieces: Vec<_> = blocks.collect();
                self.session.extents(id, &pieces, &mut self.out);
                return Ok(());
            }
        }
        match self.session.done(id, Ok(()), &mut self.out) {
            Next::Continue => Ok(()),
            Next::Close => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}
