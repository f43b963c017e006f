//! The client's side of the NBD protocol, without any I/O: what is said, and what is made of what is heard.

use nbd_server::codec::{
    ExportReply, GREETING_MAGIC, Greeting, OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionHeader,
    OptionReply, REQUEST_MAGIC, Request, SIMPLE_REPLY_MAGIC, STRING_BYTES_MAX, SimpleReply,
    client_flag, handshake_flag, info, option, option_reply, put, transmission_flag,
};
use zerocopy::FromBytes;

/// The longest reply to an option that is taken: an error has a text.
const OPTION_REPLY_BYTES_MAX: usize = STRING_BYTES_MAX;
/// Without these a file system's writes would not be safe, or its discards lost.
const NEEDED: u16 = transmission_flag::SEND_FLUSH
    | transmission_flag::SEND_TRIM
    | transmission_flag::SEND_WRITE_ZEROES;

/// The server does not speak as it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the server breaks the NBD protocol: {0}")]
pub(crate) struct Broken(pub(crate) &'static str);

/// An export as the server describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Export {
    pub(crate) size_bytes: u64,
    /// What can be done with it.
    pub(crate) flags: u16,
}

/// A piece of the answer to [`choose`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Chosen {
    /// What the export is like.
    Export(Export),
    /// It can be used now.
    Yes,
    /// It cannot be used, for this reason.
    No(String),
    /// Nothing that matters here.
    Other,
}

/// The bytes of a server's greeting.
pub(crate) const GREETING_BYTES: usize = size_of::<Greeting>();
/// The bytes before the data of an answer to [`choose`].
pub(crate) const OPTION_REPLY_BYTES: usize = size_of::<OptionReply>();
/// The bytes of a reply, without what was read.
pub(crate) const REPLY_BYTES: usize = size_of::<SimpleReply>();

/// What becomes of requests that have no answer when their connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unanswered {
    /// They are sent again on the next one: the server need not fail them when it stops.
    SentAgain,
    /// They are lost.
    Lost,
}

/// The answer to a server's greeting, and the wish to use an export.
pub(crate) fn choose(
    greeting: &[u8; GREETING_BYTES],
    export: &str,
    unanswered: Unanswered,
) -> Result<Vec<u8>, Broken> {
    let greeting = Greeting::read_from_bytes(greeting).map_err(|_| Broken("greeting"))?;
    if greeting.magic.get() != GREETING_MAGIC || greeting.style.get() != OPTION_MAGIC {
        return Err(Broken("this is no NBD server"));
    }
    let needed = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    if greeting.flags.get() & needed != needed {
        return Err(Broken("it is too old"));
    }
    let too_long = |_| Broken("the name is too long");
    let name_bytes = u32::try_from(export.len()).map_err(too_long)?;
    let mut wish = name_bytes.to_be_bytes().to_vec();
    wish.extend_from_slice(export.as_bytes());
    // Size and flags are told without being asked for.
    let asked: &[u16] = match unanswered {
        Unanswered::SentAgain => &[1, info::SENDS_AGAIN],
        Unanswered::Lost => &[0],
    };
    for number in asked {
        wish.extend_from_slice(&number.to_be_bytes());
    }
    let header = OptionHeader {
        magic: OPTION_MAGIC.into(),
        option: option::GO.into(),
        length: u32::try_from(wish.len()).map_err(too_long)?.into(),
    };
    let flags = client_flag::FIXED_NEWSTYLE | client_flag::NO_ZEROES;
    let mut out = flags.to_be_bytes().to_vec();
    put(&mut out, &header);
    out.append(&mut wish);
    Ok(out)
}

/// How many bytes of data follow an answer's header, and its kind for [`chosen`].
pub(crate) fn option_reply(header: &[u8; OPTION_REPLY_BYTES]) -> Result<(u32, usize), Broken> {
    let header = OptionReply::read_from_bytes(header).map_err(|_| Broken("answer"))?;
    if header.magic.get() != OPTION_REPLY_MAGIC || header.option.get() != option::GO {
        return Err(Broken("an answer to what was not asked"));
    }
    let length = header.length.get() as usize;
    if length > OPTION_REPLY_BYTES_MAX {
        return Err(Broken("too long an answer"));
    }
    Ok((header.kind.get(), length))
}

/// What an answer says.
pub(crate) fn chosen(kind: u32, data: &[u8]) -> Result<Chosen, Broken> {
    const ERROR_BIT: u32 = 1 << 31;
    match kind {
        option_reply::ACK => Ok(Chosen::Yes),
        option_reply::INFO => match data.split_first_chunk::<2>() {
            Some((kind, data)) if u16::from_be_bytes(*kind) == info::EXPORT => {
                let export = ExportReply::read_from_bytes(data);
                let export = export.map_err(|_| Broken("a description of another length"))?;
                let flags = export.flags.get();
                if flags & transmission_flag::READ_ONLY != 0 || flags & NEEDED != NEEDED {
                    return Err(Broken("the export cannot do what a disk has to"));
                }
                Ok(Chosen::Export(Export {
                    size_bytes: export.size_bytes.get(),
                    flags,
                }))
            }
            Some(_) => Ok(Chosen::Other),
            None => Err(Broken("a description without a kind")),
        },
        kind if kind & ERROR_BIT != 0 => Ok(Chosen::No(String::from_utf8_lossy(data).into_owned())),
        _ => Ok(Chosen::Other),
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// One of [`command`].
    pub(crate) command: u16,
    /// Of [`command_flag`].
    pub(crate) flags: u16,
    /// From this byte on.
    pub(crate) offset: u64,
    /// So many bytes.
    pub(crate) length: u32,
}

impl Ask {
    /// One that is of no part of the volume.
    pub(crate) fn whole(command: u16) -> Ask {
        Ask {
            command,
            flags: 0,
            offset: 0,
            length: 0,
        }
    }
}

/// A request as it is sent; a write's data follows.
pub(crate) fn put_request(out: &mut Vec<u8>, cookie: u64, ask: Ask) {
    let request = Request {
        magic: REQUEST_MAGIC.into(),
        flags: ask.flags.into(),
        command: ask.command.into(),
        cookie: cookie.into(),
        offset: ask.offset.into(),
        length: ask.length.into(),
    };
    put(out, &request);
}

/// Which request a reply answers, and the number of its error, 0 for none.
pub(crate) fn reply(header: &[u8; REPLY_BYTES]) -> Result<(u64, u32), Broken> {
    let header = SimpleReply::read_from_bytes(header).map_err(|_| Broken("reply"))?;
    if header.magic.get() != SIMPLE_REPLY_MAGIC {
        return Err(Broken("a reply that is none"));
    }
    Ok((header.cookie.get(), header.error.get()))
}

#[cfg(test)]
mod tests;
