//! The window against a set of the numbers under way.

use super::Sequences;
use proptest::prelude::*;
use std::collections::BTreeSet;

proptest! {
    #[test]
    fn completed_through_is_just_below_the_first_under_way(
        actions in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 1..200)
    ) {
        let mut sequences = Sequences::new();
        let mut under_way = BTreeSet::new();
        for action in actions {
            match action {
                Some(index) if !under_way.is_empty() => {
                    let numbers: Vec<u64> = under_way.iter().copied().collect();
                    let number = *index.get(&numbers);
                    under_way.remove(&number);
                    sequences.complete(number);
                }
                _ => {
                    let last = sequences.last();
                    prop_assert_eq!(sequences.next(), last + 1);
                    under_way.insert(last + 1);
                }
            }
            let through = under_way.first().map_or(sequences.last(), |first| first - 1);
            prop_assert_eq!(sequences.completed_through(), through);
        }
    }
}

#[test]
fn starts_after_the_number_that_stands_for_the_past() {
    let mut sequences = Sequences::new();
    assert_eq!((sequences.completed_through(), sequences.last()), (1, 1));
    assert_eq!(sequences.next(), 2);
}

#[test]
#[should_panic(expected = "write 2 is not under way")]
fn completes_once() {
    let mut sequences = Sequences::new();
    let number = sequences.next();
    sequences.complete(number);
    sequences.complete(number);
}
