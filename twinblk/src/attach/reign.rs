//! Whether what the kernel has mounted is still what the volume holds.
//!
//! A file system keeps in memory what it has read. Where another node has served the volume meanwhile, even for a moment,
//! none of that may be written back, and requests that are still held must never be sent. Another's reign cannot
//! fit between two configurations that follow one another, if neither of them names another as the primary. So whoever
//! sees every configuration, or every one but those that passed while a connection lived, knows.

use crate::api::VolumeView;
use serde::{Deserialize, Serialize};

/// The reign that a device was attached in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Reign {
    volume_id: String,
    node: String,
    // The latest configuration up to which nobody else has served.
    epoch: u64,
}

/// What a view of the volume says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It lasts, and the node serves.
    Serving,
    /// Nobody else has served, and at the moment nobody does: requests are held.
    Held(String),
    /// It has ended.
    Superseded(String),
}

impl Reign {
    /// Begins with a view of a volume that this node serves; elsewhere there is nothing to attach.
    pub(super) fn of(view: &VolumeView) -> Result<Reign, String> {
        let node = own(view).ok_or("the daemon does not say which node it is")?;
        if view.role != "Primary" || view.primary.as_deref() != Some(node) {
            return Err(serves_not(view));
        }
        Ok(Reign {
            volume_id: view.id.clone(),
            node: node.to_owned(),
            epoch: view.epoch,
        })
    }

    /// Whether another may have served between the last configuration that was seen and a view's.
    pub(super) fn needs_proof(&self, view: &VolumeView) -> bool {
        !(self.epoch..=self.epoch.saturating_add(1)).contains(&view.epoch)
    }

    /// Whether it lasts. `connected` says that one connection to the volume has lived from before the last look until
    /// after the view was made: the node drops its clients as soon as it is no longer the primary.
    pub(super) fn judge(&mut self, view: &VolumeView, connected: bool) -> Standing {
        if view.id != self.volume_id || own(view) != Some(&self.node) {
            let text = "another volume has its name now".to_owned();
            return Standing::Superseded(text);
        }
        if view.role == "Stopped" {
            // A replica that is not open tells nothing of its configuration.
            return Standing::Held(serves_not(view));
        }
        if let Some(other) = view.primary.as_ref().filter(|name| **name != self.node) {
            return Standing::Superseded(format!("{other} is the primary"));
        }
        if self.needs_proof(view) && !connected {
            return Standing::Superseded(format!(
                "configuration {} does not follow configuration {}: another may have served",
                view.epoch, self.epoch
            ));
        }
        self.epoch = view.epoch;
        if view.role == "Primary" && view.primary.is_some() {
            Standing::Serving
        } else {
            Standing::Held(serves_not(view))
        }
    }
}

fn own(view: &VolumeView) -> Option<&str> {
    view.replicas.first().map(|replica| replica.node.as_str())
}

fn serves_not(view: &VolumeView) -> String {
    match (&view.reason, &view.primary) {
        (Some(reason), _) => reason.clone(),
        (None, Some(primary)) if own(view) != Some(primary) => format!("{primary} is the primary"),
        (None, _) => view.state.clone(),
    }
}

#[cfg(test)]
mod tests;
