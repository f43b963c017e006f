use super::{Answer, Handover, Overlap, Stamp, by_reign, handovers, median_and_max};
use std::time::Duration;

/// An answer of a node that arrived between two instants.
fn answer(node: usize, after: u64, by: u64) -> Answer {
    Answer {
        node,
        issued: Stamp(after.saturating_sub(1)),
        after: Stamp(after),
        by: Stamp(by),
        change: true,
    }
}

#[test]
fn one_after_the_other_is_a_handover() {
    let answers = [
        answer(0, 10, 20),
        answer(1, 40, 50),
        answer(0, 15, 30),
        answer(1, 60, 70),
    ];
    let handover = Handover {
        from: 0,
        to: 1,
        last: Stamp(15),
        first: Stamp(50),
    };
    assert_eq!(handovers(&answers), Ok(vec![handover]));
}

#[test]
fn one_node_alone_hands_nothing_over() {
    assert_eq!(handovers(&[]), Ok(Vec::new()));
    assert_eq!(
        handovers(&[answer(2, 1, 2), answer(2, 3, 4)]),
        Ok(Vec::new())
    );
}

#[test]
fn three_nodes_follow_each_other() {
    let answers = [answer(2, 70, 80), answer(0, 10, 20), answer(1, 30, 40)];
    let nodes = handovers(&answers).map(|found| {
        let pairs = found.iter().map(|handover| (handover.from, handover.to));
        pairs.collect::<Vec<_>>()
    });
    assert_eq!(nodes, Ok(vec![(0, 1), (1, 2)]));
}

#[test]
fn an_answer_that_surely_came_after_the_next_primary_s_is_an_overlap() {
    let (late, early) = (answer(0, 60, 70), answer(1, 40, 50));
    let overlap = Err(Overlap { late, early });
    assert_eq!(handovers(&[answer(0, 10, 20), early, late]), overlap);
    assert_eq!(handovers(&[early, late, answer(0, 10, 20)]), overlap);
}

#[test]
fn an_answer_that_was_read_late_is_none() {
    let answers = [answer(0, 30, 70), answer(1, 40, 50)];
    assert!(handovers(&answers).is_ok_and(|found| found.len() == 1));
}

#[test]
fn a_node_may_serve_again() {
    let reigns = [(0, Stamp(0)), (1, Stamp(200)), (0, Stamp(400))];
    let answers = [answer(0, 10, 20), answer(1, 195, 199), answer(0, 390, 395)];
    let numbered = by_reign(&answers, &reigns, Duration::from_nanos(20));
    let numbers: Vec<usize> = numbered.iter().map(|answer| answer.node).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert!(handovers(&numbered).is_ok_and(|found| found.len() == 2));
    let late = [&answers[..], &[answer(0, 300, 310)]].concat();
    let numbered = by_reign(&late, &reigns, Duration::from_nanos(20));
    let overlap = handovers(&numbered).map_err(|overlap| (overlap.late.node, overlap.early.node));
    assert_eq!(overlap, Err((0, 1)));
}

#[test]
fn the_clock_goes_forward() {
    let begin = Stamp::now();
    std::thread::sleep(Duration::from_millis(2));
    assert!(Stamp::now().since(begin) >= Duration::from_millis(2));
    assert_eq!(begin.since(Stamp::now()), Duration::ZERO);
}

#[test]
fn the_middle_and_the_greatest() {
    let times = [5, 1, 9].map(Duration::from_secs);
    let expected = (Duration::from_secs(5), Duration::from_secs(9));
    assert_eq!(median_and_max(&times), expected);
    assert_eq!(median_and_max(&[]), (Duration::ZERO, Duration::ZERO));
}
