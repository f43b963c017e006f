//! The rules that servers get wrong, by their numbers in the list.

use super::{
    Agreement, Connection, READ_ONLY, Reply, SIMPLE, SIZE_BYTES, STRUCTURED, WITH_CONTEXT, command,
    request,
};
use crate::codec::command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
use crate::codec::{Failure, REQUEST_MAGIC};
use engine::frontend::{ClientKind, Next, PAYLOAD_BYTES_MAX, Parsed, Session};
use format::types::Span;
use replica::event::RequestError;

const PERMISSION: u32 = Failure::ReadOnly.number();
const INVALID: u32 = Failure::Invalid.number();
const NO_SPACE: u32 = Failure::NoSpace.number();
const SHUTDOWN: u32 = Failure::ShuttingDown.number();

/// The engine's flush covers all of a volume's clients, so the session must neither answer a flush by
/// itself nor before the engine has.
#[test]
fn rule_1_a_flush_is_the_engines_to_answer() {
    let mut connection = Connection::new(SIMPLE);
    let write = connection.passed(command::WRITE, 0, 0, 512).id;
    assert_eq!(connection.done(write, Ok(())), Next::Continue);
    assert_eq!(connection.replied().len(), 1);
    let flush = connection.passed(command::FLUSH, 0, 0, 0);
    assert_eq!(flush.kind, ClientKind::Flush);
    assert_eq!(connection.replied(), []);
    assert_eq!(connection.done(flush.id, Ok(())), Next::Continue);
    assert_eq!(connection.replied().len(), 1);
}

#[test]
fn rule_2_a_goodbye_has_no_reply_and_what_is_outstanding_has() {
    let mut connection = Connection::new(STRUCTURED);
    let write = connection.passed(command::WRITE, 0, 0, 512).id;
    let goodbye = request(command::DISCONNECT, 0, 9, 0, 0);
    assert_eq!(connection.parse(&goodbye), Parsed::Goodbye);
    assert_eq!(connection.replied(), []);
    assert_eq!(connection.done(write, Ok(())), Next::Continue);
    assert_eq!(connection.replied(), [Reply::End { cookie: 7 }]);
}

/// The engine orders what overlaps by arrival; the session's part is that requests leave it in the order
/// in which they came, each before the next is looked at.
#[test]
fn rule_3_requests_are_passed_on_in_order_of_arrival() {
    let mut connection = Connection::new(SIMPLE);
    let mut stream = Vec::new();
    for offset in [8192, 0, 4096, 0] {
        stream.extend(request(command::READ, 0, offset, offset, 4096));
    }
    let mut passed = Vec::new();
    let mut rest = &stream[..];
    while let Parsed::Request { consumed, request } = connection.parse(rest) {
        passed.push(request.span.offset);
        rest = &rest[consumed..];
    }
    assert_eq!(passed, [8192, 0, 4096, 0]);
}

#[test]
fn rule_4_a_payload_too_long_is_drained_and_refused_and_lengths_without_payload_are_taken() {
    let mut connection = Connection::new(SIMPLE);
    connection.size_bytes = 1 << 40;
    let mebibytes = |count: u32| count << 20;
    for length in [mebibytes(32), mebibytes(64)] {
        assert!(u64::from(length) <= PAYLOAD_BYTES_MAX);
        connection.passed(command::WRITE, 0, 0, length);
        connection.passed(command::READ, 0, 0, length);
    }
    assert_eq!(
        connection.error(command::READ, 0, 0, mebibytes(64) + 1),
        INVALID
    );
    let too_long = request(command::WRITE, 0, 7, 0, mebibytes(65));
    assert_eq!(connection.parse(&too_long), Parsed::Consumed(28));
    let part = vec![0; mebibytes(13) as usize];
    for _ in 0..5 {
        assert_eq!(connection.replied(), []);
        assert_eq!(connection.parse(&part), Parsed::Consumed(part.len()));
    }
    assert_eq!(
        connection.replied(),
        [Reply::Simple {
            cookie: 7,
            error: INVALID
        }]
    );
    for command in [command::TRIM, command::WRITE_ZEROES] {
        let length = u32::MAX - 511;
        assert_eq!(
            connection.passed(command, 0, 0, length).span,
            Span::new(0, length.into())
        );
    }
}

