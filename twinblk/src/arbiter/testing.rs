//! What the arbiters' tests share.

use super::{Change, Register};
use format::types::{Configuration, Generation, NodeSet, Slot, VolumeId};

/// A volume's id.
pub(crate) fn volume(number: u8) -> VolumeId {
    VolumeId([number; 16])
}

/// A configuration of two replicas.
pub(crate) fn configuration(epoch: u64, generation: u8) -> Configuration {
    Configuration {
        epoch,
        generation: Generation([generation; 16]),
        primary: Slot::new(0),
        in_sync: NodeSet::from_bits(3),
    }
}

/// Holds a register against all that is promised of one.
pub(crate) async fn keeps_its_promises(register: &dyn Register) {
    let (one, two, three) = (
        configuration(1, 1),
        configuration(2, 2),
        configuration(3, 3),
    );
    let ask = async |change| {
        let asked = register.ask(volume(1), change).await;
        asked.unwrap_or_else(|failure| panic!("{change:?}: {failure}"))
    };
    assert_eq!(ask(Change::Read).await, None);
    assert_eq!(ask(Change::Propose(one)).await, None, "nothing to follow");
    assert_eq!(ask(Change::Seed(one)).await, Some(one));
    assert_eq!(ask(Change::Seed(two)).await, Some(one), "it is not empty");
    assert_eq!(
        ask(Change::Propose(three)).await,
        Some(one),
        "two is missing"
    );
    assert_eq!(ask(Change::Propose(two)).await, Some(two));
    assert_eq!(ask(Change::Propose(two)).await, Some(two), "asked again");
    let rival = configuration(2, 9);
    assert_eq!(ask(Change::Propose(rival)).await, Some(two), "it came late");
    assert_eq!(ask(Change::Propose(three)).await, Some(three));
    assert_eq!(ask(Change::Replace(one)).await, Some(one), "by force");
    assert_eq!(ask(Change::Read).await, Some(one));
    let other = register.ask(volume(2), Change::Read).await;
    assert_eq!(other, Ok(None), "another volume");
}

/// Two proposers race for every epoch up to `last`; each epoch must have one winner, and both must see it.
pub(crate) async fn has_one_winner_an_epoch(
    first: &dyn Register,
    second: &dyn Register,
    last: u64,
) {
    let start = configuration(0, 0);
    let seeded = first.ask(volume(7), Change::Seed(start)).await;
    assert_eq!(seeded, Ok(Some(start)));
    let (left, right) = tokio::join!(race(first, 1, last), race(second, 2, last));
    let mut won = [0, 0];
    for (epoch, (left, right)) in (1..).zip(left.iter().zip(&right)) {
        assert!(*left || *right, "nobody has won epoch {epoch}");
        assert!(!(*left && *right), "both have won epoch {epoch}");
        won[usize::from(*right)] += 1;
    }
    println!("{} and {} of {last} epochs were won", won[0], won[1]);
    assert!(won.iter().all(|won| *won > 0), "no race: {won:?}");
}

/// Proposes every epoch in turn, and tells which were won.
async fn race(register: &dyn Register, own: u8, last: u64) -> Vec<bool> {
    let index = |epoch: u64| usize::try_from(epoch - 1).expect("it fits");
    let mut won = vec![false; usize::try_from(last).expect("it fits")];
    let mut epoch = 1;
    while epoch <= last {
        let next = configuration(epoch, own);
        let held = register.ask(volume(7), Change::Propose(next)).await;
        let held = held.expect("it answers").expect("it was seeded");
        assert!(held.epoch >= epoch, "{held:?} does not answer {next:?}");
        won[index(epoch)] = held == next;
        epoch = held.epoch + 1;
    }
    won
}
