use super::{Hasher, TURN_BLOCKS};
use crate::memory::{self, Pool};
use replica::event::{Event, IoId};
use std::collections::VecDeque;

#[test]
fn every_job_ends_in_order_and_no_turn_hashes_too_much() {
    let arena = memory::arena(1 << 20).expect("memory can be mapped");
    let mut hasher = Hasher::default();
    let mut expected = Vec::new();
    for (number, blocks) in (1..).zip([1, 64, 32, 33, 5]) {
        let mut slot = memory::take(&arena, Pool::Reads, 4096 * blocks).expect("there is room");
        slot.fill(number);
        hasher.push(IoId(number.into()), slot.share(), blocks);
        let digest = blake3::hash(&[number; 4096]);
        expected.push((
            IoId(number.into()),
            vec![digest.as_bytes()[..16].to_vec(); blocks],
        ));
    }
    let mut hashed = Vec::new();
    let mut turns = 0;
    while !hasher.is_idle() {
        let mut events = VecDeque::new();
        hasher.turn(&mut events);
        turns += 1;
        for event in events {
            let Event::Hashed { io, digests } = event else {
                panic!("only hashes come");
            };
            hashed.push((
                io,
                digests
                    .iter()
                    .map(|digest| digest.to_vec())
                    .collect::<Vec<_>>(),
            ));
        }
    }
    assert_eq!(hashed, expected);
    assert_eq!(turns, (1 + 64 + 32 + 33 + 5usize).div_ceil(TURN_BLOCKS));
}
