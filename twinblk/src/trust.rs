//! Which files somebody with privileges may go by.

use std::os::unix::fs::MetadataExt;
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
