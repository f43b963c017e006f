//! The data links: one for each volume and peer, dialled by both sides, handed to the replica as soon as
//! they are authenticated.

use crate::backoff::Backoff;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::link::{self, Link, Purpose, Standing};
use crate::registry::Member;
use crate::volumes::Hosted;
use format::hello::Hello;
use format::types::{Name, NodeId, Slot, VolumeId};
use replica::event::SessionId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// The node whose connections give way waits this long for the other's before it dials, so that two
/// rarely meet.
const COURTESY: Duration = Duration::from_millis(100);
/// A link that lived longer than this ended for a new reason: the next is dialled at once.
const LONG_LIFE: Duration = Duration::from_secs(5);

/// All data links of this node.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Mutex<BTreeMap<(VolumeId, Slot), Arc<DataLink>>>,
}

#[derive(Debug)]
struct DataLink {
    peer: Name,
    peer_id: NodeId,
    state: Mutex<State>,
    // The state has changed, or there is a reason to dial at once.
    changed: Notify,
}

/// Wanted -> Up -> Wanted or StandAlone; StandAlone -> Wanted by an operator; all -> Forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It is being dialled, and accepted.
    Wanted,
    /// The replica has it.
    Up {
        dialled_here: bool,
        since: Instant,
        session: SessionId,
    },
    /// The replica wants none until an operator has acted.
    StandAlone,
    /// The replica is no longer open.
    Forgotten,
}

impl DataLink {
    fn set(&self, state: State) {
        *lock(&self.state) = state;
        self.changed.notify_one();
    }
}

impl Links {
    /// Keeps the links of a replica up until it is forgotten.
    pub(crate) fn keep(&self, daemon: &Arc<Daemon>, hosted: &Arc<Hosted>) {
        for member in hosted.record.others() {
            let key = (hosted.record.volume, member.slot);
            let link = Arc::new(DataLink {
                peer: member.name.clone(),
                peer_id: member.node,
                state: Mutex::new(State::Wanted),
                changed: Notify::new(),
            });
            if let Some(earlier) = lock(&self.links).insert(key, link.clone()) {
                earlier.set(State::Forgotten);
            }
            tokio::spawn(keep_linked(
                daemon.clone(),
                hosted.clone(),
                member.slot,
                link,
            ));
        }
    }

    /// The replica has lost a link. With `retry` it wants a new one.
    pub(crate) fn lost(&self, volume: VolumeId, peer: Slot, session: SessionId, retry: bool) {
        let Some(link) = self.find(volume, peer) else {
            return;
        };
        let mut state = lock(&link.state);
        // Another link may have taken its place before this was heard.
        if matches!(*state, State::Up { session: up, .. } if up == session) {
            *state = if retry {
                State::Wanted
            } else {
                State::StandAlone
            };
            link.changed.notify_one();
        }
    }

    /// An operator wants a link that had been given up.
    pub(crate) fn wanted(&self, volume: VolumeId, peer: Slot) {
        let Some(link) = self.find(volume, peer) else {
            return;
        };
        let alone = *lock(&link.state) == State::StandAlone;
        if alone {
            link.set(State::Wanted);
        } else {
            link.changed.notify_one();
        }
    }

    /// The replica is no longer open.
    pub(crate) fn forget(&self, volume: VolumeId) {
        lock(&self.links).retain(|(of, _), link| {
            let stays = *of != volume;
            if !stays {
                link.set(State::Forgotten);
            }
            stays
        });
    }

    /// The node can be reached again: dial now what is to be dialled.
    pub(crate) fn kick(&self, node: &Name) {
        for link in lock(&self.links).values().filter(|link| link.peer == *node) {
            link.changed.notify_one();
        }
    }

    fn find(&self, volume: VolumeId, peer: Slot) -> Option<Arc<DataLink>> {
        lock(&self.links).get(&(volume, peer)).cloned()
    }
}

