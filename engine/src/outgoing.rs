//! Frames on their way to a peer: a queue of which little is with the kernel at a time, so that what is urgent
//! need not wait behind the rest.

use crate::shell::{Shell, Token};
use bytes::{Buf, BytesMut};
use format::frame::{Frame, Holds, PAYLOAD_BYTES_MAX, PayloadSummary};
use replica::event::Nanos;
use ring::{File, SendBatch, SharedSlot};
use std::collections::VecDeque;
use std::ops::Range;

#[cfg(test)]
mod tests;

/// No frame is added to a send that has so many bytes, where sends take long: what is urgent waits for one that is in
/// flight, with one frame more than this.
const SEND_BYTES_MIN: usize = 128 << 10;
/// The same where they do not: a send of this size costs far more than its submission.
const SEND_BYTES_MAX: usize = 2 << 20;
/// A send that ends sooner may be followed by a larger one,
const SOON_NANOS: Nanos = 5_000_000;
/// and one that ends later, by a smaller one: pings and answers are late by no more than a small part of any lease.
const LATE_NANOS: Nanos = 20_000_000;

const _: () = assert!(SEND_BYTES_MIN <= PAYLOAD_BYTES_MAX);

/// What a link has to send. One send is in flight at a time.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// What leaves before all that waits.
    urgent: BytesMut,
    /// Headers and bodies of the frames that wait, one behind the other.
    heads: BytesMut,
    waiting: VecDeque<Waiting>,
    /// Absent while it is being sent.
    spare: Option<SendBatch>,
    /// When that began,
    began_at: Nanos,
    /// and whether it is as large as it may be: others end soon on any link.
    is_full: bool,
    /// No frame is added to a send that has so many bytes, and the kernel takes so many that it has not sent: enough until
    /// the next send comes.
    send_bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    /// Bytes of its header and body.
    head: usize,
    payload: Option<(SharedSlot, Range<usize>)>,
    holds: Holds,
}

impl Outgoing {
    /// With nothing to send on a new link.
    pub(crate) fn new(socket: &File) -> Outgoing {
        bound_unsent(socket, SEND_BYTES_MIN);
        Outgoing {
            urgent: BytesMut::new(),
            heads: BytesMut::new(),
            waiting: VecDeque::new(),
            spare: Some(SendBatch::default()),
            began_at: 0,
            is_full: false,
            send_bytes: SEND_BYTES_MIN,
        }
    }

    /// Queues a frame; what of it is urgent leaves before what waits, if it may.
    pub(crate) fn push(
        &mut self,
        frame: &Frame,
        epoch: u64,
        summary: Option<PayloadSummary>,
        payload: Option<(SharedSlot, Range<usize>)>,
    ) {
        if let Some(urgent) = frame.urgent().filter(|urgent| self.may_overtake(urgent)) {
            urgent.encode(epoch, None, &mut self.urgent);
            if urgent == *frame {
                return;
            }
        }
        let before = self.heads.len();
        frame.encode(epoch, summary, &mut self.heads);
        self.waiting.push_back(Waiting {
            head: self.heads.len() - before,
            payload,
            holds: frame.holds(),
        });
    }

    /// Whether there is something to overtake, and all of it may be.
    fn may_overtake(&self, urgent: &Frame) -> bool {
        let mut waiting = self.waiting.iter();
        !self.waiting.is_empty() && waiting.all(|one| urgent.may_overtake(one.holds))
    }

    /// Whether all has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.spare.is_some() && self.urgent.is_empty() && self.waiting.is_empty()
    }

    /// Sends of what waits, unless a send is in flight.
    pub(crate) fn send(&mut self, shell: &mut Shell, socket: &File, token: Token) {
        if self.urgent.is_empty() && self.waiting.is_empty() {
            return;
        }
        let Some(mut batch) = self.spare.take() else {
            return;
        };
        batch.bytes().extend_from_slice(&self.urgent);
        self.urgent.clear();
        while batch.len() < self.send_bytes
            && let Some(Waiting { head, payload, .. }) = self.waiting.pop_front()
        {
            batch.bytes().extend_from_slice(&self.heads[..head]);
            self.heads.advance(head);
            if let Some((slot, range)) = payload {
                batch.push_slot(slot, range);
            }
        }
        self.began_at = shell.now;
        self.is_full = batch.len() >= self.send_bytes;
        let socket = socket.clone();
        shell
            .ring
            .submit(ring::Operation::Send { socket, batch }, token);
    }

    /// A send has ended.
    pub(crate) fn sent(&mut self, batch: SendBatch, socket: &File, now: Nanos) {
        self.spare = Some(batch);
        let took = now.saturating_sub(self.began_at);
        let next = if took > LATE_NANOS {
            (self.send_bytes / 2).max(SEND_BYTES_MIN)
        } else if took < SOON_NANOS && self.is_full {
            (self.send_bytes * 2).min(SEND_BYTES_MAX)
        } else {
            self.send_bytes
        };
        if next != self.send_bytes {
            bound_unsent(socket, next);
            self.send_bytes = next;
        }
    }
}

fn bound_unsent(socket: &File, bytes: usize) {
    // A unix socket does not know what this means, and holds little.
    let _ = socket.bound_unsent(u32::try_from(bytes).unwrap_or(u32::MAX));
}
