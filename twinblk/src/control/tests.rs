use super::{MESSAGE_BYTES_MAX, Request, Response, Session, serve};
use crate::failure::Failure;
use format::types::VolumeId;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, duplex};

const PATIENCE: Duration = Duration::from_millis(400);

fn show(number: u8) -> Request {
    Request::Show {
        volume: VolumeId([number; 16]),
    }
}

/// Answers at once; a request with the number 9 never.
async fn handle(request: Request) -> Result<Response, Failure> {
    match request {
        Request::Show { volume } if volume == VolumeId([9; 16]) => std::future::pending().await,
        Request::Show { volume } if volume == VolumeId([1; 16]) => Ok(Response::Done),
        other => Err(Failure::protects_data(format!("not {other:?}"))),
    }
}

#[tokio::test]
async fn requests_are_answered_both_ways_and_silence_is_filled() {
    let (a, b) = duplex(4096);
    let (session_a, end_a) = Session::new();
    let (session_b, end_b) = Session::new();
    tokio::spawn(serve(a, end_a, PATIENCE, handle));
    tokio::spawn(serve(b, end_b, PATIENCE, handle));
    assert_eq!(session_a.ask(show(1)).await, Ok(Response::Done));
    tokio::time::sleep(PATIENCE * 3).await;
    let failure = session_b.ask(show(2)).await.expect_err("it is refused");
    assert_eq!(failure.exit_code(), 3);
}

#[tokio::test]
async fn a_link_that_breaks_fails_what_waits() {
    let (a, b) = duplex(4096);
    let (session, end) = Session::new();
    let (_other, other_end) = Session::new();
    let serving = tokio::spawn(serve(a, end, PATIENCE, handle));
    let other = tokio::spawn(serve(b, other_end, PATIENCE, handle));
    let waiting = tokio::spawn({
        let session = session.clone();
        async move { session.ask(show(9)).await }
    });
    tokio::time::sleep(PATIENCE / 4).await;
    other.abort();
    serving.await.expect("it ends");
    assert!(waiting.await.expect("it ends").is_err());
    assert!(session.ask(show(1)).await.is_err());
}

#[tokio::test]
async fn silence_ends_a_link() {
    let (a, _held_open) = duplex(4096);
    let (_session, end) = Session::new();
    let failure = serve(a, end, PATIENCE, handle).await;
    assert!(failure.message.contains("silent"), "{failure}");
}

#[tokio::test]
async fn what_is_no_message_ends_a_link() {
    let too_long = (MESSAGE_BYTES_MAX + 1).to_le_bytes();
    for bytes in [
        &too_long[..],
        &[2, 0, 0, 0, b'{', b'}'],
        &[9, 0, 0, 0, b'x'],
    ] {
        let (a, mut b) = duplex(4096);
        let (_session, end) = Session::new();
        b.write_all(bytes).await.expect("it is open");
        drop(b);
        let failure = serve(a, end, PATIENCE, handle).await;
        assert!(failure.message.starts_with("receiving"), "{failure}");
    }
}
