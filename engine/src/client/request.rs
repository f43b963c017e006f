//! A client's requests and the parts into which they are cut.

use crate::frontend::{ClientKind, ClientRequest};
use format::types::{BLOCK_BYTES, Span};
use replica::event::{Nanos, RequestError};
use replica::limits::{DATA_BYTES_MAX, ZERO_BYTES_MAX};
use ring::SharedSlot;
use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// Parts of one request that the core has at once: they hide its latency and bound what waits to be
/// sent in order.
pub(crate) const PARTS_MAX: u32 = 16;

/// A request from its arrival to its reply.
#[derive(Debug)]
pub(crate) struct Request {
    /// What the session asked for.
    pub(crate) asked: ClientRequest,
    pub(crate) started_at: Nanos,
    /// Bytes that have been cut off its front.
    pub(crate) cut: u64,
    /// Whether everything has been handed to the core that will be.
    pub(crate) issued: bool,
    /// Parts that the core has.
    pub(crate) pending: u32,
    /// The first failure of a part.
    pub(crate) error: Option<RequestError>,
    /// A read's parts whose data has not been announced, in order.
    pub(crate) unannounced: VecDeque<u32>,
}

/// What the core is asked to do for a part of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// Read this.
    Read(Span),
    /// Write this from the payload.
    Write(Span),
    /// Zero this; whole blocks.
    Zero(Span),
    /// Write zeroes over this: a ragged edge.
    Edge(Span),
    /// Flush.
    Flush,
}

impl Request {
    /// The next part, if there is one.
    pub(crate) fn next_piece(&self) -> Option<Piece> {
        let ClientRequest { kind, span, .. } = self.asked;
        if let ClientKind::Flush = kind {
            return (!self.issued).then_some(Piece::Flush);
        }
        let rest = Span::new(span.offset + self.cut, span.length - self.cut);
        if rest.length == 0 {
            return None;
        }
        Some(match kind {
            ClientKind::Read => Piece::Read(cut_data(rest)),
            ClientKind::Write { .. } => Piece::Write(cut_data(rest)),
            ClientKind::Zero { .. } => cut_zero(rest),
            ClientKind::Flush | ClientKind::Extents => return None,
        })
    }

    /// Notes that this part has been cut off.
    pub(crate) fn took(&mut self, piece: Piece) {
        match piece {
            Piece::Read(span) | Piece::Write(span) | Piece::Zero(span) | Piece::Edge(span) => {
                self.cut += span.length;
                self.issued = self.cut == self.asked.span.length;
            }
            Piece::Flush => self.issued = true,
        }
    }
}

/// The largest part that the core takes, ending on a block boundary unless it is the last.
fn cut_data(rest: Span) -> Span {
    let length = rest.length.min(DATA_BYTES_MAX - rest.offset % BLOCK_BYTES);
    Span::new(rest.offset, length)
}

/// A ragged edge, or as many whole blocks as the core takes.
fn cut_zero(rest: Span) -> Piece {
    let to_boundary = rest.offset.next_multiple_of(BLOCK_BYTES) - rest.offset;
    if to_boundary > 0 || rest.length < BLOCK_BYTES {
        let wanted = if to_boundary > 0 {
            to_boundary
        } else {
            rest.length
        };
        return Piece::Edge(Span::new(rest.offset, wanted.min(rest.length)));
    }
    let whole = rest.length / BLOCK_BYTES * BLOCK_BYTES;
    Piece::Zero(Span::new(rest.offset, whole.min(ZERO_BYTES_MAX)))
}

/// A part that the core has, or a read's part whose turn to be announced has not come.
#[derive(Debug)]
pub(crate) struct Part {
    /// The request's place.
    pub(crate) request: u32,
    /// What of the volume it covers.
    pub(crate) span: Span,
    /// What a read has brought: the span, widened to whole blocks.
    pub(crate) data: Option<SharedSlot>,
    /// Whether the core has answered.
    pub(crate) ended: bool,
}

/// Things by number, whose places are used again.
#[derive(Debug)]
pub(crate) struct Places<T> {
    places: Vec<Option<T>>,
    vacant: Vec<u32>,
}

impl<T> Default for Places<T> {
    fn default() -> Places<T> {
        Places {
            places: Vec::new(),
            vacant: Vec::new(),
        }
    }
}

impl<T> Places<T> {
    /// Finds a place for it.
    pub(crate) fn insert(&mut self, thing: T) -> u32 {
        if let Some(number) = self.vacant.pop() {
            self.places[number as usize] = Some(thing);
            return number;
        }
        self.places.push(Some(thing));
        u32::try_from(self.places.len() - 1).expect("requests in hand are bounded")
    }

    /// Finds it.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    /// Takes it out.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.places.get_mut(number as usize)?.take()?;
        self.vacant.push(number);
        Some(thing)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }
}
