//! The whole contract between the core and the shell that drives it: [`Event`] in, [`Effect`] out.
//!
//! The shell (the engine's reactor, or the simulator) calls
//! [`Node::step`](crate::Node::step) once for each event and carries the effects out in the order in
//! which they were pushed. At the end of a turn, when no event is at hand, it steps
//! [`Event::TurnEnded`]: what a turn has gathered (log writes, acknowledgements) leaves then.

use crate::arbiter::{Question, Register};
use crate::command::{Answer, Command, Refusal};
use crate::notice::Notice;
use format::bitmap_page::BitmapPage;
use format::frame::{Digest, Frame};
use format::log_block::LogBlock;
use format::superblock::Superblock;
use format::types::{Slot, Span};

pub use crate::time::Nanos;

/// A piece of the shell's arena. The core never sees what is in it. Whoever holds one holds a claim
/// on it, and hands the claim back with [`Effect::Release`], [`Effect::Complete`] or not at all for
/// those that effects merely mention.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Buffer(pub u32);

/// Names an operation on the local disk, a hash or a piece of metadata until its event returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IoId(pub u64);

/// One life of a link to a peer. The shell never uses a number twice for one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// A front end's name for a request: the client's number in the upper half, so that
/// [`Event::ClientGone`] can find all of one client's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token {
    /// The client.
    pub client: u32,
    /// The client's request.
    pub request: u32,
}

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Read the span; answered with a buffer of the span *widened* to whole blocks.
    Read,
    /// Write what the buffer holds: `span.length` bytes from its start. Not necessarily aligned.
    Write {
        /// The claim on it passes to the core.
        buffer: Buffer,
        /// Durable on every member before the reply.
        fua: bool,
    },
    /// Zero the span, which is of whole blocks (a front end writes zeroes to ragged edges).
    Zero {
        /// Free the space (TRIM, WRITE_ZEROES without NO_HOLE).
        unmap: bool,
        /// Durable on every member before the reply.
        fua: bool,
    },
    /// Make durable, on every member, all that has been replied to.
    Flush,
}

/// A client's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Comes back in [`Effect::Complete`].
    pub token: Token,
    /// What.
    pub kind: Kind,
    /// Where; empty for a flush. At most [`DATA_BYTES_MAX`](crate::limits::DATA_BYTES_MAX) or
    /// [`ZERO_BYTES_MAX`](crate::limits::ZERO_BYTES_MAX) bytes.
    pub span: Span,
}

/// Why a client's request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// No good copy could do it.
    Io,
    /// The disk is full.
    NoSpace,
    /// Past the end of the volume, or too long.
    OutOfRange,
    /// This node is not, or no longer, the primary.
    NotPrimary,
    /// The node is stopping.
    Stopping,
}

/// Why the local disk failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// An I/O error, or no answer within the time limit.
    Io,
    /// No space.
    Full,
}

