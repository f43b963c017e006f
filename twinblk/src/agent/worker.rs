//! One volume's hooks: one transition at a time, one hook at a time.

use super::hook::{self, Hook};
use super::notes::{Begun, Note, Notes};
use super::output;
use super::reporter::Reporter;
use crate::api::VolumeView;
use crate::client::Client;
use crate::config::Hooks;
use crate::duty::{Duty, Transition};
use crate::hook_report::{HookOutcome, HookReport, plain};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

/// Duties that wait while a hook runs. Where there are more, those between are passed over.
const WAITING_MAX: usize = 32;
/// A daemon that does not answer by then is not waited for: hooks run with what is known.
const FACTS_PATIENCE: Duration = Duration::from_secs(2);

/// What all workers share.
pub(super) struct Setup {
    pub(super) hooks: Hooks,
    /// This node's name.
    pub(super) node: String,
    /// Where it serves NBD clients.
    pub(super) nbd: String,
    /// Where whoever attaches a volume leaves a link to its device.
    pub(super) devices: PathBuf,
    pub(super) client: Client,
    pub(super) notes: Notes,
    pub(super) reporter: Reporter,
    /// Turns true when the agent is to stop.
    pub(super) stopping: watch::Receiver<bool>,
}

/// What a worker is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// This is the node's duty.
    Duty(Duty),
    /// The daemon does not answer, so that nothing is served.
    DaemonGone,
    /// The volume exists no more.
    Removed,
}

impl Wanted {
    fn duty(&self) -> Duty {
        match self {
            Wanted::Duty(duty) => *duty,
            Wanted::DaemonGone | Wanted::Removed => Duty::Idle,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Wanted::Duty(_) => "",
            Wanted::DaemonGone => "the daemon does not answer",
            Wanted::Removed => "the volume was removed",
        }
    }
}

/// A volume's worker.
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) note: Note,
    pub(super) setup: Arc<Setup>,
}

