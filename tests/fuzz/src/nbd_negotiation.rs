//! Whatever a client sends, and however it is cut on its way, the negotiation makes the same of it, does
//! not panic, and keeps no more of it than an option's length.

use bytes::BytesMut;
use nbd_server::exports::{ExportInfo, Refusal};
use nbd_server::limits::OPTION_BYTES_MAX;
use nbd_server::negotiation::{Decision, Negotiation};

#[derive(PartialEq, Eq, Default, Debug)]
struct Outcome {
    out: Vec<u8>,
    asked: Vec<String>,
    closed: Option<&'static str>,
    session: Option<String>,
}

fn look_up(name: &str) -> Result<ExportInfo, Refusal> {
    match name.len() % 4 {
        0 => Err(Refusal::Unknown(name.to_owned())),
        1 => Err(Refusal::Policy(name.to_owned())),
        length => Ok(ExportInfo {
            size_bytes: 1 << 30,
            read_only: length == 2,
        }),
    }
}

/// Negotiates with a client whose bytes come in pieces of this length.
fn negotiate(data: &[u8], piece_bytes: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut negotiation = Negotiation::new(&mut outcome.out);
    let mut input = BytesMut::new();
    for piece in data.chunks(piece_bytes) {
        input.extend_from_slice(piece);
        loop {
            let out = &mut outcome.out;
            match negotiation.advance(&mut input, out) {
                Decision::More => break,
                Decision::List => negotiation.listed(&["pg".to_owned()], out),
                Decision::Describe(question) => {
                    outcome.asked.push(question.export().to_owned());
                    let answer = look_up(question.export());
                    negotiation.described(question, answer, out);
                }
                Decision::Open(question) => {
                    outcome.asked.push(question.export().to_owned());
                    let answer = look_up(question.export());
                    if let Some(session) = negotiation.opened(question, answer, out) {
                        outcome.session = Some(format!("{session:?}"));
                        return outcome;
                    }
                }
                Decision::Close(reason) => {
                    outcome.closed = Some(reason);
                    return outcome;
                }
            }
        }
        assert!(input.len() < 16 + OPTION_BYTES_MAX as usize);
    }
    outcome
}

/// Takes any bytes.
pub fn take(data: &[u8]) {
    let whole = negotiate(data, data.len().max(1));
    assert_eq!(whole, negotiate(data, 7));
    assert_eq!(whole, negotiate(data, 1));
}
