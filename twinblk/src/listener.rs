//! The port on which other nodes come in: strangers are turned away, and nodes handed to whom they want.

use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::link::{Caller, Purpose, kept};
use crate::volumes::Hosted;
use crate::{control_links, data_links};
use format::hello::Hello;
use format::types::Slot;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// Connections that have not proved themselves; more wait to be accepted.
const HALF_OPEN_MAX: usize = 64;
/// How long the listener rests when the process is out of descriptors, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Strangers are complained of this often at most.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(10);

/// Accepts connections of other nodes for as long as the daemon runs.
pub(crate) async fn listen(daemon: Arc<Daemon>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    let complaints = Arc::new(Complaints::default());
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (daemon, complaints) = (daemon.clone(), complaints.clone());
                tokio::spawn(async move {
                    if let Err(failure) = accept(&daemon, stream).await {
                        complaints.complain(&daemon, &format!("{from}: {failure}"));
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection of a node: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Sees a connection through its handshake and hands it over. An error is a stranger's.
async fn accept(daemon: &Arc<Daemon>, stream: TcpStream) -> Result<(), Failure> {
    let caller = Caller::hear(&daemon.local, stream).await?;
    let admitted = admit(daemon, &caller.hello);
    let link = caller
        .answer(&daemon.local, admitted.as_ref().map(|_| ()))
        .await?;
    match admitted {
        Ok(Admitted::Control) => control_links::run(daemon, link),
        Ok(Admitted::Data(hosted, slot)) => {
            data_links::attach_accepted(daemon, &hosted, slot, link);
        }
        // It has the key, so it is no stranger: it has been told, and tries again.
        Err(failure) => tracing::debug!("a link of {} is refused: {failure}", link.name),
    }
    Ok(())
}

enum Admitted {
    Control,
    Data(Arc<Hosted>, Slot),
}

fn admit(daemon: &Daemon, peer: &Hello) -> Result<Admitted, Failure> {
    if daemon.config.peer(&peer.name).is_none() {
        return Err(Failure::failed(format!(
            "{} has no [[peer]] {}: add it to the configuration",
            daemon.config.name, peer.name
        )));
    }
    if peer.node == daemon.local.node {
        return Err(Failure::failed(format!(
            "{} and {} have the same node id: one state folder is a copy of the other's; remove its \
             `node` file",
            daemon.config.name, peer.name
        )));
    }
    match peer.link {
        Purpose::Control => {
            let standing = daemon.nodes.standing(&peer.name);
            if kept(daemon.local.node, peer.node, false, standing) {
                Ok(Admitted::Control)
            } else {
                Err(Failure::failed("there is a link already"))
            }
        }
        Purpose::Data { volume, slot } => {
            let hosted = data_links::admits(daemon, volume, slot, peer)?;
            Ok(Admitted::Data(hosted, slot))
        }
    }
}

/// Complaints about strangers, few of which are worth more than many.
#[derive(Debug, Default)]
struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    fn complain(&self, daemon: &Daemon, what: &str) {
        if let Some(text) = self.worth_saying(what, Instant::now()) {
            daemon.incident(Incident::StrangerRefused(text));
        }
    }

    fn worth_saying(&self, what: &str, now: Instant) -> Option<String> {
        // What it guards is two numbers.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| now.duration_since(last) < COMPLAINT_PERIOD) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        let more = std::mem::take(unsaid);
        let others = if more > 0 {
            format!(" ({more} more like it before)")
        } else {
            String::new()
        };
        Some(format!("a connection was refused: {what}{others}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPLAINT_PERIOD, Complaints};
    use tokio::time::Instant;

    #[test]
    fn strangers_are_complained_of_now_and_then() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert!(complaints.worth_saying("x", start).is_some());
        for _ in 0..1000 {
            assert_eq!(complaints.worth_saying("x", start), None);
        }
        let text = complaints
            .worth_saying("x", start + COMPLAINT_PERIOD)
            .expect("it is time");
        assert!(text.contains("1000 more"), "{text}");
    }
}
