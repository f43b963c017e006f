//! What every state folder has: a lock against a second process, and the id of whoever it belongs to.
//!
//! ```text
//! STATE/lock    held by the process, with its id
//! STATE/node    the node's id
//! ```

use crate::failure::{Context, Failure};
use crate::{files, hexadecimal};
use format::types::NodeId;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Locks the folder for as long as the file stays open; a second process is refused.
pub(crate) fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("lock");
    let refused = || format!("cannot lock {}", path.display());
    let mut options = File::options();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = opened.context(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Whoever holds the lock is named if it can be; that it is held is what matters.
            let _ = file.read_to_string(&mut holder);
            return Err(Failure::protects_data(format!(
                "another twinblk (process {}) uses {}: stop it first, or set another state_dir",
                holder.trim(),
                folder.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(error).context(refused),
    }
    let noted = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::warn!("cannot note the process id in {}: {error}", path.display());
    }
    Ok(file)
}

/// The id in the folder, drawn where there is none yet.
pub(crate) fn node_id(folder: &Path) -> Result<NodeId, Failure> {
    let path = folder.join("node");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = NodeId(hexadecimal::random()?);
            files::replace(&path, format!("{id}\n").as_bytes())?;
            return Ok(id);
        }
        read => read.context(|| format!("cannot read {}", path.display()))?,
    };
    hexadecimal::decode(text.trim()).map(NodeId).ok_or_else(|| {
        Failure::failed(format!(
            "{} holds no node id (32 hexadecimal digits): restore it from a backup",
            path.display()
        ))
    })
}
