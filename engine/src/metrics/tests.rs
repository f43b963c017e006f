use super::{Metrics, WINDOW_NANOS};
use crate::frontend::{ClientKind, ClientRequest};
use format::types::Span;

fn request(kind: ClientKind) -> ClientRequest {
    ClientRequest {
        id: 0,
        kind,
        span: Span::new(0, 4096),
    }
}

#[test]
fn counts_add_up_and_failures_move_no_bytes() {
    let mut metrics = Metrics::new();
    metrics.ended(&request(ClientKind::Read), true, 0, 1_000_000);
    metrics.ended(&request(ClientKind::Read), false, 0, 1_000_000);
    metrics.ended(
        &request(ClientKind::Write { fua: true }),
        true,
        0,
        1_000_000,
    );
    metrics.ended(&request(ClientKind::Flush), true, 0, 1_000_000);
    let status = metrics.status(3, 1_000_000);
    assert_eq!((status.reads, status.writes, status.flushes), (2, 1, 1));
    assert_eq!((status.read_bytes, status.written_bytes), (4096, 4096));
    assert_eq!(status.clients, 3);
    assert!((990..=1010).contains(&status.latency_us[0]));
}

#[test]
fn old_latencies_are_forgotten() {
    let mut metrics = Metrics::new();
    let begin = 10 * WINDOW_NANOS;
    metrics.ended(&request(ClientKind::Flush), true, begin - 5_000_000, begin);
    assert!(metrics.status(0, begin + WINDOW_NANOS).latency_us[2] > 4_900);
    assert_eq!(
        metrics.status(0, begin + 4 * WINDOW_NANOS).latency_us,
        [0, 0, 0]
    );
}
