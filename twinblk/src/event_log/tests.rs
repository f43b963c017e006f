use super::file::{EventFile, FILE_BYTES_MAX};
use super::{EVENTS_MAX, EventLog, EventView, Happening};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::io::{BufRead, BufReader, Write};

fn happening(text: &str) -> Happening {
    Happening {
        volume: Some("a".into()),
        name: "promoted",
        number: 201,
        text: text.into(),
    }
}

#[test]
fn ids_go_on_over_restarts_and_cut_lines_are_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = EventLog::open(folder.path(), "alpha").expect("it is new");
    log.push(happening("one"));
    log.push(happening("two"));
    drop(log);
    let path = folder.path().join("events.jsonl");
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(path)
        .expect("it is ours");
    file.write_all(b"{\"id\":3,\"at\"\n")
        .expect("there is room");
    let log = EventLog::open(folder.path(), "alpha").expect("it is ours");
    log.push(happening("three"));
    let texts: Vec<_> = log
        .after(1)
        .into_iter()
        .map(|event| (event.id, event.text))
        .collect();
    assert_eq!(texts, [(2, "two".to_owned()), (3, "three".to_owned())]);
}

#[test]
fn memory_and_file_are_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = EventLog::open(folder.path(), "alpha").expect("it is new");
    let long = "x".repeat(1000);
    for _ in 0..2 * EVENTS_MAX + 3000 {
        log.push(happening(&long));
    }
    assert_eq!(log.after(0).len(), EVENTS_MAX);
    log.close();
    for file in ["events.jsonl", "events.jsonl.1"] {
        let bytes = fs::metadata(folder.path().join(file))
            .expect("it is there")
            .len();
        assert!(bytes <= FILE_BYTES_MAX + 2000, "{file}: {bytes}");
    }
}

/// A pipe that nobody reads takes 64 KiB, and then nothing: as a disk that hangs.
#[test]
fn who_tells_of_an_event_waits_for_no_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.jsonl");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let mut both = fs::OpenOptions::new();
    let reader = both.read(true).write(true).open(&path).expect("it opens");
    let file = EventFile::open(&path).expect("it is a file like others");
    let event = |id| EventView {
        id,
        at: String::new(),
        node: "alpha".into(),
        volume: None,
        name: "promoted".into(),
        number: 201,
        text: "x".repeat(1000),
    };
    (1..=200).for_each(|id| file.append(&event(id)));
    // The disk answers again, and nothing is missing.
    let lines = BufReader::new(reader).lines().take(200);
    for (line, id) in lines.zip(1..) {
        let read: EventView = serde_json::from_str(&line.expect("a line")).expect("an event");
        assert_eq!(read, event(id));
    }
}

#[tokio::test]
async fn followers_hear_of_new_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = EventLog::open(folder.path(), "alpha").expect("it is new");
    let mut newest = log.follow();
    log.push(happening("one"));
    newest.changed().await.expect("the log is open");
    assert_eq!(*newest.borrow_and_update(), 1);
}
