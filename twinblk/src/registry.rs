//! What a node remembers of itself and of its volumes, in its state folder.
//!
//! ```text
//! STATE/lock                       held by the daemon, with its process id
//! STATE/node                       the node's id
//! STATE/volumes/NAME/replica.json  a Record
//! STATE/volumes/NAME/{data,meta}   the replica's files, unless the record names another data file
//! STATE/decisions/VOLUME-ID.json   a Decision that not every node has confirmed
//! ```

mod record;

pub(crate) use record::{Decision, Member, Phase, Record, Verdict};

use crate::failure::{Context, Failure};
use crate::{files, state_folder};
use engine::volume::Paths;
use format::types::{Name, NodeId, VolumeId};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A node's state folder, locked.
#[derive(Debug)]
pub(crate) struct Registry {
    folder: PathBuf,
    node: NodeId,
    // The lock lasts as long as the file is open.
    _lock: File,
}

impl Registry {
    /// Locks the folder, making it where there is none, and learns or draws the node's id.
    pub(crate) fn open(folder: &Path) -> Result<Registry, Failure> {
        files::make_folder(&folder.join("volumes"))?;
        files::make_folder(&folder.join("decisions"))?;
        let lock = state_folder::lock(folder)?;
        let node = state_folder::node_id(folder)?;
        Ok(Registry {
            folder: folder.to_owned(),
            node,
            _lock: lock,
        })
    }

    /// The node's id.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every replica, by name.
    pub(crate) fn records(&self) -> Result<Vec<Record>, Failure> {
        let mut records = Vec::new();
        for folder in entries(&self.folder.join("volumes"))? {
            // Without a record, a folder is what a creation that was cut short has left, or the data that
            // `rm --keep-data` has kept.
            let Some(record) = files::read_json::<Record>(&folder.join("replica.json"))? else {
                continue;
            };
            if folder.file_name().and_then(|name| name.to_str()) != Some(record.name.as_str()) {
                return Err(Failure::failed(format!(
                    "{} is of the volume {}: move it back to where it came from",
                    folder.display(),
                    record.name
                )));
            }
            records.push(record);
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// Remembers a replica, or what has changed of it.
    pub(crate) fn put(&self, record: &Record) -> Result<(), Failure> {
        let folder = self.volume_folder(&record.name);
        files::make_folder(&folder)?;
        files::replace_json(&folder.join("replica.json"), record).inspect_err(|_| {
            // It is not empty if there was something to remember before.
            let _ = std::fs::remove_dir(&folder);
        })
    }

    /// Removes a replica: its metadata, its data unless that is kept, and what is remembered of it. May be
    /// called again for one that a crash has left half removed.
    pub(crate) fn remove(&self, record: &Record, keep_data: bool) -> Result<(), Failure> {
        // What was only prepared is removed again after a crash without being told so, and must go on a full
        // disk too.
        if keep_data || !matches!(record.phase, Phase::Prepared { .. }) {
            let removing = Record {
                phase: Phase::Removing { keep_data },
                ..record.clone()
            };
            self.put(&removing)?;
        }
        let paths = self.paths(record);
        files::remove(&paths.meta)?;
        // A block device stays what it is; only a file of ours goes.
        if !keep_data && (paths.data.is_file() || !paths.data.exists()) {
            files::remove(&paths.data)?;
        }
        let folder = self.volume_folder(&record.name);
        files::remove(&folder.join("replica.json"))?;
        // It is not empty if the data is kept.
        let _ = std::fs::remove_dir(&folder);
        Ok(())
    }

    /// Where a replica's files are.
    pub(crate) fn paths(&self, record: &Record) -> Paths {
        let folder = self.volume_folder(&record.name);
        Paths {
            data: record
                .backing
                .clone()
                .unwrap_or_else(|| folder.join("data")),
            meta: folder.join("meta"),
        }
    }

    /// Every decision that somebody has yet to hear.
    pub(crate) fn decisions(&self) -> Result<Vec<Decision>, Failure> {
        let mut decisions = Vec::new();
        for path in entries(&self.folder.join("decisions"))? {
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                decisions.extend(files::read_json::<Decision>(&path)?);
            }
        }
        Ok(decisions)
    }

    /// The decision about this volume, if somebody has yet to hear it.
    pub(crate) fn decision(&self, volume: VolumeId) -> Result<Option<Decision>, Failure> {
        files::read_json(&self.decision_path(volume))
    }

    /// Remembers a decision. From here on it holds.
    pub(crate) fn decide(&self, decision: &Decision) -> Result<(), Failure> {
        files::replace_json(&self.decision_path(decision.volume), decision)
    }

    /// Remembers a decision beside what was decided of the volume before and has yet to be heard by others.
    pub(crate) fn decide_also(&self, decision: &Decision) -> Result<(), Failure> {
        let mut decision = decision.clone();
        if let Some(earlier) = self.decision(decision.volume)?
            && earlier.verdict == decision.verdict
        {
            let news = std::mem::take(&mut decision.unconfirmed);
            decision.unconfirmed = earlier.unconfirmed;
            decision.unconfirmed.retain(|node| !news.contains(node));
            let mut replicas = earlier.replicas;
            replicas.retain(|replica| decision.unconfirmed.contains(&replica.name));
            decision.replicas.extend(replicas);
            decision.unconfirmed.extend(news);
        }
        self.decide(&decision)
    }

    /// Notes that a node has heard a decision, and forgets the decision when all have.
    pub(crate) fn confirmed(&self, volume: VolumeId, by: &Name) -> Result<(), Failure> {
        let Some(mut decision) = self.decision(volume)? else {
            return Ok(());
        };
        decision.unconfirmed.retain(|name| name != by);
        if decision.unconfirmed.is_empty() {
            files::remove(&self.decision_path(volume))
        } else {
            self.decide(&decision)
        }
    }

    fn decision_path(&self, volume: VolumeId) -> PathBuf {
        self.folder.join("decisions").join(format!("{volume}.json"))
    }

    fn volume_folder(&self, name: &Name) -> PathBuf {
        self.folder.join("volumes").join(name.as_str())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    std::fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        })
        .context(|| format!("cannot list {}", folder.display()))
}

#[cfg(test)]
mod tests;
