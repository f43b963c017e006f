//! Operations in hand: the slab that holds them and what each of them is doing.

use crate::event::{Buffer, IoId, Nanos, SessionId, Token};
use crate::inflight::Access;
use format::frame::{Digest, Walk};
use format::types::{NodeSet, Slot, Span};

/// An operation's place in the slab.
pub(crate) type OperationId = u32;

/// What a volume's bytes become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// These bytes, from the buffer's start.
    Data(Buffer),
    /// Zeroes, with the space freed or not.
    Zero { unmap: bool },
}

/// A client's read.
#[derive(Debug)]
pub(crate) struct ReadWork {
    pub(crate) token: Token,
    /// What was read from a peer and is being written back, its completion already given.
    pub(crate) repairing: Option<Buffer>,
}

/// A client's write, zero or discard.
///
/// ```text
/// Queued -> (ragged: Reading) -> Logging -> Running -> answered -> (trailing) -> retired
/// ```
#[derive(Debug)]
pub(crate) struct WriteWork {
    pub(crate) token: Token,
    /// The span that the client named, which may be ragged.
    pub(crate) named: Span,
    pub(crate) content: Content,
    pub(crate) fua: bool,
    pub(crate) stage: WriteStage,
}

/// How far a write has come.
#[derive(Debug)]
pub(crate) enum WriteStage {
    /// It waits for its turn, for its blocks to be equal, for its edges or for the activity log.
    Waiting,
    /// It is on its way to the disks.
    Running(Legs),
}

/// Who still has to do a write.
#[derive(Debug)]
pub(crate) struct Legs {
    pub(crate) sequence: u64,
    /// Whose done leg the answer needs: members, and a replica that is about to be one.
    pub(crate) awaiting: NodeSet,
    /// Peers to whom it was ever sent: they may have done it.
    pub(crate) sent_to: NodeSet,
    /// Resync targets that get it too.
    pub(crate) trailing: NodeSet,
    /// The local disk has it in hand.
    pub(crate) local: bool,
    pub(crate) answered: bool,
    pub(crate) result: Result<(), crate::event::RequestError>,
}

/// A write that the primary, or the driver of a walk, has sent.
#[derive(Debug)]
pub(crate) struct ApplyWork {
    pub(crate) peer: Slot,
    pub(crate) session: SessionId,
    pub(crate) content: Content,
    pub(crate) cause: Cause,
}

/// What is answered when a sent write is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// A write of the primary's.
    Mirror { sequence: u64, fua: bool },
    /// A run that a walk pushed here.
    Pushed { chunk: u32, mask: u32 },
    /// A run that this replica's own walk pulled; the chunk operation waits for it.
    Pulled { parent: OperationId },
}

/// A chunk of a walk that this replica drives.
#[derive(Debug)]
pub(crate) struct ChunkWork {
    pub(crate) peer: Slot,
    pub(crate) session: SessionId,
    pub(crate) walk: Walk,
    /// Copy what a comparison finds to differ.
    pub(crate) repair: bool,
    pub(crate) chunk: u32,
    /// The blocks that are compared; known once the chunk is locked.
    pub(crate) mask: u32,
    /// The request that holds the lock for it and waits for it.
    pub(crate) client: Option<OperationId>,
    pub(crate) buffer: Option<Buffer>,
    pub(crate) digests: Box<[Digest]>,
    /// Runs that are being written, here or there.
    pub(crate) runs: u32,
    /// Blocks that the other side says differ; known once it has answered.
    pub(crate) differing: Option<u32>,
    /// Something went wrong: the blocks stay marked.
    pub(crate) failed: bool,
}

/// A chunk that a peer wants compared.
#[derive(Debug)]
pub(crate) struct CompareWork {
    pub(crate) peer: Slot,
    pub(crate) session: SessionId,
    pub(crate) walk: Walk,
    pub(crate) chunk: u32,
    pub(crate) mask: u32,
    pub(crate) digests: Box<[Digest]>,
    pub(crate) buffer: Option<Buffer>,
}

