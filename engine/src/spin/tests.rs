use super::{AWAY_NANOS_MAX, REST_WAITS_MAX, REST_WAITS_MIN, Spin, TURN_NANOS_MAX};
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

/// For how many waits it sleeps.
fn rests(spin: &mut Spin) -> u32 {
    (0..)
        .find(|_| spin.spins())
        .expect("every rest comes to an end")
}

#[test]
fn spins_only_while_waits_and_turns_are_short() {
    assert!(!Spin::new(NANOS_MAX).spins(), "nothing is known yet");
    assert!(busy_with_little().spins());

    let mut idle = busy_with_little();
    (0..20).for_each(|_| idle.waits.take(Nanos::MAX));
    assert!(!idle.spins());

    let mut laden = busy_with_little();
    (0..20).for_each(|_| laden.turns.take(2 * TURN_NANOS_MAX));
    assert!(!laden.spins());

    let mut once_late = busy_with_little();
    once_late.waits.take(Nanos::MAX);
    once_late.turns.take(1000 * AWAY_NANOS_MAX);
    assert!(once_late.spins(), "one exception is none");
}

#[test]
fn rests_longer_each_time_the_core_is_wanted_up_to_a_bound() {
    let mut spin = busy_with_little();
    let mut expected = REST_WAITS_MIN;
    for _ in 0..20 {
        spin.wanted();
        assert_eq!(rests(&mut spin), expected);
        expected = (expected * 2).min(REST_WAITS_MAX);
    }
}
