//! The table of rules: what each of them keeps from happening.

use crate::promise::Promise;
use crate::rules::Rules;
use crate::state::{Arbiter, Bounds};

/// A rule, and what goes wrong without it.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as the field of [`Rules`].
    pub name: &'static str,
    /// Its number in the replication model, or the heading it stands under there.
    pub number: &'static str,
    /// Takes it out.
    pub take_out: fn(&mut Rules),
    /// The promise that is broken then.
    pub breaks: Promise,
    /// The bounds within which that is seen.
    pub bounds: Bounds,
}

const fn bounds(epochs: u8, writes: u8, crashes: u8, power_cuts: u8) -> Bounds {
    let (replicas, arbiter) = (2, Arbiter::Register);
    Bounds {
        replicas,
        arbiter,
        epochs,
        writes,
        crashes,
        power_cuts,
        disk_failures: 0,
    }
}

const MANUAL: Bounds = Bounds {
    arbiter: Arbiter::Manual,
    ..bounds(3, 1, 2, 0)
};

const DISK: Bounds = Bounds {
    disk_failures: 1,
    ..bounds(3, 0, 0, 0)
};

const THREE: Bounds = Bounds {
    replicas: 3,
    ..bounds(2, 1, 0, 0)
};

macro_rules! rule {
    ($number:literal, $name:ident, $breaks:ident, $bounds:expr) => {
        Rule {
            name: stringify!($name),
            number: $number,
            take_out: |rules| rules.$name = false,
            breaks: Promise::$breaks,
            bounds: $bounds,
        }
    };
}

/// Every rule. Its bounds are the smallest in which its absence shows.
pub const RULES: &[Rule] = &[
    rule!(
        "R1",
        all_members_acknowledge,
        AcknowledgedOnMembers,
        bounds(1, 1, 0, 0)
    ),
    rule!(
        "R2",
        drop_before_acknowledging,
        AcknowledgedOnMembers,
        bounds(2, 1, 0, 0)
    ),
    rule!(
        "R2",
        marks_before_drop,
        DifferenceMarked,
        bounds(2, 1, 0, 0)
    ),
    rule!(
        "R3",
        members_promote,
        AcknowledgedOnMembers,
        bounds(3, 1, 0, 0)
    ),
    rule!("R4", superseded_stops, OnePrimary, bounds(2, 0, 0, 0)),
    rule!("R5", lease, OnePrimary, bounds(2, 0, 0, 0)),
    rule!("R5", lease_from_send, SupersededSilent, bounds(2, 1, 0, 0)),
    rule!("R5", answers_renew, OnePrimary, bounds(2, 0, 0, 0)),
    rule!("R5", grace_from_start, OnePrimary, bounds(2, 0, 1, 0)),
    rule!(
        "R5a",
        open_until_epoch_moves,
        OnePrimary,
        bounds(2, 0, 0, 0)
    ),
    rule!("R5a", proposal_durable, OnePrimary, bounds(2, 0, 1, 0)),
    rule!("R5a", both_bind, AcknowledgedOnMembers, bounds(3, 1, 1, 0)),
    rule!("R5a", open_is_silent, OnePrimary, bounds(2, 0, 0, 0)),
    rule!("R5a", generation_tells, OnePrimary, bounds(2, 0, 0, 0)),
    rule!("R6", log_before_data, DifferenceMarked, bounds(1, 1, 1, 0)),
    rule!(
        "R8",
        marks_dealt_with,
        AcknowledgedOnMembers,
        bounds(3, 1, 0, 0)
    ),
    rule!("R8", union_of_marks, EqualBeforeServed, bounds(3, 1, 0, 0)),
    rule!(
        "suspect",
        suspect_proposes_nothing,
        AcknowledgedOnMembers,
        bounds(2, 1, 0, 1)
    ),
    rule!(
        "suspect",
        suspect_waits,
        AcknowledgedOnMembers,
        bounds(1, 1, 0, 1)
    ),
    rule!(
        "suspect",
        equal_from_unsuspect,
        AcknowledgedOnMembers,
        bounds(1, 1, 0, 1)
    ),
    rule!(
        "equal before served",
        equal_before_served,
        EqualBeforeServed,
        bounds(1, 1, 1, 0)
    ),
    rule!("frames", frames_fenced, NoStaleRead, bounds(2, 2, 0, 0)),
    rule!("restart", restart_confirmed, NotForked, MANUAL),
    rule!(
        "restart",
        confirmed_by_all,
        OnePrimary,
        Bounds {
            replicas: 3,
            ..MANUAL
        }
    ),
    rule!("configuration", never_empty, NeverEmpty, DISK),
    rule!("R7", copies_marked, DifferenceMarked, THREE),
    rule!(
        "admission",
        admission_flushes,
        FlushedDurable,
        bounds(3, 1, 0, 0)
    ),
    rule!(
        "admission",
        joining_waited_for,
        AcknowledgedOnMembers,
        bounds(3, 1, 0, 0)
    ),
];
