//! Watches what this node is to each of its volumes: tells it to those who follow, and logs what the core, which sees one
//! replica's side of one change at a time, has no event for.

use crate::api::VolumeView;
use crate::daemon::Daemon;
use crate::duty::Duty;
use crate::event_log::Happening;
use crate::registry::Phase;
use format::types::VolumeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

/// Replicas tell when something has happened; what they do not tell is seen this often.
const PERIOD: Duration = Duration::from_secs(5);
/// A recorded primary that no member has confirmed for this long does not serve, and has no duty.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(10);

/// What has been seen of a volume.
#[derive(Default)]
struct Seen {
    duty: Option<Duty>,
    // Another node that is the primary, and since when it has not been connected.
    primary: Option<String>,
    primary_lost: Option<Instant>,
    unconfirmed: Option<Instant>,
}

/// Begins to watch every volume that is not watched yet.
pub(crate) fn begin(daemon: &Arc<Daemon>, stopped: &watch::Receiver<bool>) {
    for hosted in daemon.volumes.all() {
        let volume = hosted.record.volume;
        if hosted.record.phase == Phase::Ready
            && let Some(looks) = daemon.duties.begin(volume, &hosted.record.name)
        {
            tokio::spawn(watch(daemon.clone(), volume, looks, stopped.clone()));
        }
    }
}

/// Watches all volumes until the daemon is told to stop.
pub(crate) async fn watch_all(daemon: Arc<Daemon>, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        begin(&daemon, &stopped);
        daemon.duties.look_at_all();
        tokio::select! {
            () = sleep(PERIOD) => {}
            () = daemon.duties.unwatched.notified() => {}
        }
    }
}

async fn watch(
    daemon: Arc<Daemon>,
    volume: VolumeId,
    looks: Arc<Notify>,
    stopped: watch::Receiver<bool>,
) {
    let mut seen = Seen::default();
    while let Some(hosted) = daemon.volumes.with_id(volume) {
        let view = match daemon.show_open(&hosted).await {
            Ok(view) => Some(view),
            // One that does not answer in time tells nothing.
            Err(_) if hosted.closed().is_none() => None,
            Err(_) => Some(daemon.show(&hosted).await),
        };
        // A daemon that is about to return has not given its duties up.
        if *stopped.borrow() {
            return;
        }
        if let Some(view) = view {
            for happening in seen.see(&view, Instant::now()) {
                daemon.events.push(happening);
            }
            if let Some(duty) = seen.duty {
                daemon.duties.set(volume, duty);
            }
        }
        looks.notified().await;
    }
    daemon.duties.end(volume);
}

impl Seen {
    /// Takes a view in, and tells what it means.
    fn see(&mut self, view: &VolumeView, now: Instant) -> Vec<Happening> {
        let before = self.duty.unwrap_or_default();
        let duty = match before.told_by(view) {
            Some(duty) => {
                self.unconfirmed = None;
                Some(duty)
            }
            None => {
                let since = *self.unconfirmed.get_or_insert(now);
                (now - since >= UNCONFIRMED_MAX).then_some(Duty::Idle)
            }
        };
        let mut happenings = Vec::new();
        if let Some(duty) = duty {
            if before == Duty::Idle && duty != Duty::Idle {
                happenings.extend(self.failover(view, now));
            }
            happenings.extend(before.happenings(duty, &view.name));
            self.duty = Some(duty);
        }
        self.note_primary(view, now);
        happenings
    }

    /// The event of a failover, if this node has begun to serve in the place of one that is lost.
    fn failover(&self, view: &VolumeView, now: Instant) -> Option<Happening> {
        let lost = self.primary.as_ref()?;
        let own = &view.replicas.first()?.node;
        // A primary that has handed over is a member still, although roles that change end its session for a moment.
        let mut replicas = view.replicas.iter();
        if replicas.any(|replica| replica.node == *lost && replica.in_sync) {
            return None;
        }
        let seconds = self
            .primary_lost
            .map_or(0.0, |since| (now - since).as_secs_f64());
        Some(Happening {
            volume: Some(view.name.clone()),
            name: "failover-completed",
            number: 502,
            text: format!("{own} serves in the place of {lost}, {seconds:.1} s after it was lost"),
        })
    }

    fn note_primary(&mut self, view: &VolumeView, now: Instant) {
        let own = view.replicas.first().map(|replica| replica.node.as_str());
        let serves = matches!(self.duty, Some(Duty::Serving(_)));
        match view.primary.as_deref() {
            // Its promotion is under way: in whose place is told when it serves.
            primary if primary.is_some() && primary == own && !serves => {}
            Some(primary) if !serves => {
                if is_connected(view, primary) {
                    self.primary_lost = None;
                } else {
                    self.primary_lost.get_or_insert(now);
                }
                self.primary = Some(primary.to_owned());
            }
            _ => (self.primary, self.primary_lost) = (None, None),
        }
    }
}

fn is_connected(view: &VolumeView, node: &str) -> bool {
    let mut replicas = view.replicas.iter();
    replicas.any(|replica| replica.node == node && replica.connection_state == "Connected")
}

#[cfg(test)]
mod tests;
