use super::{Piece, Places, Request};
use crate::frontend::{ClientKind, ClientRequest};
use format::types::{BLOCK_BYTES, Span};
use replica::limits::{DATA_BYTES_MAX, ZERO_BYTES_MAX};
use std::collections::VecDeque;

fn pieces(kind: ClientKind, span: Span) -> Vec<Piece> {
    let asked = ClientRequest { id: 0, kind, span };
    let mut request = Request {
        asked,
        started_at: 0,
        cut: 0,
        issued: false,
        pending: 0,
        error: None,
        unannounced: VecDeque::new(),
    };
    let mut pieces = Vec::new();
    while let Some(piece) = request.next_piece() {
        assert!(!request.issued);
        request.took(piece);
        pieces.push(piece);
    }
    assert!(request.issued || span.length == 0);
    pieces
}

/// The span of a piece, after a check of its form.
fn checked(piece: Piece) -> Span {
    match piece {
        Piece::Read(span) | Piece::Write(span) => {
            assert!(span.widened().length <= DATA_BYTES_MAX);
            span
        }
        Piece::Zero(span) => {
            assert!(span.is_aligned() && span.length <= ZERO_BYTES_MAX);
            span
        }
        Piece::Edge(span) => {
            assert_eq!(span.widened().length, BLOCK_BYTES);
            assert!(span.length < BLOCK_BYTES);
            span
        }
        Piece::Flush => Span::new(0, 0),
    }
}

#[test]
fn parts_cover_the_request_without_gap() {
    let kinds = [
        ClientKind::Read,
        ClientKind::Write { fua: false },
        ClientKind::Zero {
            unmap: true,
            fua: false,
        },
    ];
    let lengths = [
        1,
        511,
        4095,
        4096,
        4097,
        8192,
        DATA_BYTES_MAX,
        1 << 20,
        (64 << 20) + 5,
    ];
    for kind in kinds {
        for offset in [0, 1, 4095, 4096, 12_289] {
            for length in lengths {
                let mut at = offset;
                for piece in pieces(kind, Span::new(offset, length)) {
                    let span = checked(piece);
                    assert!(span.offset == at && span.length > 0);
                    at = span.end();
                }
                assert_eq!(at, offset + length);
            }
        }
    }
}

#[test]
fn small_requests_are_one_part() {
    let span = Span::new(8192, 4096);
    assert_eq!(pieces(ClientKind::Read, span), [Piece::Read(span)]);
    let write = ClientKind::Write { fua: true };
    assert_eq!(pieces(write, span), [Piece::Write(span)]);
    assert_eq!(pieces(ClientKind::Flush, Span::new(0, 0)), [Piece::Flush]);
    assert_eq!(pieces(ClientKind::Read, Span::new(0, 0)), []);
}

#[test]
fn ragged_zeroes_have_edges() {
    let zero = ClientKind::Zero {
        unmap: false,
        fua: false,
    };
    let expected = [
        Piece::Edge(Span::new(4000, 96)),
        Piece::Zero(Span::new(4096, 8192)),
        Piece::Edge(Span::new(12_288, 10)),
    ];
    assert_eq!(pieces(zero, Span::new(4000, 8298)), expected);
    assert_eq!(
        pieces(zero, Span::new(10, 20)),
        [Piece::Edge(Span::new(10, 20))]
    );
}

#[test]
fn places_are_used_again() {
    let mut places = Places::default();
    let (first, second) = (places.insert('a'), places.insert('b'));
    assert_eq!(places.remove(first), Some('a'));
    assert_eq!(places.remove(first), None);
    assert_eq!((places.insert('c'), places.len()), (first, 2));
    assert_eq!(places.get_mut(second), Some(&mut 'b'));
}
