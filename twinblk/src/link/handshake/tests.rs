use super::{accept, answer, dial};
use crate::failure::Failure;
use format::hello::{Hello, Link, PREFIX_BYTES, Welcome};
use format::types::{Name, NodeId, Slot, VolumeId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const KEY: [u8; 32] = [7; 32];
const OTHER_KEY: [u8; 32] = [8; 32];
/// Bytes of an opening and of a proof, with their prefixes.
const OPENING_BYTES: usize = PREFIX_BYTES + 48;
const PROOF_BYTES: usize = PREFIX_BYTES + 32;

fn hello() -> Hello {
    Hello {
        node: NodeId([1; 16]),
        name: Name::new("alpha").expect("it is a name"),
        link: Link::Data {
            volume: VolumeId([3; 16]),
            slot: Slot::new(1).expect("it is a slot"),
        },
    }
}

fn welcome(accepted: Result<(), &str>) -> Welcome {
    Welcome {
        node: NodeId([2; 16]),
        name: Name::new("beta").expect("it is a name"),
        accepted: accepted.map_err(Into::into),
    }
}

async fn greet(
    dialer_key: [u8; 32],
    verdict: Result<(), &'static str>,
) -> (Result<Welcome, Failure>, Result<Hello, Failure>) {
    let (mut a, mut b) = duplex(4096);
    let accepting = tokio::spawn(async move {
        let (hello, link_key) = accept(&mut b, &KEY).await?;
        answer(&mut b, &link_key, &welcome(verdict)).await?;
        Ok(hello)
    });
    let dialled = dial(&mut a, &dialer_key, &hello()).await;
    (dialled, accepting.await.expect("it ends"))
}

#[tokio::test]
async fn two_nodes_with_one_key_meet() {
    let (dialled, accepted) = greet(KEY, Ok(())).await;
    assert_eq!(dialled, Ok(welcome(Ok(()))));
    assert_eq!(accepted, Ok(hello()));
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (dialled, _) = greet(KEY, Err("there is no such volume")).await;
    assert_eq!(dialled, Ok(welcome(Err("there is no such volume"))));
}

#[tokio::test]
async fn another_key_is_refused_at_both_ends() {
    let (dialled, accepted) = greet(OTHER_KEY, Ok(())).await;
    assert!(
        dialled
            .expect_err("it has another key")
            .message
            .contains("cluster key")
    );
    assert!(
        accepted
            .expect_err("it has another key")
            .message
            .contains("another cluster key")
    );
}

/// What an acceptor says to one who sends `sent`, until it hangs up or waits for more.
async fn provoke(sent: &[u8]) -> (Vec<u8>, Result<Hello, Failure>) {
    let (mut a, mut b) = duplex(4096);
    let accepting = tokio::spawn(async move { accept(&mut b, &KEY).await.map(|(hello, _)| hello) });
    // It may have hung up in the middle.
    let _ = a.write_all(sent).await;
    let _ = a.shutdown().await;
    let mut said = Vec::new();
    a.read_to_end(&mut said).await.expect("memory cannot fail");
    (said, accepting.await.expect("it ends"))
}

#[tokio::test]
async fn a_stranger_learns_no_more_than_an_opening() {
    let forged = {
        let (mut a, mut b) = duplex(4096);
        let dialling = tokio::spawn(async move { dial(&mut a, &OTHER_KEY, &hello()).await });
        let mut bytes = vec![0; OPENING_BYTES];
        b.read_exact(&mut bytes).await.expect("it opens");
        drop(b);
        assert!(dialling.await.expect("it ends").is_err());
        bytes.extend_from_slice(&format::hello::Proof { mac: [9; 32] }.encode());
        bytes
    };
    let (said, accepted) = provoke(&forged).await;
    assert_eq!(said.len(), OPENING_BYTES);
    assert!(accepted.is_err());
}

#[tokio::test]
async fn garbage_is_refused_without_a_word() {
    let http = b"GET / HTTP/1.1\r\nHost: twinblk\r\n\r\n".to_vec();
    for garbage in [
        http,
        vec![0; 4096],
        vec![0xff; 4096],
        b"TWBH".to_vec(),
        Vec::new(),
    ] {
        let (said, accepted) = provoke(&garbage).await;
        assert!(said.is_empty());
        assert!(accepted.is_err());
    }
}

/// Copies between two streams and keeps what the first has said.
async fn overhear(mut a: DuplexStream, mut b: DuplexStream) -> Vec<u8> {
    let mut heard = Vec::new();
    for (from_a, from_b) in [(OPENING_BYTES, OPENING_BYTES), (PROOF_BYTES, PROOF_BYTES)] {
        let mut bytes = vec![0; from_a];
        a.read_exact(&mut bytes).await.expect("the dialer speaks");
        b.write_all(&bytes).await.expect("the acceptor listens");
        heard.extend_from_slice(&bytes);
        let mut bytes = vec![0; from_b];
        b.read_exact(&mut bytes).await.expect("the acceptor speaks");
        a.write_all(&bytes).await.expect("the dialer listens");
    }
    let copied = tokio::io::copy_bidirectional(&mut a, &mut b).await;
    copied.expect("memory cannot fail");
    heard
}

#[tokio::test]
async fn what_was_overheard_opens_nothing_again() {
    let (mut dialer, near) = duplex(4096);
    let (far, mut acceptor) = duplex(4096);
    let accepting = tokio::spawn(async move {
        let (_, link_key) = accept(&mut acceptor, &KEY).await?;
        answer(&mut acceptor, &link_key, &welcome(Ok(()))).await
    });
    let overhearing = tokio::spawn(overhear(near, far));
    dial(&mut dialer, &KEY, &hello())
        .await
        .expect("they have one key");
    accepting
        .await
        .expect("it ends")
        .expect("they have one key");
    drop(dialer);
    let heard = overhearing.await.expect("it ends");
    let (said, accepted) = provoke(&heard).await;
    assert_eq!(
        said.len(),
        OPENING_BYTES,
        "the proof of a replay is no proof"
    );
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_node_does_not_take_its_own_words_for_a_peer() {
    let (mut a, mut b) = duplex(4096);
    let dialling = tokio::spawn(async move { dial(&mut a, &KEY, &hello()).await });
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = b.read(&mut bytes).await {
        if b.write_all(&bytes[..length]).await.is_err() {
            break;
        }
    }
    assert!(dialling.await.expect("it ends").is_err());
}
