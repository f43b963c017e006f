use super::Journal;
use crate::BLOCK_BYTES;
use crate::stamp::Content;

fn write(journal: &mut Journal, block: u64) -> (u64, Content) {
    let mut bytes = vec![0; BLOCK_BYTES];
    let version = journal.issue_write(block, &mut bytes);
    (version, Content::of(&bytes))
}

#[test]
fn the_last_acknowledged_version_or_a_later_one_may_be_read() {
    let mut journal = Journal::new(1, 4);
    let (first, old) = write(&mut journal, 2);
    let (second, new) = write(&mut journal, 2);
    assert_eq!(journal.judge(2, Content::Zero), Ok(()));
    journal.acknowledge(2, first);
    assert!(journal.judge(2, Content::Zero).is_err());
    assert_eq!(journal.judge(2, old), Ok(()));
    assert_eq!(journal.judge(2, new), Ok(()));
    journal.acknowledge(2, second);
    assert!(journal.judge(2, old).is_err());
    assert!(journal.judge(2, Content::Broken).is_err());
    assert!(journal.judge(3, new).is_err(), "another block's stamp");
}

#[test]
fn what_was_settled_must_not_change_again() {
    let mut journal = Journal::new(1, 4);
    let (_, in_flight) = write(&mut journal, 0);
    let zero = journal.issue_zero(0);
    journal.settle(0, in_flight);
    assert_eq!(journal.judge(0, in_flight), Ok(()));
    assert!(
        journal.judge(0, Content::Zero).is_err(),
        "version {zero} was lost"
    );
}

#[test]
fn ranges_come_together_again() {
    let mut journal = Journal::new(1, 10);
    let (version, _) = write(&mut journal, 7);
    journal.acknowledge(7, version);
    let pieces = journal.split(3);
    assert_eq!(
        pieces.iter().map(Journal::range).collect::<Vec<_>>(),
        [0..4, 4..8, 8..10]
    );
    assert_eq!(Journal::join(pieces).written(), 1);
}

#[test]
fn a_lost_write_can_be_played() {
    let mut journal = Journal::new(1, 4);
    for _ in 0..2 {
        let (version, _) = write(&mut journal, 3);
        journal.acknowledge(3, version);
    }
    let (block, bytes) = journal
        .previous_version(0)
        .expect("block 3 was written twice");
    assert_eq!(block, 3);
    assert!(journal.judge(block, Content::of(&bytes)).is_err());
}
