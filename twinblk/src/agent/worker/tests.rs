use super::{Setup, Wanted, Worker};
use crate::agent::notes::{Begun, Note, Notes};
use crate::agent::reporter::Reporter;
use crate::client::Client;
use crate::config::Hooks;
use crate::duty::{Duty, Protection, Transition};
use crate::hook_report::{HookOutcome, HookReport};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const ID: &str = "07070707070707070707070707070707";
const PROTECTED: Duty = Duty::Serving(Some(Protection::Protected));
const ALONE: Duty = Duty::Serving(Some(Protection::Alone));

/// A folder of hooks that write down what they are run on, and no daemon.
struct Bench {
    folder: tempfile::TempDir,
    notes: Notes,
    stop: watch::Sender<bool>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let notes = Notes::open(&folder.path().join("notes")).expect("a folder");
        let bench = Bench {
            folder,
            notes,
            stop: watch::Sender::new(false),
        };
        for event in ["promote", "demote", "alone", "protected", "frozen"] {
            bench.hook(event, "50-note", "");
        }
        bench
    }

    fn ran(&self) -> PathBuf {
        self.folder.path().join("ran")
    }

    fn hook(&self, event: &str, name: &str, first: &str) {
        let folder = self.folder.path().join(format!("{event}.d"));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(name);
        let ran = self.ran().display().to_string();
        let script = format!(
            "#!/bin/sh\n{first}\necho \"$TWINBLK_EVENT {name} $TWINBLK_VOLUME$TWINBLK_REASON\" >> {ran}\n"
        );
        fs::write(&path, script).expect("it is written");
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it is ours");
    }

    /// What hooks have written down.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.ran()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// One life of an agent that is told this, and its reports.
    async fn live(&self, wanted: &[Wanted]) -> Vec<HookReport> {
        let (reporter, mut reports) = Reporter::new();
        let noted = self.notes.read().expect("the folder is there");
        let note = noted.into_iter().find(|(id, _)| id == ID);
        let worker = Worker {
            id: ID.to_owned(),
            note: note.map_or_else(|| note_of(Duty::Idle), |(_, note)| note),
            setup: Arc::new(Setup {
                hooks: Hooks {
                    directory: self.folder.path().to_owned(),
                    time_limit: Duration::from_secs(1),
                    state_dir: PathBuf::new(),
                    hold: Duration::from_secs(1),
                },
                node: "alpha".to_owned(),
                nbd: String::new(),
                devices: "/dev/twinblk".into(),
                client: Client::new("/nowhere".into()),
                notes: self.notes.clone(),
                reporter,
                stopping: self.stop.subscribe(),
            }),
        };
        let (queue, receiver) = mpsc::unbounded_channel();
        for one in wanted {
            queue.send(one.clone()).expect("the receiver is there");
        }
        drop(queue);
        worker.work(receiver).await;
        let mut told = Vec::new();
        while let Some(report) = reports.recv().await {
            told.push(report);
        }
        told
    }

    fn noted(&self) -> Option<Note> {
        let noted = self.notes.read().expect("the folder is there");
        noted.into_iter().next().map(|(_, note)| note)
    }
}

fn note_of(duty: Duty) -> Note {
    Note {
        volume: "main".to_owned(),
        duty,
        begun: None,
    }
}

#[tokio::test]
async fn each_transition_is_run_once_and_in_order_over_restarts() {
    let bench = Bench::new();
    let reports = bench
        .live(&[Wanted::Duty(PROTECTED), Wanted::Duty(ALONE)])
        .await;
    assert_eq!(
        bench.lines(),
        [
            "promote 50-note main",
            "protected 50-note main",
            "alone 50-note main"
        ]
    );
    assert_eq!(reports.len(), 3);
    assert!(
        reports
            .iter()
            .all(|report| report.outcome == HookOutcome::Exited(0))
    );
    // Another life that finds what the last one knew, and one whose daemon does not know yet.
    bench.live(&[Wanted::Duty(ALONE)]).await;
    bench.live(&[Wanted::Duty(Duty::Serving(None))]).await;
    assert_eq!(bench.lines().len(), 3);
    bench.live(&[Wanted::DaemonGone]).await;
    assert_eq!(
        bench.lines()[3..],
        ["demote 50-note mainthe daemon does not answer"]
    );
    bench.live(&[Wanted::Duty(Duty::Idle)]).await;
    assert_eq!(bench.lines().len(), 4);
}

