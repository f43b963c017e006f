//! The handshake of `format::hello`, carried over a connection.

use crate::failure::{Context, Failure};
use crate::hexadecimal;
use format::hello::{
    FEATURES, Hello, LinkKey, Opening, PREFIX_BYTES, Prefix, Proof, Role, VERSIONS, Welcome,
    decode_prefix, negotiate, proof, verify,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

type Key = [u8; 32];

/// Greets as the one who has connected, and learns who answers and whether the link is accepted.
pub(super) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    key: &Key,
    hello: &Hello,
) -> Result<Welcome, Failure> {
    let own = opening()?;
    send(stream, &own.encode()).await?;
    let (prefix, body) = receive(stream).await?;
    let theirs = understood(Opening::decode(&prefix, &body))?;
    understood(negotiate(&own, &theirs))?;
    let mac = proof(key, Role::Dialer, &own, &theirs);
    send(stream, &Proof { mac }.encode()).await?;
    let (prefix, body) = receive(stream).await.map_err(|failure| {
        // Whoever finds a proof wrong hangs up without a word.
        Failure::failed(format!(
            "{failure}; if it has just hung up, its cluster key is another"
        ))
    })?;
    let theirs_proof = understood(Proof::decode(&prefix, &body))?;
    if !verify(
        &proof(key, Role::Acceptor, &own, &theirs),
        &theirs_proof.mac,
    ) {
        return Err(Failure::failed(
            "it has another cluster key: copy the key file of one node",
        ));
    }
    let link_key = LinkKey::new(key, &own, &theirs);
    send(stream, &hello.encode(&link_key)).await?;
    let (prefix, body) = receive(stream).await?;
    understood(Welcome::decode(&prefix, &body, &link_key))
}

/// Hears a dialer that has the cluster key; its hello waits for [`answer`].
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    key: &Key,
) -> Result<(Hello, LinkKey), Failure> {
    let (prefix, body) = receive(stream).await?;
    let theirs = understood(Opening::decode(&prefix, &body))?;
    let own = opening()?;
    send(stream, &own.encode()).await?;
    understood(negotiate(&own, &theirs))?;
    let (prefix, body) = receive(stream).await?;
    let theirs_proof = understood(Proof::decode(&prefix, &body))?;
    if !verify(&proof(key, Role::Dialer, &theirs, &own), &theirs_proof.mac) {
        return Err(Failure::failed("it has another cluster key"));
    }
    let mac = proof(key, Role::Acceptor, &theirs, &own);
    send(stream, &Proof { mac }.encode()).await?;
    let link_key = LinkKey::new(key, &theirs, &own);
    let (prefix, body) = receive(stream).await?;
    let hello = understood(Hello::decode(&prefix, &body, &link_key))?;
    Ok((hello, link_key))
}

/// Answers a hello.
pub(super) async fn answer<S: AsyncWrite + Unpin>(
    stream: &mut S,
    link_key: &LinkKey,
    welcome: &Welcome,
) -> Result<(), Failure> {
    send(stream, &welcome.encode(link_key)).await
}

fn opening() -> Result<Opening, Failure> {
    Ok(Opening {
        versions: VERSIONS,
        features: FEATURES,
        nonce: hexadecimal::random()?,
    })
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<(), Failure> {
    stream
        .write_all(message)
        .await
        .context(|| "in the handshake".to_owned())
}

/// Receives one message, whose kind bounds its length before room is made for it.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<(Prefix, Vec<u8>), Failure> {
    let doing = || "in the handshake".to_owned();
    let mut bytes = [0; PREFIX_BYTES];
    stream.read_exact(&mut bytes).await.context(doing)?;
    let prefix = understood(decode_prefix(&bytes))?;
    let mut body = vec![0; prefix.body_length()];
    stream.read_exact(&mut body).await.context(doing)?;
    Ok((prefix, body))
}

fn understood<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, Failure> {
    result.context(|| "in the handshake".to_owned())
}

#[cfg(test)]
mod tests;
