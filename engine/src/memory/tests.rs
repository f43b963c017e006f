use super::{Buffers, Pool, arena, take};
use format::frame::{PAYLOAD_BYTES_MAX, PayloadSummary};
use replica::event::Payload;

#[test]
fn a_small_arena_still_feeds_every_user() {
    let arena = arena(1 << 20).expect("memory can be mapped");
    for pool in [Pool::Writes, Pool::Reads, Pool::Peers, Pool::Metadata] {
        let held: Vec<_> = std::iter::from_fn(|| take(&arena, pool, PAYLOAD_BYTES_MAX)).collect();
        assert!(held.len() >= 2, "{pool:?} has {}", held.len());
    }
}

#[test]
fn an_overlay_changes_the_base_and_its_summary() {
    let arena = arena(1 << 20).expect("memory can be mapped");
    let mut buffers = Buffers::default();
    let filled = |byte: u8| {
        let mut slot = take(&arena, Pool::Reads, 8192).expect("there is room");
        slot[..8192].fill(byte);
        slot.share()
    };
    let base = buffers.insert(filled(1));
    let patch = buffers.insert(filled(2));
    let payload = Payload {
        buffer: base,
        start: 0,
        length: 8192,
    };
    let before = buffers.summary(payload);
    assert_eq!(before, PayloadSummary::of(&[1; 8192]));
    assert_eq!(buffers.summary(payload), before);
    buffers.overlay(base, patch, 100, 50);
    let mut expected = [1; 8192];
    expected[100..150].fill(2);
    assert_eq!(buffers.slot(base)[..8192], expected);
    assert_eq!(buffers.summary(payload), PayloadSummary::of(&expected));
    drop((buffers.remove(base), buffers.remove(patch)));
    assert_eq!(buffers.insert(filled(3)), patch);
}
