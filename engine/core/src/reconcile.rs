//! The handshake as a table: two identities in, one named row out.
//!
//! A row is written from one side's view and is tried from both, so that what holds for the one
//! holds mirrored for the other. The first row that matches decides. Three rules run through it:
//!
//! - A resync overwrites only who is outside the in-sync set. Where a member would have to be
//!   overwritten the verdict is to stay idle until the primary has dropped it.
//! - Its source is a member, consistent and not suspect.
//! - Any mark on either side is dealt with: by a resync if one side is outside, by equalising if both
//!   are members. Both go by the union of both sides' marks.

mod facts;

use self::facts::{Disk, Facts, Half, Lineage, Party, Primary, Volume, reduce};
use format::frame::Identity;
use format::types::Slot;

/// One of the two replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// This one.
    Local,
    /// The other.
    Remote,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Side {
        match self {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        }
    }
}

/// What a resync compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// What either side has marked.
    Marked,
    /// Everything, because of this.
    Full(&'static str),
}

/// What two replicas do about each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They go on where their last session ended.
    Resume,
    /// They are equal.
    InSync,
    /// They are members and may differ in marked blocks: those are made equal.
    Equalise {
        /// Whose blocks count.
        source: Side,
    },
    /// One is brought up to date by the other.
    Resync {
        /// By whom.
        source: Side,
        /// How much is compared.
        scope: Scope,
    },
    /// Neither can help the other now.
    Idle,
    /// Both have gone on from a common past; an operator must choose.
    SplitBrain,
    /// They have no business with each other.
    Refuse(&'static str),
}

impl Verdict {
    /// The verdict as the other side says it.
    #[must_use]
    pub const fn mirrored(self) -> Verdict {
        match self {
            Verdict::Equalise { source } => Verdict::Equalise {
                source: source.other(),
            },
            Verdict::Resync { source, scope } => Verdict::Resync {
                source: source.other(),
                scope,
            },
            same => same,
        }
    }
}

/// What a handshake comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The row's name, for people and for counting.
    pub row: &'static str,
    /// What is done.
    pub verdict: Verdict,
    /// This side first takes the other's configuration; with the data's generation and history, if it
    /// is a member in it.
    pub adopt: Option<Side>,
}

/// Looks the verdict up.
pub fn reconcile(
    local: &Identity,
    local_slot: Slot,
    remote: &Identity,
    remote_slot: Slot,
) -> Outcome {
    let mine = Party {
        identity: local,
        slot: local_slot,
    };
    let theirs = Party {
        identity: remote,
        slot: remote_slot,
    };
    let (facts, latest) = reduce(&mine, &theirs);
    let (row, verdict) = decide(&facts);
    let same = local.configuration == remote.configuration;
    let adopt = latest.filter(|_| !same).map(Side::other);
    let adopt = adopt.filter(|side| match side {
        Side::Local => mine.follows(&theirs) || may_adopt(&facts, mine.stays(), verdict),
        Side::Remote => {
            theirs.follows(&mine) || may_adopt(&facts.mirrored(), theirs.stays(), verdict)
        }
    });
    Outcome {
        row,
        verdict,
        adopt,
    }
}

/// Whether my side may take their configuration. One that makes it a member also says that its data
/// is good: not, if that is not so. Of a member that stays one it says nothing new.
fn may_adopt(facts: &Facts, stays: bool, verdict: Verdict) -> bool {
    let told = !matches!(verdict, Verdict::SplitBrain | Verdict::Refuse(_));
    let good = match facts.mine.disk {
        Disk::Consistent => true,
        Disk::Unusable => stays,
        Disk::Inconsistent => false,
    };
    told && (!facts.mine.member || facts.lineage == Lineage::Same && good)
}

/// The first row that matches, from either view.
fn decide(facts: &Facts) -> (&'static str, Verdict) {
    let mirrored = facts.mirrored();
    for row in ROWS {
        if (row.applies)(facts) {
            return (row.name, (row.verdict)(facts));
        }
        if (row.applies)(&mirrored) {
            return (row.name, (row.verdict)(&mirrored).mirrored());
        }
    }
    unreachable!("the last row matches everything")
}

/// A row, from the view of the side that [`Facts::mine`] is about: `Side::Local` in its verdict.
struct Row {
    name: &'static str,
    applies: fn(&Facts) -> bool,
    verdict: fn(&Facts) -> Verdict,
}

