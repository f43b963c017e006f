//! What this node is to each of its volumes, and who wants to hear of it.

use crate::duty::{Duty, DutyView};
use format::types::{Name, VolumeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// The duties of this node.
#[derive(Debug)]
pub(crate) struct Duties {
    watched: Mutex<BTreeMap<VolumeId, Arc<Notify>>>,
    /// Something has happened to a volume that is not watched yet.
    pub(crate) unwatched: Notify,
    present: watch::Sender<BTreeMap<VolumeId, DutyView>>,
}

impl Duties {
    /// No volume is watched yet.
    pub(crate) fn new() -> Duties {
        Duties {
            watched: Mutex::default(),
            unwatched: Notify::new(),
            present: watch::Sender::default(),
        }
    }

    /// Something has happened to the volume: whoever watches it looks again.
    pub(crate) fn look(&self, volume: VolumeId) {
        match lock(&self.watched).get(&volume) {
            Some(watcher) => watcher.notify_one(),
            None => self.unwatched.notify_one(),
        }
    }

    /// As [`Self::look`], for all.
    pub(crate) fn look_at_all(&self) {
        lock(&self.watched)
            .values()
            .for_each(|watcher| watcher.notify_one());
    }

    /// Begins to watch a volume; tells when to look again, or nothing if it is watched already.
    pub(crate) fn begin(&self, volume: VolumeId, name: &Name) -> Option<Arc<Notify>> {
        let mut watched = lock(&self.watched);
        if watched.contains_key(&volume) {
            return None;
        }
        let looks = Arc::new(Notify::new());
        watched.insert(volume, looks.clone());
        let view = DutyView {
            volume: name.to_string(),
            volume_id: volume.to_string(),
            duty: None,
        };
        self.present.send_modify(|present| {
            present.insert(volume, view);
        });
        Some(looks)
    }

    /// This is its duty now.
    pub(crate) fn set(&self, volume: VolumeId, duty: Duty) {
        self.present.send_if_modified(|present| {
            let view = present.get_mut(&volume);
            view.is_some_and(|view| view.duty.replace(duty) != Some(duty))
        });
    }

    /// There is no such volume any more.
    pub(crate) fn end(&self, volume: VolumeId) {
        lock(&self.watched).remove(&volume);
        self.present.send_modify(|present| {
            present.remove(&volume);
        });
    }

    /// Tells all duties, now and whenever one has changed.
    pub(crate) fn follow(&self) -> watch::Receiver<BTreeMap<VolumeId, DutyView>> {
        self.present.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion or removal.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
