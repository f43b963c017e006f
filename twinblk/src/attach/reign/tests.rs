use super::{Reign, Standing};
use crate::api::VolumeView;
use crate::api::samples::{alone, protected, secondary};

fn at(epoch: u64, role: &str, primary: Option<&str>) -> VolumeView {
    let mut view = protected();
    view.epoch = epoch;
    view.role = role.to_owned();
    view.primary = primary.map(str::to_owned);
    view
}

fn begun() -> Reign {
    Reign::of(&protected()).expect("alpha serves in configuration 3")
}

fn lasts(standing: &Standing) -> bool {
    !matches!(standing, Standing::Superseded(_))
}

#[test]
fn only_the_serving_node_attaches() {
    let refused = Reign::of(&secondary()).expect_err("beta serves");
    assert_eq!(refused, "beta is the primary");
    assert!(Reign::of(&at(3, "Waiting", Some("alpha"))).is_err());
    assert!(Reign::of(&at(3, "Secondary", None)).is_err());
    assert!(Reign::of(&at(0, "Stopped", None)).is_err());
}

#[test]
fn a_restart_holds() {
    let mut reign = begun();
    assert_eq!(reign.judge(&protected(), false), Standing::Serving);
    let away = reign.judge(&at(0, "Stopped", None), false);
    assert!(matches!(away, Standing::Held(_)), "{away:?}");
    let waiting = reign.judge(&at(3, "Waiting", Some("alpha")), false);
    assert!(matches!(waiting, Standing::Held(_)), "{waiting:?}");
    // A member that was lost meanwhile has been dropped.
    assert_eq!(reign.judge(&alone(), false), Standing::Serving);
}

#[test]
fn every_step_is_followed_and_none_is_skipped() {
    let mut reign = begun();
    for epoch in 4..9 {
        let view = at(epoch, "Primary", Some("alpha"));
        assert_eq!(reign.judge(&view, false), Standing::Serving);
    }
    let skipped = reign.judge(&at(10, "Primary", Some("alpha")), false);
    assert!(!lasts(&skipped), "beta may have served in configuration 9");
}

#[test]
fn while_the_connection_lives_nobody_else_serves() {
    let mut reign = begun();
    let view = at(20, "Primary", Some("alpha"));
    assert_eq!(reign.judge(&view, true), Standing::Serving);
    let next = at(21, "Primary", Some("alpha"));
    assert_eq!(reign.judge(&next, false), Standing::Serving);
}

#[test]
fn a_pause_without_a_primary_holds_while_it_can_be_followed() {
    let mut reign = begun();
    let nobody = reign.judge(&at(4, "Secondary", None), false);
    assert!(matches!(nobody, Standing::Held(_)), "{nobody:?}");
    let view = at(5, "Primary", Some("alpha"));
    assert_eq!(reign.judge(&view, false), Standing::Serving);

    // Unseen, configuration 4 could have been beta's.
    assert!(!lasts(&begun().judge(&view, false)));
}

#[test]
fn another_primary_ends_it_whatever_the_numbers() {
    for epoch in [2, 3, 4, 9] {
        for connected in [false, true] {
            let view = at(epoch, "Secondary", Some("beta"));
            let ended = begun().judge(&view, connected);
            assert_eq!(
                ended,
                Standing::Superseded("beta is the primary".to_owned())
            );
        }
    }
}

#[test]
fn an_earlier_configuration_is_of_another_history() {
    assert!(!lasts(
        &begun().judge(&at(2, "Primary", Some("alpha")), false)
    ));
}

#[test]
fn another_volume_of_that_name_is_another() {
    let mut view = protected();
    view.id = "08".repeat(16);
    assert!(!lasts(&begun().judge(&view, true)));
    let mut view = protected();
    view.replicas.swap(0, 1);
    assert!(!lasts(&begun().judge(&view, true)));
}
