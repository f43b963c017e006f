//! How a client chooses an export and how it will be talked to, as a pure state machine.
//!
//! ```text
//!            ┌───────┐  ┌────────┐ ──► answered, or asked of the exports ─┐
//! greeting ► │ Flags │► │ Option │ ◄──────────────────────────────────────┘
//!            └───────┘  └────────┘ ◄── drained: refused ── ┌──────────┐
//!                         │    └───── a long option ─────► │ Draining │
//!                         ▼                                └──────────┘
//!       Ended: ABORT, a broken client, EXPORT_NAME refused; or a session
//! ```
//!
//! Whoever drives it feeds [`Negotiation::advance`] with what the client has sent, carries the
//! [`Decision`] out, sends what was put into `out`, and comes again.

use crate::codec::{
    EXPORT_PADDING_BYTES, ExportReply, GREETING_MAGIC, Greeting, OPTION_MAGIC, OptionHeader,
    allocation, client_flag, handshake_flag, option, option_reply, put, transmission_flag,
};
use crate::exports::{ExportInfo, Refusal};
use crate::limits::{NEGOTIATION_BYTES_MAX, OPTION_BYTES_MAX, OPTIONS_MAX};
use crate::option_data::{self, Malformed, Wanted};
use crate::option_reply as reply;
use crate::session::{Agreement, NbdSession};
use bytes::{Buf, BytesMut};
use zerocopy::FromBytes;
use zerocopy::big_endian::U32;

/// What is to be done next.
#[derive(PartialEq, Eq, Debug)]
pub enum Decision {
    /// Wait for more of the client's bytes.
    More,
    /// Tell [`Negotiation::listed`] which exports there are.
    List,
    /// Tell [`Negotiation::described`] what the export is like, and do not open it.
    Describe(Describe),
    /// Open the export and tell [`Negotiation::opened`].
    Open(Open),
    /// Send what is to be sent and close, for this reason.
    Close(&'static str),
}

/// A question what an export is like.
#[derive(PartialEq, Eq, Debug)]
pub struct Describe {
    export: String,
    purpose: Purpose,
}

impl Describe {
    /// Of which export.
    pub fn export(&self) -> &str {
        &self.export
    }
}

/// What the answer is for.
#[derive(PartialEq, Eq, Debug)]
enum Purpose {
    /// INFO.
    Info(Wanted),
    /// LIST_META_CONTEXT; whether a query asks for the one context there is.
    ListContexts { matches: bool },
    /// SET_META_CONTEXT; as above.
    SetContexts { matches: bool },
}

/// A wish to use an export.
#[derive(PartialEq, Eq, Debug)]
pub struct Open {
    export: String,
    entry: Entry,
}

impl Open {
    /// Which export.
    pub fn export(&self) -> &str {
        &self.export
    }
}

/// By which option the client wants to use an export.
#[derive(PartialEq, Eq, Debug)]
enum Entry {
    /// EXPORT_NAME.
    ExportName,
    /// GO.
    Go(Wanted),
}

/// Where in the client's stream the negotiation stands.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// Before the client's flags.
    Flags,
    /// Before an option.
    Option,
    /// Within the data of an option that is too long to be looked at.
    Draining { option: u32, left: usize },
    /// Behind its end, for this reason.
    Ended(&'static str),
}

/// A client that has not chosen an export yet.
#[derive(Debug)]
pub struct Negotiation {
    position: Position,
    fixed_newstyle: bool,
    padding: bool,
    structured_replies: bool,
    /// The export for which `base:allocation` was chosen last.
    allocation_of: Option<String>,
    shutting_down: bool,
    options: u32,
    bytes: u64,
}

impl Negotiation {
    /// A client that has just come; `out` gets what it is told first.
    pub fn new(out: &mut Vec<u8>) -> Negotiation {
        let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        let greeting = Greeting {
            magic: GREETING_MAGIC.into(),
            style: OPTION_MAGIC.into(),
            flags: flags.into(),
        };
        put(out, &greeting);
        Negotiation {
            position: Position::Flags,
            fixed_newstyle: false,
            padding: true,
            structured_replies: false,
            allocation_of: None,
            shutting_down: false,
            options: 0,
            bytes: 0,
        }
    }