/// What an operation is.
#[derive(Debug)]
pub(crate) enum Work {
    Read(ReadWork),
    Write(WriteWork),
    Apply(ApplyWork),
    /// A read for a peer whose own disk has failed.
    Fetch {
        peer: Slot,
        session: SessionId,
        token: u64,
    },
    Chunk(ChunkWork),
    Compare(CompareWork),
}

/// Something that is done to a range of the volume, from its arrival to the end of its last I/O.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Whole blocks.
    pub(crate) span: Span,
    pub(crate) work: Work,
    /// It has its place in the order of overlapping operations.
    pub(crate) ordered: bool,
    /// Its place in the order of arrival.
    pub(crate) turn: u64,
    /// Its turn has come.
    pub(crate) started: bool,
    /// Its extents are pinned in the activity log.
    pub(crate) logged: bool,
    /// Local I/O and hashes under way, and the chunk that is being made equal for it.
    pub(crate) pending: u32,
    /// Its client has been answered early; it ends with its I/O.
    pub(crate) abandoned: bool,
    pub(crate) arrived: Nanos,
    /// When the local disk was given its part.
    pub(crate) since: Nanos,
    serial: u32,
}

impl Operation {
    /// What it does to its span, as far as others have to wait for it.
    pub(crate) fn access(&self) -> Access {
        match self.work {
            Work::Read(_) | Work::Fetch { .. } | Work::Compare(_) => Access::Read,
            Work::Write(_) | Work::Apply(_) | Work::Chunk(_) => Access::Write,
        }
    }
}

/// The slab.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    entries: Vec<Option<Operation>>,
    free: Vec<OperationId>,
    /// Places given up in the step under way: nobody who still names them may meet a successor.
    retired: Vec<OperationId>,
    serial: u32,
    turns: u64,
}

/// Bits of a serial number that fit an [`IoId`] beside the index and the tag.
const SERIAL_MASK: u32 = 0x00ff_ffff;

impl Operations {
    /// Adds an operation.
    pub(crate) fn insert(&mut self, span: Span, work: Work, now: Nanos) -> OperationId {
        self.serial = (self.serial + 1) & SERIAL_MASK;
        let entry = Operation {
            span,
            work,
            ordered: false,
            turn: 0,
            started: false,
            logged: false,
            pending: 0,
            abandoned: false,
            arrived: now,
            since: now,
            serial: self.serial,
        };
        if let Some(id) = self.free.pop() {
            self.entries[id as usize] = Some(entry);
            return id;
        }
        self.entries.push(Some(entry));
        OperationId::try_from(self.entries.len() - 1)
            .expect("operations are bounded far below 2^32")
    }

    /// The operation takes its place in the order of arrival.
    pub(crate) fn take_turn(&mut self, id: OperationId) {
        self.turns += 1;
        let turn = self.turns;
        let operation = self.get_mut(id);
        operation.ordered = true;
        operation.turn = turn;
    }

    /// Takes an operation out.
    pub(crate) fn remove(&mut self, id: OperationId) -> Operation {
        let entry = self.entries[id as usize]
            .take()
            .expect("an operation retires once");
        assert_eq!(entry.pending, 0, "an operation outlives its I/O");
        self.retired.push(id);
        entry
    }

    /// The step is over: nobody names the places that it gave up.
    pub(crate) fn step_ended(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// The operation, which exists.
    pub(crate) fn get(&self, id: OperationId) -> &Operation {
        self.entries[id as usize]
            .as_ref()
            .expect("the operation is in hand")
    }

    /// The operation, which exists.
    pub(crate) fn get_mut(&mut self, id: OperationId) -> &mut Operation {
        self.entries[id as usize]
            .as_mut()
            .expect("the operation is in hand")
    }

    /// The operation, if it is still there.
    pub(crate) fn find(&self, id: OperationId) -> Option<&Operation> {
        self.entries.get(id as usize)?.as_ref()
    }

    /// All operations in hand.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OperationId, &Operation)> {
        (0..)
            .zip(&self.entries)
            .filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len() - self.retired.len()
    }

