//! What the table looks at: two identities, reduced to a few small enums.

use super::Side;
use format::frame::Identity;
use format::types::{Configuration, DiskState, Generation, NodeSet, Slot};
use std::cmp::Ordering;

/// What the two replicas are replicas of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Volume {
    Same,
    Other,
    /// The same, in another size.
    Resized,
    /// The same, and only one side goes by an arbiter, or they count grace against different leases.
    OtherLease,
}

/// How what the two sides' data descends from is related, as one side sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lineage {
    /// One generation; or one of them is a member in the other's later configuration and has only
    /// missed the message that says so.
    Same,
    /// My data's generation is an ancestor of theirs.
    Behind,
    /// Theirs is an ancestor of mine.
    Ahead,
    /// Both have gone on from a common ancestor.
    Diverged,
    /// No common ancestor is known, but a history does not reach back to the volume's creation.
    Unknown,
    /// There is no common ancestor.
    Unrelated,
    /// I do not know what my data descends from: my metadata was lost, or I was told to forget it.
    MineLost,
    /// They do not know.
    TheirsLost,
    /// Nobody knows.
    BothLost,
}

/// Who serves, by the latest configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Primary {
    Mine,
    Theirs,
    /// A third replica.
    Other,
    Nobody,
}

/// What a side's disk can be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disk {
    /// All of it is of one moment, or it was promised and granted membership on being so.
    Consistent,
    /// Part old, part new.
    Inconsistent,
    /// Failed, or none.
    Unusable,
}

/// One side's own facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Half {
    /// In the in-sync set of the latest configuration.
    pub(super) member: bool,
    pub(super) disk: Disk,
    pub(super) suspect: bool,
    pub(super) discarded: bool,
    /// Its marks for the other cover all that it knows to differ.
    pub(super) marks_valid: bool,
}

/// All facts of a handshake, as one side sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    pub(super) volume: Volume,
    /// One side has an open proposal.
    pub(super) undecided: bool,
    pub(super) lineage: Lineage,
    /// Both know a latest configuration of one history, and not the same, and nobody has chosen.
    pub(super) conflict: bool,
    pub(super) primary: Primary,
    /// My slot is the lower one.
    pub(super) lower: bool,
    /// A block is marked on either side.
    pub(super) marks: bool,
    /// Each side is the very process that the other was in a session with.
    pub(super) known: bool,
    pub(super) mine: Half,
    pub(super) theirs: Half,
}

impl Facts {
    /// The same, as the other side sees them.
    pub(super) fn mirrored(self) -> Facts {
        Facts {
            lineage: match self.lineage {
                Lineage::Behind => Lineage::Ahead,
                Lineage::Ahead => Lineage::Behind,
                Lineage::MineLost => Lineage::TheirsLost,
                Lineage::TheirsLost => Lineage::MineLost,
                same => same,
            },
            primary: match self.primary {
                Primary::Mine => Primary::Theirs,
                Primary::Theirs => Primary::Mine,
                same => same,
            },
            lower: !self.lower,
            mine: self.theirs,
            theirs: self.mine,
            ..self
        }
    }
}

/// A side: its identity and its slot.
#[derive(Clone, Copy)]
pub(super) struct Party<'a> {
    pub(super) identity: &'a Identity,
    pub(super) slot: Slot,
}

