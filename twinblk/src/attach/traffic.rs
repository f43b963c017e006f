//! What a connection carries: the kernel's requests out and replies in, until it ends.

use super::held::Held;
use super::outstanding::Operation;
use crate::nbd::{Ask, Broken, Connection, Error, REPLY_BYTES, put_request, reply};
use nbd_server::codec::{Failure, command, command_flag};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// What is gathered before it is written, so that small requests share a system call.
const GATHERED_BYTES: usize = 64 << 10;
/// Data from here on is written from where it lies.
const OWN_WRITE_BYTES: usize = 16 << 10;

/// Carries requests and replies until the connection ends; says why it did. What has no answer by then is still held.
pub(super) async fn carry(connection: Connection, held: &Held) -> Error {
    held.send_again();
    let (reader, writer) = tokio::io::split(connection.wire);
    tokio::select! {
        ended = receive(reader, held) => ended,
        ended = send(writer, held) => ended,
    }
}

async fn send(mut writer: impl AsyncWrite + Unpin, held: &Held) -> Error {
    let mut gathered = Vec::with_capacity(2 * GATHERED_BYTES);
    loop {
        let arrived = held.arrived.notified();
        let sent = send_all(&mut writer, held, &mut gathered).await;
        if let Err(error) = sent {
            return error.into();
        }
        arrived.await;
    }
}

async fn send_all(
    writer: &mut (impl AsyncWrite + Unpin),
    held: &Held,
    gathered: &mut Vec<u8>,
) -> io::Result<()> {
    while let Some((number, operation)) = held.send() {
        put_request(gathered, number, ask(&operation));
        if let Operation::Write { data, .. } = &operation {
            if data.len() < OWN_WRITE_BYTES {
                gathered.extend_from_slice(data);
            } else {
                writer.write_all(gathered).await?;
                gathered.clear();
                writer.write_all(data).await?;
            }
        }
        if gathered.len() >= GATHERED_BYTES {
            writer.write_all(gathered).await?;
            gathered.clear();
        }
    }
    writer.write_all(gathered).await?;
    gathered.clear();
    Ok(())
}

async fn receive(reader: impl AsyncRead + Unpin, held: &Held) -> Error {
    let mut reader = BufReader::with_capacity(4 * GATHERED_BYTES, reader);
    let mut data = Vec::new();
    loop {
        if let Err(error) = receive_one(&mut reader, held, &mut data).await {
            return error;
        }
    }
}

async fn receive_one(
    reader: &mut (impl AsyncRead + Unpin),
    held: &Held,
    data: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut header = [0; REPLY_BYTES];
    reader.read_exact(&mut header).await?;
    let (number, error) = reply(&header)?;
    let unasked = Broken("a reply to what was not asked");
    let bytes = held.reply_bytes(number).ok_or(unasked)?;
    if error == Failure::ShuttingDown.number() {
        // It will be done by the next daemon.
        return Err(Error::Stopping);
    }
    if error != 0 {
        held.answer(number, Err(error));
        return Ok(());
    }
    data.resize(bytes, 0);
    reader.read_exact(data).await?;
    held.answer(number, Ok(data));
    Ok(())
}

/// How the server is asked for this.
fn ask(operation: &Operation) -> Ask {
    match operation {
        Operation::Read { offset, length } => Ask {
            command: command::READ,
            flags: 0,
            offset: *offset,
            length: *length,
        },
        Operation::Write { offset, data } => {
            let length = u32::try_from(data.len());
            Ask {
                command: command::WRITE,
                flags: 0,
                offset: *offset,
                length: length.expect("the kernel's writes are bounded when it is mounted"),
            }
        }
        Operation::Flush => Ask::whole(command::FLUSH),
        Operation::Zero {
            offset,
            length,
            allocated,
        } => Ask {
            // A trim need not read as zeroes at every server; a hole does, and is freed all the same.
            command: command::WRITE_ZEROES,
            flags: if *allocated { command_flag::NO_HOLE } else { 0 },
            offset: *offset,
            length: *length,
        },
    }
}

#[cfg(test)]
mod tests;
