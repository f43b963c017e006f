//! What `twinblk events` shows: the latest events in memory, all of them in a bounded file.

mod file;

use crate::failure::Failure;
use file::EventFile;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

/// Events that are kept at hand.
const EVENTS_MAX: usize = 4096;

/// Something that happened. Field names are stable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct EventView {
    /// Counts this node's events, also over restarts.
    pub(crate) id: u64,
    /// When, RFC 3339.
    pub(crate) at: String,
    /// The node that saw it.
    pub(crate) node: String,
    /// The volume, if it is about one.
    pub(crate) volume: Option<String>,
    /// What sort.
    pub(crate) name: String,
    /// What sort, as a number.
    pub(crate) number: u16,
    /// One sentence.
    pub(crate) text: String,
}

/// An event before it is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Happening {
    /// The volume, if it is about one.
    pub(crate) volume: Option<String>,
    /// What sort.
    pub(crate) name: &'static str,
    /// What sort, as a number.
    pub(crate) number: u16,
    /// One sentence.
    pub(crate) text: String,
}

/// The events of this node.
#[derive(Debug)]
pub(crate) struct EventLog {
    node: String,
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    events: VecDeque<EventView>,
    // Nothing once the log is closed.
    file: Option<EventFile>,
    next_id: u64,
}

impl EventLog {
    /// Opens the log in the state folder. Lines that a crash has cut short are passed over.
    pub(crate) fn open(folder: &Path, node: &str) -> Result<EventLog, Failure> {
        let path = folder.join("events.jsonl");
        let mut events = VecDeque::new();
        for path in [path.with_extension("jsonl.1"), path.clone()] {
            let text = std::fs::read(path).unwrap_or_default();
            for line in text.split(|byte| *byte == b'\n') {
                events.extend(serde_json::from_slice::<EventView>(line).ok());
            }
        }
        events.drain(..events.len().saturating_sub(EVENTS_MAX));
        let next_id = events.back().map_or(1, |event| event.id + 1);
        let inner = Inner {
            events,
            file: Some(EventFile::open(&path)?),
            next_id,
        };
        let newest = watch::Sender::new(next_id - 1);
        Ok(EventLog {
            node: node.to_owned(),
            inner: Mutex::new(inner),
            newest,
        })
    }

    /// Logs an event, waiting for no disk. Where the file cannot be written the event is still seen by those who follow.
    pub(crate) fn push(&self, happening: Happening) {
        tracing::info!(
            volume = happening.volume.as_deref().unwrap_or("-"),
            event = happening.name,
            "{}",
            happening.text
        );
        let mut inner = self.lock();
        let event = EventView {
            id: inner.next_id,
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            node: self.node.clone(),
            volume: happening.volume,
            name: happening.name.to_owned(),
            number: happening.number,
            text: happening.text,
        };
        inner.next_id += 1;
        if let Some(file) = &inner.file {
            file.append(&event);
        }
        if inner.events.len() == EVENTS_MAX {
            inner.events.pop_front();
        }
        let id = event.id;
        inner.events.push_back(event);
        drop(inner);
        self.newest.send_replace(id);
    }

    /// Waits until every event is written. Those that come later are in memory only.
    pub(crate) fn close(&self) {
        let file = self.lock().file.take();
        drop(file);
    }

    /// The events after this one that are still at hand.
    pub(crate) fn after(&self, id: u64) -> Vec<EventView> {
        self.lock()
            .events
            .iter()
            .filter(|event| event.id > id)
            .cloned()
            .collect()
    }

    /// Tells the newest event's number whenever there is a newer one.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while an event was pushed has lost at most that event.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
