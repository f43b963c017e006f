//! However the client's bytes are cut on their way, the session makes the same of them; and whatever
//! they are, it does not panic.

use super::{READ_ONLY, SIMPLE, SIZE_BYTES, STRUCTURED, WITH_CONTEXT, request};
use crate::session::{Agreement, NbdSession};
use engine::frontend::{Allocation, ClientKind, ClientRequest, Next, Parsed, Session};
use format::types::Span;
use proptest::prelude::*;
use replica::event::RequestError;

/// What came of a client's bytes.
#[derive(PartialEq, Eq, Default, Debug)]
struct Outcome {
    requests: Vec<(ClientRequest, Vec<u8>)>,
    out: Vec<u8>,
    ended: Option<&'static str>,
}

/// An engine that has received some bytes.
struct Engine {
    session: NbdSession,
    received: Vec<u8>,
    /// A write whose payload is still to come.
    waiting: Option<ClientRequest>,
    outcome: Outcome,
}

impl Engine {
    fn new(agreement: Agreement) -> Engine {
        Engine {
            session: NbdSession::new(agreement),
            received: Vec::new(),
            waiting: None,
            outcome: Outcome::default(),
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while self.outcome.ended.is_none() && self.advance() {}
    }

    /// Takes one step; whether there may be another.
    fn advance(&mut self) -> bool {
        if let Some(write) = self.waiting {
            let length = usize::try_from(write.span.length).expect("it is bounded");
            if self.received.len() < length {
                return false;
            }
            let payload = self.received.drain(..length).collect();
            self.waiting = None;
            self.complete(write, payload);
            return true;
        }
        let parsed = self
            .session
            .parse(&self.received, SIZE_BYTES, &mut self.outcome.out);
        match parsed {
            Parsed::More => return false,
            Parsed::Consumed(consumed) => {
                assert!(0 < consumed && consumed <= self.received.len());
                self.received.drain(..consumed);
            }
            Parsed::Request { consumed, request } => {
                self.received.drain(..consumed);
                assert!(request.span.end() <= SIZE_BYTES);
                match request.kind {
                    ClientKind::Write { .. } => self.waiting = Some(request),
                    _ => self.complete(request, Vec::new()),
                }
            }
            Parsed::Drain { .. } => panic!("the session drains by itself"),
            Parsed::Goodbye => self.outcome.ended = Some("goodbye"),
            Parsed::Broken(reason) => self.outcome.ended = Some(reason),
        }
        true
    }

    /// Completes a request, in one of several ways that depend on it alone.
    fn complete(&mut self, request: ClientRequest, payload: Vec<u8>) {
        self.outcome.requests.push((request, payload));
        let ClientRequest { id, kind, span } = request;
        let out = &mut self.outcome.out;
        let fails = span.offset % 3 == 1;
        let next = match kind {
            ClientKind::Extents => {
                let half = Allocation {
                    length: span.length / 2,
                    hole: fails,
                };
                self.session.extents(
                    id,
                    &[
                        half,
                        Allocation {
                            hole: false,
                            ..half
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
                let result = if fails { Err(RequestError::Io) } else { Ok(()) };
                self.session.done(id, result, out)
            }
            _ if fails => self.session.done(id, Err(RequestError::NoSpace), out),
            _ => self.session.done(id, Ok(()), out),
        };
        if next == Next::Close {
            self.outcome.ended = Some("closed");
        }
    }
}

fn agreement() -> impl Strategy<Value = Agreement> {
    prop_oneof![
        Just(SIMPLE),
        Just(STRUCTURED),
        Just(WITH_CONTEXT),
        Just(READ_ONLY)
    ]
}

/// A client's request with its payload, as a client might send it.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![12 => 0..8u16, 1 => any::<u16>()];
    let command = command.prop_filter("goodbyes are rare", |command| *command != 2);
    let flags = prop_oneof![4 => Just(0u16), 3 => 0..32u16, 1 => any::<u16>()];
    let offset = prop_oneof![4 => 0..SIZE_BYTES, 1 => any::<u64>()];
    let length = prop_oneof![6 => 0..300u32, 1 => Just(1u32 << 20)];
    (command, flags, any::<u64>(), offset, length).prop_map(
        |(command, flags, cookie, offset, length)| {
            let mut bytes = request(command, flags, cookie, offset, length);
            if command == 1 {
                bytes.resize(bytes.len() + length as usize, cookie.to_be_bytes()[0]);
            }
            bytes
        },
    )
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let garbage = prop::collection::vec(any::<u8>(), 0..64);
    let message = prop_oneof![20 => plausible(), 1 => garbage];
    prop::collection::vec(message, 0..20).prop_map(|messages| messages.concat())
}

proptest! {
    #[test]
    fn splits_change_nothing(
        agreement in agreement(),
        stream in stream(),
        lengths in prop::collection::vec(1..200usize, 0..200),
    ) {
        let mut whole = Engine::new(agreement);
        whole.receive(&stream);
        let mut cut = Engine::new(agreement);
        let mut rest = &stream[..];
        for length in lengths {
            let (piece, left) = rest.split_at(length.min(rest.len()));
            cut.receive(piece);
            rest = left;
        }
        cut.receive(rest);
        prop_assert_eq!(whole.outcome, cut.outcome);
    }

    #[test]
    fn garbage_panics_nothing(
        agreement in agreement(),
        garbage in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut engine = Engine::new(agreement);
        engine.receive(&garbage);
        let with_magic = [&crate::codec::REQUEST_MAGIC.to_be_bytes()[..], &garbage].concat();
        let mut engine = Engine::new(agreement);
        engine.receive(&with_magic);
    }
}
