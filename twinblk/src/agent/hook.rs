//! The hooks of an event, and one run of one of them.
//!
//! `DIRECTORY/EVENT.d/` is read as run-parts would: executable files, in the order of their names' bytes. What editors and
//! package managers leave behind is passed over; a name may have dots, which run-parts' default does not allow.

use crate::duty::Transition;
use crate::hook_report::HookOutcome;
use crate::trust::objection;
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Endings of files that lie beside hooks without being any.
const LEFT_BEHIND: &[&str] = &[
    "~",
    ".bak",
    ".disabled",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-old",
    ".orig",
    ".rej",
    ".rpmnew",
    ".rpmorig",
    ".rpmsave",
    ".swp",
    ".tmp",
    ".ucf-dist",
];
/// Between the polite and the other signal, at the time limit.
const TERMINATION_TIME: Duration = Duration::from_secs(1);

/// A hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hook {
    /// Its file's name.
    pub(super) name: String,
    /// Where it is, or why it is not to be run.
    pub(super) path: Result<PathBuf, String>,
}

/// The hooks of an event, in order.
pub(super) fn find(directory: &Path, transition: Transition) -> Vec<Hook> {
    let name = format!("{transition}.d");
    let folder = directory.join(&name);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Vec::new();
    };
    for one in [directory, &folder] {
        // Whoever may write to a folder may put anything in it.
        if let Some(reason) = objection(one) {
            let path = Err(format!("{}: {reason}", one.display()));
            return vec![Hook { name, path }];
        }
    }
    let mut hooks: Vec<Hook> = entries.flatten().filter_map(|entry| hook(&entry)).collect();
    hooks.sort_by(|one, other| one.name.cmp(&other.name));
    hooks
}

fn hook(entry: &std::fs::DirEntry) -> Option<Hook> {
    let name = entry.file_name().to_string_lossy().into_owned();
    if name.starts_with('.') || LEFT_BEHIND.iter().any(|ending| name.ends_with(ending)) {
        return None;
    }
    // Links are followed: the file that would be run is what matters.
    let metadata = std::fs::metadata(entry.path()).ok()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return None;
    }
    let path = match objection(&entry.path()) {
        Some(reason) => Err(reason),
        None => Ok(entry.path()),
    };
    Some(Hook { name, path })
}

/// Ends all that a hook has started, unless the hook itself has ended.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Runs a hook to its end or to the time limit. What it prints goes to `printed`.
pub(super) async fn run<F: Future<Output = ()>>(
    path: &Path,
    facts: &[(&'static str, String)],
    limit: Duration,
    printed: impl FnOnce(&mut Child) -> F,
) -> HookOutcome {
    let mut command = Command::new(path);
    command
        .envs(facts.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return HookOutcome::NotStarted(error.to_string()),
    };
    let leader = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(leader.and_then(Pid::from_raw));
    let printing = printed(&mut child);
    let ending = async {
        match timeout(limit, child.wait()).await {
            Ok(status) => ended(status),
            Err(_) => {
                group.signal(Signal::TERM);
                // Nobody waits for it yet, so that its number stays its own.
                sleep(TERMINATION_TIME).await;
                group.signal(Signal::KILL);
                let _ = child.wait().await;
                HookOutcome::TimedOut
            }
        }
    };
    let outcome = beside(ending, printing).await;
    // What it has left running on purpose goes on.
    group.0 = None;
    outcome
}

fn ended(status: std::io::Result<ExitStatus>) -> HookOutcome {
    match status {
        Ok(status) => match status.code() {
            Some(code) => HookOutcome::Exited(code),
            None => HookOutcome::Signalled(status.signal().unwrap_or_default()),
        },
        Err(error) => HookOutcome::NotStarted(error.to_string()),
    }
}

/// Waits for the end, and for what is printed only as long as that: a service that a hook starts may keep its output
/// open for ever.
async fn beside(
    ending: impl Future<Output = HookOutcome>,
    printing: impl Future<Output = ()>,
) -> HookOutcome {
    /// What was printed last is read by then.
    const LAST_WORDS: Duration = Duration::from_millis(200);
    let (mut ending, mut printing) = (std::pin::pin!(ending), std::pin::pin!(printing));
    tokio::select! {
        outcome = &mut ending => {
            let _ = timeout(LAST_WORDS, printing).await;
            outcome
        }
        () = &mut printing => ending.await,
    }
}

#[cfg(test)]
mod tests;