impl Worker {
    /// Runs hooks until the volume is removed or the agent stops.
    pub(super) async fn work(mut self, mut queue: mpsc::UnboundedReceiver<Wanted>) {
        let mut stopping = self.setup.stopping.clone();
        loop {
            let wanted = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                wanted = queue.recv() => wanted,
            };
            let Some(wanted) = wanted else { return };
            if queue.len() > WAITING_MAX {
                continue;
            }
            if !(self.resume(&wanted).await && self.go_to(&wanted).await) {
                return;
            }
            if wanted == Wanted::Removed {
                self.setup.notes.forget(&self.id);
                return;
            }
        }
    }

    /// Goes on with what the end of an earlier agent has cut short, if it is still so. Tells whether to go on.
    async fn resume(&mut self, wanted: &Wanted) -> bool {
        let Some(begun) = self.note.begun.clone() else {
            return true;
        };
        if let (Some(hook), false) = (&begun.last, begun.ended) {
            self.report(begun.transition, hook, HookOutcome::Interrupted, 0.0);
        }
        let duty = self.note.duty.updated(wanted.duty());
        if begun.transition.holds(duty)
            && !self.run_hooks(begun.transition, wanted, begun.last).await
        {
            return false;
        }
        self.note.begun = None;
        self.keep();
        true
    }

    async fn go_to(&mut self, wanted: &Wanted) -> bool {
        let duty = self.note.duty.updated(wanted.duty());
        for (transition, reached) in self.note.duty.transitions(duty) {
            self.note.duty = reached;
            self.note.begun = Some(Begun {
                transition,
                last: None,
                ended: true,
            });
            self.keep();
            if !self.run_hooks(transition, wanted, None).await {
                return false;
            }
            self.note.begun = None;
            self.keep();
        }
        if self.note.duty != duty {
            self.note.duty = duty;
            self.keep();
        }
        true
    }

    /// Runs a transition's hooks, those behind `after`. Tells whether all have been run: not where the agent stops.
    async fn run_hooks(
        &mut self,
        transition: Transition,
        wanted: &Wanted,
        after: Option<String>,
    ) -> bool {
        let hooks = hook::find(&self.setup.hooks.directory, transition);
        if hooks.is_empty() {
            return true;
        }
        let facts = self.facts(transition, wanted).await;
        for Hook { name, path } in hooks {
            if after.as_ref().is_some_and(|after| name <= *after) {
                continue;
            }
            if *self.setup.stopping.borrow() {
                return false;
            }
            let path = match path {
                Ok(path) => path,
                Err(reason) => {
                    self.report(transition, &name, HookOutcome::Refused(reason), 0.0);
                    continue;
                }
            };
            self.mark(transition, &name, false);
            let begun = Instant::now();
            let outcome = self.run_hook(transition, &name, &path, &facts).await;
            self.mark(transition, &name, true);
            self.report(transition, &name, outcome, begun.elapsed().as_secs_f64());
        }
        true
    }

    async fn run_hook(
        &self,
        transition: Transition,
        name: &str,
        path: &Path,
        facts: &[(&'static str, String)],
    ) -> HookOutcome {
        let volume = &self.note.volume;
        let show = |line: &str| tracing::info!(%volume, event = %transition, hook = name, "{line}");
        let printed = |child: &mut Child| {
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            async move {
                if let (Some(stdout), Some(stderr)) = (stdout, stderr) {
                    tokio::join!(output::show(stdout, show), output::show(stderr, show));
                }
            }
        };
        hook::run(path, facts, self.setup.hooks.time_limit, printed).await
    }

    /// What hooks are told, in their environment.
    async fn facts(&self, transition: Transition, wanted: &Wanted) -> Vec<(&'static str, String)> {
        let (setup, volume) = (&self.setup, &self.note.volume);
        let asked = timeout(FACTS_PATIENCE, setup.client.volume(volume)).await;
        let view = asked.ok().and_then(Result::ok);
        let view = view.filter(|view| view.id == self.id);
        let device = std::fs::canonicalize(setup.devices.join(volume));
        let device = device.map(|path| path.display().to_string());
        let tell = |tell: fn(&VolumeView) -> String| view.as_ref().map(tell).unwrap_or_default();
        let nodes = |view: &VolumeView, in_sync: bool| -> String {
            let replicas = view.replicas.iter();
            let told = replicas.filter(|replica| replica.in_sync || !in_sync);
            let names: Vec<&str> = told.map(|replica| replica.node.as_str()).collect();
            names.join(" ")
        };
        let facts = [
            ("TWINBLK_EVENT", transition.to_string()),
            ("TWINBLK_VOLUME", volume.clone()),
            ("TWINBLK_VOLUME_ID", self.id.clone()),
            ("TWINBLK_NODE", setup.node.clone()),
            ("TWINBLK_NBD", setup.nbd.clone()),
            ("TWINBLK_DEVICE", device.unwrap_or_default()),
            ("TWINBLK_ROLE", tell(|view| view.role.clone())),
            ("TWINBLK_STATE", tell(|view| view.state.clone())),
            (
                "TWINBLK_PRIMARY",
                tell(|view| view.primary.clone().unwrap_or_default()),
            ),
            ("TWINBLK_EPOCH", tell(|view| view.epoch.to_string())),
            (
                "TWINBLK_SIZE_BYTES",
                tell(|view| view.size_bytes.to_string()),
            ),
            (
                "TWINBLK_REPLICAS",
                view.as_ref()
                    .map_or_else(String::new, |view| nodes(view, false)),
            ),
            (
                "TWINBLK_IN_SYNC",
                view.as_ref()
                    .map_or_else(String::new, |view| nodes(view, true)),
            ),
            ("TWINBLK_REASON", wanted.reason().to_owned()),
        ];
        facts.map(|(name, value)| (name, plain(&value))).to_vec()
    }

    /// Notes that a hook is about to start, or has ended.
    fn mark(&mut self, transition: Transition, hook: &str, ended: bool) {
        self.note.begun = Some(Begun {
            transition,
            last: Some(hook.to_owned()),
            ended,
        });
        self.keep();
    }

    fn keep(&self) {
        self.setup.notes.keep(&self.id, &self.note);
    }

    fn report(&self, event: Transition, hook: &str, outcome: HookOutcome, seconds: f64) {
        self.setup.reporter.report(HookReport {
            volume: self.note.volume.clone(),
            event,
            hook: hook.to_owned(),
            outcome,
            seconds,
        });
    }
}

#[cfg(test)]
mod tests;
