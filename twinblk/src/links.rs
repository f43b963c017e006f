//! How the data links of all replicas stand.

use crate::link::{Link, Standing, kept};
use crate::registry::Member;
use format::types::{Name, NodeId, Slot, VolumeId};
use replica::event::SessionId;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// All data links of this node.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Mutex<BTreeMap<(VolumeId, Slot), Arc<DataLink>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct DataLink {
    peer: Name,
    state: Mutex<State>,
    // The state has changed, or there is a reason to dial at once.
    changed: Notify,
}

/// Wanted -> Up -> Wanted or StandAlone; StandAlone -> Wanted by an operator; all -> Forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It is being dialled, and accepted.
    Wanted,
    /// The replica has it.
    Up {
        /// Whether this node has dialled it.
        dialled_here: bool,
        /// Since when.
        since: Instant,
        /// Its number.
        session: SessionId,
    },
    /// The replica wants none until an operator has acted.
    StandAlone,
    /// The replica is no longer open.
    Forgotten,
}

impl State {
    /// How it stands; `None` if none is to be.
    pub(crate) fn standing(self) -> Option<Standing> {
        match self {
            State::Wanted => Some(Standing::Down),
            State::Up { dialled_here, .. } => Some(Standing::Up { dialled_here }),
            State::StandAlone | State::Forgotten => None,
        }
    }
}

impl DataLink {
    /// How it stands.
    pub(crate) fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Waits until that has changed, or there is a reason to look again.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has `attach` hand a link over, if one is wanted that this one may be, and remembers its number.
    pub(crate) fn put_up(
        &self,
        own: NodeId,
        link: Link,
        attach: impl FnOnce(OwnedFd) -> Option<SessionId>,
    ) {
        // Held until the link is handed over, so that its end is not heard of before.
        let mut state = lock(&self.state);
        let dialled_here = link.dialled_here;
        let may = state
            .standing()
            .is_some_and(|standing| kept(own, link.node, dialled_here, standing));
        if let Some(socket) = may.then(|| link.into_socket().ok()).flatten()
            && let Some(session) = attach(socket)
        {
            *state = State::Up {
                dialled_here,
                since: Instant::now(),
                session,
            };
            self.changed.notify_one();
        }
    }

    fn set(&self, state: State) {
        *lock(&self.state) = state;
        self.changed.notify_one();
    }
}

impl Links {
    /// Begins to want a link of a replica; earlier wants are forgotten.
    pub(crate) fn want(&self, volume: VolumeId, member: &Member) -> Arc<DataLink> {
        let link = Arc::new(DataLink {
            peer: member.name.clone(),
            state: Mutex::new(State::Wanted),
            changed: Notify::new(),
        });
        let earlier = lock(&self.links).insert((volume, member.slot), link.clone());
        if let Some(earlier) = earlier {
            earlier.set(State::Forgotten);
        }
        link
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

    /// The volume has this replica no more.
    pub(crate) fn forget_one(&self, volume: VolumeId, peer: Slot) {
        if let Some(link) = lock(&self.links).remove(&(volume, peer)) {
            link.set(State::Forgotten);
        }
    }

    /// The node can be reached again: dial now what is to be dialled.
    pub(crate) fn kick(&self, node: &Name) {
        for link in lock(&self.links).values().filter(|link| link.peer == *node) {
            link.changed.notify_one();
        }
    }

    /// The link, if its replica is open.
    pub(crate) fn find(&self, volume: VolumeId, peer: Slot) -> Option<Arc<DataLink>> {
        lock(&self.links).get(&(volume, peer)).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment or insertion.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
