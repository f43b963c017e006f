//! The block device above a file: a loop device that reads and writes it directly.

use crate::failure::{Context, Failure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A loop device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LoopDevice {
    /// `/dev/loopN`.
    pub(super) path: PathBuf,
}

impl LoopDevice {
    /// Sets one up over a file.
    pub(super) fn over(file: &Path) -> Result<LoopDevice, Failure> {
        let words = ["--find", "--show", "--nooverlap", "--direct-io=on"];
        let mut command = losetup(&words);
        command.arg(file);
        let output = run(command, || format!("no loop device for {}", file.display()))?;
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !path.starts_with("/dev/loop") {
            return Err(Failure::failed(format!(
                "losetup names no device, but `{path}`"
            )));
        }
        Ok(LoopDevice { path: path.into() })
    }

    /// All that have a file in this folder, of whatever process.
    pub(super) fn all_below(folder: &Path) -> Result<Vec<(LoopDevice, PathBuf)>, Failure> {
        let command = losetup(&[
            "--list",
            "--noheadings",
            "--raw",
            "--output",
            "NAME,BACK-FILE",
        ]);
        let output = run(command, || "cannot list loop devices".to_owned())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let devices = text.lines().filter_map(|line| {
            let (path, file) = line.split_once(' ')?;
            // The file of a server that has gone is told as deleted.
            let file = Path::new(file.strip_suffix(" (deleted)").unwrap_or(file));
            let device = LoopDevice { path: path.into() };
            file.starts_with(folder).then(|| (device, file.to_owned()))
        });
        Ok(devices.collect())
    }

    /// Whether its file is in this folder.
    pub(super) fn is_below(&self, folder: &Path) -> Result<bool, Failure> {
        let mut devices = LoopDevice::all_below(folder)?.into_iter();
        Ok(devices.any(|(device, _)| device == *self))
    }

    /// Its file has grown.
    pub(super) fn resize(&self) -> Result<(), Failure> {
        let mut command = losetup(&["--set-capacity"]);
        command.arg(&self.path);
        run(command, || format!("{} keeps its size", self.shown())).map(drop)
    }

    /// It goes at once, or when the last has closed it.
    pub(super) fn detach(&self) -> Result<(), Failure> {
        let mut command = losetup(&["--detach"]);
        command.arg(&self.path);
        run(command, || format!("cannot give {} back", self.shown())).map(drop)
    }

    /// Whether it is set up, which goes on while anybody has it open.
    pub(super) fn has_file(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default();
        Path::new("/sys/block").join(name).join("loop").exists()
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

fn losetup(words: &[&str]) -> Command {
    let mut command = Command::new("losetup");
    command.args(words).stdin(Stdio::null());
    command
}

fn run(mut command: Command, failed: impl Fn() -> String) -> Result<Output, Failure> {
    let output = command.output();
    let output = output.context(|| "cannot run losetup (Debian has it in `mount`)".to_owned())?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("losetup failed").to_owned();
    Err(Failure::failed(format!("{}: {said}", failed())))
}
