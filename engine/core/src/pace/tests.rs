use super::{Latencies, Pace};
use crate::limits::{PACE_INTERVAL_NANOS, WALK_CHUNKS_MAX};
use proptest::prelude::*;

const TARGET: u64 = 10_000_000;

#[test]
fn an_idle_volume_is_walked_at_full_pace() {
    let mut pace = Pace::new(0);
    let chunks = (1..100)
        .map(|turn| pace.chunks(turn * PACE_INTERVAL_NANOS, TARGET))
        .last();
    assert_eq!(chunks, Some(WALK_CHUNKS_MAX));
}

#[test]
fn slow_requests_slow_the_walk_and_never_stop_it() {
    let mut pace = Pace::new(0);
    for turn in 1..100 {
        pace.request_took(2 * TARGET);
        assert!(pace.chunks(turn * PACE_INTERVAL_NANOS, TARGET) >= 1);
    }
    assert_eq!(pace.chunks(100 * PACE_INTERVAL_NANOS - 1, TARGET), 1);
}

proptest! {
    #[test]
    fn the_p99_is_right_within_its_bucket(mut nanos in prop::collection::vec(2u64..1 << 40, 1..400)) {
        let mut latencies = Latencies::default();
        nanos.iter().for_each(|nanos| latencies.add(*nanos));
        nanos.sort_unstable();
        let exact = nanos[nanos.len() - 1 - nanos.len() / 100];
        let told = latencies.p99();
        prop_assert!(told >= exact && told <= exact.saturating_mul(3) / 2 + 1, "{told} for {exact}");
    }
}
