//! The order against a list that is searched from end to end.

use super::{Access, Inflight};
use format::types::{BLOCK_BYTES, Span};
use proptest::prelude::*;

/// An operation in the naive order.
#[derive(Clone, Copy)]
struct Entry {
    operation: u32,
    span: Span,
    access: Access,
    started: bool,
}

/// What the order means: an operation starts when no earlier one here conflicts with it.
#[derive(Default)]
struct Oracle {
    entries: Vec<Entry>,
}

impl Oracle {
    fn enter(&mut self, operation: u32, span: Span, access: Access) -> bool {
        self.entries.push(Entry {
            operation,
            span,
            access,
            started: false,
        });
        self.start().contains(&operation)
    }

    fn leave(&mut self, operation: u32) -> Vec<u32> {
        self.entries.retain(|entry| entry.operation != operation);
        self.start()
    }

    fn downgrade(&mut self, operation: u32) -> Vec<u32> {
        for entry in &mut self.entries {
            if entry.operation == operation {
                entry.access = Access::Read;
            }
        }
        self.start()
    }

    fn start(&mut self) -> Vec<u32> {
        let mut started = Vec::new();
        for index in 0..self.entries.len() {
            let this = self.entries[index];
            let held = self.entries[..index].iter().any(|earlier| {
                let both_read = earlier.access == Access::Read && this.access == Access::Read;
                let empty = earlier.span.length == 0 || this.span.length == 0;
                earlier.span.overlaps(this.span) && !both_read && !empty
            });
            if !this.started && !held {
                self.entries[index].started = true;
                started.push(this.operation);
            }
        }
        started
    }
}

#[derive(Clone, Debug)]
enum Action {
    Enter {
        block: u64,
        blocks: u64,
        access: Access,
    },
    Leave(prop::sample::Index),
    Downgrade(prop::sample::Index),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write)];
    let blocks = prop_oneof![8 => 1u64..8, 2 => 60u64..70, 1 => 100u64..4096, 1 => Just(0)];
    let action = prop_oneof![
        5 => (900u64..1156, blocks, access)
            .prop_map(|(block, blocks, access)| Action::Enter { block, blocks, access }),
        4 => any::<prop::sample::Index>().prop_map(Action::Leave),
        1 => any::<prop::sample::Index>().prop_map(Action::Downgrade),
    ];
    prop::collection::vec(action, 1..300)
}

/// The lowest number that no operation here has, as a slab would give it.
fn free_number(oracle: &Oracle) -> u32 {
    (0..)
        .find(|n| oracle.entries.iter().all(|entry| entry.operation != *n))
        .unwrap_or(0)
}

proptest! {
    #[test]
    fn agrees_with_the_naive_order(actions in actions()) {
        let mut inflight = Inflight::new();
        let mut oracle = Oracle::default();
        for action in actions {
            let mut ready = Vec::new();
            match action {
                Action::Enter { block, blocks, access } => {
                    let operation = free_number(&oracle);
                    let span = Span::new(block * BLOCK_BYTES, blocks * BLOCK_BYTES);
                    let started = inflight.enter(operation, span, access);
                    prop_assert_eq!(started, oracle.enter(operation, span, access));
                    prop_assert_eq!(inflight.holds_alone(operation, span), access == Access::Write);
                }
                Action::Leave(index) if !oracle.entries.is_empty() => {
                    let operation = index.get(&oracle.entries).operation;
                    inflight.leave(operation, &mut ready);
                    prop_assert_eq!(ready, oracle.leave(operation));
                    prop_assert!(!inflight.holds_alone(operation, Span::new(0, 0)));
                }
                Action::Downgrade(index) if oracle.entries.iter().any(|entry| entry.started) => {
                    let started: Vec<_> =
                        oracle.entries.iter().filter(|entry| entry.started).collect();
                    let operation = index.get(&started).operation;
                    inflight.downgrade(operation, &mut ready);
                    prop_assert_eq!(ready, oracle.downgrade(operation));
                }
                _ => {}
            }
            prop_assert_eq!(inflight.len(), oracle.entries.len());
            prop_assert_eq!(inflight.is_empty(), oracle.entries.is_empty());
        }
    }
}

#[test]
fn answered_write_lets_reads_pass_and_holds_writes() {
    let mut inflight = Inflight::new();
    let span = Span::new(0, BLOCK_BYTES);
    let mut ready = Vec::new();
    assert!(inflight.enter(0, span, Access::Write));
    assert!(!inflight.enter(1, span, Access::Read));
    assert!(!inflight.enter(2, span, Access::Write));
    assert!(!inflight.enter(3, span, Access::Read));
    inflight.downgrade(0, &mut ready);
    assert_eq!(
        ready,
        [1],
        "the read behind the waiting write keeps its place"
    );
    ready.clear();
    inflight.leave(0, &mut ready);
    inflight.leave(1, &mut ready);
    assert_eq!(ready, [2]);
}

#[test]
fn keeps_its_memory() {
    let mut inflight = Inflight::new();
    let mut ready = Vec::new();
    let turn = |inflight: &mut Inflight, ready: &mut Vec<u32>| {
        for operation in 0..64 {
            let span = Span::new(u64::from(operation % 7) * BLOCK_BYTES, BLOCK_BYTES);
            inflight.enter(operation, span, Access::Write);
        }
        for operation in 0..64 {
            inflight.leave(operation, ready);
        }
        ready.clear();
    };
    turn(&mut inflight, &mut ready);
    let before = (
        inflight.operations.capacity(),
        inflight.places.narrow.capacity(),
    );
    turn(&mut inflight, &mut ready);
    assert_eq!(
        before,
        (
            inflight.operations.capacity(),
            inflight.places.narrow.capacity()
        )
    );
}