    /// From now on options are answered "shutting down".
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// Takes what it can from `input` and says what is to be done. Bytes behind the choice of an export
    /// stay in `input`: they belong to the session.
    pub fn advance(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Decision {
        loop {
            let decision = match self.position {
                Position::Flags => self.take_flags(input),
                Position::Option => self.take_option(input, out),
                Position::Draining { option, left } => self.drain(option, left, input, out),
                Position::Ended(reason) => Some(Decision::Close(reason)),
            };
            if let Some(decision) = decision {
                return decision;
            }
        }
    }

    fn end(&mut self, reason: &'static str) -> Option<Decision> {
        self.position = Position::Ended(reason);
        None
    }

    fn take_flags(&mut self, input: &mut BytesMut) -> Option<Decision> {
        let Ok((flags, _)) = U32::read_from_prefix(input) else {
            return Some(Decision::More);
        };
        input.advance(size_of::<U32>());
        let known = client_flag::FIXED_NEWSTYLE | client_flag::NO_ZEROES;
        if flags.get() & !known != 0 {
            return self.end("the client has set a flag that was not offered");
        }
        self.fixed_newstyle = flags.get() & client_flag::FIXED_NEWSTYLE != 0;
        self.padding = flags.get() & client_flag::NO_ZEROES == 0;
        self.position = Position::Option;
        None
    }

    fn take_option(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Option<Decision> {
        let Ok((header, data)) = OptionHeader::read_from_prefix(input) else {
            return Some(Decision::More);
        };
        let (option, length) = (header.option.get(), header.length.get());
        if header.magic.get() != OPTION_MAGIC {
            return self.end("an option does not begin with its magic number");
        }
        if !self.fixed_newstyle && option != option::EXPORT_NAME {
            return self.end("the client does not know how options are answered");
        }
        let size = size_of::<OptionHeader>() as u64 + u64::from(length);
        if self.options == OPTIONS_MAX || size > NEGOTIATION_BYTES_MAX - self.bytes {
            return self.end("the client negotiates without end");
        }
        let is_long = length > OPTION_BYTES_MAX;
        if !is_long && data.len() < length as usize {
            return Some(Decision::More);
        }
        self.options += 1;
        self.bytes += size;
        if option == option::SET_META_CONTEXT {
            // It replaces what was chosen before also when it fails.
            self.allocation_of = None;
        }
        input.advance(size_of::<OptionHeader>());
        if is_long {
            self.position = Position::Draining {
                option,
                left: length as usize,
            };
            return None;
        }
        let data = input.split_to(length as usize);
        self.answer(option, &data, out)
    }

    fn drain(
        &mut self,
        option: u32,
        left: usize,
        input: &mut BytesMut,
        out: &mut Vec<u8>,
    ) -> Option<Decision> {
        let drained = input.len().min(left);
        input.advance(drained);
        let left = left - drained;
        if left > 0 {
            self.position = Position::Draining { option, left };
            return Some(Decision::More);
        }
        self.position = Position::Option;
        match option {
            option::EXPORT_NAME => return self.end("the export's name is too long"),
            option::ABORT => return self.answer(option, &[], out),
            option if is_known(option) => {
                reply::error(
                    option,
                    option_reply::ERROR_TOO_BIG,
                    "the option is too long",
                    out,
                );
            }
            option => reply::unsupported(option, out),
        }
        None
    }

    /// Answers an option, or says what must be asked first.
    fn answer(&mut self, option: u32, data: &[u8], out: &mut Vec<u8>) -> Option<Decision> {
        if option == option::ABORT {
            reply::ack(option, out);
            return self.end("the client has said goodbye");
        }
        if self.shutting_down {
            return self.answer_shutting_down(option, out);
        }
        let question = match option {
            option::EXPORT_NAME => match option_data::export_name(data) {
                Ok(export) => Ok(Decision::Open(Open {
                    export,
                    entry: Entry::ExportName,
                })),
                Err(Malformed(reason)) => return self.end(reason),
            },
            option::LIST => option_data::nothing(data).map(|()| Decision::List),
            option::INFO => option_data::wish(data).map(|(export, wanted)| {
                Decision::Describe(Describe {
                    export,
                    purpose: Purpose::Info(wanted),
                })
            }),
            option::GO => option_data::wish(data).map(|(export, wanted)| {
                Decision::Open(Open {
                    export,
                    entry: Entry::Go(wanted),
                })
            }),
            option::STRUCTURED_REPLY => match option_data::nothing(data) {
                Ok(()) => {
                    self.structured_replies = true;
                    reply::ack(option, out);
                    return None;
                }
                Err(malformed) => Err(malformed),
            },
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(option, data),
            _ => {
                reply::unsupported(option, out);
                return None;
            }
        };
        match question {
            Ok(decision) => Some(decision),
            Err(Malformed(reason)) => {
                reply::error(option, option_reply::ERROR_INVALID, reason, out);
                None
            }
        }
    }

    fn answer_shutting_down(&mut self, option: u32, out: &mut Vec<u8>) -> Option<Decision> {
        const REASON: &str = "the server is shutting down";
        if option == option::EXPORT_NAME {
            return self.end(REASON);
        }
        reply::error(option, option_reply::ERROR_SHUTDOWN, REASON, out);
        None
    }

    fn contexts(&self, option: u32, data: &[u8]) -> Result<Decision, Malformed> {
        if !self.structured_replies {
            return Err(Malformed("metadata contexts need structured replies"));
        }
        let is_list = option == option::LIST_META_CONTEXT;
        let (export, queries) = option_data::queries(data)?;
        let is_asked_for = |query: &&[u8]| {
            *query == allocation::NAME.as_bytes() || (is_list && *query == b"base:")
        };
        let matches = queries.iter().any(is_asked_for);
        let purpose = if is_list {
            Purpose::ListContexts {
                matches: matches || queries.is_empty(),
            }
        } else {
            Purpose::SetContexts { matches }
        };
        Ok(Decision::Describe(Describe { export, purpose }))
    }

    /// Answers [`Decision::List`].
    pub fn listed(&mut self, exports: &[String], out: &mut Vec<u8>) {
        for export in exports {
            reply::export(export, out);
        }
        reply::ack(option::LIST, out);
    }

    /// Answers [`Decision::Describe`].
    pub fn described(
        &mut self,
        question: Describe,
        answer: Result<ExportInfo, Refusal>,
        out: &mut Vec<u8>,
    ) {
        let Describe { export, purpose } = question;
        let option = match purpose {
            Purpose::Info(_) => option::INFO,
            Purpose::ListContexts { .. } => option::LIST_META_CONTEXT,
            Purpose::SetContexts { .. } => option::SET_META_CONTEXT,
        };
        let info = match answer {
            Ok(info) => info,
            Err(refusal) => return reply::refusal(option, &refusal, out),
        };
        match purpose {
            Purpose::Info(wanted) => reply::info(option, &export, self.reply(info), wanted, out),
            Purpose::ListContexts { matches: true } => reply::context(option, 0, out),
            Purpose::SetContexts { matches: true } => {
                reply::context(option, allocation::CONTEXT, out);
                self.allocation_of = Some(export);
            }
            Purpose::ListContexts { .. } | Purpose::SetContexts { .. } => {}
        }
        reply::ack(option, out);
    }

    /// Answers [`Decision::Open`]; with a session the client's negotiation is over.
    pub fn opened(
        &mut self,
        question: Open,
        answer: Result<ExportInfo, Refusal>,
        out: &mut Vec<u8>,
    ) -> Option<NbdSession> {
        let Open { export, entry } = question;
        let info = match (answer, &entry) {
            (Ok(info), _) => info,
            (Err(refusal), Entry::Go(_)) => {
                reply::refusal(option::GO, &refusal, out);
                return None;
            }
            (Err(_), Entry::ExportName) => {
                self.position = Position::Ended("EXPORT_NAME was refused");
                return None;
            }
        };
        let sends_again = matches!(&entry, Entry::Go(wanted) if wanted.sends_again);
        match entry {
            Entry::Go(wanted) => {
                reply::info(option::GO, &export, self.reply(info), wanted, out);
                reply::ack(option::GO, out);
            }
            Entry::ExportName => {
                put(out, &self.reply(info));
                let padding_bytes = if self.padding {
                    EXPORT_PADDING_BYTES
                } else {
                    0
                };
                out.resize(out.len() + padding_bytes, 0);
            }
        }
        self.position = Position::Ended("the client has chosen an export");
        Some(NbdSession::new(Agreement {
            structured_replies: self.structured_replies,
            allocation_context: self
                .allocation_of
                .take()
                .is_some_and(|chosen| chosen == export),
            read_only: info.read_only,
            sends_again,
        }))
    }

    /// Size and abilities of an export, as agreed so far.
    fn reply(&self, info: ExportInfo) -> ExportReply {
        const ALWAYS: u16 = transmission_flag::HAS_FLAGS
            | transmission_flag::SEND_FLUSH
            | transmission_flag::SEND_FUA
            | transmission_flag::CAN_MULTI_CONN
            | transmission_flag::SEND_CACHE;
        const WRITABLE: u16 = transmission_flag::SEND_TRIM
            | transmission_flag::SEND_WRITE_ZEROES
            | transmission_flag::SEND_FAST_ZERO;
        let access = if info.read_only {
            transmission_flag::READ_ONLY
        } else {
            WRITABLE
        };
        let chunks = if self.structured_replies {
            transmission_flag::SEND_DF
        } else {
            0
        };
        ExportReply {
            size_bytes: info.size_bytes.into(),
            flags: (ALWAYS | access | chunks).into(),
        }
    }
}

/// Whether the server does more with the option than to say that it does not know it.
fn is_known(option: u32) -> bool {
    matches!(
        option,
        option::LIST
            | option::INFO
            | option::GO
            | option::STRUCTURED_REPLY
            | option::LIST_META_CONTEXT
            | option::SET_META_CONTEXT
    )
}

#[cfg(test)]
mod tests;
