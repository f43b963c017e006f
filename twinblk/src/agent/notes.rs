//! What the agent remembers over its restarts: a file for each volume, so that no transition is run twice.

use crate::duty::{Duty, Transition};
use crate::failure::{Context, Failure};
use crate::trust::folder_of_notes;
use crate::{files, hexadecimal};
use format::types::Name;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What hooks have been told of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// The volume's name.
    pub(super) volume: String,
    /// The last duty that hooks have been run for, or are being run for.
    pub(super) duty: Duty,
    /// The transition to it, until all its hooks have ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) begun: Option<Begun>,
}

/// A transition whose hooks are being run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    /// Which.
    pub(super) transition: Transition,
    /// The last hook that has been started.
    pub(super) last: Option<String>,
    /// Whether that has ended.
    pub(super) ended: bool,
}

/// The folder of the notes.
#[derive(Clone, Debug)]
pub(super) struct Notes(PathBuf);

impl Notes {
    /// The folder is made where there is none.
    pub(super) fn open(folder: &Path) -> Result<Notes, Failure> {
        folder_of_notes(folder, "agent", "[hooks] state_dir")?;
        Ok(Notes(folder.to_owned()))
    }

    /// Every note, with its volume's id. One that is damaged is passed over: its volume is taken for a new one.
    pub(super) fn read(&self) -> Result<Vec<(String, Note)>, Failure> {
        let doing = || format!("cannot list {}", self.0.display());
        let mut notes = Vec::new();
        for entry in std::fs::read_dir(&self.0).context(doing)? {
            let path = entry.context(doing)?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str());
            let is_note = path.extension().is_some_and(|ending| ending == "json");
            let Some(id) = id.filter(|id| is_note && is_id(id)) else {
                continue;
            };
            match files::read_json::<Note>(&path) {
                Ok(Some(note)) if Name::new(&note.volume).is_some() => {
                    notes.push((id.to_owned(), note));
                }
                Ok(_) => tracing::warn!("{} is of no volume", path.display()),
                Err(failure) => tracing::warn!("{failure}"),
            }
        }
        Ok(notes)
    }

    /// Remembers. Where that fails, hooks are run all the same: who serves matters more than who has been told.
    pub(super) fn keep(&self, id: &str, note: &Note) {
        if let Err(failure) = files::replace_json(&self.path(id), note) {
            tracing::warn!("{failure}; after a restart hooks may run again");
        }
    }

    /// Forgets.
    pub(super) fn forget(&self, id: &str) {
        if let Err(failure) = files::remove(&self.path(id)) {
            tracing::warn!("{failure}");
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}

/// Whether it can be a volume's id, and the name of a file.
pub(super) fn is_id(text: &str) -> bool {
    hexadecimal::decode::<16>(text).is_some()
}

#[cfg(test)]
mod tests;
