//! A client's connection once it uses an export: requests in, replies out.
//!
//! ```text
//!      ┌──────────┐   a refused WRITE   ┌─────────┐
//!  ──► │ Request  │ ──────────────────► │ Payload │
//!      │          │ ◄────────────────── │         │
//!      └──────────┘  drained: replied   └─────────┘
//! ```

use crate::codec::{Failure, REQUEST_MAGIC, Request, command, command_flag};
use crate::limits::UNFRAGMENTED_BYTES_MAX;
use crate::reply::{Framing, Reading, Refused, Replies, Status};
use crate::requests::{Pending, Requests};
use engine::frontend::{
    Allocation, ClientKind, ClientRequest, Next, PAYLOAD_BYTES_MAX, Parsed, Session,
};
use format::types::Span;
use replica::event::RequestError;
use zerocopy::FromBytes;

/// What client and server have agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Agreement {
    /// Replies come in chunks.
    pub structured_replies: bool,
    /// BLOCK_STATUS reports `base:allocation`. Only with structured replies.
    pub allocation_context: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// The client sends again on another connection what has had no answer on this one.
    pub sends_again: bool,
}

/// Where in the client's stream the session stands.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// Before a request.
    Request,
    /// Within the payload of a refused write, of which `left` bytes are still to come. The reply
    /// goes out behind them: a client may listen only once it has sent all of its request.
    Payload {
        left: u64,
        cookie: u64,
        refused: Refused,
    },
}

/// What is to be done with a request that is not refused.
enum Verdict {
    /// The engine carries it out.
    Carry(ClientKind, Pending),
    /// Nothing.
    Nothing,
}

/// A client's connection once it uses an export.
#[derive(Debug)]
pub struct NbdSession {
    agreement: Agreement,
    shutting_down: bool,
    position: Position,
    requests: Requests,
    replies: Replies,
}

impl NbdSession {
    /// A session under this agreement.
    pub fn new(agreement: Agreement) -> NbdSession {
        NbdSession {
            agreement,
            shutting_down: false,
            position: Position::Request,
            requests: Requests::default(),
            replies: Replies::new(agreement.structured_replies),
        }
    }

    /// Deals with a request's header.
    fn take(&mut self, request: &Request, size_bytes: u64, out: &mut Vec<u8>) -> Parsed {
        if request.magic.get() != REQUEST_MAGIC {
            return Parsed::Broken("a request does not begin with its magic number");
        }
        if request.command.get() == command::DISCONNECT {
            return Parsed::Goodbye;
        }
        if self.shutting_down && self.agreement.sends_again {
            // The next server will do it.
            return Parsed::Goodbye;
        }
        let asked = Asked::new(request, size_bytes);
        let Asked { cookie, span, .. } = asked;
        let consumed = size_of::<Request>();
        match self.judge(&asked) {
            Ok(Verdict::Carry(kind, pending)) => {
                let id = self.requests.insert(pending);
                let request = ClientRequest { id, kind, span };
                return Parsed::Request { consumed, request };
            }
            Ok(Verdict::Nothing) => self.replies.success(cookie, out),
            Err(refused) if asked.command == command::WRITE && span.length > 0 => {
                let left = span.length;
                self.position = Position::Payload {
                    left,
                    cookie,
                    refused,
                };
            }
            Err(refused) => self.replies.failure(cookie, refused, out),
        }
        Parsed::Consumed(consumed)
    }

    /// Decides what becomes of a request.
    fn judge(&self, asked: &Asked) -> Result<Verdict, Refused> {
        if self.shutting_down {
            return refuse(Failure::ShuttingDown, "the server is shutting down");
        }
        if asked.flags & !self.flags_of(asked.command) != 0 {
            let reason = "a flag is unknown or does not belong to the command";
            return refuse(Failure::Invalid, reason);
        }
        let Asked { cookie, span, .. } = *asked;
        match asked.command {
            command::READ => self.judge_read(asked),
            command::WRITE | command::WRITE_ZEROES | command::TRIM => self.judge_write(asked),
            command::FLUSH if span != Span::new(0, 0) => {
                refuse(Failure::Invalid, "a flush has no offset and no length")
            }
            command::FLUSH => Ok(Verdict::Carry(ClientKind::Flush, Pending::Plain { cookie })),
            // The disk is read without a cache: there is nothing to be warmed.
            command::CACHE => asked
                .check_range(Failure::Invalid)
                .map(|()| Verdict::Nothing),
            command::BLOCK_STATUS => self.judge_block_status(asked),
            _ => refuse(Failure::Invalid, "the command is unknown"),
        }
    }

