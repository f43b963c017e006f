use super::{Oracle, Wrong};
use crate::content::tag;
use format::types::Span;

const HERE: Span = Span::new(512, 512);

fn write(oracle: &mut Oracle, order: u64) {
    oracle.write(order, HERE, Some(&[tag(order, 0)]));
}

fn reads(oracle: &mut Oracle, order: u64, value: u64) -> bool {
    oracle.read(order, HERE, &[value]).is_ok()
}

#[test]
fn an_acknowledged_write_overtakes_what_came_before() {
    let mut oracle = Oracle::default();
    write(&mut oracle, 1);
    write(&mut oracle, 2);
    oracle.acknowledge(2, HERE, 3, false);
    assert!(!reads(&mut oracle, 4, 0));
    assert!(!reads(&mut oracle, 4, tag(1, 0)));
    assert!(reads(&mut oracle, 4, tag(2, 0)));
}

#[test]
fn a_write_of_unknown_outcome_may_be_seen_or_not_but_not_both() {
    for (first, second) in [(0, tag(1, 0)), (tag(1, 0), 0)] {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        assert!(reads(&mut oracle, 2, first));
        assert!(reads(&mut oracle, 3, first));
        assert!(!reads(&mut oracle, 4, second));
    }
}

#[test]
fn a_read_does_not_see_what_arrived_after_it() {
    let mut oracle = Oracle::default();
    write(&mut oracle, 5);
    assert!(!reads(&mut oracle, 4, tag(5, 0)));
    assert!(reads(&mut oracle, 4, 0));
    assert!(
        reads(&mut oracle, 6, tag(5, 0)),
        "it may still happen after the read"
    );
}

#[test]
fn a_power_cut_takes_back_what_no_flush_has_covered_and_no_more() {
    let mut oracle = Oracle::default();
    for order in [1, 3] {
        write(&mut oracle, order);
        oracle.acknowledge(order, HERE, order + 1, false);
    }
    oracle.flushed(3);
    oracle.lose_unflushed();
    let lost = oracle
        .clone()
        .read(9, HERE, &[0])
        .expect_err("the flush covered a write");
    assert_eq!(lost.wrong, Wrong::OlderThanFlushed);
    assert!(reads(&mut oracle.clone(), 9, tag(1, 0)));
    assert!(reads(&mut oracle, 9, tag(3, 0)));
}

#[test]
fn zeroes_overtake_like_any_write() {
    let mut oracle = Oracle::default();
    write(&mut oracle, 1);
    oracle.acknowledge(1, HERE, 2, true);
    oracle.write(3, Span::new(0, 4096), None);
    assert!(oracle.clone().read(4, HERE, &[0]).is_ok());
    assert!(oracle.clone().read(4, HERE, &[tag(1, 0)]).is_ok());
    oracle.acknowledge(3, Span::new(0, 4096), 4, false);
    assert!(!reads(&mut oracle, 5, tag(1, 0)));
}
