//! What a front end is: something that turns a client's bytes into requests and results into
//! replies.
//!
//! The reactor owns the client's socket. It receives in bulk, shows a [`Session`] what has come,
//! copies payloads into slots, cuts large requests into parts that the core takes, and calls the
//! session back in the order in which replies may leave. A session is pure: it does no I/O and
//! never blocks.

use format::types::Span;
use replica::event::RequestError;

/// The most payload bytes of one request; above, the session drains and refuses.
pub const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

/// What a client wants, before it is cut into parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientRequest {
    /// Names the request in the session's callbacks: the session's own choice, unique among its
    /// requests in flight.
    pub id: u32,
    /// What.
    pub kind: ClientKind,
    /// Where, any alignment; the session has checked that it lies within the volume. Empty for a
    /// flush.
    pub span: Span,
}

/// Kinds of client requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientKind {
    /// Read.
    Read,
    /// Write; the payload, `span.length` bytes, follows in the stream.
    Write {
        /// Durable before the reply.
        fua: bool,
    },
    /// Zero the span.
    Zero {
        /// Free the space.
        unmap: bool,
        /// Durable before the reply.
        fua: bool,
    },
    /// Flush.
    Flush,
    /// Tell which parts of the span hold data; answered by [`Session::extents`].
    Extents,
}

/// What the session made of the received bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// It needs more than it was shown, and has consumed nothing.
    More,
    /// It has consumed these bytes and perhaps put a reply into `out`; show it the rest.
    Consumed(usize),
    /// A request; a write's payload follows what was consumed.
    Request {
        /// Bytes consumed.
        consumed: usize,
        /// The request.
        request: ClientRequest,
    },
    /// Throw the next `drain` bytes behind those consumed away (a refused write's payload).
    Drain {
        /// Bytes consumed.
        consumed: usize,
        /// Bytes to throw away.
        drain: u64,
    },
    /// The client says goodbye: finish what is in flight, send the replies, close.
    Goodbye,
    /// The client broke the protocol: close at once.
    Broken(&'static str),
}

/// A piece of the volume and whether it is known to read as zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// Bytes.
    pub length: u64,
    /// It is a hole of the data file.
    pub hole: bool,
}

/// What becomes of the connection after a callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It goes on.
    Continue,
    /// It cannot be saved: close at once (a simple reply whose data is half sent).
    Close,
}

/// A client's connection after its negotiation. Callbacks append reply bytes to `out`; the reactor
/// sends them, with the data of reads behind the header that announced it.
pub trait Session: Send {
    /// Looks at what has been received. Replies to refused requests go to `out` at once.
    fn parse(&mut self, input: &[u8], size_bytes: u64, out: &mut Vec<u8>) -> Parsed;

    /// A piece of a read's data follows `out`. Pieces come in order, without gap, from the first
    /// byte of the request to its last. A read whose first piece has been announced is announced to
    /// its end before another read's first piece: a protocol may have promised its length already.
    fn data(&mut self, id: u32, piece: Span, out: &mut Vec<u8>);

    /// A request other than [`ClientKind::Extents`] has ended. Of a read all data has been
    /// announced if it succeeded; some may have been if it failed.
    fn done(&mut self, id: u32, result: Result<(), RequestError>, out: &mut Vec<u8>) -> Next;

    /// The answer to [`ClientKind::Extents`]: pieces in order from the first byte of the request
    /// on, not necessarily to its last.
    fn extents(&mut self, id: u32, pieces: &[Allocation], out: &mut Vec<u8>);

    /// From now on new requests are to be answered with "shutting down".
    fn shut_down(&mut self);
}
