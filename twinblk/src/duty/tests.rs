use super::{Duty, Protection, Transition, serving};
use crate::api::samples::{alone, protected, secondary};

const PROTECTED: Duty = Duty::Serving(Some(Protection::Protected));
const ALONE: Duty = Duty::Serving(Some(Protection::Alone));
const FROZEN: Duty = Duty::Serving(Some(Protection::Frozen));

#[test]
fn a_view_tells_the_duty_or_that_it_is_not_known() {
    assert_eq!(Duty::Idle.told_by(&protected()), Some(PROTECTED));
    assert_eq!(PROTECTED.told_by(&alone()), Some(ALONE));
    assert_eq!(PROTECTED.told_by(&secondary()), Some(Duty::Idle));

    let mut resync = alone();
    resync.state = "Resync 5%".to_owned();
    assert_eq!(PROTECTED.told_by(&resync), Some(ALONE));
    let mut silent = protected();
    silent.state = "Waiting for beta".to_owned();
    assert_eq!(PROTECTED.told_by(&silent), Some(PROTECTED));
    assert_eq!(Duty::Idle.told_by(&silent), Some(Duty::Serving(None)));
    assert_eq!(FROZEN.told_by(&silent), Some(Duty::Serving(None)));

    // After a restart, during a promotion and during a handover, nothing is decided.
    let mut waiting = protected();
    waiting.role = "Waiting".to_owned();
    waiting.reason = Some("waiting for beta".to_owned());
    assert_eq!(PROTECTED.told_by(&waiting), None);
    let mut handing_over = protected();
    handing_over.reason = Some("the volume is being handed over".to_owned());
    assert_eq!(PROTECTED.told_by(&handing_over), None);

    let mut demoted = protected();
    demoted.role = "Secondary".to_owned();
    demoted.primary = None;
    demoted.reason = Some("no node is the primary: promote one".to_owned());
    assert_eq!(PROTECTED.told_by(&demoted), Some(Duty::Idle));
    let mut closed = demoted;
    closed.role = "Stopped".to_owned();
    assert_eq!(PROTECTED.told_by(&closed), Some(Duty::Idle));
}

#[test]
fn only_who_serves_is_healthy_and_the_rest_says_why() {
    assert_eq!(serving(&protected()), Ok(()));
    assert_eq!(serving(&alone()), Ok(()));
    assert_eq!(serving(&secondary()), Err("beta is the primary".to_owned()));
    let mut frozen = alone();
    frozen.state = "Frozen".to_owned();
    assert!(serving(&frozen).is_err_and(|why| why.contains("frozen")));
    assert_eq!(PROTECTED.told_by(&frozen), Some(FROZEN));
    let mut lines = secondary();
    lines.reason = Some("one\ntwo".to_owned());
    assert_eq!(serving(&lines), Err("one two".to_owned()));
}

#[test]
fn one_transition_follows_from_each_change() {
    let names = |from: Duty, to: Duty| -> Vec<Transition> {
        from.transitions(to)
            .into_iter()
            .map(|(one, _)| one)
            .collect()
    };
    use Transition::{Alone, Demote, Frozen, Promote, Protected};
    let none = Duty::Serving(None);
    for (from, to, wanted) in [
        (Duty::Idle, Duty::Idle, &[][..]),
        (Duty::Idle, none, &[Promote]),
        (Duty::Idle, PROTECTED, &[Promote, Protected]),
        (none, ALONE, &[Alone]),
        (PROTECTED, PROTECTED, &[]),
        (PROTECTED, none, &[]),
        (PROTECTED, ALONE, &[Alone]),
        (ALONE, FROZEN, &[Frozen]),
        (FROZEN, ALONE, &[Alone]),
        (FROZEN, Duty::Idle, &[Demote]),
        (PROTECTED, Duty::Idle, &[Demote]),
    ] {
        assert_eq!(names(from, to), wanted, "{from:?} to {to:?}");
        let last = from.transitions(to).last().map(|(_, duty)| *duty);
        // What leads nowhere new leaves what is known as it is.
        assert!(last.is_none_or(|last| last == to), "{from:?} to {to:?}");
    }
}

#[test]
fn a_transition_holds_as_long_as_what_it_led_to_is_so() {
    for duty in [Duty::Idle, Duty::Serving(None), PROTECTED, ALONE, FROZEN] {
        let serves = duty != Duty::Idle;
        assert_eq!(Transition::Promote.holds(duty), serves, "{duty:?}");
        assert_eq!(Transition::Demote.holds(duty), !serves, "{duty:?}");
        assert_eq!(Transition::Alone.holds(duty), duty == ALONE, "{duty:?}");
        assert_eq!(Transition::Frozen.holds(duty), duty == FROZEN, "{duty:?}");
    }
}

#[test]
fn what_is_not_said_is_as_it_was() {
    assert_eq!(ALONE.updated(Duty::Serving(None)), ALONE);
    assert_eq!(ALONE.updated(PROTECTED), PROTECTED);
    assert_eq!(ALONE.updated(Duty::Idle), Duty::Idle);
    assert_eq!(FROZEN.updated(Duty::Serving(None)), Duty::Serving(None));
    assert_eq!(Duty::Idle.updated(Duty::Serving(None)), Duty::Serving(None));
}

#[test]
fn promotions_and_freezing_are_the_core_s_to_tell() {
    let names = |from: Duty, to: Duty| -> Vec<&str> {
        let happenings = from.happenings(to, "main").into_iter();
        happenings.map(|happening| happening.name).collect()
    };
    assert_eq!(names(Duty::Idle, PROTECTED), ["protected"]);
    assert_eq!(names(PROTECTED, ALONE), ["alone"]);
    assert_eq!(names(ALONE, FROZEN), [""; 0]);
    assert_eq!(names(FROZEN, ALONE), ["alone"]);
    assert_eq!(names(FROZEN, Duty::Idle), [""; 0]);
}
