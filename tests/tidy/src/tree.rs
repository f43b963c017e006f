//! The files that git tracks.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tracked file.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path below the repository's root, with `/` between the parts.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl File {
    /// Its text, unless it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// Whether its name ends so.
    pub fn ends_with(&self, suffix: &str) -> bool {
        self.path.ends_with(suffix)
    }

    /// Whether it holds tests only.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/benches/")
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file that git tracks and that the work tree still has.
///
/// # Panics
/// Where git cannot be run: without it there is nothing to check.
pub fn files() -> Vec<File> {
    let listing = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git is needed to list the tracked files");
    assert!(listing.status.success(), "git ls-files failed");
    let names = String::from_utf8(listing.stdout).expect("file names are UTF-8");
    names
        .split_terminator('\0')
        .filter_map(|path| {
            let bytes = std::fs::read(root().join(path)).ok()?;
            Some(File {
                path: path.to_owned(),
                bytes,
            })
        })
        .collect()
}

/// Every tracked Rust file.
pub fn rust_files() -> Vec<File> {
    let mut files = files();
    files.retain(|file| file.ends_with(".rs"));
    files
}