/// What the shell tells the core.
#[derive(Debug)]
pub enum Event {
    /// A client's request.
    Request(Request),
    /// The client has gone: what of it has not been started is dropped, without completion.
    ClientGone {
        /// Which.
        client: u32,
    },
    /// A local read has ended; the claim on the buffer passes to the core.
    ReadDone {
        /// Which.
        io: IoId,
        /// The widened span's bytes.
        result: Result<Buffer, DiskError>,
    },
    /// A local write, zero, flush or a metadata write has ended.
    IoDone {
        /// Which.
        io: IoId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// Blocks have been hashed.
    Hashed {
        /// Which.
        io: IoId,
        /// One a block.
        digests: Box<[Digest]>,
    },
    /// A link to a peer's replica is up and authenticated. Any earlier session with it is over.
    PeerConnected {
        /// Whose.
        peer: Slot,
        /// The session.
        session: SessionId,
    },
    /// A link has broken. Not sent for a session that the core has disconnected itself.
    PeerLost {
        /// Whose.
        peer: Slot,
        /// The session.
        session: SessionId,
    },
    /// A frame has arrived; the claim on its payload passes to the core.
    Frame {
        /// From whom.
        peer: Slot,
        /// In which session.
        session: SessionId,
        /// What.
        frame: Frame,
        /// The frame's epoch: the sender's configuration when it sent it.
        epoch: u64,
        /// The payload of those kinds that have one.
        payload: Option<Buffer>,
    },
    /// An operator's command.
    Command {
        /// Comes back in [`Effect::Answer`].
        id: u64,
        /// What.
        command: Command,
    },
    /// The arbiter has answered the question under way, or will not.
    ArbiterAnswered(Register),
    /// The time that [`Node::deadline`](crate::Node::deadline) named has come.
    Tick,
    /// No event is at hand.
    TurnEnded,
}

/// What the core tells the shell to do.
#[derive(Debug)]
pub enum Effect {
    /// Answer a client. A successful read passes on the claim on its buffer, which holds the span
    /// widened to whole blocks.
    Complete {
        /// Which request.
        token: Token,
        /// How.
        result: Result<Option<Buffer>, RequestError>,
    },
    /// Read whole blocks from the local disk into a buffer that the shell finds.
    ReadLocal {
        /// Comes back in [`Event::ReadDone`].
        io: IoId,
        /// At most [`PAYLOAD_BYTES_MAX`](format::frame::PAYLOAD_BYTES_MAX) bytes.
        span: Span,
    },
    /// Write whole blocks to the local disk.
    WriteLocal {
        /// Comes back in [`Event::IoDone`].
        io: IoId,
        /// Where.
        span: Span,
        /// What: `span.length` bytes from `start` on.
        buffer: Buffer,
        /// The first byte of the buffer to write.
        start: u32,
        /// Durable before it ends.
        fua: bool,
    },
    /// Make whole blocks of the local disk read as zeroes.
    ZeroLocal {
        /// Comes back in [`Event::IoDone`].
        io: IoId,
        /// Where.
        span: Span,
        /// Free the space.
        unmap: bool,
        /// Durable before it ends.
        fua: bool,
    },
    /// Flush the local disk.
    FlushLocal {
        /// Comes back in [`Event::IoDone`].
        io: IoId,
    },
    /// Copy the first `length` bytes of `patch` over `base` from byte `at` on, at once.
    Overlay {
        /// What is changed.
        base: Buffer,
        /// What it is changed with.
        patch: Buffer,
        /// Where in `base`.
        at: u32,
        /// How many bytes.
        length: u32,
    },
    /// Hash the blocks of the buffer, `blocks` of them from its start.
    Hash {
        /// Comes back in [`Event::Hashed`].
        io: IoId,
        /// What.
        buffer: Buffer,
        /// How many.
        blocks: u32,
    },
    /// The core's claim on the buffer ends. Operations in flight keep their own.
    Release(Buffer),
    /// Write both copies of the superblock, one after the other, each durable.
    WriteSuperblock {
        /// Comes back in [`Event::IoDone`].
        io: IoId,
        /// What.
        superblock: Box<Superblock>,
    },
    /// Write a block of the activity log, durable.
    WriteLog {
        /// Comes back in [`Event::IoDone`].
        io: IoId,
        /// What.
        block: Box<LogBlock>,
    },
    /// Write a page of the bitmap, durable.
    WritePage {
        /// Comes back in [`Event::IoDone`].
        io: IoId,
        /// What.
        page: BitmapPage,
    },
    /// Send a frame, after all that was sent before in the session; what of it is urgent may overtake the rest.
    Send {
        /// To whom.
        peer: Slot,
        /// In which session; if it is over, nothing is sent.
        session: SessionId,
        /// What.
        frame: Frame,
        /// The sender's epoch.
        epoch: u64,
        /// The payload of those kinds that have one.
        payload: Option<Payload>,
    },
    /// End a session, after what was sent before has left if it can.
    Disconnect {
        /// With whom.
        peer: Slot,
        /// Which.
        session: SessionId,
        /// Whether to connect again (with backoff), or to wait for an operator.
        retry: bool,
    },
    /// Ask the arbiter; the answer is [`Event::ArbiterAnswered`]. One question is under way at a time.
    AskArbiter(Question),
    /// The node has stopped serving: disconnect all clients.
    DropClients,
    /// Something that a person may want to know.
    Notice(Notice),
    /// Answer a command.
    Answer {
        /// Which.
        id: u64,
        /// How.
        result: Result<Answer, Refusal>,
    },
}

/// A frame's payload: part of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload {
    /// Which buffer.
    pub buffer: Buffer,
    /// The first byte.
    pub start: u32,
    /// How many bytes.
    pub length: u32,
}

/// Effects, in the order in which they are to be carried out. The shell drains and reuses it.
pub type Effects = Vec<Effect>;
