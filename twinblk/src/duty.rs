//! What this node is to a volume, as hooks and load balancers must know it.
//!
//! ```text
//!            promote                      alone, protected, frozen
//!   Idle ---------------> Serving(how) ----------------------------> Serving(how)
//!        <---------------
//!             demote
//! ```

use crate::api::VolumeView;
use crate::event_log::Happening;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How well a volume that is served here is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protection {
    /// Every replica is in sync.
    Protected,
    /// There are fewer copies than asked for.
    Alone,
    /// Requests are held until there is a quorum again.
    Frozen,
}

/// What this node is to a volume.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Duty {
    /// It does not serve it.
    #[default]
    Idle,
    /// It serves it as its primary; how well it is protected, once that is known.
    Serving(Option<Protection>),
}

/// A volume's duty, for those who follow it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct DutyView {
    /// The volume.
    pub(crate) volume: String,
    /// Its id: a name used again is another volume.
    pub(crate) volume_id: String,
    /// What this node is to it; nothing as long as that is not known.
    pub(crate) duty: Option<Duty>,
}

/// What hooks are run on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transition {
    /// This node serves the volume now.
    Promote,
    /// It serves it no more.
    Demote,
    /// [`Protection::Alone`] from here on.
    Alone,
    /// [`Protection::Protected`] from here on.
    Protected,
    /// [`Protection::Frozen`] from here on.
    Frozen,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transition::Promote => "promote",
            Transition::Demote => "demote",
            Transition::Alone => "alone",
            Transition::Protected => "protected",
            Transition::Frozen => "frozen",
        })
    }
}

impl Transition {
    /// Whether what it led to is so.
    pub(crate) fn holds(self, duty: Duty) -> bool {
        match (self, duty) {
            (Transition::Promote, Duty::Serving(_)) | (Transition::Demote, Duty::Idle) => true,
            (Transition::Promote | Transition::Demote, _) => false,
            (_, duty) => duty.protection().map(Transition::from) == Some(self),
        }
    }
}

impl From<Protection> for Transition {
    fn from(protection: Protection) -> Transition {
        match protection {
            Protection::Protected => Transition::Protected,
            Protection::Alone => Transition::Alone,
            Protection::Frozen => Transition::Frozen,
        }
    }
}

impl Duty {
    fn protection(self) -> Option<Protection> {
        match self {
            Duty::Serving(protection) => protection,
            Duty::Idle => None,
        }
    }

    /// What a view says, coming from `self`; `None` while roles change or are not confirmed, and nothing can
    /// be said yet.
    pub(crate) fn told_by(self, view: &VolumeView) -> Option<Duty> {
        let own = view.replicas.first().map(|replica| replica.node.as_str());
        let recorded = view.primary.is_some() && view.primary.as_deref() == own;
        if recorded && view.state == "Frozen" {
            return Some(Duty::Serving(Some(Protection::Frozen)));
        }
        if serving(view).is_err() {
            return (!recorded && view.role != "Primary").then_some(Duty::Idle);
        }
        let protection = if view.replicas.iter().any(|replica| !replica.in_sync) {
            Some(Protection::Alone)
        } else if view.state == "Protected" {
            Some(Protection::Protected)
        } else {
            // A member is silent and has not been dropped, or members are being made equal.
            self.protection().filter(|how| *how != Protection::Frozen)
        };
        Some(Duty::Serving(protection))
    }

    /// Another duty, with what it does not say as it was: a daemon that has just started does not know yet how
    /// protected it is, and nothing has happened.
    pub(crate) fn updated(self, to: Duty) -> Duty {
        match (self.protection(), to) {
            (Some(known), Duty::Serving(None)) if known != Protection::Frozen => self,
            _ => to,
        }
    }

    /// What happens on the way to another duty, in order, each with the duty that it leads to.
    pub(crate) fn transitions(self, to: Duty) -> Vec<(Transition, Duty)> {
        let mut steps = Vec::new();
        match (self, to) {
            (Duty::Serving(_), Duty::Idle) => steps.push((Transition::Demote, to)),
            (Duty::Idle, Duty::Serving(_)) => {
                steps.push((Transition::Promote, Duty::Serving(None)));
            }
            _ => {}
        }
        if let Some(protection) = to.protection()
            && self.protection() != Some(protection)
        {
            steps.push((protection.into(), to));
        }
        steps
    }

    /// The events to log on the way to another duty: those that one replica's core does not see.
    pub(crate) fn happenings(self, to: Duty, volume: &str) -> Vec<Happening> {
        let steps = self.transitions(to).into_iter();
        let told = steps.filter_map(|(transition, _)| {
            let (name, number, text) = match transition {
                Transition::Alone => (
                    "alone",
                    500,
                    "the volume is served with fewer copies than asked for",
                ),
                Transition::Protected => ("protected", 501, "every replica is in sync"),
                Transition::Promote | Transition::Demote | Transition::Frozen => return None,
            };
            Some(Happening {
                volume: Some(volume.to_owned()),
                name,
                number,
                text: text.to_owned(),
            })
        });
        told.collect()
    }
}

/// Whether this node serves the volume's clients now; where it does not, one line why.
pub(crate) fn serving(view: &VolumeView) -> Result<(), String> {
    let reason = match (&view.reason, view.role.as_str(), view.state.as_str()) {
        (_, _, "Frozen") => "frozen: there is no quorum, and requests are held",
        (None, "Primary", _) => return Ok(()),
        (Some(reason), _, _) => reason,
        (None, "Waiting", state) => state,
        (None, _, _) => "this node is not the primary",
    };
    Err(reason.lines().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