#[test]
fn rule_5_past_the_end_and_read_only_have_their_errors() {
    let table = [
        (command::READ, INVALID),
        (command::WRITE, NO_SPACE),
        (command::TRIM, INVALID),
        (command::WRITE_ZEROES, NO_SPACE),
        (command::CACHE, INVALID),
        (command::BLOCK_STATUS, INVALID),
    ];
    for (command, error) in table {
        let mut connection = Connection::new(WITH_CONTEXT);
        for (offset, length) in [
            (SIZE_BYTES, 1),
            (SIZE_BYTES - 512, 513),
            (SIZE_BYTES + 1, 1),
            (u64::MAX, 1),
            (u64::MAX - 511, 512),
            (u64::MAX - 511, 1024),
        ] {
            assert_eq!(
                connection.error(command, 0, offset, length),
                error,
                "command {command}"
            );
        }
        if command != command::CACHE {
            connection.passed(command, 0, SIZE_BYTES - 512, 512);
        }
    }
    for command in [command::WRITE, command::TRIM, command::WRITE_ZEROES] {
        let mut connection = Connection::new(READ_ONLY);
        assert_eq!(connection.error(command, 0, 0, 512), PERMISSION);
        assert_eq!(connection.error(command, 0, SIZE_BYTES, 512), PERMISSION);
        connection.passed(command::READ, 0, 0, 512);
    }
}

#[test]
fn rule_5_the_end_is_where_it_is_now() {
    let mut connection = Connection::new(SIMPLE);
    assert_eq!(
        connection.error(command::WRITE, 0, SIZE_BYTES, 512),
        NO_SPACE
    );
    connection.size_bytes += 512;
    connection.passed(command::WRITE, 0, SIZE_BYTES, 512);
}

#[test]
fn rule_6_flags_that_do_not_belong_are_refused_behind_the_payload() {
    let legal = [
        (command::READ, FUA | DF),
        (command::WRITE, FUA),
        (command::FLUSH, FUA),
        (command::TRIM, FUA),
        (command::CACHE, FUA),
        (command::WRITE_ZEROES, FUA | NO_HOLE | FAST_ZERO),
        (command::BLOCK_STATUS, FUA | REQ_ONE),
    ];
    for (command, legal) in legal {
        let length = if command == command::FLUSH { 0 } else { 512 };
        for flag in (0..16).map(|bit| 1 << bit) {
            let mut connection = Connection::new(WITH_CONTEXT);
            if flag & legal == 0 {
                let error = connection.error(command, flag, 0, length);
                assert_eq!(error, INVALID, "command {command} flag {flag:#x}");
            } else if command == command::CACHE {
                let reply = connection.answered(command, flag, 0, length);
                assert_eq!(reply, [Reply::End { cookie: 7 }]);
            } else if flag != FAST_ZERO {
                connection.passed(command, flag, 0, length);
            }
        }
    }
    let unadvertised = Connection::new(SIMPLE).error(command::READ, DF, 0, 512);
    assert_eq!(unadvertised, INVALID);
    let unknown = Connection::new(SIMPLE).error(8, 0, 0, 512);
    assert_eq!(unknown, INVALID);
    let no_context = Connection::new(STRUCTURED).error(command::BLOCK_STATUS, 0, 0, 512);
    assert_eq!(no_context, INVALID);
}

#[test]
fn rule_6_zeroes_that_must_be_fast_are_refused_and_change_nothing() {
    let mut connection = Connection::new(STRUCTURED);
    let unsupported = Failure::Unsupported.number();
    assert_eq!(
        connection.error(command::WRITE_ZEROES, FAST_ZERO, 0, 512),
        unsupported
    );
    let all = FAST_ZERO | NO_HOLE | FUA;
    assert_eq!(
        connection.error(command::WRITE_ZEROES, all, 0, 512),
        unsupported
    );
}

#[test]
fn rule_7_a_read_has_no_simple_reply_once_structured_replies_are_agreed_on() {
    let mut connection = Connection::new(STRUCTURED);
    let error = |error| [Reply::Error { cookie: 7, error }];
    assert_eq!(
        connection.answered(command::READ, NO_HOLE, 0, 512),
        error(INVALID)
    );
    assert_eq!(
        connection.answered(command::READ, 0, SIZE_BYTES, 512),
        error(INVALID)
    );
    assert_eq!(
        connection.answered(command::READ, 0, 0, 0),
        [Reply::End { cookie: 7 }]
    );
    for announced in [0, 512] {
        let id = connection.passed(command::READ, 0, 0, 1024).id;
        if announced > 0 {
            connection.data(id, 0, announced);
        }
        assert_eq!(connection.done(id, Err(RequestError::Io)), Next::Continue);
        assert_eq!(connection.replied().last(), Some(&error(5)[0]));
    }
    connection.session.shut_down();
    assert_eq!(
        connection.answered(command::READ, 0, 0, 512),
        error(SHUTDOWN)
    );
}

