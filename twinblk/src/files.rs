//! Small files that must be whole or absent after a crash.

use crate::failure::{Context, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Replaces a file's content: after a crash, a full disk or any other error it is the old or the
/// new content, whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let draft = path.with_extension("draft");
    let written = File::create(&draft)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        // On a full disk a draft left behind would only make things worse.
        let _ = std::fs::remove_file(&draft);
    }
    written.context(|| {
        format!(
            "cannot write {} (what it held is unchanged)",
            path.display()
        )
    })?;
    sync_folder_of(path)
}

/// Replaces a file's content with a JSON document.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(value)
        .context(|| format!("cannot put {} into JSON", path.display()))?;
    text.push(b'\n');
    replace(path, &text)
}

/// Reads a JSON document; `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.context(|| format!("cannot read {}", path.display()))?,
    };
    serde_json::from_slice(&text).map(Some).context(|| {
        format!(
            "{} is damaged: restore it from a backup or another node",
            path.display()
        )
    })
}

/// Removes a file durably; one that is not there is removed already.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed.context(|| format!("cannot remove {}", path.display()))?;
            sync_folder_of(path)
        }
    }
}

/// Makes a folder, and those above it, durably.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path).context(|| format!("cannot make {}", path.display()))?;
    sync_folder_of(path)
}

/// Makes the names in the folder that holds this path durable.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), Failure> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .context(|| format!("cannot make the names in {} durable", folder.display()))
}
