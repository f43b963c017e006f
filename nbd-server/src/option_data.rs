//! What an option's data says. Every length in it is checked against what is there.

use crate::codec::{STRING_BYTES_MAX, info};
use zerocopy::FromBytes;
use zerocopy::big_endian::{U16, U32};

/// The data makes no sense, for this reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What a client wants to know of an export beside its size and flags.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Wanted {
    /// The name under which it is listed.
    pub(crate) name: bool,
    /// Which request sizes it takes.
    pub(crate) block_sizes: bool,
    /// Nothing: it sends again what has no answer.
    pub(crate) sends_again: bool,
}

/// The data of LIST and STRUCTURED_REPLY: none.
pub(crate) fn nothing(data: &[u8]) -> Result<(), Malformed> {
    if data.is_empty() {
        Ok(())
    } else {
        Err(Malformed("the option has no data"))
    }
}

/// The data of EXPORT_NAME.
pub(crate) fn export_name(data: &[u8]) -> Result<String, Malformed> {
    if data.len() > STRING_BYTES_MAX {
        return Err(Malformed("a name is at most 4096 bytes long"));
    }
    match std::str::from_utf8(data) {
        Ok(name) if !name.contains('\0') => Ok(name.to_owned()),
        _ => Err(Malformed("a name is UTF-8 without NUL")),
    }
}

/// The data of INFO and GO.
pub(crate) fn wish(mut data: &[u8]) -> Result<(String, Wanted), Malformed> {
    let export = export_name(take_string(&mut data)?)?;
    let count = take::<U16>(&mut data)?.get();
    if data.len() != usize::from(count) * size_of::<U16>() {
        return Err(Malformed("the option's length does not fit its data"));
    }
    let mut wanted = Wanted::default();
    while !data.is_empty() {
        match take::<U16>(&mut data)?.get() {
            info::NAME => wanted.name = true,
            info::BLOCK_SIZE => wanted.block_sizes = true,
            info::SENDS_AGAIN => wanted.sends_again = true,
            _ => {}
        }
    }
    Ok((export, wanted))
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(crate) fn queries(mut data: &[u8]) -> Result<(String, Vec<&[u8]>), Malformed> {
    let export = export_name(take_string(&mut data)?)?;
    let count = take::<U32>(&mut data)?.get();
    let mut queries = Vec::new();
    for _ in 0..count {
        // A count that lies ends here, before anything has grown.
        queries.push(take_string(&mut data)?);
    }
    if !data.is_empty() {
        return Err(Malformed("the option's length does not fit its data"));
    }
    Ok((export, queries))
}

fn take<T: FromBytes>(data: &mut &[u8]) -> Result<T, Malformed> {
    let (value, rest) =
        T::read_from_prefix(data).map_err(|_| Malformed("the option ends too early"))?;
    *data = rest;
    Ok(value)
}

fn take_string<'a>(data: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = take::<U32>(data)?.get() as usize;
    if length > STRING_BYTES_MAX {
        return Err(Malformed("a string is at most 4096 bytes long"));
    }
    let (string, rest) = data
        .split_at_checked(length)
        .ok_or(Malformed("the option ends too early"))?;
    *data = rest;
    Ok(string)
}

#[cfg(test)]
mod tests;
