use super::{Begun, Note, Notes};
use crate::duty::{Duty, Protection, Transition};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const ID: &str = "07070707070707070707070707070707";

fn note() -> Note {
    Note {
        volume: "main".to_owned(),
        duty: Duty::Serving(Some(Protection::Alone)),
        begun: Some(Begun {
            transition: Transition::Alone,
            last: Some("10-call".to_owned()),
            ended: false,
        }),
    }
}

#[test]
fn notes_last_and_what_is_damaged_or_foreign_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("a/b");
    let notes = Notes::open(&folder).expect("it is made");
    let mode = fs::metadata(&folder)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    notes.keep(ID, &note());
    let other = ID.replace('7', "8");
    fs::write(folder.join(format!("{other}.json")), "{").expect("it is written");
    fs::write(folder.join("README"), "text").expect("it is written");
    fs::write(folder.join("main.json"), "{}").expect("it is written");
    let again = Notes::open(&folder).expect("it is ours");
    assert_eq!(again.read().expect("it is ours"), [(ID.to_owned(), note())]);
    notes.forget(ID);
    notes.forget(ID);
    assert_eq!(again.read().expect("it is ours"), []);
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o770)).expect("it is ours");
    let refused = Notes::open(folder.path()).expect_err("others may write to it");
    assert!(refused.message.contains("state_dir"), "{refused}");
    assert_eq!(refused.message.lines().count(), 1);
}
