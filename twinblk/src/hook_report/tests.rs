use super::{HookOutcome, HookReport};
use crate::duty::Transition;

fn report(outcome: HookOutcome) -> HookReport {
    HookReport {
        volume: "main".to_owned(),
        event: Transition::Promote,
        hook: "10-ip".to_owned(),
        outcome,
        seconds: 0.25,
    }
}

#[test]
fn an_outcome_is_an_event_of_its_sort() {
    for (outcome, name, number, text) in [
        (
            HookOutcome::Exited(0),
            "hook-done",
            600,
            "promote hook 10-ip ended with exit code 0 after 0.25 s",
        ),
        (
            HookOutcome::Exited(3),
            "hook-failed",
            601,
            "promote hook 10-ip ended with exit code 3 after 0.25 s",
        ),
        (
            HookOutcome::TimedOut,
            "hook-failed",
            601,
            "promote hook 10-ip reached the time limit and was ended after 0.25 s",
        ),
        (
            HookOutcome::Refused("others\nmay".to_owned()),
            "hook-refused",
            602,
            "promote hook 10-ip was refused: others?may after 0.25 s",
        ),
    ] {
        let happening = report(outcome).happening().expect("it is about a volume");
        assert_eq!((happening.name, happening.number), (name, number));
        assert_eq!(happening.text, text);
        assert_eq!(happening.volume.as_deref(), Some("main"));
    }
}

#[test]
fn what_an_agent_sends_is_bounded() {
    let mut long = report(HookOutcome::Exited(0));
    long.hook = "ä".repeat(100_000);
    let happening = long.happening().expect("it is about a volume");
    assert!(happening.text.len() < 400, "{}", happening.text.len());
    let mut nameless = report(HookOutcome::Exited(0));
    nameless.volume = "../etc".to_owned();
    nameless.happening().expect_err("it is no volume's name");
}

#[test]
fn its_json_is_stable() {
    let json = |outcome| serde_json::to_string(&report(outcome)).expect("it is JSON");
    assert_eq!(
        json(HookOutcome::Exited(1)),
        r#"{"volume":"main","event":"promote","hook":"10-ip","outcome":{"exited":1},"seconds":0.25}"#
    );
    assert!(json(HookOutcome::TimedOut).contains(r#""outcome":"timed-out""#));
}
