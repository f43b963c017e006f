//! Whether this node is in maintenance: what it served has been moved away, and nothing is moved to it. Kept over restarts.

use crate::failure::Failure;
use crate::files;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// The node's own mark.
#[derive(Debug)]
pub(crate) struct Maintenance {
    path: PathBuf,
    on: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    since: String,
}

impl Maintenance {
    /// What the state folder says.
    pub(crate) fn open(folder: &Path) -> Result<Maintenance, Failure> {
        let path = folder.join("maintenance.json");
        let mark = files::read_json::<Mark>(&path)?;
        if let Some(Mark { since }) = &mark {
            tracing::info!("this node is in maintenance since {since}");
        }
        Ok(Maintenance {
            path,
            on: AtomicBool::new(mark.is_some()),
        })
    }

    /// Whether it is.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// Begins or ends it, durably. Tells whether that was a change.
    pub(crate) fn set(&self, on: bool) -> Result<bool, Failure> {
        if self.is_on() == on {
            return Ok(false);
        }
        if on {
            let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            files::replace_json(&self.path, &Mark { since })?;
        } else {
            files::remove(&self.path)?;
        }
        self.on.store(on, Ordering::SeqCst);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::Maintenance;

    #[test]
    fn it_lasts_over_restarts_until_it_is_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Maintenance::open(folder.path()).expect("the folder is ours");
        assert!(!open().is_on());
        assert!(open().set(true).expect("there is room"));
        assert!(open().is_on());
        assert!(!open().set(true).expect("there is room"));
        assert!(open().set(false).expect("there is room"));
        assert!(!open().is_on());
        std::fs::write(folder.path().join("maintenance.json"), "no").expect("it is written");
        Maintenance::open(folder.path()).expect_err("it is damaged");
    }
}
