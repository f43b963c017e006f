use super::{LINE_BYTES_MAX, STREAM_BYTES_MAX, show};

async fn shown(printed: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    show(printed, |line| lines.push(line.to_owned())).await;
    lines
}

#[tokio::test]
async fn lines_are_shown_one_by_one_and_nothing_else_reaches_a_terminal() {
    assert_eq!(
        shown(b"one\ntwo\x1b[31m\n\nend").await,
        ["one", "two?[31m", "", "end"]
    );
    assert_eq!(shown(b"\xff\n").await, ["\u{fffd}"]);
    assert_eq!(shown(b"").await, [""; 0]);
}

#[tokio::test]
async fn what_is_too_much_is_counted() {
    let long = vec![b'a'; LINE_BYTES_MAX + 5];
    assert_eq!(shown(&long).await[1], "aaaaa");
    let endless = vec![b'b'; STREAM_BYTES_MAX + 1000];
    let lines = shown(&endless).await;
    let last = lines.last().expect("there are lines");
    assert_eq!(last, "(1000 bytes more are not shown)");
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes < STREAM_BYTES_MAX + 100, "{bytes}");
}
