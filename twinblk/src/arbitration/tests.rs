use super::{Arbitration, Phase, Record};
use crate::config::ArbiterSettings;
use crate::config::{Config, Mode};
use crate::key::ClusterKey;
use crate::link::Local;
use format::types::{Generation, Name, NodeId};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

fn name(text: &str) -> Name {
    Name::new(text).expect("it is a name")
}

fn open(folder: &Path, text: &str) -> Arbitration {
    let text = format!("[node]\nname = \"alpha\"\n{text}");
    let config = Config::parse(Path::new("t.toml"), &text).expect("it is good");
    let key = folder.join("key");
    if !key.exists() {
        ClusterKey::create(&key).expect("a key");
    }
    let local = Local {
        node: NodeId([1; 16]),
        name: name("alpha"),
        key: ClusterKey::read(&key).expect("a key"),
        lease: Duration::from_secs(2),
    };
    Arbitration::open(&config, &local, folder).expect("it opens")
}

fn record(number: u8, coordinator: &str) -> Record {
    Record {
        change: Generation([number; 16]),
        arbiter: ArbiterSettings::Witness {
            addresses: vec![format!("10.0.0.{number}:7789")],
        },
        mode: Mode::Automatic,
        phase: Phase::Prepared {
            coordinator: name(coordinator),
        },
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn what_was_committed_holds_after_a_restart() {
    let folder = folder();
    let arbitration = open(folder.path(), "");
    let change = Generation([3; 16]);
    arbitration
        .prepare(record(3, "beta"))
        .expect("there is none");
    assert!(arbitration.chosen().is_none(), "it is only prepared");
    assert_eq!(arbitration.undecided_by(&name("beta")), Some(change));
    assert_eq!(arbitration.undecided_by(&name("gamma")), None);
    assert!(
        arbitration.prepare(record(4, "gamma")).is_err(),
        "one at a time"
    );
    // A restart in the middle changes nothing.
    let arbitration = open(folder.path(), "");
    assert_eq!(arbitration.undecided_by(&name("beta")), Some(change));
    arbitration.commit(change).expect("it is prepared");
    arbitration.commit(change).expect("once more");
    arbitration.abort(change).expect("it comes too late");
    assert_eq!(arbitration.verdict(change), Some(true));
    let arbitration = open(folder.path(), "");
    let chosen = arbitration.chosen().expect("it was committed");
    assert_eq!(chosen.settings.addresses(), ["10.0.0.3:7789"]);
    assert_eq!((chosen.mode, chosen.from_file), (Mode::Automatic, false));
    let refused = arbitration
        .prepare(record(5, "beta"))
        .expect_err("there is one");
    assert_eq!(refused.exit_code(), 3);
}

#[test]
fn what_was_aborted_leaves_nothing() {
    let folder = folder();
    let arbitration = open(folder.path(), "");
    let change = Generation([3; 16]);
    arbitration.begin(change).expect("nobody else does");
    assert!(arbitration.begin(Generation([4; 16])).is_err());
    assert_eq!(arbitration.verdict(change), None, "undecided");
    arbitration
        .prepare(record(3, "alpha"))
        .expect("there is none");
    // The coordinator has crashed before it has decided.
    let arbitration = open(folder.path(), "");
    assert_eq!(arbitration.verdict(change), Some(false));
    arbitration
        .prepare(record(5, "beta"))
        .expect("nothing is left");
    arbitration
        .abort(Generation([5; 16]))
        .expect("it is prepared");
    arbitration.abort(Generation([5; 16])).expect("once more");
    assert!(!folder.path().join("arbiter.json").exists());
    assert!(arbitration.commit(change).is_err());
}

#[test]
fn the_file_is_stronger_than_what_was_set() {
    let folder = folder();
    let arbitration = open(folder.path(), "");
    arbitration
        .prepare(record(3, "beta"))
        .expect("there is none");
    arbitration
        .commit(Generation([3; 16]))
        .expect("it is prepared");
    let text = "[arbiter]\nkind = \"witness\"\naddress = \"10.0.0.9:7789\"\n";
    let chosen = open(folder.path(), text).chosen().expect("there is one");
    assert_eq!(chosen.settings.addresses(), ["10.0.0.9:7789"]);
    assert!(chosen.from_file);
}
