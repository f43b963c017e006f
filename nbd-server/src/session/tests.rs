//! Byte scripts against a session: every rule of a complete server that is the session's has a test of
//! its number.

mod rules;
mod splits;

use super::{Agreement, NbdSession};
use crate::codec::{
    CHUNK_MAGIC, ChunkHeader, ErrorChunk, Extent, REQUEST_MAGIC, Request, SIMPLE_REPLY_MAGIC,
    SimpleReply, chunk, command,
};
use engine::frontend::{Allocation, ClientKind, ClientRequest, Next, Parsed, Session};
use format::types::Span;
use replica::event::RequestError;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// The volume's size, unless a test says otherwise.
const SIZE_BYTES: u64 = 1 << 20;

const SIMPLE: Agreement = Agreement {
    structured_replies: false,
    allocation_context: false,
    read_only: false,
    sends_again: false,
};
const STRUCTURED: Agreement = Agreement {
    structured_replies: true,
    ..SIMPLE
};
const WITH_CONTEXT: Agreement = Agreement {
    allocation_context: true,
    ..STRUCTURED
};
const READ_ONLY: Agreement = Agreement {
    read_only: true,
    ..STRUCTURED
};

/// A request's bytes.
fn request(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let request = Request {
        magic: REQUEST_MAGIC.into(),
        flags: flags.into(),
        command: command.into(),
        cookie: cookie.into(),
        offset: offset.into(),
        length: length.into(),
    };
    request.as_bytes().to_vec()
}

/// A reply, as a client reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Reply {
    /// A simple one.
    Simple { cookie: u64, error: u32 },
    /// Data.
    Data {
        cookie: u64,
        offset: u64,
        length: u32,
        is_last: bool,
    },
    /// The end.
    End { cookie: u64 },
    /// The end, with an error.
    Error { cookie: u64, error: u32 },
    /// Extents: lengths and flags.
    Extents {
        cookie: u64,
        extents: Vec<(u32, u32)>,
    },
}

/// Reads replies. The tests append no data behind the headers that announce it.
fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let (reply, rest) = reply(bytes);
        replies.push(reply);
        bytes = rest;
    }
    replies
}

fn reply(bytes: &[u8]) -> (Reply, &[u8]) {
    let (magic, _) = U32::read_from_prefix(bytes).expect("a magic number");
    if magic.get() == SIMPLE_REPLY_MAGIC {
        let (simple, rest) = SimpleReply::read_from_prefix(bytes).expect("a simple reply");
        let (cookie, error) = (simple.cookie.get(), simple.error.get());
        return (Reply::Simple { cookie, error }, rest);
    }
    assert_eq!(magic.get(), CHUNK_MAGIC);
    let (header, rest) = ChunkHeader::read_from_prefix(bytes).expect("a chunk");
    let cookie = header.cookie.get();
    let is_last = header.flags.get() == chunk::FLAG_DONE;
    if header.kind.get() == chunk::OFFSET_DATA {
        let (offset, rest) = U64::read_from_prefix(rest).expect("an offset");
        let (offset, length) = (offset.get(), header.length.get() - 8);
        return (
            Reply::Data {
                cookie,
                offset,
                length,
                is_last,
            },
            rest,
        );
    }
    assert!(is_last, "only data is followed by more");
    let (data, rest) = rest.split_at(header.length.get() as usize);
    let reply = match header.kind.get() {
        chunk::NONE => {
            assert!(data.is_empty());
            Reply::End { cookie }
        }
        chunk::ERROR => {
            let (error, text) = ErrorChunk::read_from_prefix(data).expect("an error");
            assert_eq!(text.len(), usize::from(error.text_bytes.get()));
            assert!(!text.is_empty(), "an error says why");
            Reply::Error {
                cookie,
                error: error.error.get(),
            }
        }
        chunk::BLOCK_STATUS => {
            let (context, extents) = U32::read_from_prefix(data).expect("a context");
            assert_eq!(context.get(), crate::codec::allocation::CONTEXT);
            let extents = <[Extent]>::ref_from_bytes(extents).expect("whole extents");
            let extents = extents
                .iter()
                .map(|extent| (extent.length.get(), extent.flags.get()));
            Reply::Extents {
                cookie,
                extents: extents.collect(),
            }
        }
        kind => panic!("an unknown chunk: {kind}"),
    };
    (reply, rest)
}

/// A session and what it has replied.
struct Connection {
    session: NbdSession,
    size_bytes: u64,
    out: Vec<u8>,
}

impl Connection {
    fn new(agreement: Agreement) -> Connection {
        Connection {
            session: NbdSession::new(agreement),
            size_bytes: SIZE_BYTES,
            out: Vec::new(),
        }
    }

    fn parse(&mut self, input: &[u8]) -> Parsed {
        self.session.parse(input, self.size_bytes, &mut self.out)
    }

    /// Sends a request that the session passes on.
    fn passed(&mut self, command: u16, flags: u16, offset: u64, length: u32) -> ClientRequest {
        let bytes = request(command, flags, 7, offset, length);
        match self.parse(&bytes) {
            Parsed::Request { consumed, request } => {
                assert_eq!(consumed, bytes.len(), "and nothing of what follows");
                request
            }
            other => panic!("the request was not passed on: {other:?}"),
        }
    }

