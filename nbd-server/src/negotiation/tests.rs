//! Byte scripts against a negotiation.

mod rules;
mod splits;

use super::{Decision, Negotiation};
use crate::codec::{
    Greeting, OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionHeader, OptionReply, REQUEST_MAGIC, Request,
    allocation, client_flag, command, info, option, option_reply, transmission_flag,
};
use crate::exports::{ExportInfo, Refusal};
use crate::session::NbdSession;
use bytes::BytesMut;
use engine::frontend::{Parsed, Session};
use zerocopy::{FromBytes, IntoBytes};

/// Both flags that a modern client sets.
const MODERN: u32 = client_flag::FIXED_NEWSTYLE | client_flag::NO_ZEROES;

/// What every writable export can do, by the specification's bits.
const FLAGS: u16 = 0b1101_0110_1101;

const SIZE_BYTES: u64 = 1 << 30;

/// The exports that the tests know: `pg`, writable; `ro`, read-only; `away`, whose primary is elsewhere.
pub(super) fn look_up(name: &str) -> Result<ExportInfo, Refusal> {
    let info = |read_only| ExportInfo {
        size_bytes: SIZE_BYTES,
        read_only,
    };
    match name {
        "pg" => Ok(info(false)),
        "ro" => Ok(info(true)),
        "away" => Err(Refusal::Policy("away is served by beta".to_owned())),
        _ => Err(Refusal::Unknown(format!("there is no volume {name}"))),
    }
}

/// A reply to an option, as a client reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    option: u32,
    kind: u32,
    data: Vec<u8>,
}

fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = OptionReply::read_from_prefix(bytes).expect("a reply");
        assert_eq!(header.magic.get(), OPTION_REPLY_MAGIC);
        let (data, rest) = rest.split_at(header.length.get() as usize);
        let (option, kind) = (header.option.get(), header.kind.get());
        replies.push(Reply {
            option,
            kind,
            data: data.to_vec(),
        });
        bytes = rest;
    }
    replies
}

fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let header = OptionHeader {
        magic: OPTION_MAGIC.into(),
        option: option.into(),
        length: u32::try_from(data.len())
            .expect("test options are short")
            .into(),
    };
    [header.as_bytes(), data].concat()
}

fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("test strings are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// The data of INFO and GO.
fn wish(export: &str, wanted: &[u16]) -> Vec<u8> {
    let count = u16::try_from(wanted.len()).expect("test wishes are few");
    let mut data = [&string(export)[..], &count.to_be_bytes()].concat();
    wanted
        .iter()
        .for_each(|kind| data.extend(kind.to_be_bytes()));
    data
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
fn queries(export: &str, queries: &[&str]) -> Vec<u8> {
    let count = u32::try_from(queries.len()).expect("test queries are few");
    let mut data = [&string(export)[..], &count.to_be_bytes()].concat();
    queries.iter().for_each(|query| data.extend(string(query)));
    data
}

/// A client in negotiation, with somebody who answers what the negotiation asks.
pub(super) struct Client {
    negotiation: Negotiation,
    input: BytesMut,
    out: Vec<u8>,
    session: Option<NbdSession>,
    closed: Option<&'static str>,
    /// Exports that were opened.
    opened: Vec<String>,
}

impl Client {
    /// A client that has just connected, and has read the greeting.
    fn connected() -> Client {
        let mut out = Vec::new();
        let negotiation = Negotiation::new(&mut out);
        assert_eq!(out.len(), size_of::<Greeting>());
        out.clear();
        Client {
            negotiation,
            input: BytesMut::new(),
            out,
            session: None,
            closed: None,
            opened: Vec::new(),
        }
    }

    /// A client that has set its flags.
    fn new(flags: u32) -> Client {
        let mut client = Client::connected();
        client.send(&flags.to_be_bytes());
        assert!(client.out.is_empty());
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.session.is_none() && self.closed.is_none() {
            let (input, out) = (&mut self.input, &mut self.out);
            match self.negotiation.advance(input, out) {
                Decision::More => break,
                Decision::List => {
                    self.negotiation
                        .listed(&["pg".to_owned(), "away".to_owned()], out);
                }
                Decision::Describe(question) => {
                    let answer = look_up(question.export());
                    self.negotiation.described(question, answer, out);
                }
                Decision::Open(question) => {
                    self.opened.push(question.export().to_owned());
                    let answer = look_up(question.export());
                    self.session = self.negotiation.opened(question, answer, out);
                }
                Decision::Close(reason) => self.closed = Some(reason),
            }
        }
    }

    /// Sends an option and returns the replies to it.
    fn option(&mut self, option: u32, data: &[u8]) -> Vec<Reply> {
        self.send(&option_bytes(option, data));
        let replies = replies(&std::mem::take(&mut self.out));
        assert!(replies.iter().all(|reply| reply.option == option));
        replies
    }

    /// Sends an option that has one reply, and returns its kind.
    fn verdict(&mut self, option: u32, data: &[u8]) -> u32 {
        match &self.option(option, data)[..] {
            [reply] => reply.kind,
            other => panic!("not one reply: {other:?}"),
        }
    }

    /// Whether BLOCK_STATUS is passed on once the client uses the export.
    fn has_context(mut self, export: &str) -> bool {
        self.option(option::GO, &wish(export, &[]));
        let mut session = self.session.expect("the export can be had");
        let request = Request {
            magic: REQUEST_MAGIC.into(),
            flags: 0.into(),
            command: command::BLOCK_STATUS.into(),
            cookie: 0.into(),
            offset: 0.into(),
            length: 512.into(),
        };
        let parsed = session.parse(request.as_bytes(), SIZE_BYTES, &mut Vec::new());
        matches!(parsed, Parsed::Request { .. })
    }
}

fn export_item(flags: u16) -> Vec<u8> {
    [
        &info::EXPORT.to_be_bytes()[..],
        &SIZE_BYTES.to_be_bytes(),
        &flags.to_be_bytes(),
    ]
    .concat()
}

#[test]
fn the_greeting_offers_fixed_newstyle_without_zeroes() {
    let mut out = Vec::new();
    Negotiation::new(&mut out);
    assert_eq!(out, b"NBDMAGICIHAVEOPT\x00\x03");
}

#[test]
fn export_name_is_answered_with_padding_unless_it_was_agreed_on() {
    for (flags, padding_bytes) in [
        (0, 124),
        (client_flag::FIXED_NEWSTYLE, 124),
        (client_flag::NO_ZEROES, 0),
        (MODERN, 0),
    ] {
        let mut client = Client::new(flags);
        client.send(&option_bytes(option::EXPORT_NAME, b"pg"));
        let expected = [
            &SIZE_BYTES.to_be_bytes()[..],
            &FLAGS.to_be_bytes(),
            &vec![0; padding_bytes],
        ]
        .concat();
        assert_eq!(client.out, expected);
        assert!(client.session.is_some());
    }
}

#[test]
fn export_name_cannot_be_refused_but_by_hanging_up() {
    for name in ["away", "nosuch", "", "a\0b"] {
        let mut client = Client::new(MODERN);
        client.send(&option_bytes(option::EXPORT_NAME, name.as_bytes()));
        assert!(client.closed.is_some() && client.session.is_none());
        assert!(client.out.is_empty());
    }
}

#[test]
fn go_tells_what_was_asked_for_and_begins_the_session() {
    let mut client = Client::new(MODERN);
    let wanted = [info::BLOCK_SIZE, info::NAME, 2, 99];
    let replies = client.option(option::GO, &wish("pg", &wanted));
    let kinds: Vec<_> = replies.iter().map(|reply| reply.kind).collect();
    let (info, ack) = (option_reply::INFO, option_reply::ACK);
    assert_eq!(kinds, [info, info, info, ack]);
    assert_eq!(replies[0].data, export_item(FLAGS));
    assert_eq!(replies[1].data, b"\x00\x01pg");
    assert_eq!(replies[2].data, b"\x00\x03\0\0\0\x01\0\0\x10\0\x02\0\0\0");
    assert!(client.session.is_some());
}

#[test]
fn who_sends_again_is_told_nothing_of_it() {
    for (wanted, sends_again) in [(&[][..], false), (&[info::SENDS_AGAIN], true)] {
        let mut client = Client::new(MODERN);
        let replies = client.option(option::GO, &wish("pg", wanted));
        assert_eq!(replies.len(), 2);
        let mut session = client.session.expect("it is open");
        session.shut_down();
        let request = Request {
            magic: REQUEST_MAGIC.into(),
            flags: 0.into(),
            command: command::READ.into(),
            cookie: 1.into(),
            offset: 0.into(),
            length: 512.into(),
        };
        let parsed = session.parse(request.as_bytes(), 4096, &mut Vec::new());
        assert_eq!(parsed == Parsed::Goodbye, sends_again);
    }
}

#[test]
fn what_follows_the_choice_of_an_export_is_left_for_the_session() {
    let mut client = Client::new(MODERN);
    let bytes = [
        &option_bytes(option::EXPORT_NAME, b"pg")[..],
        b"the session's",
    ]
    .concat();
    client.send(&bytes);
    assert!(client.session.is_some());
    assert_eq!(&client.input[..], b"the session's");
}

#[test]
fn info_says_the_same_as_go_and_opens_nothing() {
    let mut client = Client::new(MODERN);
    let data = wish("pg", &[info::BLOCK_SIZE]);
    let info = client.option(option::INFO, &data);
    assert!(client.opened.is_empty() && client.session.is_none());
    let go = client.option(option::GO, &data);
    assert_eq!(client.opened, ["pg"]);
    let data = |replies: &[Reply]| {
        replies
            .iter()
            .map(|reply| reply.data.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(data(&info), data(&go));
}

#[test]
fn list_names_every_export_and_opens_none() {
    let mut client = Client::new(MODERN);
    let replies = client.option(option::LIST, &[]);
    let kinds: Vec<_> = replies.iter().map(|reply| reply.kind).collect();
    assert_eq!(
        kinds,
        [
            option_reply::SERVER,
            option_reply::SERVER,
            option_reply::ACK
        ]
    );
    assert_eq!(replies[0].data, string("pg"));
    assert_eq!(replies[1].data, string("away"));
    assert!(client.opened.is_empty());
    assert_eq!(
        client.verdict(option::LIST, b"x"),
        option_reply::ERROR_INVALID
    );
}

#[test]
fn an_export_that_cannot_be_had_is_refused_with_its_reason() {
    let mut client = Client::new(MODERN);
    for option in [option::INFO, option::GO] {
        let replies = client.option(option, &wish("away", &[]));
        let refusal = [Reply {
            option,
            kind: option_reply::ERROR_POLICY,
            data: b"away is served by beta".to_vec(),
        }];
        assert_eq!(replies, refusal);
        let unknown = client.verdict(option, &wish("nosuch", &[]));
        assert_eq!(unknown, option_reply::ERROR_UNKNOWN);
    }
    assert!(client.session.is_none() && client.closed.is_none());
    assert!(
        client.option(option::GO, &wish("pg", &[])).len() == 2,
        "it may choose another"
    );
}

#[test]
fn what_is_not_offered_is_said_to_be_unsupported() {
    let mut client = Client::new(MODERN);
    for option in [
        0,
        4,
        option::STARTTLS,
        option::EXTENDED_HEADERS,
        12,
        u32::MAX,
    ] {
        assert_eq!(
            client.verdict(option, b"data"),
            option_reply::ERROR_UNSUPPORTED
        );
    }
    assert_eq!(client.option(option::GO, &wish("pg", &[])).len(), 2);
}

#[test]
fn abort_is_acknowledged_whatever_it_says() {
    for data in [&b""[..], b"goodbye", &[0; 20_000]] {
        let mut client = Client::new(MODERN);
        assert_eq!(client.verdict(option::ABORT, data), option_reply::ACK);
        assert!(client.closed.is_some());
    }
}

#[test]
fn an_abilitys_flag_is_set_only_where_it_is() {
    let flags = |structured: bool, export: &str| {
        let mut client = Client::new(MODERN);
        if structured {
            assert_eq!(
                client.verdict(option::STRUCTURED_REPLY, &[]),
                option_reply::ACK
            );
        }
        client.option(option::INFO, &wish(export, &[]))[0]
            .data
            .clone()
    };
    use transmission_flag as flag;
    assert_eq!(flags(false, "pg"), export_item(FLAGS));
    assert_eq!(flags(true, "pg"), export_item(FLAGS | flag::SEND_DF));
    let writing = flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO;
    assert_eq!(
        flags(false, "ro"),
        export_item(FLAGS & !writing | flag::READ_ONLY)
    );
}

#[test]
fn structured_replies_may_be_asked_for_twice_but_not_with_data() {
    let mut client = Client::new(MODERN);
    assert_eq!(
        client.verdict(option::STRUCTURED_REPLY, b"x"),
        option_reply::ERROR_INVALID
    );
    assert_eq!(
        client.verdict(option::STRUCTURED_REPLY, &[]),
        option_reply::ACK
    );
    assert_eq!(
        client.verdict(option::STRUCTURED_REPLY, &[]),
        option_reply::ACK
    );
}

#[test]
fn contexts_are_listed_and_chosen_by_name() {
    let none: [&str; 0] = [];
    let (list, set) = (option::LIST_META_CONTEXT, option::SET_META_CONTEXT);
    for (option, asked, found) in [
        (list, &none[..], true),
        (list, &["base:"], true),
        (list, &["base:allocation"], true),
        (list, &["base:other", "x-us:dirty", "nonsense"], false),
        (set, &none, false),
        (set, &["base:"], false),
        (set, &["x-us:dirty", "base:allocation"], true),
        (set, &["base:other", "nonsense"], false),
    ] {
        let mut client = Client::new(MODERN);
        client.option(option::STRUCTURED_REPLY, &[]);
        let replies = client.option(option, &queries("pg", asked));
        assert_eq!(
            replies.last().map(|reply| reply.kind),
            Some(option_reply::ACK)
        );
        assert_eq!(replies.len(), 1 + usize::from(found), "{asked:?}");
        if found {
            let number = if option == set {
                allocation::CONTEXT
            } else {
                0
            };
            let expected = [&number.to_be_bytes()[..], b"base:allocation"].concat();
            assert_eq!(replies[0].kind, option_reply::META_CONTEXT);
            assert_eq!(replies[0].data, expected);
        }
        assert!(client.opened.is_empty());
        assert_eq!(client.has_context("pg"), found && option == set);
    }
}

#[test]
fn contexts_need_structured_replies_and_an_export() {
    for option in [option::LIST_META_CONTEXT, option::SET_META_CONTEXT] {
        let mut client = Client::new(MODERN);
        let data = queries("pg", &["base:allocation"]);
        assert_eq!(client.verdict(option, &data), option_reply::ERROR_INVALID);
        client.option(option::STRUCTURED_REPLY, &[]);
        let unknown = client.verdict(option, &queries("nosuch", &[]));
        assert_eq!(unknown, option_reply::ERROR_UNKNOWN);
        let away = client.verdict(option, &queries("away", &[]));
        assert_eq!(away, option_reply::ERROR_POLICY);
    }
}