impl Party<'_> {
    /// Whether the generation is one that the side's data has or descends from.
    fn descends_from(&self, generation: Generation) -> bool {
        let identity = self.identity;
        identity.data_generation == generation || identity.history.contains(&generation)
    }

    /// Whether the side has promised an admission that has led to the other's configuration.
    fn promised(&self, other: &Party) -> bool {
        let theirs = &other.identity.configuration;
        self.identity
            .pending_admission
            .is_some_and(|(epoch, generation)| {
                let granted = generation == theirs.generation || other.descends_from(generation);
                epoch <= theirs.epoch && granted
            })
    }

    /// Whether the side is a member in the other's later configuration and has only missed the
    /// message. Nothing was acknowledged without it since: it was a member before and its data is
    /// of the other's history, or it has durably promised to be one.
    fn joins(&self, other: &Party) -> bool {
        let mine = self.identity;
        let stayed = mine.configuration.in_sync.contains(self.slot)
            && mine.disk_state != DiskState::Inconsistent
            && !mine.data_generation.is_none()
            && other.descends_from(mine.data_generation);
        self.is_listed(other) && (stayed || self.promised(other))
    }

    /// Whether the side is a member in its own configuration.
    pub(super) fn stays(&self) -> bool {
        self.identity.configuration.in_sync.contains(self.slot)
    }

    /// Whether the side is a member in the other's later configuration.
    fn is_listed(&self, other: &Party) -> bool {
        let listed = other.identity.configuration.in_sync.contains(self.slot);
        listed && order(self, other) == Order::TheirsLater
    }

    /// Whether the other's configuration is a later one of the very generation that this side's data, a
    /// member's, is at: a handover whose announcement was lost. What has become of the other's own
    /// data does not matter then.
    pub(super) fn follows(&self, other: &Party) -> bool {
        let (mine, next) = (self.identity, other.identity.configuration);
        mine.data_generation == next.generation
            && mine.configuration.generation == next.generation
            && mine.configuration.epoch < next.epoch
            && mine.configuration.in_sync.contains(self.slot)
            && next.in_sync == mine.configuration.in_sync
    }

    /// Whether the side's configuration has never been in force and never will be: the one that would have served in
    /// it has gone on from elsewhere without it.
    fn is_void(&self, other: &Party) -> bool {
        let (mine, theirs) = (self.identity.configuration, other.identity.configuration);
        let theirs_alone = mine.in_sync == NodeSet::only(other.slot);
        (theirs_alone || self.was_to_be_served_by(other))
            && !other.descends_from(mine.generation)
            && !self.descends_from(theirs.generation)
            && mine.generation != theirs.generation
    }

    /// Whether the side, no member, knows of a configuration that makes the other the primary: a handover, say, whose
    /// announcement was lost before somebody forced the other to serve. The other has to be where its own configuration
    /// is, and to have all that this side has.
    fn was_to_be_served_by(&self, other: &Party) -> bool {
        let (mine, theirs) = (self.identity.configuration, other.identity.configuration);
        mine.primary == Some(other.slot)
            && !mine.in_sync.contains(self.slot)
            && other.identity.data_generation == theirs.generation
            && other.descends_from(self.identity.data_generation)
    }

    fn half(&self, other: &Party, latest: Option<Configuration>) -> Half {
        let joins = self.joins(other);
        Half {
            member: latest.is_some_and(|latest| latest.in_sync.contains(self.slot)),
            disk: match self.identity.disk_state {
                DiskState::UpToDate | DiskState::Outdated => Disk::Consistent,
                DiskState::Inconsistent if joins => Disk::Consistent,
                DiskState::Inconsistent => Disk::Inconsistent,
                DiskState::Failed | DiskState::Diskless => Disk::Unusable,
            },
            suspect: self.identity.suspect,
            // A side that was admitted has been brought up to date since it was given up.
            discarded: self.identity.discarded && !(self.is_listed(other) && self.promised(other)),
            marks_valid: self.identity.marks_valid,
        }
    }
}

/// Which of two configurations is the later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Equal,
    MineLater,
    TheirsLater,
    /// They are of different histories, or one history has forked.
    Conflict,
    /// A side knows its configuration by hearsay, and nobody here can tell what it descends from.
    Unknown,
}

/// Orders the two sides' configurations: by history where one side's data descends from the other's
/// configuration, and by epoch within one generation.
fn order(mine: &Party, theirs: &Party) -> Order {
    let (ours, other) = (mine.identity.configuration, theirs.identity.configuration);
    match (mine.is_void(theirs), theirs.is_void(mine)) {
        (true, false) => return Order::TheirsLater,
        (false, true) => return Order::MineLater,
        _ => {}
    }
    let same = ours.generation == other.generation;
    let past = (!same && theirs.descends_from(ours.generation))
        .cmp(&(!same && mine.descends_from(other.generation)));
    let within = other.epoch.cmp(&ours.epoch);
    if past == Ordering::Equal && !same && within != Ordering::Equal {
        return Order::Unknown;
    }
    match past.then(within) {
        Ordering::Greater => Order::TheirsLater,
        Ordering::Less => Order::MineLater,
        Ordering::Equal if ours == other => Order::Equal,
        Ordering::Equal => Order::Conflict,
    }
}