    fn judge_read(&self, asked: &Asked) -> Result<Verdict, Refused> {
        asked.check_range(Failure::Invalid)?;
        asked.check_payload()?;
        let Asked { cookie, span, .. } = *asked;
        let framing = self.replies.framing(asked.has(command_flag::DF));
        if framing == Framing::OneChunk && span.length > UNFRAGMENTED_BYTES_MAX {
            return refuse(Failure::TooLarge, "the read is too long for one chunk");
        }
        let reading = Reading {
            cookie,
            span,
            announced: 0,
            framing,
        };
        Ok(asked.unless_empty(ClientKind::Read, Pending::Read(reading)))
    }

    fn judge_write(&self, asked: &Asked) -> Result<Verdict, Refused> {
        if self.agreement.read_only {
            return refuse(Failure::ReadOnly, "the export is read-only");
        }
        let fua = asked.has(command_flag::FUA);
        let kind = match asked.command {
            command::WRITE => {
                asked.check_payload()?;
                asked.check_range(Failure::NoSpace)?;
                ClientKind::Write { fua }
            }
            command::WRITE_ZEROES => {
                asked.check_range(Failure::NoSpace)?;
                if asked.has(command_flag::FAST_ZERO) {
                    // Whether the disk punches holes or writes zeroes is known only once it has.
                    return refuse(
                        Failure::Unsupported,
                        "zeroes may not be faster than a write",
                    );
                }
                let unmap = !asked.has(command_flag::NO_HOLE);
                ClientKind::Zero { unmap, fua }
            }
            _ => {
                asked.check_range(Failure::Invalid)?;
                ClientKind::Zero { unmap: true, fua }
            }
        };
        Ok(asked.unless_empty(
            kind,
            Pending::Plain {
                cookie: asked.cookie,
            },
        ))
    }

    fn judge_block_status(&self, asked: &Asked) -> Result<Verdict, Refused> {
        if !self.agreement.allocation_context {
            return refuse(Failure::Invalid, "no metadata context was chosen");
        }
        asked.check_range(Failure::Invalid)?;
        if asked.span.length == 0 {
            return refuse(Failure::Invalid, "an empty range has no status");
        }
        let Asked { cookie, span, .. } = *asked;
        let status = Status {
            cookie,
            span,
            one: asked.has(command_flag::REQ_ONE),
        };
        Ok(Verdict::Carry(ClientKind::Extents, Pending::Status(status)))
    }

    /// The flags that a command may carry. FUA is legal on every command.
    fn flags_of(&self, command: u16) -> u16 {
        let own = match command {
            command::READ if self.agreement.structured_replies => command_flag::DF,
            command::WRITE_ZEROES => command_flag::NO_HOLE | command_flag::FAST_ZERO,
            command::BLOCK_STATUS => command_flag::REQ_ONE,
            _ => 0,
        };
        command_flag::FUA | own
    }
}

/// A request as its header has it.
struct Asked {
    command: u16,
    flags: u16,
    cookie: u64,
    /// Not to be added up before it is known to lie within the volume.
    span: Span,
    in_range: bool,
}

