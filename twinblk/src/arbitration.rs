//! Which arbiter this node uses, and its way from what was typed on one node to all of them.
//!
//! ```text
//! STATE/arbiter.json    a Record, where `twinblk arbiter set` was typed and not the file names an arbiter
//! ```

use crate::arbiter::{self, Change, Register};
use crate::as_text;
use crate::config::ArbiterSettings;
use crate::config::{Config, Mode};
use crate::failure::Failure;
use crate::files;
use crate::link::Local;
use format::types::{Configuration, Generation, Name, VolumeId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An arbiter that was set on all nodes, or is about to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Names this setting, drawn by the node that it was typed on.
    #[serde(with = "as_text")]
    pub(crate) change: Generation,
    /// The arbiter.
    pub(crate) arbiter: ArbiterSettings,
    /// When a node takes over.
    pub(crate) mode: Mode,
    /// How far it has come.
    pub(crate) phase: Phase,
}

/// A setting's life: Prepared -> Ready, or to nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Only its coordinator knows whether it holds.
    Prepared {
        /// The node that it was typed on.
        #[serde(with = "as_text")]
        coordinator: Name,
    },
    /// It holds.
    Ready,
}

/// The arbiter in use.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Which.
    pub(crate) settings: ArbiterSettings,
    /// When this node takes over.
    pub(crate) mode: Mode,
    /// Whether the configuration file names it; else `arbiter set` did.
    pub(crate) from_file: bool,
    /// Its register.
    pub(crate) register: Arc<dyn Register>,
}

/// The arbiter of this node, if it has one.
pub(crate) struct Arbitration {
    path: PathBuf,
    local: Local,
    own: Name,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chosen: Option<Chosen>,
    record: Option<Record>,
    // The setting that this node coordinates and has not decided.
    deciding: Option<Generation>,
    // Why it has given no answer, once for as long as it is the same reason.
    complaint: String,
}

impl Arbitration {
    /// The one that the file names, or that was set. What this node began to set and never decided is
    /// forgotten.
    pub(crate) fn open(
        config: &Config,
        local: &Local,
        folder: &Path,
    ) -> Result<Arbitration, Failure> {
        let path = folder.join("arbiter.json");
        let own = config.name.clone();
        let mut record = files::read_json::<Record>(&path)?;
        let undecided = Phase::Prepared {
            coordinator: own.clone(),
        };
        if record.as_ref().is_some_and(|one| one.phase == undecided) {
            files::remove(&path)?;
            record = None;
        }
        let set = record.as_ref().filter(|one| one.phase == Phase::Ready);
        let chosen = match (&config.arbiter, set) {
            (Some(settings), _) => Some((settings.clone(), config.failover.mode, true)),
            (None, Some(set)) => Some((set.arbiter.clone(), set.mode, false)),
            (None, None) => None,
        };
        let chosen = chosen.map(|(settings, mode, from_file)| {
            Ok::<_, Failure>(Chosen {
                register: arbiter::open(&settings, local)?,
                settings,
                mode,
                from_file,
            })
        });
        let state = State {
            chosen: chosen.transpose()?,
            record,
            deciding: None,
            complaint: String::new(),
        };
        Ok(Arbitration {
            path,
            local: local.clone(),
            own,
            state: Mutex::new(state),
        })
    }

    /// The arbiter in use.
    pub(crate) fn chosen(&self) -> Option<Chosen> {
        self.lock().chosen.clone()
    }

    /// Asks its register; without an arbiter there is no answer.
    pub(crate) async fn ask(
        &self,
        volume: VolumeId,
        change: Change,
    ) -> Result<Option<Configuration>, Failure> {
        let chosen = self
            .chosen()
            .ok_or_else(|| Failure::failed("there is no arbiter"))?;
        chosen.register.ask(volume, change).await
    }