fn lineage(mine: &Party, theirs: &Party) -> Lineage {
    if mine.joins(theirs) || theirs.joins(mine) {
        return Lineage::Same;
    }
    let (ours, other) = (mine.identity, theirs.identity);
    match (
        ours.data_generation.is_none(),
        other.data_generation.is_none(),
    ) {
        (true, true) => return Lineage::BothLost,
        (true, false) => return Lineage::MineLost,
        (false, true) => return Lineage::TheirsLost,
        (false, false) => {}
    }
    if ours.data_generation == other.data_generation {
        return Lineage::Same;
    }
    let behind = theirs.descends_from(ours.data_generation);
    let ahead = mine.descends_from(other.data_generation);
    match (behind, ahead) {
        (true, false) => Lineage::Behind,
        (false, true) => Lineage::Ahead,
        // Each cannot be the other's ancestor; neither may be overwritten on such a word.
        (true, true) => Lineage::Diverged,
        (false, false) if ours.history.iter().any(|past| other.history.contains(past)) => {
            Lineage::Diverged
        }
        (false, false) if ours.history_complete && other.history_complete => Lineage::Unrelated,
        (false, false) => Lineage::Unknown,
    }
}

/// Whose configuration holds for both, if there is one that does: `None` where the two are of
/// different histories and neither side was given up.
fn latest(mine: &Party, theirs: &Party, lineage: Lineage) -> Option<Side> {
    // A configuration that counts on data which its own side does not have is for others to tell: for
    // a member whose data is of that very generation.
    let tells_mine =
        !theirs.identity.configuration.in_sync.contains(mine.slot) || mine.follows(theirs);
    let tells_theirs =
        !mine.identity.configuration.in_sync.contains(theirs.slot) || theirs.follows(mine);
    let chosen = chosen(mine, theirs);
    match (lineage, order(mine, theirs)) {
        (Lineage::MineLost, _) => Some(Side::Remote),
        (Lineage::TheirsLost, _) => Some(Side::Local),
        (Lineage::Unrelated | Lineage::BothLost, _) => None,
        // A side that was given up may have taken a configuration that is not of its data's history.
        _ if chosen.is_some() => chosen,
        (Lineage::Same, Order::Equal | Order::MineLater) => Some(Side::Local),
        (Lineage::Same, Order::TheirsLater) => Some(Side::Remote),
        (Lineage::Behind, Order::MineLater) => Some(Side::Local).filter(|_| tells_theirs),
        (Lineage::Behind, Order::Equal | Order::TheirsLater) => Some(Side::Remote),
        (Lineage::Ahead, Order::TheirsLater) => Some(Side::Remote).filter(|_| tells_mine),
        (Lineage::Ahead, Order::Equal | Order::MineLater) => Some(Side::Local),
        (_, Order::Conflict | Order::Unknown) => None,
        (Lineage::Diverged | Lineage::Unknown, _) => None,
    }
}

/// The side that an operator has chosen by giving the other up.
fn chosen(mine: &Party, theirs: &Party) -> Option<Side> {
    match (mine.identity.discarded, theirs.identity.discarded) {
        (true, false) => Some(Side::Remote),
        (false, true) => Some(Side::Local),
        _ => None,
    }
}

/// The facts, and whose configuration holds.
pub(super) fn reduce(mine: &Party, theirs: &Party) -> (Facts, Option<Side>) {
    let (ours, other) = (mine.identity, theirs.identity);
    let lineage = lineage(mine, theirs);
    let side = latest(mine, theirs, lineage);
    let latest = side.map(|side| match side {
        Side::Local => ours.configuration,
        Side::Remote => other.configuration,
    });
    let known = |one: &Identity, two: &Identity| {
        one.known_incarnation == two.incarnation && two.incarnation != 0
    };
    let facts = Facts {
        volume: if ours.volume != other.volume {
            Volume::Other
        } else if ours.size_bytes != other.size_bytes {
            Volume::Resized
        } else if (ours.arbitrated, ours.lease_ms) != (other.arbitrated, other.lease_ms) {
            Volume::OtherLease
        } else {
            Volume::Same
        },
        undecided: ours.proposal.is_some() || other.proposal.is_some(),
        lineage,
        conflict: matches!(lineage, Lineage::Same | Lineage::Behind | Lineage::Ahead)
            && order(mine, theirs) == Order::Conflict
            && chosen(mine, theirs).is_none(),
        primary: match latest.and_then(|latest| latest.primary) {
            None => Primary::Nobody,
            Some(primary) if primary == mine.slot => Primary::Mine,
            Some(primary) if primary == theirs.slot => Primary::Theirs,
            Some(_) => Primary::Other,
        },
        lower: mine.slot < theirs.slot,
        marks: ours.marked_blocks > 0 || other.marked_blocks > 0,
        known: known(ours, other) && known(other, ours),
        mine: mine.half(theirs, latest),
        theirs: theirs.half(mine, latest),
    };
    (facts, side)
}
