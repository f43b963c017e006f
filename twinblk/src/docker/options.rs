//! What can be said of a volume when it is created, by `docker volume create -o NAME=VALUE`, and how all nodes remember it.
//!
//! It is kept in the volume's labels, so that whichever node mounts it first makes the same file system.

use super::protocol::shown;
use crate::config::name_complaint;
use crate::failure::Failure;
use crate::units::Size;
use format::types::Name;
use std::collections::BTreeMap;
use std::fmt;

/// What options there are, for whoever has typed another.
const KNOWN: &str = "size, replicas, fs, mkfs, mount_options, thick and reclaim";
/// Labels of a volume that was created through Docker.
const FS: &str = "docker.fs";
const MKFS: &str = "docker.mkfs";
const MOUNT_OPTIONS: &str = "docker.mount_options";
const RECLAIM: &str = "docker.reclaim";
/// `mkfs.xfs` makes no smaller ones.
const XFS_BYTES_MIN: u64 = 300 << 20;

/// File systems that are made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Fs {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fs::Ext4 => "ext4",
            Fs::Xfs => "xfs",
        })
    }
}

/// Which nodes have a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Replicas {
    /// These.
    Named(Vec<Name>),
    /// This one and others, so many in all.
    Count(usize),
}

/// What was typed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Options {
    /// The volume's size.
    pub(super) size_bytes: Option<u64>,
    /// Which nodes have a copy.
    pub(super) replicas: Option<Replicas>,
    /// It has all its space from the beginning.
    pub(super) thick: bool,
    settings: BTreeMap<&'static str, String>,
}

/// What is done with a volume, as its labels say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Settings {
    /// The file system that is made on it; none on a volume that was not created through Docker.
    pub(super) fs: Option<Fs>,
    /// What `mkfs` is told.
    pub(super) mkfs: Vec<String>,
    /// What `mount` is told.
    pub(super) mount_options: Option<String>,
    /// `docker volume rm` removes it and its data everywhere.
    pub(super) deletes: bool,
}

impl Options {
    /// Reads what was typed.
    pub(super) fn read(typed: &BTreeMap<String, String>) -> Result<Options, Failure> {
        let mut options = Options::default();
        for (name, value) in typed {
            let wrong = |why: String| Failure::usage(format!("option {name}: {why}"));
            if value.chars().any(char::is_control) {
                return Err(wrong("it has a control character".to_owned()));
            }
            match name.as_str() {
                "size" => {
                    let size: Size = value.parse().map_err(wrong)?;
                    options.size_bytes = Some(size.0);
                }
                "replicas" => options.replicas = Some(replicas(value).map_err(wrong)?),
                "fs" => {
                    options.set(FS, &file_system(value).map_err(wrong)?.to_string());
                }
                "mkfs" => {
                    refuse_label(value).map_err(wrong)?;
                    options.set(MKFS, value);
                }
                "mount_options" if value.split_whitespace().count() > 1 => {
                    return Err(wrong(
                        "separate them by commas, as in noatime,discard".to_owned(),
                    ));
                }
                "mount_options" => options.set(MOUNT_OPTIONS, value),
                "thick" => {
                    options.thick = value.parse().map_err(|_| {
                        wrong(format!("`{}` is neither true nor false", shown(value)))
                    })?;
                }
                "reclaim" if ["keep", "delete"].contains(&value.as_str()) => {
                    options.set(RECLAIM, value);
                }
                "reclaim" => {
                    let value = shown(value);
                    return Err(wrong(format!("`{value}` is neither keep nor delete")));
                }
                _ => {
                    return Err(Failure::usage(format!(
                        "unknown option `{}`: there are {KNOWN}",
                        shown(name)
                    )));
                }
            }
        }
        options.refuse_small_xfs()?;
        Ok(options)
    }

    fn set(&mut self, label: &'static str, value: &str) {
        self.settings.insert(label, value.trim().to_owned());
    }