impl Asked {
    fn new(request: &Request, size_bytes: u64) -> Asked {
        let span = Span::new(request.offset.get(), u64::from(request.length.get()));
        let left = size_bytes.checked_sub(span.offset);
        Asked {
            command: request.command.get(),
            flags: request.flags.get(),
            cookie: request.cookie.get(),
            span,
            in_range: left.is_some_and(|left| span.length <= left),
        }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn check_range(&self, failure: Failure) -> Result<(), Refused> {
        if !self.in_range {
            return refuse(failure, PAST_THE_END);
        }
        Ok(())
    }

    fn check_payload(&self) -> Result<(), Refused> {
        if self.span.length > PAYLOAD_BYTES_MAX {
            return refuse(
                Failure::Invalid,
                "the payload is longer than the server takes",
            );
        }
        Ok(())
    }

    /// An empty range needs no engine.
    fn unless_empty(&self, kind: ClientKind, pending: Pending) -> Verdict {
        if self.span.length == 0 {
            Verdict::Nothing
        } else {
            Verdict::Carry(kind, pending)
        }
    }
}

const PAST_THE_END: &str = "the range ends past the end of the volume";

fn refuse<T>(failure: Failure, reason: &'static str) -> Result<T, Refused> {
    Err(Refused { failure, reason })
}

/// What a client is told of a request that failed in the engine; nothing if it had better be cut off.
fn explain(error: RequestError, sends_again: bool) -> Option<Refused> {
    let (failure, reason) = match error {
        RequestError::Io => (Failure::Io, "no replica could do it"),
        RequestError::NoSpace => (Failure::NoSpace, "the disk of a replica is full"),
        RequestError::OutOfRange => (Failure::Invalid, PAST_THE_END),
        RequestError::Stopping if sends_again => return None,
        RequestError::Stopping => (Failure::ShuttingDown, "the server is shutting down"),
        // An error would reach the file system above; a dead connection makes the client ask again,
        // and by then there may be another primary.
        RequestError::NotPrimary => return None,
    };
    Some(Refused { failure, reason })
}

impl Session for NbdSession {
    fn parse(&mut self, input: &[u8], size_bytes: u64, out: &mut Vec<u8>) -> Parsed {
        match &mut self.position {
            Position::Request => match Request::ref_from_prefix(input) {
                Ok((request, _)) => self.take(request, size_bytes, out),
                Err(_) => Parsed::More,
            },
            Position::Payload { .. } if input.is_empty() => Parsed::More,
            Position::Payload {
                left,
                cookie,
                refused,
            } => {
                let drained =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= drained as u64;
                if *left == 0 {
                    self.replies.failure(*cookie, *refused, out);
                    self.position = Position::Request;
                }
                Parsed::Consumed(drained)
            }
        }
    }

    fn data(&mut self, id: u32, piece: Span, out: &mut Vec<u8>) {
        match self.requests.get_mut(id) {
            Pending::Read(reading) => self.replies.data(id, reading, piece, out),
            other => panic!("the engine has data for {other:?}"),
        }
    }

    fn done(&mut self, id: u32, result: Result<(), RequestError>, out: &mut Vec<u8>) -> Next {
        let pending = self.requests.remove(id);
        let sends_again = self.agreement.sends_again;
        let result = match result.map_err(|error| explain(error, sends_again)) {
            Ok(()) => Ok(()),
            Err(Some(refused)) => Err(refused),
            Err(None) => return Next::Close,
        };
        match (pending, result) {
            (Pending::Read(reading), result) => {
                return self.replies.read_ended(id, reading, result, out);
            }
            (Pending::Plain { cookie }, Ok(())) => self.replies.success(cookie, out),
            (Pending::Plain { cookie } | Pending::Status(Status { cookie, .. }), Err(refused)) => {
                self.replies.failure(cookie, refused, out);
            }
            (Pending::Status(status), Ok(())) => panic!("the engine has no extents for {status:?}"),
        }
        Next::Continue
    }

    fn extents(&mut self, id: u32, pieces: &[Allocation], out: &mut Vec<u8>) {
        match self.requests.remove(id) {
            Pending::Status(status) => self.replies.extents(status, pieces, out),
            other => panic!("the engine has extents for {other:?}"),
        }
    }

    fn shut_down(&mut self) {
        self.shutting_down = true;
    }
}

#[cfg(test)]
mod tests;
