//! The cluster key: 32 random bytes that every node holds, in a file that only its owner may read.

use crate::failure::{Context, Failure};
use crate::hexadecimal;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// More than a key's digits and the white space that an editor may leave.
const FILE_BYTES_MAX: u64 = 128;

/// The key. It has no way to be printed.
#[derive(Clone)]
pub(crate) struct ClusterKey([u8; KEY_BYTES]);

impl ClusterKey {
    /// Its bytes, for the handshake alone.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Makes a new key's file; one that exists is never touched.
    pub(crate) fn create(path: &Path) -> Result<(), Failure> {
        let digits = hexadecimal::encode(&hexadecimal::random::<KEY_BYTES>()?);
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(path);
        let mut file = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::protects_data(format!(
                    "{} exists and is not overwritten: remove it first if no node uses it",
                    path.display()
                )));
            }
            opened => opened.context(|| format!("cannot make {}", path.display()))?,
        };
        let written = writeln!(file, "{digits}").and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a key would only puzzle whoever finds it; the error below is what matters.
            let _ = std::fs::remove_file(path);
        }
        written.context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a key's file.
    pub(crate) fn read(path: &Path) -> Result<ClusterKey, Failure> {
        let shown = path.display();
        let text = read_secret(path).map_err(|failure| {
            if path.exists() {
                return failure;
            }
            Failure::failed(format!("{failure} (`twinblk key new {shown}` makes one)"))
        })?;
        hexadecimal::decode(&text).map(ClusterKey).ok_or_else(|| {
            Failure::failed(format!(
                "{shown} holds no cluster key (64 hexadecimal digits): copy it again from a node"
            ))
        })
    }
}

/// Reads a short secret from a file that only its owner may read, without white space at its ends.
pub(crate) fn read_secret(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let doing = || format!("cannot read {shown}");
    let file = File::open(path).context(doing)?;
    let metadata = file.metadata().context(doing)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Failure::failed(format!(
            "{shown} can be read by others: run `chmod 600 {shown}`"
        )));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .context(doing)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests;
