//! One connection of a client that never waits for it: what cannot be sent is kept, and each answer is stamped with
//! when it arrived, within bounds.

use crate::nbd::{Client, REPLY_MAGIC, Request, Stream};
use crate::timeline::Stamp;
use rustix::event::PollFlags;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

/// A simple reply without its data.
const HEADER_BYTES: usize = 16;
const PIECE_BYTES: usize = 64 << 10;

/// A connection to a node, with what was sent on it and not answered yet.
pub struct Line<T> {
    node: usize,
    socket: Box<dyn Stream>,
    next: u64,
    waiting: HashMap<u64, Waiting<T>>,
    out: Vec<u8>,
    received: Vec<u8>,
    empty_at: Stamp,
}

/// A request in flight: what its sender noted, and how many bytes a read returns.
struct Waiting<T> {
    note: T,
    data_bytes: usize,
    issued: Stamp,
}

/// A reply.
pub struct Heard<T> {
    /// What the request's sender noted.
    pub note: T,
    /// The server's error number; 0 for none.
    pub error: u32,
    /// What a read returns.
    pub data: Vec<u8>,
    /// When the request was sent.
    pub issued: Stamp,
    /// Then it had not arrived.
    pub after: Stamp,
    /// Then it had.
    pub by: Stamp,
}

impl<T> Line<T> {
    /// Goes on with a connection of which nothing was asked yet.
    pub fn new(node: usize, client: Client) -> io::Result<Line<T>> {
        let socket = client.into_socket();
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Line {
            node,
            socket,
            next: 1,
            waiting: HashMap::new(),
            out: Vec::new(),
            received: Vec::new(),
            empty_at: Stamp::now(),
        })
    }

    /// The node at the other end.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a request on its way.
    pub fn send(&mut self, request: Request<'_>, note: T) -> io::Result<()> {
        let data_bytes = match request {
            Request::Read { length, .. } => length as usize,
            _ => 0,
        };
        self.out.extend(request.encoded(self.next)?);
        let issued = Stamp::now();
        let waiting = Waiting {
            note,
            data_bytes,
            issued,
        };
        self.waiting.insert(self.next, waiting);
        self.next += 1;
        self.push()
    }

    /// Sends of what is kept as much as the socket takes.
    pub fn push(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.out.len() {
                break Ok(());
            }
            match self.socket.write(&self.out[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.out.drain(..sent);
        result
    }

    /// All replies that have arrived, and whether more may come.
    pub fn hear(&mut self) -> (Vec<Heard<T>>, io::Result<()>) {
        let mut heard = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let looked_at = Stamp::now();
            match self.socket.read(&mut piece) {
                Ok(0) => return (heard, Err(ErrorKind::UnexpectedEof.into())),
                Ok(length) => {
                    self.received.extend(&piece[..length]);
                    let by = Stamp::now();
                    if let Err(error) = self.parse(by, &mut heard) {
                        return (heard, Err(error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.empty_at = looked_at;
                    return (heard, Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (heard, Err(error)),
            }
        }
    }

    /// What to wait for: answers, and room for what is kept.
    pub fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        let flags = if self.out.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        };
        (self.socket.as_fd(), flags)
    }

    fn parse(&mut self, by: Stamp, heard: &mut Vec<Heard<T>>) -> io::Result<()> {
        let mut at = 0;
        while let Some(header) = self.received[at..].first_chunk::<HEADER_BYTES>() {
            let word = |from: usize, length: usize| {
                let bytes = header[from..from + length].iter();
                bytes.fold(0u64, |value, byte| value << 8 | u64::from(*byte))
            };
            let (error, cookie) = (word(4, 4), word(8, 8));
            let known = self.waiting.get(&cookie);
            let Some(waiting) = known.filter(|_| word(0, 4) == u64::from(REPLY_MAGIC)) else {
                return Err(io::Error::other(format!("a reply to no request: {cookie}")));
            };
            let data_bytes = if error == 0 { waiting.data_bytes } else { 0 };
            let data = at + HEADER_BYTES..at + HEADER_BYTES + data_bytes;
            if self.received.len() < data.end {
                break;
            }
            at = data.end;
            let data = self.received[data].to_vec();
            let Some(Waiting { note, issued, .. }) = self.waiting.remove(&cookie) else {
                break;
            };
            heard.push(Heard {
                note,
                error: u32::try_from(error).unwrap_or(u32::MAX),
                data,
                issued,
                after: self.empty_at,
                by,
            });
        }
        self.received.drain(..at);
        Ok(())
    }
}