#[test]
fn rule_8_an_empty_range_is_no_reason_to_hang_up() {
    let mut connection = Connection::new(WITH_CONTEXT);
    let commands = [
        command::READ,
        command::WRITE,
        command::TRIM,
        command::WRITE_ZEROES,
        command::CACHE,
    ];
    for command in commands {
        let end = [Reply::End { cookie: 7 }];
        assert_eq!(
            connection.answered(command, 0, 512, 0),
            end,
            "command {command}"
        );
        assert_eq!(
            connection.answered(command, 0, SIZE_BYTES, 0),
            end,
            "command {command}"
        );
    }
    assert_eq!(
        connection.error(command::WRITE, 0, SIZE_BYTES + 1, 0),
        NO_SPACE
    );
    assert_eq!(connection.error(command::BLOCK_STATUS, 0, 0, 0), INVALID);
    assert_eq!(connection.error(command::FLUSH, 0, 1, 0), INVALID);
    assert_eq!(connection.error(command::FLUSH, 0, 0, 1), INVALID);
    connection.passed(command::FLUSH, 0, 0, 0);
}

#[test]
fn rule_9_a_read_that_fails_in_the_middle() {
    let mut connection = Connection::new(SIMPLE);
    let id = connection.passed(command::READ, 0, 0, 1024).id;
    connection.data(id, 0, 512);
    assert_eq!(connection.done(id, Err(RequestError::Io)), Next::Close);

    let mut connection = Connection::new(SIMPLE);
    let id = connection.passed(command::READ, 0, 0, 1024).id;
    assert_eq!(connection.done(id, Err(RequestError::Io)), Next::Continue);
    assert_eq!(
        connection.replied(),
        [Reply::Simple {
            cookie: 7,
            error: 5
        }]
    );

    let mut connection = Connection::new(STRUCTURED);
    let id = connection.passed(command::READ, 0, 0, 1024).id;
    connection.data(id, 0, 512);
    assert_eq!(connection.done(id, Err(RequestError::Io)), Next::Continue);
    let data = Reply::Data {
        cookie: 7,
        offset: 0,
        length: 512,
        is_last: false,
    };
    assert_eq!(
        connection.replied(),
        [
            data,
            Reply::Error {
                cookie: 7,
                error: 5
            }
        ]
    );
}

#[test]
fn rule_9_an_unfragmented_read_that_fails_in_the_middle_is_padded() {
    let mut connection = Connection::new(STRUCTURED);
    let id = connection.passed(command::READ, DF, 0, 1024).id;
    connection.data(id, 0, 512);
    connection.out.clear();
    assert_eq!(connection.done(id, Err(RequestError::Io)), Next::Continue);
    let error = connection.out.split_off(512);
    assert_eq!(connection.out, [0; 512]);
    assert_eq!(
        super::replies(&error),
        [Reply::Error {
            cookie: 7,
            error: 5
        }]
    );
}

#[test]
fn rule_12_a_request_without_its_magic_number_ends_the_connection() {
    for agreement in [SIMPLE, STRUCTURED] {
        let mut connection = Connection::new(agreement);
        let mut bytes = request(command::READ, 0, 7, 0, 512);
        let magic = REQUEST_MAGIC ^ 1;
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        assert!(matches!(connection.parse(&bytes), Parsed::Broken(_)));
        assert!(connection.out.is_empty());
    }
}

#[test]
fn rule_14_a_server_that_stops_refuses_what_is_new_and_drains_the_rest() {
    let mut connection = Connection::new(SIMPLE);
    let old = connection.passed(command::WRITE, 0, 0, 512).id;
    connection.session.shut_down();
    for command in 0..9 {
        if command != command::DISCONNECT {
            assert_eq!(
                connection.error(command, 0, 0, 512),
                SHUTDOWN,
                "command {command}"
            );
        }
    }
    assert_eq!(connection.done(old, Ok(())), Next::Continue);
    assert_eq!(
        connection.replied(),
        [Reply::Simple {
            cookie: 7,
            error: 0
        }]
    );
    assert_eq!(
        connection.parse(&request(command::DISCONNECT, 0, 7, 0, 0)),
        Parsed::Goodbye
    );
}

/// An error would be an error to the file system above, however soon the server is back.
#[test]
fn rule_14_a_client_that_sends_again_is_cut_off_instead() {
    let mut connection = Connection::new(Agreement {
        sends_again: true,
        ..SIMPLE
    });
    let [one, two] = [0, 512].map(|offset| connection.passed(command::WRITE, 0, offset, 512).id);
    connection.session.shut_down();
    for command in [command::READ, command::WRITE, command::FLUSH] {
        let more = request(command, 0, 9, 0, 0);
        assert_eq!(connection.parse(&more), Parsed::Goodbye);
    }
    assert_eq!(connection.replied(), []);
    assert_eq!(connection.done(one, Ok(())), Next::Continue);
    assert_eq!(connection.replied().len(), 1);
    let stopping = connection.done(two, Err(RequestError::Stopping));
    assert_eq!(stopping, Next::Close);
    assert_eq!(connection.replied(), []);
}
