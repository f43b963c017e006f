//! What a witness holds, in its state folder.
//!
//! ```text
//! STATE/lock                       held by the witness, with its process id
//! STATE/node                       its id
//! STATE/registers/VOLUME-ID.json   an Entry
//! ```

use crate::arbiter::protocol::Condition;
use crate::arbiter::{Change, ENTRY_BYTES_MAX, Entry};
use crate::failure::{Context, Failure};
use crate::{files, hexadecimal, state_folder};
use format::types::{Configuration, NodeId, VolumeId};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Volumes whose configuration is held: more than anybody has, and a bound to what is kept in memory.
const VOLUMES_MAX: usize = 16_384;

/// The registers of all volumes. Everything here may block on the disk.
#[derive(Debug)]
pub(super) struct State {
    registers: PathBuf,
    node: NodeId,
    held: Mutex<BTreeMap<VolumeId, Held>>,
    // The lock lasts as long as the file is open.
    _lock: File,
}

/// What a volume's register is known to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    /// This, durably.
    Surely(Configuration),
    /// A change has failed half way: only the disk knows.
    Unknown,
}

impl State {
    /// Locks the folder, making it where there is none, and reads every register. One that is damaged is refused:
    /// it must not be taken for an older one, nor for an empty one.
    pub(super) fn open(folder: &Path) -> Result<State, Failure> {
        let registers = folder.join("registers");
        files::make_folder(&registers)?;
        let lock = state_folder::lock(folder)?;
        let node = state_folder::node_id(folder)?;
        let held = read_all(&registers)?;
        // A predecessor may have been killed between giving a file its name and making the name durable.
        files::sync_folder_of(&registers.join("any"))?;
        Ok(State {
            registers,
            node,
            held: Mutex::new(held),
            _lock: lock,
        })
    }

    /// The witness's id.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// How many volumes it holds a configuration of.
    pub(super) fn count(&self) -> usize {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Makes a change where it may be made, durably, and tells what is held then.
    pub(super) fn ask(
        &self,
        volume: VolumeId,
        change: Change,
        condition: Option<Condition>,
    ) -> Result<Option<Configuration>, Failure> {
        // Held over the disk's work: one change at a time. A panic leaves what is unknown marked so.
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match all.get(&volume) {
            Some(Held::Surely(configuration)) => Some(*configuration),
            Some(Held::Unknown) => {
                let found = self.settle(volume)?;
                match found {
                    Some(configuration) => all.insert(volume, Held::Surely(configuration)),
                    None => all.remove(&volume),
                };
                found
            }
            None => None,
        };
        if condition.is_some_and(|Condition(expected)| expected != held) {
            return Ok(held);
        }
        let Some(next) = change.decide(held) else {
            return Ok(held);
        };
        if held.is_none() && all.len() >= VOLUMES_MAX {
            return Err(Failure::failed(format!(
                "the witness holds {VOLUMES_MAX} volumes already: stop it, and remove from {} those that exist \
                 no more",
                self.registers.display()
            )));
        }
        all.insert(volume, Held::Unknown);
        let entry = Entry {
            volume,
            configuration: next,
        };
        files::replace(&self.path(volume), &entry.encode()?)?;
        all.insert(volume, Held::Surely(next));
        Ok(Some(next))
    }

    /// Finds out what a register holds whose change has failed half way: what its name leads to, once that is
    /// durable.
    fn settle(&self, volume: VolumeId) -> Result<Option<Configuration>, Failure> {
        let path = self.path(volume);
        files::sync_folder_of(&path)?;
        if path.exists() {
            read(&path, volume).map(Some)
        } else {
            Ok(None)
        }
    }

    fn path(&self, volume: VolumeId) -> PathBuf {
        self.registers.join(format!("{volume}.json"))
    }
}

fn read_all(folder: &Path) -> Result<BTreeMap<VolumeId, Held>, Failure> {
    let doing = || format!("cannot list {}", folder.display());
    let mut held = BTreeMap::new();
    for entry in std::fs::read_dir(folder).context(doing)? {
        let path = entry.context(doing)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "draft")
        {
            // What a crash has cut short was never answered.
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let volume = name.and_then(|name| name.strip_suffix(".json"));
        let Some(volume) = volume.and_then(hexadecimal::decode).map(VolumeId) else {
            return Err(Failure::protects_data(format!(
                "{} is no register: move it out of this folder",
                path.display()
            )));
        };
        held.insert(volume, Held::Surely(read(&path, volume)?));
        if held.len() > VOLUMES_MAX {
            return Err(Failure::failed(format!(
                "{} holds more than {VOLUMES_MAX} volumes: remove those that exist no more",
                folder.display()
            )));
        }
    }
    Ok(held)
}

fn read(path: &Path, volume: VolumeId) -> Result<Configuration, Failure> {
    let mut text = Vec::new();
    let bounded = u64::try_from(ENTRY_BYTES_MAX).unwrap_or(u64::MAX);
    let file = File::open(path).context(|| format!("cannot read {}", path.display()))?;
    file.take(bounded.saturating_add(1))
        .read_to_end(&mut text)
        .context(|| format!("cannot read {}", path.display()))?;
    let entry = Entry::decode(&text).and_then(|entry| entry.of(volume));
    entry.map_err(|failure| {
        Failure::protects_data(format!(
            "{} is damaged ({failure}): remove it, start the witness, and type `twinblk arbiter reset NAME --force` on \
             the volume's primary",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests;
