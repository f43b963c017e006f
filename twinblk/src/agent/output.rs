//! What a hook prints, line by line and bounded.

use crate::hook_report::plain;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What is logged of one stream of one run; the rest is counted.
const STREAM_BYTES_MAX: usize = 32 << 10;
/// A longer line is broken.
const LINE_BYTES_MAX: usize = 255;

/// Reads a stream to its end, and shows its lines.
pub(super) async fn show(mut stream: impl AsyncRead + Unpin, mut show: impl FnMut(&str)) {
    let mut shown = 0;
    let mut passed_over = 0;
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        // A stream that breaks has ended.
        let length = stream.read(&mut chunk).await.unwrap_or(0);
        if length == 0 {
            break;
        }
        let kept = length.min(STREAM_BYTES_MAX - shown);
        shown += kept;
        passed_over += length - kept;
        for byte in &chunk[..kept] {
            if *byte == b'\n' || line.len() == LINE_BYTES_MAX {
                show(&plain(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
    }
    if !line.is_empty() {
        show(&plain(&String::from_utf8_lossy(&line)));
    }
    if passed_over > 0 {
        show(&format!("({passed_over} bytes more are not shown)"));
    }
}

#[cfg(test)]
mod tests;
