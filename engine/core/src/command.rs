//! What an operator can tell a replica, and what it answers.

use crate::settings::Failover;
use format::superblock::Replica;
use format::types::Slot;

/// An operator's command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Become the primary.
    Promote {
        /// Although the primary, or another member, may be alive and cannot be asked.
        force: bool,
    },
    /// Stop being the primary; nobody is.
    Demote,
    /// Make this replica the primary in the place of the one that is: both are connected.
    Swap,
    /// Compare every block with every connected member.
    Verify {
        /// Copy the primary's blocks over those that differ.
        repair: bool,
    },
    /// Bring an absent, failed or divergent replica up to date again. On the replica itself: use a failed
    /// disk again and connect again. On the primary: connect again.
    Resync {
        /// Compare everything, not only what is marked.
        full: bool,
        /// Which; all if `None`.
        to: Option<Slot>,
    },
    /// Give this replica's side of a split brain up. Nothing happens on another replica but that it
    /// connects again.
    Discard {
        /// Whose side.
        slot: Slot,
    },
    /// The volume has this size now: all replicas' files have been extended.
    Grow {
        /// Bytes, a multiple of the block size, not less than before.
        size_bytes: u64,
    },
    /// The volume has another replica: every other one is told, the primary last, before the new one is opened.
    AddReplica {
        /// Its slot, which no other has had.
        slot: Slot,
        /// Whose it is.
        replica: Box<Replica>,
    },
    /// The volume has this replica no more: the primary is told first, and drops it where it is a member.
    RemoveReplica {
        /// Which.
        slot: Slot,
    },
    /// An arbiter decides from now on who serves.
    Arbitrate(Failover),
    /// Hold walks to the other replicas back, or let them go on.
    Pause(bool),
    /// Where resyncs take turns ([`Settings::takes_turns`](crate::Settings::takes_turns)): this one may copy now, or has to wait.
    Turn(bool),
    /// Stop: finish what is in hand, flush everything, mark a clean stop. The answer is the last effect.
    Stop,
}

/// A command that was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// A verify has ended.
    Verified {
        /// Blocks that were compared.
        blocks: u64,
        /// Blocks that differed.
        differing: u64,
    },
}

/// A command that was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Doing it could lose or fork data (exit code 3).
    #[error("{0}")]
    ProtectsData(String),
    /// It makes no sense in this state (exit code 1).
    #[error("{0}")]
    NotNow(String),
}
