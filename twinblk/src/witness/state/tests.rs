use super::{Held, State};
use crate::arbiter::protocol::Condition;
use crate::arbiter::testing::{configuration, volume};
use crate::arbiter::{Change, Entry};
use std::path::PathBuf;
use tempfile::TempDir;

fn folder() -> (TempDir, State) {
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(folder.path()).expect("it opens");
    (folder, state)
}

fn file(folder: &TempDir, number: u8) -> PathBuf {
    let name = format!("{}.json", volume(number));
    folder.path().join("registers").join(name)
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let (folder, state) = folder();
    let one = configuration(1, 1);
    assert_eq!(state.ask(volume(1), Change::Seed(one), None), Ok(Some(one)));
    let node = state.node();
    drop(state);
    // What a crash leaves in the middle of a change.
    std::fs::write(file(&folder, 1).with_extension("draft"), "{").expect("it is written");
    let state = State::open(folder.path()).expect("it opens again");
    assert_eq!(state.node(), node);
    assert_eq!(state.ask(volume(1), Change::Read, None), Ok(Some(one)));
    assert_eq!(state.ask(volume(2), Change::Read, None), Ok(None));
    let two = configuration(2, 2);
    assert_eq!(
        state.ask(volume(1), Change::Propose(two), None),
        Ok(Some(two))
    );
    drop(state);
    let state = State::open(folder.path()).expect("it opens again");
    assert_eq!(state.ask(volume(1), Change::Read, None), Ok(Some(two)));
}

#[test]
fn a_second_witness_on_the_same_folder_is_refused() {
    let (folder, state) = folder();
    let refused = State::open(folder.path()).expect_err("it is in use");
    assert_eq!(refused.exit_code(), 3);
    assert!(refused.message.contains("another twinblk"), "{refused}");
    drop(state);
    State::open(folder.path()).expect("it is free again");
}

#[test]
fn damaged_registers_are_refused_in_one_line() {
    let (folder, state) = folder();
    let seeded = state.ask(volume(1), Change::Seed(configuration(4, 1)), None);
    seeded.expect("it is empty");
    drop(state);
    let good = std::fs::read(file(&folder, 1)).expect("it is there");
    let mut flipped = good.clone();
    flipped[60] ^= 1;
    for damaged in [
        &b""[..],
        &good[..good.len() / 2],
        &flipped,
        b"null",
        &[0; 200],
    ] {
        std::fs::write(file(&folder, 1), damaged).expect("it is written");
        let refused = State::open(folder.path()).expect_err("it is damaged");
        assert_eq!(refused.exit_code(), 3);
        assert_eq!(refused.message.lines().count(), 1, "{refused}");
        assert!(refused.message.contains("is damaged"), "{refused}");
        assert!(refused.message.contains("arbiter reset"), "{refused}");
    }
    // Good, but of another volume: a file that was copied.
    std::fs::write(file(&folder, 1), &good).expect("it is written");
    std::fs::write(file(&folder, 2), &good).expect("it is written");
    assert!(State::open(folder.path()).is_err());
    std::fs::remove_file(file(&folder, 2)).expect("it is there");
    std::fs::write(folder.path().join("registers/notes.txt"), "x").expect("it is written");
    let refused = State::open(folder.path()).expect_err("there is a stranger");
    assert!(refused.message.contains("no register"), "{refused}");
}

#[test]
fn a_replacement_that_comes_late_changes_nothing() {
    let (_folder, state) = folder();
    let (one, two, three) = (
        configuration(1, 1),
        configuration(2, 2),
        configuration(3, 3),
    );
    let seeded = state.ask(volume(1), Change::Seed(one), None);
    assert_eq!(seeded, Ok(Some(one)));
    let proposed = state.ask(volume(1), Change::Propose(two), None);
    assert_eq!(proposed, Ok(Some(two)));
    let late = state.ask(
        volume(1),
        Change::Replace(three),
        Some(Condition(Some(one))),
    );
    assert_eq!(late, Ok(Some(two)));
    let good = state.ask(
        volume(1),
        Change::Replace(three),
        Some(Condition(Some(two))),
    );
    assert_eq!(good, Ok(Some(three)));
}

#[test]
fn a_change_that_failed_is_looked_up_and_not_guessed() {
    let (folder, state) = folder();
    let (one, two) = (configuration(1, 1), configuration(2, 2));
    let seeded = state.ask(volume(1), Change::Seed(one), None);
    assert_eq!(seeded, Ok(Some(one)));
    // A folder in the draft's place: the change fails before it has begun.
    let draft = file(&folder, 1).with_extension("draft");
    std::fs::create_dir(&draft).expect("a folder");
    assert!(state.ask(volume(1), Change::Propose(two), None).is_err());
    assert_eq!(state.ask(volume(1), Change::Read, None), Ok(Some(one)));
    std::fs::remove_dir(&draft).expect("it is there");
    // The change was made and its success not seen.
    let entry = Entry {
        volume: volume(1),
        configuration: two,
    };
    let text = entry.encode().expect("it has a text");
    std::fs::write(file(&folder, 1), text).expect("it is written");
    let mut held = state.held.lock().expect("nothing has panicked");
    held.insert(volume(1), Held::Unknown);
    drop(held);
    assert_eq!(
        state.ask(volume(1), Change::Propose(two), None),
        Ok(Some(two))
    );
    // And one that is damaged is neither the old nor the new, nor nothing.
    std::fs::write(file(&folder, 1), "{}").expect("it is written");
    let mut held = state.held.lock().expect("nothing has panicked");
    held.insert(volume(1), Held::Unknown);
    drop(held);
    for change in [Change::Read, Change::Seed(one)] {
        assert!(state.ask(volume(1), change, None).is_err());
    }
}
