//! Tells the daemon what became of hooks, as soon as it can be told.

use crate::client::Client;
use crate::failure::FailureKind;
use crate::hook_report::HookReport;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Reports that wait for the daemon; what is more is in the agent's log only.
const WAITING_MAX: usize = 256;
/// How often a daemon that does not answer is tried again.
const PERIOD: Duration = Duration::from_secs(1);

/// Where reports are left.
#[derive(Clone, Debug)]
pub(super) struct Reporter(mpsc::Sender<HookReport>);

impl Reporter {
    /// And who takes them.
    pub(super) fn new() -> (Reporter, mpsc::Receiver<HookReport>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Reporter(sender), receiver)
    }

    /// Logs a report and leaves it for the daemon.
    pub(super) fn report(&self, report: HookReport) {
        let HookReport {
            volume,
            event,
            hook,
            outcome,
            seconds,
        } = &report;
        tracing::info!(%volume, %event, %hook, "the hook {outcome} after {seconds:.2} s");
        if self.0.try_send(report).is_err() {
            tracing::warn!("too many reports wait for the daemon: one is left out");
        }
    }
}

/// Tells the daemon, until nobody reports any more.
pub(super) async fn deliver(client: Client, mut reports: mpsc::Receiver<HookReport>) {
    while let Some(report) = reports.recv().await {
        while let Err(failure) = client.report_hook(&report).await {
            if failure.kind == FailureKind::Usage {
                tracing::warn!("the daemon does not take a report: {failure}");
                break;
            }
            sleep(PERIOD).await;
        }
    }
}