    /// Sends a request that the session answers by itself, with its payload, and returns its replies.
    fn answered(&mut self, command: u16, flags: u16, offset: u64, length: u32) -> Vec<Reply> {
        let mut bytes = request(command, flags, 7, offset, length);
        if command == command::WRITE {
            bytes.resize(bytes.len() + length as usize, 0xee);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            assert!(self.out.is_empty(), "no reply before the request is whole");
            match self.parse(rest) {
                Parsed::Consumed(consumed) => rest = &rest[consumed..],
                other => panic!("the request was not answered: {other:?}"),
            }
        }
        self.replied()
    }

    /// The error with which the session answers a request by itself.
    fn error(&mut self, command: u16, flags: u16, offset: u64, length: u32) -> u32 {
        match self.answered(command, flags, offset, length)[..] {
            [Reply::Simple { cookie: 7, error } | Reply::Error { cookie: 7, error }] => error,
            ref other => panic!("not one reply: {other:?}"),
        }
    }

    fn data(&mut self, id: u32, offset: u64, length: u64) {
        self.session
            .data(id, Span::new(offset, length), &mut self.out);
    }

    fn done(&mut self, id: u32, result: Result<(), RequestError>) -> Next {
        self.session.done(id, result, &mut self.out)
    }

    /// The replies since the last call.
    fn replied(&mut self) -> Vec<Reply> {
        replies(&std::mem::take(&mut self.out))
    }
}

#[test]
fn commands_become_the_requests_that_they_stand_for() {
    use crate::codec::command_flag::{DF, FUA, NO_HOLE, REQ_ONE};
    let mut connection = Connection::new(WITH_CONTEXT);
    let span = Span::new(4096, 512);
    let zero = |unmap, fua| ClientKind::Zero { unmap, fua };
    for (command, flags, kind) in [
        (command::READ, 0, ClientKind::Read),
        (command::READ, DF | FUA, ClientKind::Read),
        (command::WRITE, 0, ClientKind::Write { fua: false }),
        (command::WRITE, FUA, ClientKind::Write { fua: true }),
        (command::TRIM, 0, zero(true, false)),
        (command::TRIM, FUA, zero(true, true)),
        (command::WRITE_ZEROES, 0, zero(true, false)),
        (command::WRITE_ZEROES, FUA | NO_HOLE, zero(false, true)),
        (command::BLOCK_STATUS, REQ_ONE, ClientKind::Extents),
    ] {
        let request = connection.passed(command, flags, span.offset, 512);
        assert_eq!(
            (request.kind, request.span),
            (kind, span),
            "command {command} {flags}"
        );
    }
    let flush = connection.passed(command::FLUSH, 0, 0, 0);
    assert_eq!(
        (flush.kind, flush.span),
        (ClientKind::Flush, Span::new(0, 0))
    );
    assert!(connection.out.is_empty());
}

#[test]
fn results_are_told_in_the_form_that_was_agreed_on() {
    for (agreement, success, failure) in [
        (
            SIMPLE,
            Reply::Simple {
                cookie: 7,
                error: 0,
            },
            Reply::Simple {
                cookie: 7,
                error: 5,
            },
        ),
        (
            STRUCTURED,
            Reply::End { cookie: 7 },
            Reply::Error {
                cookie: 7,
                error: 5,
            },
        ),
    ] {
        let mut connection = Connection::new(agreement);
        let id = connection.passed(command::WRITE, 0, 0, 512).id;
        assert_eq!(connection.done(id, Ok(())), Next::Continue);
        assert_eq!(connection.replied(), [success]);
        let id = connection.passed(command::FLUSH, 0, 0, 0).id;
        assert_eq!(connection.done(id, Err(RequestError::Io)), Next::Continue);
        assert_eq!(connection.replied(), [failure]);
    }
}

#[test]
fn the_engines_errors_have_numbers_on_the_wire() {
    let mut connection = Connection::new(SIMPLE);
    for (result, error) in [
        (RequestError::Io, 5),
        (RequestError::NoSpace, 28),
        (RequestError::OutOfRange, 22),
        (RequestError::Stopping, 108),
    ] {
        let id = connection.passed(command::WRITE, 0, 0, 512).id;
        assert_eq!(connection.done(id, Err(result)), Next::Continue);
        assert_eq!(connection.replied(), [Reply::Simple { cookie: 7, error }]);
    }
}

#[test]
fn a_node_that_has_lost_its_role_hangs_up_rather_than_fail_a_file_system() {
    let mut connection = Connection::new(STRUCTURED);
    let id = connection.passed(command::WRITE, 0, 0, 512).id;
    assert_eq!(
        connection.done(id, Err(RequestError::NotPrimary)),
        Next::Close
    );
    assert!(connection.out.is_empty());
}

