use super::{Seen, UNCONFIRMED_MAX};
use crate::api::VolumeView;
use crate::api::samples::{alone, protected, secondary};
use crate::duty::{Duty, Protection};
use std::time::Duration;
use tokio::time::Instant;

struct Watched {
    seen: Seen,
    now: Instant,
}

impl Watched {
    fn new() -> Watched {
        Watched {
            seen: Seen::default(),
            now: Instant::now(),
        }
    }

    /// A second later.
    fn see(&mut self, view: &VolumeView) -> Vec<String> {
        self.now += Duration::from_secs(1);
        let happenings = self.seen.see(view, self.now).into_iter();
        happenings
            .map(|happening| format!("{}: {}", happening.name, happening.text))
            .collect()
    }

    fn names(&mut self, view: &VolumeView) -> Vec<String> {
        let told = self.see(view).into_iter();
        told.filter_map(|line| Some(line.split_once(':')?.0.to_owned()))
            .collect()
    }
}

/// The other node is lost, and still the recorded primary.
fn lost() -> VolumeView {
    let mut view = secondary();
    view.replicas[1].connection_state = "Connecting".to_owned();
    view
}

/// This node is recorded, and not serving yet.
fn promoting() -> VolumeView {
    let mut view = alone();
    view.role = "Secondary".to_owned();
    view.state = "Waiting for alpha".to_owned();
    view.reason = Some("the replica is being promoted".to_owned());
    view
}

#[test]
fn a_failover_is_told_with_its_time_and_a_swap_is_none() {
    let mut watched = Watched::new();
    assert!(watched.see(&secondary()).is_empty());
    assert!(watched.see(&lost()).is_empty());
    assert!(watched.see(&lost()).is_empty());
    assert!(watched.see(&promoting()).is_empty());
    let told = watched.see(&alone());
    assert_eq!(
        told[0],
        "failover-completed: alpha serves in the place of beta, 3.0 s after it was lost"
    );
    assert_eq!(told.len(), 2, "{told:?}");

    // A swap breaks the session for a moment, and leaves both in sync.
    let mut watched = Watched::new();
    assert!(watched.see(&secondary()).is_empty());
    assert!(watched.see(&lost()).is_empty());
    let mut swapped = protected();
    swapped.state = "Waiting for beta".to_owned();
    swapped.replicas[1].connection_state = "Connecting".to_owned();
    assert!(watched.see(&swapped).is_empty());
    assert_eq!(watched.names(&protected()), ["protected"]);
}

#[test]
fn a_lost_primary_that_comes_back_and_goes_counts_anew() {
    let mut watched = Watched::new();
    for view in [lost(), secondary(), lost()] {
        assert!(watched.see(&view).is_empty());
    }
    assert!(watched.see(&alone())[0].contains("1.0 s"));
}

#[test]
fn each_change_is_told_once() {
    let mut watched = Watched::new();
    assert_eq!(watched.names(&protected()), ["protected"]);
    assert!(watched.see(&protected()).is_empty());
    assert_eq!(watched.names(&alone()), ["alone"]);
    assert!(watched.see(&alone()).is_empty());
    assert_eq!(watched.names(&protected()), ["protected"]);
    assert!(watched.see(&secondary()).is_empty());
    assert_eq!(watched.names(&protected()), ["protected"]);
}

#[test]
fn a_primary_that_nobody_confirms_has_no_duty_after_a_while() {
    let mut waiting = protected();
    waiting.role = "Waiting".to_owned();
    waiting.reason = Some("waiting for beta to confirm".to_owned());
    let mut watched = Watched::new();
    assert!(watched.see(&waiting).is_empty());
    assert_eq!(watched.seen.duty, None);
    watched.now += UNCONFIRMED_MAX;
    assert!(watched.see(&waiting).is_empty());
    assert_eq!(watched.seen.duty, Some(Duty::Idle));
    watched.see(&protected());
    let serving = Duty::Serving(Some(Protection::Protected));
    assert_eq!(watched.seen.duty, Some(serving));
}
