//! Every planted fault, the rule that it breaks, and the checkers one of which must find it.

use super::Lie;
use crate::failure::Checker;

/// A planted fault.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// Its name.
    pub name: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
    /// The checkers that may find it first.
    pub finders: &'static [Checker],
    /// What it is.
    pub lie: Lie,
}

const fn plant(
    name: &'static str,
    rule: &'static str,
    lie: Lie,
    finders: &'static [Checker],
) -> Plant {
    Plant {
        name,
        rule,
        finders,
        lie,
    }
}

/// What finds copies that differ although nobody says so.
const DIVERGED: &[Checker] = &[
    Checker::EqualBeforeServed,
    Checker::ReadLatest,
    Checker::R1,
    Checker::R7,
    Checker::R10,
    Checker::FlushedSurvives,
];

/// Every planted fault.
pub const PLANTS: &[Plant] = &[
    plant(
        "log-block-of-primary-not-written",
        "R6",
        Lie::PrimaryLog,
        &[Checker::R6],
    ),
    plant(
        "log-block-of-secondary-not-written",
        "R6",
        Lie::SecondaryLog,
        &[Checker::R6],
    ),
    plant(
        "bitmap-page-not-written",
        "R7",
        Lie::Page,
        &[Checker::R7, Checker::R2],
    ),
    plant(
        "bitmap-page-without-marks",
        "R7",
        Lie::Marks,
        &[Checker::R7, Checker::R2],
    ),
    plant(
        "stable-through-forged",
        "R7",
        Lie::Stable,
        &[Checker::R7, Checker::R2, Checker::R1],
    ),
    plant(
        "inconsistent-not-recorded",
        "R9",
        Lie::Inconsistent,
        &[Checker::R9],
    ),
    plant(
        "drop-not-recorded",
        "R2",
        Lie::Drop,
        &[Checker::R1, Checker::R4],
    ),
    plant(
        "drop-voids-the-log",
        "R2",
        Lie::DropVoidsLog,
        &[Checker::R2, Checker::R6, Checker::R7],
    ),
    plant(
        "flush-not-done",
        "R1",
        Lie::Flush,
        &[Checker::R1, Checker::R2, Checker::R7],
    ),
    plant("flush-answered-early", "R1", Lie::FlushDone, &[Checker::R1]),
    plant("fua-ignored", "R1", Lie::Fua, &[Checker::R1]),
    plant(
        "ragged-edges-lost",
        "R1",
        Lie::Overlay,
        &[Checker::R1, Checker::ReadLatest],
    ),
    plant(
        "write-of-secondary-not-done",
        "R1",
        Lie::Write,
        &[Checker::R1],
    ),
    plant("zero-not-done", "R1", Lie::Zero, &[Checker::R1]),
    plant(
        "write-acknowledged-early",
        "R1",
        Lie::EarlyAck,
        &[Checker::R1],
    ),
    plant("old-write-replayed", "R1", Lie::Replay, DIVERGED),
    plant("marks-denied", "R8", Lie::NoMarks, &[Checker::R8]),
    plant("marks-lost-on-the-way", "R8", Lie::MarksFrame, DIVERGED),
    plant(
        "reboot-hidden",
        "equal before served",
        Lie::Reboot,
        DIVERGED,
    ),
    plant(
        "differing-blocks-called-equal",
        "R10",
        Lie::Verdict,
        DIVERGED,
    ),
    plant("all-hashes-equal", "R10", Lie::Hash, DIVERGED),
    plant(
        "configuration-lost-on-the-way",
        "R10",
        Lie::Configuration,
        &[Checker::R10],
    ),
    plant(
        "link-not-dialled-again",
        "R10",
        Lie::Redial,
        &[Checker::R10],
    ),
    plant("pings-answered-falsely", "R5", Lie::Pong, &[Checker::R5]),
    plant(
        "refusal-turned-into-success",
        "R4",
        Lie::Refusal,
        &[Checker::R4],
    ),
    plant("promotion-forced-unasked", "R3", Lie::Force, &[Checker::R3]),
    plant(
        "register-takes-everything",
        "R5a",
        Lie::Swap,
        &[Checker::R3, Checker::R5, Checker::R5a],
    ),
    plant(
        "outsider-called-member",
        "R3",
        Lie::Member,
        &[Checker::R3, Checker::R5a, Checker::ReadLatest],
    ),
    plant(
        "proposal-not-recorded",
        "R5a",
        Lie::Proposal,
        &[Checker::R5a],
    ),
    plant(
        "grace-shorter-than-lease",
        "R5",
        Lie::Grace,
        &[Checker::R5, Checker::ReadLatest, Checker::R4],
    ),
    plant(
        "new-replica-taken-for-a-good-one",
        "R7",
        Lie::Newborn,
        DIVERGED,
    ),
    plant(
        "new-replica-told-to-the-primary-alone",
        "R10",
        Lie::Untold,
        &[Checker::R10],
    ),
    plant(
        "removed-replica-told-to-nobody",
        "R10",
        Lie::Kept,
        &[Checker::R10],
    ),
    plant(
        "buffer-not-handed-back",
        "buffers",
        Lie::Release,
        &[Checker::Buffers],
    ),
    plant(
        "read-returns-the-past",
        "read latest",
        Lie::Read,
        &[Checker::ReadLatest],
    ),
];
