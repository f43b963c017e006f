//! How the replies of one client are written, and in what order they may leave.

use crate::codec::{
    CHUNK_MAGIC, ChunkHeader, ErrorChunk, Extent, Failure, SIMPLE_REPLY_MAGIC, SimpleReply,
    allocation, chunk, put,
};
use crate::limits::EXTENTS_MAX;
use engine::frontend::{Allocation, Next};
use format::types::Span;
use zerocopy::big_endian::{U32, U64};

/// A request that is not carried out, and what the client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    /// For the client's program.
    pub(crate) failure: Failure,
    /// For a person. Far below the longest string.
    pub(crate) reason: &'static str,
}

/// How a read's data is announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// One simple reply before all of it.
    Simple,
    /// One chunk header before all of it.
    OneChunk,
    /// A chunk header before each piece.
    Chunks,
}

/// A read whose data is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reading {
    /// The client's name for it.
    pub(crate) cookie: u64,
    /// Where; not empty.
    pub(crate) span: Span,
    /// Bytes that have been announced.
    pub(crate) announced: u64,
    /// How they are announced.
    pub(crate) framing: Framing,
}

/// A question for extents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    /// The client's name for it.
    pub(crate) cookie: u64,
    /// Where; not empty.
    pub(crate) span: Span,
    /// The client wants to know of one extent only.
    pub(crate) one: bool,
}

/// The replies of one client.
#[derive(Debug)]
pub(crate) struct Replies {
    structured: bool,
    /// The read that the client was promised more data of than was announced: nothing else may come
    /// between.
    promised: Option<u32>,
    /// Replies that wait for that read to end. Only as many as there are requests in flight.
    held: Vec<u8>,
}

impl Replies {
    /// Of a client that has agreed to structured replies, or has not.
    pub(crate) fn new(structured: bool) -> Replies {
        Replies {
            structured,
            promised: None,
            held: Vec::new(),
        }
    }

    /// How a read's data is announced.
    pub(crate) fn framing(&self, unfragmented: bool) -> Framing {
        match (self.structured, unfragmented) {
            (false, _) => Framing::Simple,
            (true, true) => Framing::OneChunk,
            (true, false) => Framing::Chunks,
        }
    }

    /// The request was carried out, and there is no more to say.
    pub(crate) fn success(&mut self, cookie: u64, out: &mut Vec<u8>) {
        let structured = self.structured;
        let out = self.outlet(out);
        if structured {
            put_chunk(cookie, chunk::NONE, true, 0, out);
        } else {
            put_simple(cookie, 0, out);
        }
    }

    /// The request was not carried out.
    pub(crate) fn failure(&mut self, cookie: u64, refused: Refused, out: &mut Vec<u8>) {
        let structured = self.structured;
        let out = self.outlet(out);
        if structured {
            put_error(cookie, refused, out);
        } else {
            put_simple(cookie, refused.failure.number(), out);
        }
    }

    /// Announces a piece of a read's data, which follows.
    pub(crate) fn data(&mut self, id: u32, reading: &mut Reading, piece: Span, out: &mut Vec<u8>) {
        let Reading { cookie, span, .. } = *reading;
        let between = self.promised.is_some_and(|promised| promised != id);
        assert!(!between, "the engine announced a read within another");
        let is_next = piece.offset == span.offset + reading.announced;
        assert!(
            is_next && piece.end() <= span.end(),
            "the engine skipped or overran a read's data"
        );
        let is_first = reading.announced == 0;
        reading.announced += piece.length;
        let is_last = reading.announced == span.length;
        match reading.framing {
            Framing::Chunks => put_data_chunk(cookie, piece, is_last, out),
            Framing::OneChunk if is_first => put_data_chunk(cookie, span, false, out),
            Framing::Simple if is_first => put_simple(cookie, 0, out),
            Framing::OneChunk | Framing::Simple => {}
        }
        let whole = reading.framing != Framing::Chunks;
        self.promised = (whole && !is_last).then_some(id);
    }

    /// A read has ended. Says whether the connection can go on.
    pub(crate) fn read_ended(
        &mut self,
        id: u32,
        reading: Reading,
        result: Result<(), Refused>,
        out: &mut Vec<u8>,
    ) -> Next {
        if self.promised == Some(id) {
            self.promised = None;
        }
        let cookie = reading.cookie;
        let missing = reading.span.length - reading.announced;
        assert!(
            result.is_err() || missing == 0,
            "the engine ended a read before its data"
        );
        match (reading.framing, result) {
            (Framing::Simple | Framing::Chunks, Ok(())) => {}
            (Framing::OneChunk, Ok(())) => self.success(cookie, out),
            (_, Err(refused)) if reading.announced == 0 => self.failure(cookie, refused, out),
            (Framing::Chunks, Err(refused)) if missing > 0 => self.failure(cookie, refused, out),
            (Framing::OneChunk, Err(refused)) => {
                // The chunk has to be as long as its header said; what it holds does not count.
                let padding = usize::try_from(missing).expect("an unfragmented read is short");
                out.resize(out.len() + padding, 0);
                self.failure(cookie, refused, out);
            }
            // The client has been told that it succeeded.
            (Framing::Simple | Framing::Chunks, Err(_)) => return Next::Close,
        }
        self.release(out);
        Next::Continue
    }

