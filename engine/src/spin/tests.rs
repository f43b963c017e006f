use super::{AWAY_NANOS_MAX, REST_TIMES, Spin, TURN_NANOS_MAX};
use replica::event::Nanos;

const NANOS_MAX: Nanos = 50_000;

/// One whose waits and turns have all been short.
fn busy_with_little() -> Spin {
    let mut spin = Spin::new(NANOS_MAX);
    // So that it is the same on a machine with one core.
    spin.nanos_max = NANOS_MAX;
    for _ in 0..100 {
        spin.waits.take(NANOS_MAX / 5);
        spin.turns.take(TURN_NANOS_MAX / 5);
    }
    spin
}

#[test]
fn spins_only_while_waits_and_turns_are_short() {
    assert!(!Spin::new(NANOS_MAX).spins(0), "nothing is known yet");
    assert!(busy_with_little().spins(0));

    let mut idle = busy_with_little();
    (0..20).for_each(|_| idle.waits.take(Nanos::MAX));
    assert!(!idle.spins(0));

    let mut laden = busy_with_little();
    (0..20).for_each(|_| laden.turns.take(2 * TURN_NANOS_MAX));
    assert!(!laden.spins(0));

    let mut once_late = busy_with_little();
    once_late.waits.take(Nanos::MAX);
    once_late.turns.take(1000 * AWAY_NANOS_MAX);
    assert!(once_late.spins(0), "one exception is none");
}

#[test]
fn rests_for_longer_the_longer_the_core_was_wanted() {
    let mut spin = busy_with_little();
    for away in [AWAY_NANOS_MAX, 15 * AWAY_NANOS_MAX] {
        spin.wanted(7, 7 + away);
        let rested = 7 + away + REST_TIMES * away;
        assert!(!spin.spins(rested - 1));
        assert!(spin.spins(rested));
    }
}