    /// Names the next I/O of an operation.
    pub(crate) fn io(&self, id: OperationId) -> IoId {
        IoTarget::Operation {
            id,
            serial: self.get(id).serial,
        }
        .id()
    }

    /// Whether this names an I/O of the operation that has the place now.
    pub(crate) fn owns(&self, id: OperationId, serial: u32) -> bool {
        self.find(id).is_some_and(|entry| entry.serial == serial)
    }
}

/// What an [`IoId`] names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IoTarget {
    /// An operation's read, write or hash.
    Operation { id: OperationId, serial: u32 },
    /// The superblock.
    Superblock,
    /// A block of the activity log.
    Log,
    /// A page of a bitmap.
    Page { slot: Slot, index: u32 },
    /// The local leg of a flush barrier.
    Barrier { token: u32 },
    /// A flush that the primary asked for.
    PeerFlush { peer: Slot },
    /// The local leg of a walk's checkpoint that this replica drives.
    Checkpoint { peer: Slot, number: u64 },
    /// A checkpoint that a peer's walk asked for.
    PeerCheckpoint { peer: Slot },
    /// The flush before a promoted node's first request.
    Promotion,
    /// The last flush of a stop.
    Stop,
}

impl IoTarget {
    /// Its id: a tag in the top byte, the rest below.
    pub(crate) fn id(self) -> IoId {
        let slot = |slot: Slot| slot.index() as u64;
        let (tag, rest) = match self {
            IoTarget::Operation { id, serial } => (0, u64::from(serial) << 32 | u64::from(id)),
            IoTarget::Superblock => (1, 0),
            IoTarget::Log => (2, 0),
            IoTarget::Page { slot: of, index } => (3, slot(of) << 32 | u64::from(index)),
            IoTarget::Barrier { token } => (4, u64::from(token)),
            IoTarget::PeerFlush { peer } => (5, slot(peer)),
            IoTarget::Checkpoint { peer, number } => (
                6,
                u64::from(IoTarget::checkpoint_number(number)) << 32 | slot(peer),
            ),
            IoTarget::PeerCheckpoint { peer } => (7, slot(peer)),
            IoTarget::Promotion => (8, 0),
            IoTarget::Stop => (9, 0),
        };
        IoId(tag << 56 | rest)
    }

    /// What the id names.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fields are taken apart bit by bit"
    )]
    pub(crate) fn of(io: IoId) -> IoTarget {
        let low = io.0 as u32;
        let high = (io.0 >> 32) as u32 & SERIAL_MASK;
        let slot = |number: u32| Slot::new(number as u8).expect("made by IoTarget::id");
        match io.0 >> 56 {
            0 => IoTarget::Operation {
                id: low,
                serial: high,
            },
            1 => IoTarget::Superblock,
            2 => IoTarget::Log,
            3 => IoTarget::Page {
                slot: slot(high),
                index: low,
            },
            4 => IoTarget::Barrier { token: low },
            5 => IoTarget::PeerFlush { peer: slot(low) },
            6 => IoTarget::Checkpoint {
                peer: slot(low),
                number: u64::from(high),
            },
            7 => IoTarget::PeerCheckpoint { peer: slot(low) },
            8 => IoTarget::Promotion,
            9 => IoTarget::Stop,
            tag => unreachable!("no I/O has tag {tag}"),
        }
    }
}

impl IoTarget {
    /// The part of a checkpoint's number that its I/O carries.
    pub(crate) fn checkpoint_number(number: u64) -> u32 {
        u32::try_from(number & 0x00ff_ffff).expect("masked to 24 bits")
    }
}
