use super::{Decision, Member, Phase, Record, Registry, Verdict};
use crate::failure::FailureKind;
use format::types::{Name, NodeId, Slot, VolumeId};
use std::fs;

fn name(text: &str) -> Name {
    Name::new(text).expect("it is a name")
}

fn slot(index: u8) -> Slot {
    Slot::new(index).expect("it is a slot")
}

fn record(volume: &str) -> Record {
    let member = |index, node: &str| Member {
        slot: slot(index),
        name: name(node),
        node: NodeId([index + 1; 16]),
    };
    Record {
        volume: VolumeId([7; 16]),
        name: name(volume),
        slot: slot(0),
        members: vec![member(0, "alpha"), member(1, "beta")],
        backing: None,
        thick: false,
        labels: Default::default(),
        phase: Phase::Ready,
    }
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    let node = registry.node();
    let prepared = Record {
        phase: Phase::Prepared {
            coordinator: name("beta"),
        },
        ..record("b")
    };
    registry.put(&record("a")).expect("there is room");
    registry.put(&prepared).expect("there is room");
    drop(registry);
    let registry = Registry::open(folder.path()).expect("it is ours");
    assert_eq!(registry.node(), node);
    assert_eq!(
        registry.records().expect("they are whole"),
        [record("a"), prepared]
    );
}

#[test]
fn a_second_daemon_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Registry::open(folder.path()).expect("it is new");
    let refusal = Registry::open(folder.path()).expect_err("it is in use");
    assert_eq!(refusal.kind, FailureKind::ProtectsData);
    let process = format!("process {}", std::process::id());
    assert!(refusal.message.contains(&process), "{refusal}");
}

#[test]
fn a_write_that_fails_leaves_the_old_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    registry.put(&record("a")).expect("there is room");
    // A folder in the draft's place fails its making as a full disk would, for root as well.
    let draft = folder.path().join("volumes/a/replica.draft");
    fs::create_dir(&draft).expect("there is none");
    let changed = Record {
        phase: Phase::Removing { keep_data: false },
        ..record("a")
    };
    let failure = registry
        .put(&changed)
        .expect_err("the draft cannot be made");
    assert!(failure.message.contains("unchanged"), "{failure}");
    assert_eq!(registry.records().expect("they are whole"), [record("a")]);
}

#[test]
fn a_draft_that_a_crash_has_left_is_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    registry.put(&record("a")).expect("there is room");
    fs::write(folder.path().join("volumes/a/replica.draft"), "{\"vol").expect("it is ours");
    fs::create_dir(folder.path().join("volumes/b")).expect("there is none");
    fs::write(folder.path().join("volumes/b/replica.draft"), "{").expect("it is ours");
    fs::write(folder.path().join("decisions/x.draft"), "{").expect("it is ours");
    assert_eq!(registry.records().expect("they are whole"), [record("a")]);
    assert_eq!(registry.decisions().expect("there is none"), []);
}

#[test]
fn a_removal_cut_short_can_be_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    registry.put(&record("a")).expect("there is room");
    let volume = folder.path().join("volumes/a");
    fs::write(volume.join("data"), "data").expect("it is ours");
    fs::write(volume.join("meta"), "meta").expect("it is ours");
    let removing = Record {
        phase: Phase::Removing { keep_data: false },
        ..record("a")
    };
    registry.put(&removing).expect("there is room");
    fs::remove_file(volume.join("meta")).expect("the crash came after this");
    let [found] = &registry.records().expect("they are whole")[..] else {
        panic!("the record is there until the end");
    };
    assert_eq!(*found, removing);
    registry.remove(found, false).expect("it can go on");
    assert!(!volume.exists());
    assert_eq!(registry.records().expect("it is gone"), []);
}

#[test]
fn data_can_be_kept_and_a_backing_file_goes_with_its_volume() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    let backing = folder.path().join("elsewhere.img");
    fs::write(&backing, "data").expect("it is ours");
    let backed = Record {
        backing: Some(backing.clone()),
        ..record("a")
    };
    registry.put(&backed).expect("there is room");
    assert_eq!(registry.paths(&backed).data, backing);
    registry.remove(&backed, true).expect("it is there");
    assert!(backing.exists());
    registry.put(&backed).expect("there is room");
    registry.remove(&backed, false).expect("it is there");
    assert!(!backing.exists());
}

#[test]
fn a_decision_lasts_until_all_have_confirmed_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    let decision = Decision {
        volume: VolumeId([7; 16]),
        name: name("a"),
        verdict: Verdict::Removed { keep_data: true },
        unconfirmed: vec![name("beta"), name("gamma")],
        replicas: Vec::new(),
    };
    registry.decide(&decision).expect("there is room");
    registry
        .confirmed(decision.volume, &name("beta"))
        .expect("there is room");
    let left = registry
        .decision(decision.volume)
        .expect("it is whole")
        .expect("gamma is left");
    assert_eq!(
        left,
        Decision {
            unconfirmed: vec![name("gamma")],
            ..decision.clone()
        }
    );
    registry
        .confirmed(decision.volume, &name("gamma"))
        .expect("there is room");
    assert_eq!(registry.decisions().expect("all have heard it"), []);
}

#[test]
fn removals_add_up_and_each_means_one_replica() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    let gone = |node: &str, index| {
        let replica = Member {
            slot: slot(index),
            name: name(node),
            node: NodeId([3; 16]),
        };
        Decision {
            volume: VolumeId([7; 16]),
            name: name("a"),
            verdict: Verdict::Removed { keep_data: false },
            unconfirmed: vec![name(node)],
            replicas: vec![replica],
        }
    };
    for (node, index) in [("beta", 1), ("gamma", 2), ("beta", 3)] {
        let decided = registry.decide_also(&gone(node, index));
        decided.expect("there is room");
    }
    let both = registry.decision(VolumeId([7; 16]));
    let both = both.expect("it is whole").expect("nobody has heard it");
    assert_eq!(both.unconfirmed, [name("gamma"), name("beta")]);
    let replicas = both.replicas.iter();
    let slots: Vec<usize> = replicas.map(|replica| replica.slot.index()).collect();
    assert_eq!(slots, [3, 2]);
}

#[test]
fn damaged_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::open(folder.path()).expect("it is new");
    registry.put(&record("a")).expect("there is room");
    let file = folder.path().join("volumes/a/replica.json");
    fs::write(&file, "{}").expect("it is ours");
    assert!(
        registry
            .records()
            .expect_err("it is damaged")
            .message
            .contains("damaged")
    );
    assert_eq!(fs::read(&file).expect("it is there"), b"{}");
    drop(registry);
    fs::write(folder.path().join("node"), "abc").expect("it is ours");
    assert!(Registry::open(folder.path()).is_err());
}
