//! The block device above the file: a loop device that reads and writes it directly.

use crate::failure::{Context, Failure};
use rustix::mount::UnmountFlags;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How long a device that is given back may take to go.
const RELEASE_TIME: Duration = Duration::from_secs(10);
/// How often that is looked at.
const RELEASE_PERIOD: Duration = Duration::from_millis(20);

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

    /// Its file has grown.
    pub(super) fn resize(&self) -> Result<(), Failure> {
        let mut command = losetup(&["--set-capacity"]);
        command.arg(&self.path);
        run(command, || format!("{} keeps its size", self.shown())).map(drop)
    }

    /// Where it is mounted, innermost last; as this process sees it.
    pub(super) fn mounts(&self) -> Result<Vec<PathBuf>, Failure> {
        let doing = || format!("cannot look at {}", self.shown());
        let number = std::fs::metadata(&self.path).context(doing)?.rdev();
        let number = (rustix::fs::major(number), rustix::fs::minor(number));
        let table = std::fs::read_to_string("/proc/self/mountinfo").context(doing)?;
        Ok(mounts_of(&table, number))
    }

    /// Takes it out of use at once, whoever uses it: its mounts vanish, and it goes when the last has closed it.
    pub(super) fn abandon(&self) -> Result<(), Failure> {
        for mount in self.mounts()?.iter().rev() {
            tracing::warn!("{} is unmounted", mount.display());
            let unmounted = rustix::mount::unmount(mount, UnmountFlags::DETACH);
            // Another may have been quicker.
            if let Err(error) = unmounted {
                tracing::warn!("cannot unmount {}: {error}", mount.display());
            }
        }
        self.detach()
    }

    /// Gives it back, if nobody uses it, and what was written through it is durable. One that has no file in this folder
    /// any more has gone by itself, and its number may be another's.
    pub(super) fn release(&self, folder: &Path) -> Result<(), Failure> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or_default())
            .open(&self.path);
        let file = file.map_err(|error| self.in_use(&error))?;
        let mut devices = LoopDevice::all_below(folder)?.into_iter();
        if !devices.any(|(device, _)| device == *self) {
            return Ok(());
        }
        file.sync_all()
            .context(|| format!("what was written to {} is not durable", self.shown()))?;
        drop(file);
        self.detach()?;
        let begun = std::time::Instant::now();
        while self.has_file() {
            if begun.elapsed() > RELEASE_TIME {
                return Err(Failure::failed(format!(
                    "{} is still open: it goes when the last has closed it",
                    self.shown()
                )));
            }
            std::thread::sleep(RELEASE_PERIOD);
        }
        Ok(())
    }

    fn in_use(&self, error: &std::io::Error) -> Failure {
        let mounts = self.mounts().unwrap_or_default();
        let shown = self.shown();
        match mounts.first() {
            Some(mount) => Failure::failed(format!(
                "{shown} is mounted on {}: unmount it first",
                mount.display()
            )),
            None => Failure::failed(format!(
                "{shown} is in use ({error}): stop what uses it first"
            )),
        }
    }

    /// It goes at once, or when the last has closed it.
    fn detach(&self) -> Result<(), Failure> {
        let mut command = losetup(&["--detach"]);
        command.arg(&self.path);
        run(command, || format!("cannot give {} back", self.shown())).map(drop)
    }

    fn has_file(&self) -> bool {
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

/// The mount points of a device in `/proc/self/mountinfo`.
fn mounts_of(table: &str, (major, minor): (u32, u32)) -> Vec<PathBuf> {
    let number = format!("{major}:{minor}");
    let mounts = table.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2);
        let device = words.next()?;
        let place = words.nth(1)?;
        (device == number).then(|| unescaped(place))
    });
    mounts.collect()
}

/// A path as mountinfo has it: blanks and backslashes are octal numbers.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::{mounts_of, unescaped};
    use std::path::Path;

    const TABLE: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        31 22 7:3 / /mnt/a\\040b rw,relatime shared:2 - ext4 /dev/loop3 rw\n\
        32 22 7:31 / /mnt/other rw,relatime - ext4 /dev/loop31 rw\n\
        33 22 7:3 /sub /var/lib/x rw,relatime - ext4 /dev/loop3 rw\n\
        broken\n";

    #[test]
    fn mounts_are_found_by_the_device_s_number() {
        let found = mounts_of(TABLE, (7, 3));
        assert_eq!(found, [Path::new("/mnt/a b"), Path::new("/var/lib/x")]);
        assert!(mounts_of(TABLE, (7, 1)).is_empty());
    }

    #[test]
    fn octal_numbers_are_characters() {
        assert_eq!(unescaped("/a\\134b\\011c\\0"), Path::new("/a\\b\tc\\0"));
    }
}
