use super::{Arena, PAGE_BYTES, SLOT_BYTES_MAX, run_starts};

fn arena(pools: &[usize]) -> Arena {
    Arena::new(pools).expect("memory can be mapped")
}

#[test]
fn slots_are_aligned_and_distinct() {
    let arena = arena(&[SLOT_BYTES_MAX]);
    let mut slots = Vec::new();
    for (index, bytes) in (0u8..).zip([1, 4096, 4097, 16_384, 65_536, 20_000]) {
        let mut slot = arena.take(0, bytes).expect("there is room");
        assert!(slot.len() >= bytes);
        assert_eq!(slot.as_ptr() as usize % PAGE_BYTES, 0);
        slot.fill(index);
        slots.push(slot);
    }
    for (index, slot) in (0u8..).zip(&slots) {
        assert!(slot.iter().all(|byte| *byte == index));
    }
}

#[test]
fn an_exhausted_pool_leaves_the_others_alone_and_recovers() {
    let arena = arena(&[SLOT_BYTES_MAX, SLOT_BYTES_MAX]);
    let mut held: Vec<_> = std::iter::from_fn(|| arena.take(0, PAGE_BYTES)).collect();
    assert_eq!(held.len(), 64);
    assert_eq!(arena.free_bytes(0), 0);
    assert!(arena.take(1, SLOT_BYTES_MAX).is_some());
    held.truncate(63);
    assert!(arena.take(0, 2 * PAGE_BYTES).is_none());
    assert!(arena.take(0, PAGE_BYTES).is_some());
    held.clear();
    assert!(arena.take(0, SLOT_BYTES_MAX).is_some());
}

#[test]
fn a_shared_slot_is_owned_again_only_when_alone() {
    let arena = arena(&[SLOT_BYTES_MAX]);
    let shared = arena.take(0, 1).expect("there is room").share();
    let other = shared.clone();
    let shared = shared.into_owned().expect_err("another handle exists");
    drop(other);
    let mut owned = shared.into_owned().expect("it is alone");
    owned[0] = 7;
    assert_eq!(arena.free_bytes(0), SLOT_BYTES_MAX - PAGE_BYTES);
    drop(owned);
    assert_eq!(arena.free_bytes(0), SLOT_BYTES_MAX);
}

#[test]
fn slots_outlive_their_arena() {
    let arena = arena(&[SLOT_BYTES_MAX]);
    let mut slot = arena.take(0, SLOT_BYTES_MAX).expect("there is room");
    drop(arena);
    slot.fill(9);
    assert_eq!(
        slot.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
        9 << 18
    );
}

#[test]
fn run_starts_agree_with_counting() {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..2000 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let free = word | word.rotate_left(17) | word.rotate_left(39);
        for (class, pages) in super::CLASS_PAGES.into_iter().enumerate() {
            let expected = (0..64)
                .step_by(pages)
                .filter(|start| (*start..start + pages).all(|page| free & (1 << page) != 0))
                .fold(0u64, |bits, start| bits | 1 << start);
            assert_eq!(run_starts(free, class), expected);
        }
    }
}
