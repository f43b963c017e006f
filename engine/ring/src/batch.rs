//! What one vectored send carries: bytes of its own and parts of slots, in order.

use crate::arena::SharedSlot;
use bytes::BytesMut;
use std::ops::Range;

/// Pieces that one system call takes (UIO_MAXIOV).
const VECTORS_MAX: usize = 1024;

/// Bytes to be sent, gathered from bytes that the batch owns and from slots that it shares.
///
/// It is meant to be used over and over, so that sending allocates nothing.
#[derive(Default, Debug)]
pub struct SendBatch {
    bytes: BytesMut,
    /// How many of `bytes` belong to a piece.
    covered: usize,
    pieces: Vec<Piece>,
    length: usize,
    message: Box<Message>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Range<usize>),
    Slot(SharedSlot, Range<usize>),
}

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Piece::Bytes(range) | Piece::Slot(_, range) => range.len(),
        }
    }
}

/// What the kernel is shown. In a box, so that it stays where it is while the batch moves.
#[derive(Debug)]
struct Message {
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

impl Default for Message {
    fn default() -> Message {
        Message {
            // SAFETY: all zeroes is a message header without address, data or control data.
            header: unsafe { std::mem::zeroed() },
            vectors: Vec::new(),
        }
    }
}

impl SendBatch {
    /// The bytes gathered so far; what is appended is sent behind everything that the batch holds.
    ///
    /// Bytes once appended must not be taken away again.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Sends part of a slot behind everything that the batch holds.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the slot.
    pub fn push_slot(&mut self, slot: SharedSlot, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= slot.len());
        self.cover_bytes();
        self.length += range.len();
        self.pieces.push(Piece::Slot(slot, range));
    }

    /// How many bytes are to be sent.
    pub fn len(&self) -> usize {
        self.length + self.bytes.len() - self.covered
    }

    /// Whether there is nothing to be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties it and lets go of its slots.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
        (self.covered, self.length) = (0, 0);
    }

    /// Makes a piece of the bytes that were appended since the last one.
    fn cover_bytes(&mut self) {
        let range = self.covered..self.bytes.len();
        assert!(range.start <= range.end, "bytes were taken out of a batch");
        if !range.is_empty() {
            self.covered = range.end;
            self.length += range.len();
            self.pieces.push(Piece::Bytes(range));
        }
    }

    /// The message for what is left to send after `sent` bytes. It refers to memory that the batch
    /// owns and is valid until the batch is changed or dropped.
    pub(crate) fn message(&mut self, sent: usize) -> *const libc::msghdr {
        self.cover_bytes();
        let Message { header, vectors } = &mut *self.message;
        vectors.clear();
        let mut skip = sent;
        for piece in &self.pieces {
            if skip >= piece.bytes() {
                skip -= piece.bytes();
                continue;
            }
            if vectors.len() == VECTORS_MAX {
                break;
            }
            let base = match piece {
                Piece::Bytes(range) => self.bytes[range.clone()].as_ptr().wrapping_add(skip),
                Piece::Slot(slot, range) => slot.pointer_at(range.start + skip),
            };
            vectors.push(libc::iovec {
                iov_base: base.cast_mut().cast(),
                iov_len: piece.bytes() - skip,
            });
            skip = 0;
        }
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = vectors.len() as _;
        header
    }
}
