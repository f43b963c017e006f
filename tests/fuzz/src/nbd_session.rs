//! Whatever a client sends, and however it is cut on its way, the session makes the same of it, does not
//! panic, and passes on no request that does not lie within the volume.

use engine::frontend::{
    Allocation, ClientKind, ClientRequest, Next, PAYLOAD_BYTES_MAX, Parsed, Session,
};
use format::types::Span;
use nbd_server::session::{Agreement, NbdSession};
use replica::event::RequestError;

const SIZE_BYTES: u64 = 1 << 40;

#[derive(PartialEq, Eq, Default, Debug)]
struct Outcome {
    requests: Vec<ClientRequest>,
    out: Vec<u8>,
    ended: Option<&'static str>,
}

/// An engine that has received some bytes.
struct Engine {
    session: NbdSession,
    received: Vec<u8>,
    payload_left: usize,
    /// Requests that are completed only when the third after them comes.
    waiting: Vec<ClientRequest>,
    outcome: Outcome,
}

impl Engine {
    /// Takes one step; whether there may be another.
    fn advance(&mut self) -> bool {
        if self.payload_left > 0 {
            let taken = self.payload_left.min(self.received.len());
            self.received.drain(..taken);
            self.payload_left -= taken;
            return self.payload_left == 0;
        }
        let parsed = self
            .session
            .parse(&self.received, SIZE_BYTES, &mut self.outcome.out);
        match parsed {
            Parsed::More => return false,
            Parsed::Consumed(consumed) => {
                assert!(consumed > 0);
                self.received.drain(..consumed);
            }
            Parsed::Request { consumed, request } => {
                assert!(request.span.end() <= SIZE_BYTES);
                self.received.drain(..consumed);
                self.begin(request);
            }
            Parsed::Drain { .. } => panic!("the session drains by itself"),
            Parsed::Goodbye => self.outcome.ended = Some("goodbye"),
            Parsed::Broken(reason) => self.outcome.ended = Some(reason),
        }
        self.outcome.ended.is_none()
    }

    fn begin(&mut self, request: ClientRequest) {
        if let ClientKind::Write { .. } = request.kind {
            assert!(request.span.length <= PAYLOAD_BYTES_MAX);
            let length = usize::try_from(request.span.length);
            self.payload_left = length.expect("it is limited");
        }
        self.outcome.requests.push(request);
        self.waiting.push(request);
        if self.waiting.len() > 2 {
            let request = self.waiting.remove(0);
            self.complete(request);
        }
    }

    /// Completes a request, in one of several ways that depend on it alone.
    fn complete(&mut self, request: ClientRequest) {
        let ClientRequest { id, kind, span } = request;
        let out = &mut self.outcome.out;
        let fails = span.offset % 3 == 1;
        let result = if fails { Err(RequestError::Io) } else { Ok(()) };
        let next = match kind {
            ClientKind::Extents => {
                let piece = Allocation {
                    length: span.offset % 5 * span.length / 3,
                    hole: fails,
                };
                self.session.extents(
                    id,
                    &[
                        piece,
                        Allocation {
                            hole: !fails,
                            ..piece
                        },
                    ],
                    out,
                );
                Next::Continue
            }
            ClientKind::Read => {
                let first = span.length.div_ceil(2);
                self.session.data(id, Span::new(span.offset, first), out);
                if !fails && first < span.length {
                    let rest = Span::new(span.offset + first, span.length - first);
                    self.session.data(id, rest, out);
                }
                self.session.done(id, result, out)
            }
            _ => self.session.done(id, result, out),
        };
        if next == Next::Close {
            self.outcome.ended = Some("closed");
        }
    }
}

/// Serves a client whose bytes come in pieces of this length.
fn serve(agreement: Agreement, data: &[u8], piece_bytes: usize) -> Outcome {
    let mut engine = Engine {
        session: NbdSession::new(agreement),
        received: Vec::new(),
        payload_left: 0,
        waiting: Vec::new(),
        outcome: Outcome::default(),
    };
    for piece in data.chunks(piece_bytes) {
        engine.received.extend_from_slice(piece);
        while engine.outcome.ended.is_none() && engine.advance() {}
    }
    engine.outcome
}

/// Takes any bytes.
pub fn take(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let structured_replies = choice & 1 != 0;
    let agreement = Agreement {
        structured_replies,
        allocation_context: structured_replies && choice & 2 != 0,
        read_only: choice & 4 != 0,
        sends_again: choice & 8 != 0,
    };
    let whole = serve(agreement, data, data.len().max(1));
    assert_eq!(whole, serve(agreement, data, 29));
    assert_eq!(whole, serve(agreement, data, 1));
}