    /// Reports which parts of the span are holes. What the pieces do not cover the client asks for
    /// again.
    pub(crate) fn extents(&mut self, status: Status, pieces: &[Allocation], out: &mut Vec<u8>) {
        let Status { cookie, span, one } = status;
        let out = self.outlet(out);
        let start = out.len();
        put_chunk(cookie, chunk::BLOCK_STATUS, true, 0, out);
        put(out, &U32::new(allocation::CONTEXT));
        let extents_max = if one { 1 } else { EXTENTS_MAX };
        let count = put_extents(span, pieces, extents_max, out);
        let length = u32::try_from(size_of::<U32>() + count * size_of::<Extent>());
        let length = length.expect("extents are few");
        let field = start + size_of::<ChunkHeader>() - size_of::<U32>();
        out[field..][..size_of::<U32>()].copy_from_slice(&length.to_be_bytes());
    }

    /// Where a reply goes that is no part of a read's data.
    fn outlet<'a>(&'a mut self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if self.promised.is_some() {
            &mut self.held
        } else {
            out
        }
    }

    /// Lets go what has waited for the end of a read.
    fn release(&mut self, out: &mut Vec<u8>) {
        if self.promised.is_none() {
            out.append(&mut self.held);
        }
    }

    /// What it has room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.held.capacity()
    }
}

/// Appends extents, neighbours of one kind as one, and says how many; at least one.
fn put_extents(span: Span, pieces: &[Allocation], extents_max: usize, out: &mut Vec<u8>) -> usize {
    let mut left = span.length;
    let mut count = 0;
    let mut last: Option<Allocation> = None;
    for piece in pieces {
        let piece = Allocation {
            length: piece.length.min(left),
            ..*piece
        };
        left -= piece.length;
        match &mut last {
            _ if piece.length == 0 => {}
            Some(last) if last.hole == piece.hole => last.length += piece.length,
            Some(_) if count + 1 == extents_max => break,
            last => {
                if let Some(last) = last.replace(piece) {
                    put_extent(last, out);
                    count += 1;
                }
            }
        }
    }
    // A client that hears of no extent cannot go on; calling something data is always true.
    let all_data = Allocation {
        length: span.length,
        hole: false,
    };
    put_extent(last.unwrap_or(all_data), out);
    count + 1
}

fn put_extent(extent: Allocation, out: &mut Vec<u8>) {
    let length = u32::try_from(extent.length).expect("within a request, whose length has 32 bits");
    let flags = if extent.hole {
        allocation::HOLE | allocation::ZERO
    } else {
        0
    };
    let extent = Extent {
        length: length.into(),
        flags: flags.into(),
    };
    put(out, &extent);
}

fn put_simple(cookie: u64, error: u32, out: &mut Vec<u8>) {
    let reply = SimpleReply {
        magic: SIMPLE_REPLY_MAGIC.into(),
        error: error.into(),
        cookie: cookie.into(),
    };
    put(out, &reply);
}

fn put_chunk(cookie: u64, kind: u16, is_last: bool, length: u32, out: &mut Vec<u8>) {
    let flags = if is_last { chunk::FLAG_DONE } else { 0 };
    let header = ChunkHeader {
        magic: CHUNK_MAGIC.into(),
        flags: flags.into(),
        kind: kind.into(),
        cookie: cookie.into(),
        length: length.into(),
    };
    put(out, &header);
}

fn put_data_chunk(cookie: u64, data: Span, is_last: bool, out: &mut Vec<u8>) {
    let length = size_of::<U64>() as u64 + data.length;
    let length = u32::try_from(length).expect("reads are bounded");
    put_chunk(cookie, chunk::OFFSET_DATA, is_last, length, out);
    put(out, &U64::new(data.offset));
}

fn put_error(cookie: u64, refused: Refused, out: &mut Vec<u8>) {
    let text_bytes = u16::try_from(refused.reason.len()).expect("reasons are short");
    let length = size_of::<ErrorChunk>() + refused.reason.len();
    let length = u32::try_from(length).expect("reasons are short");
    put_chunk(cookie, chunk::ERROR, true, length, out);
    let error = ErrorChunk {
        error: refused.failure.number().into(),
        text_bytes: text_bytes.into(),
    };
    put(out, &error);
    out.extend_from_slice(refused.reason.as_bytes());
}
