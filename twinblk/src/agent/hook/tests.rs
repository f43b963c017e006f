use super::{find, run};
use crate::duty::Transition;
use crate::hook_report::HookOutcome;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("it is written");
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
}

/// A folder with a folder for promotions.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let hooks = folder.path().join("promote.d");
    fs::create_dir(&hooks).expect("a folder");
    (folder, hooks)
}

/// Names, with an exclamation mark at those that are refused.
fn found(folder: &Path) -> Vec<String> {
    let hooks = find(folder, Transition::Promote).into_iter();
    let shown = hooks.map(|hook| match hook.path {
        Ok(_) => hook.name,
        Err(_) => format!("{}!", hook.name),
    });
    shown.collect()
}

#[test]
fn executables_are_found_in_order_and_what_lies_beside_them_is_passed_over() {
    let (folder, hooks) = folder();
    for name in ["20-b", "10.with.dots.sh", "9-last", "Z"] {
        write(&hooks.join(name), "#!/bin/sh\n", 0o755);
    }
    for name in [".hidden", "a~", "a.bak", "a.dpkg-old", "a.swp"] {
        write(&hooks.join(name), "#!/bin/sh\n", 0o755);
    }
    write(&hooks.join("README"), "text\n", 0o644);
    fs::create_dir(hooks.join("folder")).expect("a folder");
    symlink("/nowhere", hooks.join("dangling")).expect("a link");
    symlink("/bin/true", hooks.join("30-link")).expect("a link");
    assert_eq!(
        found(folder.path()),
        ["10.with.dots.sh", "20-b", "30-link", "9-last", "Z"]
    );
    assert_eq!(find(folder.path(), Transition::Demote), []);
    assert_eq!(find(Path::new("/nowhere"), Transition::Demote), []);
}

#[test]
fn what_others_may_change_is_refused_by_name() {
    let (folder, hooks) = folder();
    write(&hooks.join("10-mine"), "#!/bin/sh\n", 0o755);
    write(&hooks.join("20-group"), "#!/bin/sh\n", 0o775);
    write(&hooks.join("30-all"), "#!/bin/sh\n", 0o757);
    // A link is as good as what it points to.
    symlink(hooks.join("30-all"), hooks.join("40-link")).expect("a link");
    assert_eq!(
        found(folder.path()),
        ["10-mine", "20-group!", "30-all!", "40-link!"]
    );
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(hooks.join("10-mine"), Some(65534), None).expect("root may");
        let hook = &find(folder.path(), Transition::Promote)[0];
        let reason = hook.path.as_ref().expect_err("it is nobody's");
        assert_eq!(reason, "it belongs to user 65534");
    }
    fs::set_permissions(&hooks, PermissionsExt::from_mode(0o777)).expect("it is ours");
    assert_eq!(found(folder.path()), ["promote.d!"]);
}

async fn outcome(script: &str, limit: Duration) -> HookOutcome {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hook");
    write(&path, script, 0o755);
    let facts = [("TWINBLK_EVENT", "promote".to_owned())];
    run(&path, &facts, limit, |_| async {}).await
}

#[tokio::test]
async fn a_hook_s_end_is_told() {
    for (script, wanted) in [
        ("#!/bin/sh\nexit 0\n", HookOutcome::Exited(0)),
        ("#!/bin/sh\nexit 7\n", HookOutcome::Exited(7)),
        ("#!/bin/sh\nkill -9 $$\n", HookOutcome::Signalled(9)),
        (
            "#!/bin/sh\n[ \"$TWINBLK_EVENT\" = promote ] && [ \"$PWD\" = / ]\n",
            HookOutcome::Exited(0),
        ),
    ] {
        assert_eq!(outcome(script, LIMIT).await, wanted, "{script}");
    }
    let missing = outcome("#!/nowhere/sh\n", LIMIT).await;
    assert!(matches!(missing, HookOutcome::NotStarted(_)), "{missing:?}");
}

fn lives(process: &str) -> bool {
    // One that was killed and that nobody has waited for yet is dead.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
    state.is_some_and(|state| !state.starts_with('Z'))
}

#[tokio::test]
async fn at_the_time_limit_all_that_a_hook_has_started_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let pids = folder.path().join("pids");
    // The hook, and a child that hears no polite word.
    let script = format!(
        "#!/bin/sh\n(trap '' TERM; echo $$ > {0}.child; exec sleep 300) &\necho $$ > {0}\nwait\n",
        pids.display()
    );
    let begun = Instant::now();
    let ended = outcome(&script, Duration::from_millis(500)).await;
    assert_eq!(ended, HookOutcome::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let pid = fs::read_to_string(&pids).expect("the hook has run");
    let group_is_gone = || {
        let group = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number"));
        let group = group.expect("it is not zero");
        rustix::process::test_kill_process_group(group).is_err()
    };
    // Whoever waits for orphans does so in its own time.
    for _ in 0..100 {
        if group_is_gone() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(group_is_gone() || !lives(pid.trim()), "the group lives on");
}

#[tokio::test]
async fn a_service_that_a_hook_leaves_running_does_not_hold_it_up() {
    let begun = Instant::now();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hook");
    let pid = folder.path().join("pid");
    let script = format!("#!/bin/sh\nsleep 60 &\necho $! > {}\n", pid.display());
    write(&path, &script, 0o755);
    let ended = run(&path, &[], LIMIT, |child| {
        let stdout = child.stdout.take();
        async move {
            if let Some(stdout) = stdout {
                super::super::output::show(stdout, |_| {}).await;
            }
        }
    })
    .await;
    assert_eq!(ended, HookOutcome::Exited(0));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let service = fs::read_to_string(&pid).expect("it was started");
    assert!(lives(service.trim()), "the service was ended");
    let service = rustix::process::Pid::from_raw(service.trim().parse().expect("a number"));
    rustix::process::kill_process(
        service.expect("it is not zero"),
        rustix::process::Signal::KILL,
    )
    .expect("it is ours");
}
