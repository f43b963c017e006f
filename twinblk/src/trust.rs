//! Which files somebody with privileges may go by.

use crate::failure::{Context, Failure};
use crate::files;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Why a file must not be run, or a folder not be used, by whoever runs this: somebody else may change it.
pub(crate) fn objection(path: &Path) -> Option<String> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Some(error.to_string()),
    };
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Some(format!("it belongs to user {}", metadata.uid()));
    }
    let writable = metadata.mode() & 0o022 != 0;
    writable.then(|| "others than its owner may write to it".to_owned())
}

/// Makes a folder for somebody's notes where there is none. To one that others may write to they could add notes: that is
/// refused, with the setting that names another.
pub(crate) fn folder_of_notes(folder: &Path, whose: &str, setting: &str) -> Result<(), Failure> {
    let shown = folder.display();
    if !folder.exists() {
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.context(|| format!("cannot make {shown}"))?;
        files::sync_folder_of(folder)?;
    }
    match objection(folder) {
        None => Ok(()),
        Some(reason) => Err(Failure::failed(format!(
            "{shown} is no place for the {whose}'s notes: {reason}; name another by {setting}"
        ))),
    }
}