const fn row(
    name: &'static str,
    applies: fn(&Facts) -> bool,
    verdict: fn(&Facts) -> Verdict,
) -> Row {
    Row {
        name,
        applies,
        verdict,
    }
}

const ROWS: &[Row] = &[
    // A name used again has a new id: nothing of the one volume says anything about the other.
    row(
        "other-volume",
        |f| f.volume == Volume::Other,
        |_| Verdict::Refuse("it has another volume of this name"),
    ),
    // A grow has not reached both, and blocks past the smaller end could not be mirrored: they wait until it
    // is finished.
    row("other-size", |f| f.volume == Volume::Resized, idle),
    // What the one side commits by itself the other would take for decided, and a grace that is counted against a
    // shorter lease ends too soon: nothing goes on until both go by the same.
    row("other-lease", |f| f.volume == Volume::OtherLease, idle),
    // While a proposal is open two configurations bind, and nobody can say yet who is a member.
    row("undecided", |f| f.undecided, idle),
    // Without both disks there is nothing to compare or to copy; a member without one is dropped. Where both have gone on
    // it is still for an operator to give one side up.
    row(
        "no-disk",
        |f| f.mine.disk == Disk::Unusable && !both_went_on(f),
        idle,
    ),
    // Somebody has to know what the data is.
    row(
        "both-lost",
        |f| f.lineage == Lineage::BothLost,
        |_| Verdict::Refuse("both replicas have lost their metadata"),
    ),
    // It has no claim to what it holds: the primary drops it, and then it is brought up to date.
    row("lost-member", |f| lost(f) && f.mine.member, idle),
    // Nothing is known of its blocks.
    row(
        "lost",
        |f| lost(f) && can_feed(f),
        |_| copy(Scope::Full("the target's metadata was lost or given up")),
    ),
    // Operators have given both sides up: one of them must not have been meant.
    row(
        "both-discarded",
        |f| parted(f) && f.mine.discarded && f.theirs.discarded,
        |_| Verdict::Refuse("both sides were given up: promote one with --force"),
    ),
    // What was given up contains what was kept: dropping it would go back in time.
    row(
        "discarded-ahead",
        |f| f.mine.discarded && f.lineage == Lineage::Ahead,
        |_| Verdict::Refuse("the side that was given up is the newer one"),
    ),
    // The side that was kept still counts on the one that was given up: it has to drop it first.
    row("discarded-member", |f| gave_up(f) && f.mine.member, idle),
    // The histories do not tell where the two parted, so marks of that time may be missing.
    row(
        "discarded-in-full",
        |f| gave_up(f) && f.lineage == Lineage::Unknown && can_feed(f),
        |_| {
            copy(Scope::Full(
                "the histories do not reach back to where the two parted",
            ))
        },
    ),
    // The operator has chosen; what this side did on its own is in its marks.
    row("discarded", |f| gave_up(f) && can_feed(f), copy_marked),
    // The operator has chosen, but the side that was kept cannot be copied from now.
    row("discarded-waits", gave_up, idle),
    // Both have acknowledged what the other does not have.
    row("split-brain", both_went_on, |_| Verdict::SplitBrain),
    // Two configurations claim to be the latest of one history.
    row("forked", |f| f.conflict, |_| Verdict::SplitBrain),
    // A history that was cut off proves nothing, neither for nor against: an operator has to choose.
    row(
        "history-too-short",
        |f| f.lineage == Lineage::Unknown,
        |_| Verdict::SplitBrain,
    ),
    // Complete histories without a common past: these never were replicas of each other.
    row(
        "unrelated",
        |f| f.lineage == Lineage::Unrelated,
        |_| Verdict::Refuse("its data has no common past with ours"),
    ),
    // It counts as a member of what it was not part of: the primary drops it, then it is a target.
    row(
        "behind-member",
        |f| f.lineage == Lineage::Behind && f.mine.member,
        idle,
    ),
    // It has missed what the other's marks say, and what only it has was never acknowledged. So has one of the
    // same generation that has left the set or was never admitted.
    row(
        "behind",
        |f| matches!(f.lineage, Lineage::Behind | Lineage::Same) && can_feed(f),
        copy_marked,
    ),
    // Half a copy is no copy: the primary drops it, and then its resync goes on.
    row(
        "inconsistent-member",
        |f| f.mine.member && f.mine.disk == Disk::Inconsistent,
        idle,
    ),
    // The cable was out for a moment: the two processes still know what the other has of theirs.
    row(
        "resume",
        |f| members(f) && !uncertain(f) && f.known,
        |_| Verdict::Resume,
    ),
    // Each is made equal to the primary; between themselves they could only undo its writes.
    row(
        "equalised-by-primary",
        |f| differing(f) && f.primary == Primary::Other,
        idle,
    ),
    // A power cut may have taken acknowledged writes from the one, and not from the other.
    row(
        "suspect",
        |f| members(f) && f.mine.suspect && !f.theirs.suspect,
        equal_to_theirs,
    ),
    // Clients have seen what the primary had; where they differ nothing was acknowledged.
    row(
        "equalise",
        |f| differing(f) && f.primary == Primary::Theirs,
        equal_to_theirs,
    ),
    // Nobody served: either will do, and both have to choose the same.
    row(
        "equalise-by-slot",
        |f| differing(f) && !f.lower,
        equal_to_theirs,
    ),
    // Members without a mark on either side have all that was acknowledged, and nothing else.
    row("in-sync", members, |_| Verdict::InSync),
    // A third replica serves and brings both up to date; two sources would undo each other's work.
    row(
        "resynced-by-primary",
        |f| outside(f) && f.primary == Primary::Other,
        idle,
    ),
    // What the one member has lost in a power cut would be lost here too.
    row("source-suspect", |f| outside(f) && f.theirs.suspect, idle),
    // Neither has what was acknowledged last; both wait for a member.
    row("no-member", |_| true, idle),
];

