//! Which copy of the superblock counts.

use super::Superblock;
use crate::block::{FOREIGN, NEWER, SHORT};
use crate::damage::Damage;

/// What the two copies of a superblock tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SuperblockChoice {
    /// A copy counts.
    Found {
        /// The newer valid copy.
        superblock: Box<Superblock>,
        /// For each copy, why it is to be written anew before anything else, if it is.
        repair: [Option<Damage>; 2],
    },
    /// None does; the file is to be left as it is.
    Refused(SuperblockRefusal),
}

/// Why a file cannot be used as a replica's metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SuperblockRefusal {
    /// It never was one.
    #[error("it is no twinblk metadata file")]
    NotTwinblk,
    /// Another program's version of twinblk has written it.
    #[error("it was written by a newer version of twinblk: use that version")]
    Newer,
    /// The copies are each valid and cannot both belong here.
    #[error("the two copies of its superblock belong to different replicas")]
    Foreign,
    /// The copies are each valid, claim to be equally new, and differ.
    #[error("the two copies of its superblock contradict each other")]
    Contradiction,
    /// It was one.
    #[error("both copies of its superblock are damaged (the first: {0}; the second: {1})")]
    Damaged(Damage, Damage),
}

/// Chooses between the two copies of the superblock, given in the order in which they lie.
///
/// | first \ second | valid | damaged or foreign | newer version |
/// |---|---|---|---|
/// | valid | the higher sequence; the other is repaired | the valid one; the other is repaired | refused |
/// | damaged or foreign | the valid one; the other is repaired | refused | refused |
/// | newer version | refused | refused | refused |
///
/// A copy of a newer version is refused even beside one that could be read: a newer twinblk has begun
/// to write there, and this one would take the file back in time.
pub fn choose_superblock(copies: [&[u8]; 2]) -> SuperblockChoice {
    match copies.map(Superblock::decode) {
        [Err(NEWER), _] | [_, Err(NEWER)] => SuperblockChoice::Refused(SuperblockRefusal::Newer),
        [Ok(first), Ok(second)] => choose_newer(first, second),
        [Ok(first), Err(damage)] => found(first, [None, Some(damage)]),
        [Err(damage), Ok(second)] => found(second, [Some(damage), None]),
        [Err(first), Err(second)] => SuperblockChoice::Refused(neither(first, second)),
    }
}

fn found(superblock: Superblock, repair: [Option<Damage>; 2]) -> SuperblockChoice {
    SuperblockChoice::Found {
        superblock: Box::new(superblock),
        repair,
    }
}

fn choose_newer(first: Superblock, second: Superblock) -> SuperblockChoice {
    const OLDER: Option<Damage> = Some(Damage::new("it is older than the other copy"));
    if (first.volume, first.slot) != (second.volume, second.slot) {
        return SuperblockChoice::Refused(SuperblockRefusal::Foreign);
    }
    match first.sequence.cmp(&second.sequence) {
        std::cmp::Ordering::Greater => found(first, [None, OLDER]),
        std::cmp::Ordering::Less => found(second, [OLDER, None]),
        std::cmp::Ordering::Equal if first == second => found(first, [None, None]),
        std::cmp::Ordering::Equal => SuperblockChoice::Refused(SuperblockRefusal::Contradiction),
    }
}

fn neither(first: Damage, second: Damage) -> SuperblockRefusal {
    let never_was = |damage| matches!(damage, FOREIGN | SHORT);
    if never_was(first) && never_was(second) {
        SuperblockRefusal::NotTwinblk
    } else {
        SuperblockRefusal::Damaged(first, second)
    }
}
