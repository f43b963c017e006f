//! What the plugin remembers of a volume, over its own end and the machine's: a file for each, of its name.

use crate::failure::{Context, Failure};
use crate::files;
use crate::trust::folder_of_notes;
use format::types::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is remembered of a volume.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// The volume's id: a name used again is another volume.
    pub(super) volume_id: String,
    /// The boot that `attached` and `mounts` are of.
    pub(super) boot: String,
    /// `docker volume rm` has been said of it on this node, and nothing since.
    pub(super) forgotten: bool,
    /// It has been mounted here: whatever is on it, a file system is not made again.
    pub(super) made: bool,
    /// Its device was attached by the plugin, or is about to be.
    pub(super) attached: bool,
    /// Who has it mounted.
    pub(super) mounts: BTreeSet<String>,
}

/// The folder of the notes.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    folder: PathBuf,
    boot: String,
}

impl Notes {
    /// The folder is made where there is none.
    pub(super) fn open(folder: &Path) -> Result<Notes, Failure> {
        folder_of_notes(folder, "plugin", "[docker] state_dir")?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.context(|| "cannot read the id of this boot".to_owned())?;
        Ok(Notes {
            folder: folder.to_owned(),
            boot: boot.trim().to_owned(),
        })
    }

    /// The names of all volumes that something is remembered of.
    pub(super) fn names(&self) -> Result<Vec<Name>, Failure> {
        let doing = || format!("cannot list {}", self.folder.display());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder).context(doing)? {
            let file = entry.context(doing)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
            names.extend(name.and_then(Name::new));
        }
        names.sort();
        Ok(names)
    }

    /// What is remembered of whatever volume has the name. Nothing is mounted or attached that was before this boot.
    pub(super) fn read(&self, name: &Name) -> Result<Note, Failure> {
        let note: Option<Note> = files::read_json(&self.path(name))?;
        let mut note = note.unwrap_or_default();
        if note.boot != self.boot {
            note.boot.clone_from(&self.boot);
            note.attached = false;
            note.mounts.clear();
        }
        Ok(note)
    }

    /// Remembers.
    pub(super) fn keep(&self, name: &Name, note: &Note) -> Result<(), Failure> {
        files::replace_json(&self.path(name), note)
    }

    /// Forgets.
    pub(super) fn remove(&self, name: &Name) -> Result<(), Failure> {
        files::remove(&self.path(name))
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}