async fn keep_linked(daemon: Arc<Daemon>, hosted: Arc<Hosted>, peer: Slot, link: Arc<DataLink>) {
    let mut backoff = Backoff::default();
    let mut first = true;
    loop {
        let state = *lock(&link.state);
        match state {
            State::Forgotten => return,
            State::StandAlone => {
                link.changed.notified().await;
                (first, backoff) = (true, Backoff::default());
                continue;
            }
            State::Up { since, .. } => {
                link.changed.notified().await;
                if matches!(*lock(&link.state), State::Up { .. }) {
                    continue;
                }
                if since.elapsed() > LONG_LIFE {
                    (first, backoff) = (true, Backoff::default());
                } else {
                    // A link that ends soon after its handshake would end so again.
                    backoff.rest().await;
                }
                continue;
            }
            State::Wanted if first && daemon.node > link.peer_id => {
                // Whether the other has dialled meanwhile is seen in the state.
                let _ = timeout(COURTESY, link.changed.notified()).await;
                first = false;
                continue;
            }
            State::Wanted => {}
        }
        first = false;
        let purpose = Purpose::Data {
            volume: hosted.record.volume,
            slot: hosted.record.slot,
        };
        match link::dial(&daemon, &link.peer, purpose).await {
            Ok(established) => attach(&daemon, &hosted, peer, &link, established),
            Err(failure) => {
                tracing::debug!(volume = %hosted.record.name, "data link to {}: {failure}", link.peer);
            }
        }
        tokio::select! {
            () = backoff.rest() => {}
            () = link.changed.notified() => {}
        }
    }
}

/// Whether, and to which replica, a link that a peer has dialled would be handed.
pub(crate) fn admits(
    daemon: &Daemon,
    volume: VolumeId,
    slot: Slot,
    peer: &Hello,
) -> Result<Arc<Hosted>, Failure> {
    let unknown = || Failure::not_found(format!("there is no volume {volume} here"));
    let hosted = daemon.volumes.with_id(volume).ok_or_else(unknown)?;
    let matches = |member: &Member| member.slot == slot && member.node == peer.node;
    if !hosted.record.others().any(matches) {
        return Err(Failure::failed(format!(
            "volume {} has no replica on {} ({}) in {slot}",
            hosted.record.name, peer.name, peer.node
        )));
    }
    hosted.volume()?;
    let link = daemon.links.find(volume, slot).ok_or_else(unknown)?;
    let state = *lock(&link.state);
    let standing = match state {
        State::Up { dialled_here, .. } => Standing::Up { dialled_here },
        State::Wanted => Standing::Down,
        State::StandAlone | State::Forgotten => {
            let waits = "this replica stands alone until an operator has acted";
            return Err(Failure::failed(waits));
        }
    };
    if link::kept(daemon.node, peer.node, false, standing) {
        Ok(hosted)
    } else {
        Err(Failure::failed("there is a link already"))
    }
}

/// Hands a link that a peer has dialled, and that was admitted, to the replica.
pub(crate) fn attach_accepted(
    daemon: &Daemon,
    hosted: &Arc<Hosted>,
    peer: Slot,
    established: Link,
) {
    if let Some(link) = daemon.links.find(hosted.record.volume, peer) {
        attach(daemon, hosted, peer, &link, established);
    }
}

fn attach(daemon: &Daemon, hosted: &Hosted, peer: Slot, link: &DataLink, established: Link) {
    let mut state = lock(&link.state);
    let standing = match *state {
        State::Wanted => Standing::Down,
        State::Up { dialled_here, .. } => Standing::Up { dialled_here },
        State::StandAlone | State::Forgotten => return,
    };
    let dialled_here = established.dialled_here;
    if !link::kept(daemon.node, established.node, dialled_here, standing) {
        return;
    }
    let (Ok(volume), Ok(socket)) = (hosted.volume(), established.into_socket()) else {
        return;
    };
    *state = State::Up {
        dialled_here,
        since: Instant::now(),
        session: volume.attach_peer(peer, socket, Vec::new()),
    };
    drop(state);
    link.changed.notify_one();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment or insertion.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
