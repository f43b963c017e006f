//! A configuration file as a document: read, parsed, and complained of by file and line.

use crate::failure::{Context, Failure};
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::path::Path;

/// What is wrong and where, before the file and the line are known.
pub(crate) struct Complaint {
    /// The part of the text that it is about.
    pub(crate) at: Range<usize>,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

/// Reads a file; `check` makes of its sections what they mean.
pub(crate) fn read<T: DeserializeOwned, C>(
    path: &Path,
    check: impl FnOnce(T) -> Result<C, Complaint>,
) -> Result<C, Failure> {
    let text = std::fs::read_to_string(path).context(|| {
        format!(
            "cannot read the configuration {} (--config names another)",
            path.display()
        )
    })?;
    parse(path, &text, check)
}

/// Reads the text of a file.
pub(super) fn parse<T: DeserializeOwned, C>(
    path: &Path,
    text: &str,
    check: impl FnOnce(T) -> Result<C, Complaint>,
) -> Result<C, Failure> {
    let complain = |complaint: Complaint| {
        let start = complaint.at.start.min(text.len());
        let line = text.as_bytes()[..start]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        let message = complaint.message.lines().collect::<Vec<_>>().join(" ");
        Failure::failed(format!("{}:{line}: {message}", path.display()))
    };
    let file: T = toml::from_str(text).map_err(|error| {
        complain(Complaint {
            at: error.span().unwrap_or_default(),
            message: with_remedy(error.message()),
        })
    })?;
    check(file).map_err(complain)
}

/// The parser says what is wrong; a person wants to know what to do as well.
fn with_remedy(message: &str) -> String {
    let remedy = if message.starts_with("unknown field") {
        ": correct its spelling or remove it"
    } else if message.starts_with("missing field") {
        ": add it"
    } else {
        ""
    };
    format!("{message}{remedy}")
}
