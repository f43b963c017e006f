//! The events' file. A thread of its own writes it: who has something to tell, as the thread that drives a volume, must not have to
//! wait for a disk.

use super::{EVENTS_MAX, EventView};
use crate::failure::{Context, Failure};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

/// The file is begun anew at this size; its predecessor is kept beside it.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;

/// The way to the file. Dropping it waits until all that was told is written.
#[derive(Debug)]
pub(super) struct EventFile {
    // Nothing only while it is dropped.
    sender: Option<SyncSender<EventView>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread has.
struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
    // One complaint about a full disk is enough.
    works: bool,
}

impl EventFile {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<EventFile, Failure> {
        let doing = || format!("cannot open {}", path.display());
        let file = append_to(path).context(doing)?;
        let bytes = file.metadata().context(doing)?.len();
        let mut writer = Writer {
            path: path.to_owned(),
            file,
            bytes,
            works: true,
        };
        let (sender, receiver) = mpsc::sync_channel::<EventView>(EVENTS_MAX);
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                for event in receiver {
                    writer.append(&event);
                }
            })
            .context(|| "cannot start the thread that writes events".to_owned())?;
        Ok(EventFile {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// Has an event written. One that comes while as many wait as are kept at hand is not.
    pub(super) fn append(&self, event: &EventView) {
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(event.clone());
        }
    }
}

impl Drop for EventFile {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // Its panics have been told already.
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn append(&mut self, event: &EventView) {
        let result = self.try_append(event);
        if let (Err(error), true) = (&result, self.works) {
            tracing::warn!(
                "cannot write {}: {error}; events are kept in memory only",
                self.path.display()
            );
        }
        self.works = result.is_ok();
    }

    fn try_append(&mut self, event: &EventView) -> std::io::Result<()> {
        if self.bytes > FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            self.file = append_to(&self.path)?;
            self.bytes = 0;
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn append_to(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
