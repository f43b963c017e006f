//! What every stream socket needs, a peer's or a client's: bytes in bulk one way, batches the
//! other.

use crate::shell::{Shell, Token};
use ring::{Done, File, Operation, OwnedSlot, SendBatch};
use std::io;

/// What one receive takes.
pub(crate) const RECEIVE_BYTES: usize = 64 << 10;
/// The rest of a payload that is received straight into its slot; less is cheaper to receive in
/// bulk and copy.
const DIRECT_BYTES_MIN: usize = 128 << 10;

/// A payload on its way into a slot.
#[derive(Debug)]
pub(crate) struct Filling {
    slot: OwnedSlot,
    filled: usize,
    length: usize,
}

impl Filling {
    /// Wants `length` bytes in the slot.
    pub(crate) fn new(slot: OwnedSlot, length: usize) -> Filling {
        assert!(length <= slot.len());
        Filling {
            slot,
            filled: 0,
            length,
        }
    }

    /// Whether all has come.
    pub(crate) fn is_full(&self) -> bool {
        self.filled == self.length
    }

    /// The slot and how many bytes it holds.
    pub(crate) fn into_slot(self) -> (OwnedSlot, usize) {
        (self.slot, self.filled)
    }
}

/// The receiving half. At most one receive is in flight; while it is, it owns the buffer, and
/// nothing is left to be looked at.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    /// The bytes that nobody has taken: `buffer[start..end]`.
    start: usize,
    end: usize,
    state: Receiving,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receiving {
    Idle,
    InBulk,
    /// Into a filling that had come so far of so much.
    Directly {
        filled: usize,
        length: usize,
    },
}

impl Inbox {
    /// Begins with what has been received already.
    pub(crate) fn new(mut received: Vec<u8>) -> Inbox {
        let end = received.len();
        received.resize(end.max(RECEIVE_BYTES), 0);
        Inbox {
            buffer: received,
            start: 0,
            end,
            state: Receiving::Idle,
        }
    }

    /// What has been received and not been taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes this many bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "more was taken than had come");
    }

    /// Whether no receive is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == Receiving::Idle
    }

    /// Moves what has come into the filling, as far as it goes.
    pub(crate) fn fill(&mut self, filling: &mut Filling) {
        let bytes = (filling.length - filling.filled).min(self.end - self.start);
        let to = filling.filled + bytes;
        filling.slot[filling.filled..to].copy_from_slice(&self.unread()[..bytes]);
        filling.filled = to;
        self.consume(bytes);
    }

    /// Receives more: into the filling if there is one and much of it is missing, else in bulk.
    /// Hands the filling over while the receive lasts.
    pub(crate) fn receive(
        &mut self,
        shell: &mut Shell,
        socket: &File,
        filling: &mut Option<Filling>,
        token: Token,
    ) {
        if self.state != Receiving::Idle {
            return;
        }
        let socket = socket.clone();
        let missing = |filling: &Filling| filling.length - filling.filled;
        let direct = self.start == self.end
            && filling
                .as_ref()
                .is_some_and(|filling| missing(filling) >= DIRECT_BYTES_MIN);
        if let Some(Filling {
            slot,
            filled,
            length,
        }) = filling.take_if(|_| direct)
        {
            let range = filled..length;
            self.state = Receiving::Directly { filled, length };
            shell.ring.submit(
                Operation::ReceiveSlot {
                    socket,
                    slot,
                    range,
                },
                token,
            );
            return;
        }
        self.state = Receiving::InBulk;
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let buffer = std::mem::take(&mut self.buffer);
        let range = self.end..buffer.len();
        assert!(
            !range.is_empty(),
            "nothing that is waited for exceeds the buffer"
        );
        shell.ring.submit(
            Operation::Receive {
                socket,
                buffer,
                range,
            },
            token,
        );
    }

    /// A receive has ended; gives the filling back. An error if the stream has ended too.
    pub(crate) fn received(&mut self, done: Done, filling: &mut Option<Filling>) -> io::Result<()> {
        let state = std::mem::replace(&mut self.state, Receiving::Idle);
        let result = match (done, state) {
            (Done::Receive(result, buffer), Receiving::InBulk) => {
                self.buffer = buffer;
                self.end += result.as_ref().unwrap_or(&0);
                result
            }
            (Done::ReceiveSlot(result, slot), Receiving::Directly { filled, length }) => {
                let filled = filled + result.as_ref().unwrap_or(&0);
                *filling = Some(Filling {
                    slot,
                    filled,
                    length,
                });
                result
            }
            (done, state) => unreachable!("{done:?} while {state:?}"),
        };
        match result? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The sending half: one send in flight, the rest gathers meanwhile.
#[derive(Debug)]
pub(crate) struct Outbox {
    gathering: SendBatch,
    /// Absent while it is being sent.
    spare: Option<SendBatch>,
}

impl Outbox {
    /// With nothing to send.
    pub(crate) fn new() -> Outbox {
        Outbox {
            gathering: SendBatch::default(),
            spare: Some(SendBatch::default()),
        }
    }

    /// What leaves with the next send.
    pub(crate) fn gathering(&mut self) -> &mut SendBatch {
        &mut self.gathering
    }

    /// Whether all has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.spare.is_some() && self.gathering.is_empty()
    }

    /// Sends what has gathered, unless a send is in flight; whether it did.
    pub(crate) fn send(&mut self, shell: &mut Shell, socket: &File, token: Token) -> bool {
        let Some(spare) = self.spare.take_if(|_| !self.gathering.is_empty()) else {
            return false;
        };
        let batch = std::mem::replace(&mut self.gathering, spare);
        let socket = socket.clone();
        shell.ring.submit(Operation::Send { socket, batch }, token);
        true
    }

    /// A send has ended.
    pub(crate) fn sent(&mut self, batch: SendBatch) {
        self.spare = Some(batch);
    }
}