    /// Logs why a replica got no answer. That there is none the replica itself tells.
    pub(crate) fn failed(&self, failure: Failure) {
        let mut state = self.lock();
        if state.complaint != failure.message {
            tracing::warn!("the arbiter gives no answer: {failure}");
            state.complaint = failure.message;
        }
    }

    /// Fails where there is an arbiter already.
    pub(crate) fn refuse_if_chosen(&self) -> Result<(), Failure> {
        let (kind, place) = match &self.lock().chosen {
            None => return Ok(()),
            Some(chosen) if chosen.from_file => {
                (chosen.settings.kind(), "in its configuration file")
            }
            Some(chosen) => (chosen.settings.kind(), "set before"),
        };
        Err(Failure::protects_data(format!(
            "{} has an arbiter already ({kind}, {place}): two would disagree",
            self.own
        )))
    }

    /// Marks a setting as one that this node coordinates, and has yet to decide; one at a time.
    pub(crate) fn begin(&self, change: Generation) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.deciding.is_some() {
            return Err(Failure::failed(
                "another arbiter is being set: wait until that has ended",
            ));
        }
        state.deciding = Some(change);
        Ok(())
    }

    /// Marks it as decided.
    pub(crate) fn end(&self) {
        self.lock().deciding = None;
    }

    /// Remembers a setting that may come to hold. May block on the disk.
    pub(crate) fn prepare(&self, record: Record) -> Result<(), Failure> {
        self.refuse_if_chosen()?;
        let mut state = self.lock();
        if let Some(other) = state.record.as_ref()
            && other.change != record.change
        {
            return Err(Failure::failed(format!(
                "{} waits to hear what has become of another arbiter",
                self.own
            )));
        }
        files::replace_json(&self.path, &record)?;
        state.record = Some(record);
        Ok(())
    }

    /// Lets what was prepared hold, and takes it into use. May be called again. May block on the disk.
    pub(crate) fn commit(&self, change: Generation) -> Result<Chosen, Failure> {
        let mut state = self.lock();
        let prepared = state.record.clone().filter(|one| one.change == change);
        let Some(prepared) = prepared else {
            return Err(Failure::not_found(format!(
                "{} has prepared no such arbiter",
                self.own
            )));
        };
        if let (Phase::Ready, Some(chosen)) = (&prepared.phase, &state.chosen) {
            return Ok(chosen.clone());
        }
        let chosen = Chosen {
            register: arbiter::open(&prepared.arbiter, &self.local)?,
            settings: prepared.arbiter.clone(),
            mode: prepared.mode,
            from_file: false,
        };
        let ready = Record {
            phase: Phase::Ready,
            ..prepared
        };
        files::replace_json(&self.path, &ready)?;
        state.record = Some(ready);
        state.chosen = Some(chosen.clone());
        Ok(chosen)
    }

    /// Forgets what was prepared; what holds stays. May be called again. May block on the disk.
    pub(crate) fn abort(&self, change: Generation) -> Result<(), Failure> {
        let mut state = self.lock();
        let prepared = |one: &Record| one.change == change && one.phase != Phase::Ready;
        if state.record.as_ref().is_some_and(prepared) {
            files::remove(&self.path)?;
            state.record = None;
        }
        Ok(())
    }

    /// What this node, as the coordinator, has decided; `None`: nothing yet.
    pub(crate) fn verdict(&self, change: Generation) -> Option<bool> {
        let state = self.lock();
        if state.deciding == Some(change) {
            return None;
        }
        let record = state.record.as_ref();
        Some(record.is_some_and(|one| one.change == change && one.phase == Phase::Ready))
    }

    /// A setting whose fate only this node knows, if one is prepared here.
    pub(crate) fn undecided_by(&self, coordinator: &Name) -> Option<Generation> {
        let state = self.lock();
        let record = state.record.as_ref()?;
        let waits =
            matches!(&record.phase, Phase::Prepared { coordinator: of } if of == coordinator);
        waits.then_some(record.change)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, after the file.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