/// Both are members, with data that their membership vouches for.
fn members(facts: &Facts) -> bool {
    facts.lineage == Lineage::Same && facts.mine.member && facts.theirs.member
}

/// Members that may differ, or that may both have lost what the other has.
fn differing(facts: &Facts) -> bool {
    members(facts) && uncertain(facts)
}

/// There is a mark, or a power cut may have taken what no mark tells.
fn uncertain(facts: &Facts) -> bool {
    facts.marks || facts.mine.suspect || facts.theirs.suspect
}

/// Only the other is a member.
fn outside(facts: &Facts) -> bool {
    !facts.mine.member && facts.theirs.member
}

/// My side does not know what its data descends from.
fn lost(facts: &Facts) -> bool {
    facts.lineage == Lineage::MineLost
}

/// Neither side's data is an ancestor of the other's.
fn parted(facts: &Facts) -> bool {
    matches!(
        facts.lineage,
        Lineage::Same | Lineage::Diverged | Lineage::Unknown
    )
}

/// Both have gone on from a common past, and nobody has chosen.
fn both_went_on(facts: &Facts) -> bool {
    let given_up = facts.mine.discarded || facts.theirs.discarded;
    facts.lineage == Lineage::Diverged && !given_up
}

/// An operator has given my side up and not theirs.
fn gave_up(facts: &Facts) -> bool {
    parted(facts) && facts.mine.discarded && !facts.theirs.discarded
}

/// The other may overwrite my side.
fn can_feed(facts: &Facts) -> bool {
    let Half { disk, suspect, .. } = facts.theirs;
    outside(facts) && disk == Disk::Consistent && !suspect && facts.primary != Primary::Other
}

fn idle(_: &Facts) -> Verdict {
    Verdict::Idle
}

fn equal_to_theirs(_: &Facts) -> Verdict {
    Verdict::Equalise {
        source: Side::Remote,
    }
}

fn copy(scope: Scope) -> Verdict {
    let source = Side::Remote;
    Verdict::Resync { source, scope }
}

fn copy_marked(facts: &Facts) -> Verdict {
    copy(marked(facts))
}

/// By marks, if both sides' marks can be trusted to cover all that differs.
fn marked(facts: &Facts) -> Scope {
    if !facts.theirs.marks_valid {
        Scope::Full("the source has no complete marks for the target")
    } else if !facts.mine.marks_valid {
        Scope::Full("the target has no complete marks for the source")
    } else {
        Scope::Marked
    }
}

#[cfg(test)]
mod tests;