#[test]
fn a_read_is_one_simple_reply_or_a_chunk_for_each_piece() {
    let mut connection = Connection::new(SIMPLE);
    let id = connection.passed(command::READ, 0, 512, 1024).id;
    connection.data(id, 512, 100);
    connection.data(id, 612, 924);
    assert_eq!(connection.done(id, Ok(())), Next::Continue);
    assert_eq!(
        connection.replied(),
        [Reply::Simple {
            cookie: 7,
            error: 0
        }]
    );

    let mut connection = Connection::new(STRUCTURED);
    let id = connection.passed(command::READ, 0, 512, 1024).id;
    connection.data(id, 512, 100);
    connection.data(id, 612, 924);
    assert_eq!(connection.done(id, Ok(())), Next::Continue);
    let data = |offset, length, is_last| Reply::Data {
        cookie: 7,
        offset,
        length,
        is_last,
    };
    assert_eq!(
        connection.replied(),
        [data(512, 100, false), data(612, 924, true)]
    );
}

#[test]
fn an_unfragmented_read_is_one_chunk_also_when_it_comes_in_pieces() {
    use crate::codec::command_flag::DF;
    let mut connection = Connection::new(STRUCTURED);
    let id = connection.passed(command::READ, DF, 512, 1024).id;
    connection.data(id, 512, 100);
    connection.data(id, 612, 924);
    assert_eq!(connection.done(id, Ok(())), Next::Continue);
    let data = Reply::Data {
        cookie: 7,
        offset: 512,
        length: 1024,
        is_last: false,
    };
    assert_eq!(connection.replied(), [data, Reply::End { cookie: 7 }]);

    let length = u32::try_from(crate::limits::UNFRAGMENTED_BYTES_MAX).expect("it is small");
    connection.passed(command::READ, DF, 0, length);
    assert_eq!(connection.error(command::READ, DF, 0, length + 1), 75);
}

#[test]
fn no_reply_comes_between_a_simple_header_and_its_data() {
    let mut connection = Connection::new(SIMPLE);
    let read = connection.passed(command::READ, 0, 0, 1024).id;
    let write = connection.passed(command::WRITE, 0, 0, 512).id;
    connection.data(read, 0, 100);
    assert_eq!(connection.replied().len(), 1);
    assert_eq!(connection.done(write, Ok(())), Next::Continue);
    assert_eq!(
        connection.answered(command::FLUSH, 0, 1, 0),
        [],
        "an error waits as well"
    );
    connection.data(read, 100, 924);
    assert_eq!(connection.replied(), []);
    assert_eq!(connection.done(read, Ok(())), Next::Continue);
    let simple = |error| Reply::Simple { cookie: 7, error };
    assert_eq!(connection.replied(), [simple(0), simple(22)]);
}

#[test]
fn extents_are_merged_cut_to_the_request_and_never_none() {
    let allocation = |length, hole| Allocation { length, hole };
    let pieces = [
        allocation(4096, false),
        allocation(0, true),
        allocation(4096, false),
        allocation(8192, true),
        allocation(1 << 30, false),
    ];
    let ask = |flags, length, pieces: &[Allocation]| {
        let mut connection = Connection::new(WITH_CONTEXT);
        let id = connection
            .passed(command::BLOCK_STATUS, flags, 0, length)
            .id;
        connection.session.extents(id, pieces, &mut connection.out);
        match &connection.replied()[..] {
            [Reply::Extents { cookie: 7, extents }] => extents.clone(),
            other => panic!("not one reply: {other:?}"),
        }
    };
    let one = crate::codec::command_flag::REQ_ONE;
    assert_eq!(ask(0, 65536, &pieces), [(8192, 0), (8192, 3), (49152, 0)]);
    assert_eq!(ask(0, 8192, &pieces), [(8192, 0)]);
    assert_eq!(ask(one, 65536, &pieces), [(8192, 0)]);
    assert_eq!(ask(one, 100, &pieces), [(100, 0)]);
    assert_eq!(ask(0, 4096, &[]), [(4096, 0)]);
    let many: Vec<_> = (0..200_000)
        .map(|index| allocation(1, index % 2 == 0))
        .collect();
    assert_eq!(ask(0, 200_000, &many).len(), crate::limits::EXTENTS_MAX);
}

#[test]
fn once_warm_a_session_allocates_nothing() {
    let mut connection = Connection::new(SIMPLE);
    let mut room = None;
    for round in 0..100 {
        let reads: Vec<_> = (0..32)
            .map(|index| connection.passed(command::READ, 0, index * 4096, 4096))
            .collect();
        let write = connection.passed(command::WRITE, 0, 0, 4096).id;
        for ClientRequest { id, span, .. } in reads {
            connection.data(id, span.offset, 2048);
            connection.out.clear();
            assert_eq!(connection.answered(command::FLUSH, 0, 1, 1), []);
            connection.data(id, span.offset + 2048, 2048);
            assert_eq!(connection.done(id, Ok(())), Next::Continue);
        }
        assert_eq!(connection.done(write, Ok(())), Next::Continue);
        connection.out.clear();
        let now = (
            connection.out.capacity(),
            connection.session.requests.capacity(),
            connection.session.replies.capacity(),
        );
        assert!(
            round == 0 || room == Some(now),
            "round {round} has allocated"
        );
        room = Some(now);
    }
}