    fn refuse_small_xfs(&self) -> Result<(), Failure> {
        let xfs = self.settings.get(FS).is_some_and(|fs| fs == "xfs");
        let small = self.size_bytes.filter(|bytes| *bytes < XFS_BYTES_MIN);
        match small {
            Some(bytes) if xfs => Err(Failure::usage(format!(
                "option size: {} is too small for xfs: give {} or more, or fs=ext4",
                Size(bytes),
                Size(XFS_BYTES_MIN)
            ))),
            _ => Ok(()),
        }
    }

    /// The labels of a new volume.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([(FS.to_owned(), Fs::default().to_string())]);
        let settings = self.settings.iter();
        labels.extend(settings.map(|(label, value)| ((*label).to_owned(), value.clone())));
        labels
    }

    /// What was typed and is not so with a volume that exists.
    pub(super) fn difference(
        &self,
        size_bytes: u64,
        nodes: &[&str],
        labels: &BTreeMap<String, String>,
    ) -> Option<String> {
        if let Some(wanted) = self.size_bytes.filter(|wanted| *wanted != size_bytes) {
            return Some(format!(
                "its size is {}, not {}",
                Size(size_bytes),
                Size(wanted)
            ));
        }
        let have = nodes.join(",");
        match &self.replicas {
            Some(Replicas::Count(count)) if *count != nodes.len() => {
                return Some(format!("its replicas are {have}, not {count}"));
            }
            Some(Replicas::Named(names)) => {
                let wanted: Vec<&str> = names.iter().map(Name::as_str).collect();
                if wanted.len() != nodes.len() || wanted.iter().any(|name| !nodes.contains(name)) {
                    return Some(format!("its replicas are {have}, not {}", wanted.join(",")));
                }
            }
            _ => {}
        }
        let mut settings = self.settings.iter();
        settings.find_map(|(label, wanted)| {
            let option = label.strip_prefix("docker.").unwrap_or(label);
            let have = match (labels.get(*label), *label) {
                (Some(have), _) => have.as_str(),
                (None, RECLAIM) => "keep",
                (None, _) => "",
            };
            (have != wanted).then(|| format!("its {option} is `{have}`, not `{wanted}`"))
        })
    }
}

impl Settings {
    /// What a volume's labels say. They were checked when it was created, maybe by another version.
    pub(super) fn of(labels: &BTreeMap<String, String>) -> Result<Settings, Failure> {
        let fs = labels.get(FS).map(|fs| file_system(fs)).transpose();
        let words = labels.get(MKFS).map(String::as_str).unwrap_or_default();
        Ok(Settings {
            fs: fs.map_err(Failure::failed)?,
            mkfs: words.split_whitespace().map(str::to_owned).collect(),
            mount_options: labels
                .get(MOUNT_OPTIONS)
                .filter(|text| !text.is_empty())
                .cloned(),
            deletes: labels
                .get(RECLAIM)
                .is_some_and(|reclaim| reclaim == "delete"),
        })
    }
}

fn replicas(text: &str) -> Result<Replicas, String> {
    let wrong = || {
        let text = shown(text);
        format!("`{text}` is neither a number of nodes nor their names with commas between")
    };
    if let Ok(count) = text.trim().parse::<usize>() {
        return (count > 0)
            .then_some(Replicas::Count(count))
            .ok_or_else(wrong);
    }
    let names = text.split(',').map(str::trim).map(|name| {
        Name::new(name).ok_or_else(|| {
            if name.is_empty() {
                wrong()
            } else {
                name_complaint(&shown(name))
            }
        })
    });
    names.collect::<Result<_, _>>().map(Replicas::Named)
}

fn file_system(text: &str) -> Result<Fs, String> {
    match text {
        "ext4" => Ok(Fs::Ext4),
        "xfs" => Ok(Fs::Xfs),
        _ => Err(format!("`{}` is neither ext4 nor xfs", shown(text))),
    }
}

/// The label says whether `mkfs` has come to its end.
fn refuse_label(words: &str) -> Result<(), String> {
    match words.split_whitespace().any(|word| word.starts_with("-L")) {
        true => Err("the label is twinblk's own: leave -L out".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
