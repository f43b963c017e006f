//! JSON documents on a stream, each behind its length.

use crate::failure::{Context, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Sends one document of at most so many bytes.
pub(crate) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
    bytes_max: u32,
) -> Result<(), Failure> {
    let doing = || "sending".to_owned();
    let text = serde_json::to_vec(message).context(doing)?;
    let length = u32::try_from(text.len())
        .ok()
        .filter(|length| *length <= bytes_max);
    let Some(length) = length else {
        return Err(Failure::failed("sending: the message is too long"));
    };
    // One write, so that one packet carries it.
    let frame = [&length.to_le_bytes()[..], &text].concat();
    stream.write_all(&frame).await.context(doing)
}

/// Receives one document of at most so many bytes.
pub(crate) async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: u32,
) -> Result<T, Failure> {
    let doing = || "receiving".to_owned();
    let length = stream.read_u32_le().await.context(doing)?;
    if length > bytes_max {
        return Err(Failure::failed(format!(
            "receiving: a message of {length} bytes is too long"
        )));
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text).await.context(doing)?;
    serde_json::from_slice(&text).context(|| "receiving: a message is damaged".to_owned())
}