#[tokio::test]
async fn a_volume_that_is_removed_is_demoted_and_forgotten() {
    let bench = Bench::new();
    bench
        .live(&[Wanted::Duty(PROTECTED), Wanted::Removed])
        .await;
    assert_eq!(
        bench.lines()[2..],
        ["demote 50-note mainthe volume was removed"]
    );
    assert_eq!(bench.noted(), None);
}

#[tokio::test]
async fn a_hook_that_was_cut_short_is_not_run_again_and_those_behind_it_are() {
    let bench = Bench::new();
    bench.hook("promote", "10-first", "");
    bench.hook("promote", "90-last", "");
    let cut_short = Note {
        begun: Some(Begun {
            transition: Transition::Promote,
            last: Some("50-note".to_owned()),
            ended: false,
        }),
        ..note_of(Duty::Serving(None))
    };
    bench.notes.keep(ID, &cut_short);
    let reports = bench.live(&[Wanted::Duty(PROTECTED)]).await;
    assert_eq!(reports[0].outcome, HookOutcome::Interrupted);
    assert_eq!(reports[0].hook, "50-note");
    assert_eq!(
        bench.lines(),
        ["promote 90-last main", "protected 50-note main"]
    );

    // What does not hold any more is not finished.
    bench.notes.keep(ID, &cut_short);
    fs::remove_file(bench.ran()).expect("it is there");
    bench.live(&[Wanted::Duty(Duty::Idle)]).await;
    assert_eq!(bench.lines(), ["demote 50-note main"]);
}

#[tokio::test]
async fn a_hook_that_fails_or_hangs_keeps_no_other_from_running() {
    let bench = Bench::new();
    bench.hook("promote", "10-fails", "exit 3");
    bench.hook("promote", "20-hangs", "sleep 60");
    let path = bench.folder.path().join("promote.d/30-open");
    fs::write(&path, "#!/bin/sh\n").expect("it is written");
    fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("it is ours");
    let reports = bench.live(&[Wanted::Duty(Duty::Serving(None))]).await;
    let outcomes: Vec<_> = reports
        .iter()
        .map(|report| (report.hook.as_str(), &report.outcome))
        .collect();
    assert_eq!(outcomes[0], ("10-fails", &HookOutcome::Exited(3)));
    assert_eq!(outcomes[1], ("20-hangs", &HookOutcome::TimedOut));
    assert_eq!(outcomes[2].0, "30-open");
    assert!(matches!(outcomes[2].1, HookOutcome::Refused(_)));
    assert_eq!(outcomes[3], ("50-note", &HookOutcome::Exited(0)));
    assert_eq!(bench.lines(), ["promote 50-note main"]);
}

#[tokio::test]
async fn a_stop_lets_the_running_hook_end_and_leaves_the_rest_for_later() {
    let bench = Bench::new();
    bench.hook("promote", "10-slow", "sleep 0.5");
    let wanted = [Wanted::Duty(PROTECTED)];
    let life = bench.live(&wanted);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.stop.send_replace(true);
    };
    let (reports, ()) = tokio::join!(life, stop);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(bench.lines(), ["promote 10-slow main"]);
    bench.stop.send_replace(false);
    bench.live(&wanted).await;
    assert_eq!(
        bench.lines()[1..],
        ["promote 50-note main", "protected 50-note main"]
    );
}
