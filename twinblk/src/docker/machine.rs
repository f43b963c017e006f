//! What the plugin has the machine do, one step each, so that tests can cut it off between any two.

use super::options::Fs;
use crate::attach::Devices;
use crate::failure::{Context, Failure, FailureKind};
use format::types::Name;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The label of a file system until `mkfs` has come to its end and all of it is durable. No longer than XFS allows.
pub(super) const UNREADY: &str = "twinblk-new";
/// What e2fsck answers where nothing is left to be mended.
const FSCK_GOOD: [i32; 2] = [0, 1];
/// What blkid answers where it finds nothing, and where it finds several things.
const BLKID_NOTHING: i32 = 2;
const BLKID_SEVERAL: i32 = 8;
/// A new volume is zeroes, and its beginning still is while `mkfs` has not come to its end. Of a file system whose mark alone was
/// wiped, and of what programs keep on a bare device, something is left there.
const BEGINNING_BYTES: usize = 4096;

/// What is on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// Nothing: no mark of anything, and zeroes.
    Nothing,
    /// A file system that can be mounted.
    FileSystem(String),
    /// A file system whose making was cut short. Nobody has had it mounted.
    Unready,
    /// Something else.
    Other(String),
}

/// A volume's device. It stays that as long as this lives.
#[derive(Debug)]
pub(super) struct Device {
    /// `/dev/loopN`.
    pub(super) path: PathBuf,
    /// Whatever keeps it.
    pub(super) open: Option<File>,
}

/// The machine. Everything may block.
pub(super) trait Machine: Send + Sync + 'static {
    /// The volume's device, if it is attached.
    fn device(&self, name: &Name) -> Result<Option<Device>, Failure>;
    /// Attaches it.
    fn attach(&self, name: &Name) -> Result<(), Failure>;
    /// Gives the device back, if nobody uses it.
    fn detach(&self, name: &Name) -> Result<(), Failure>;
    /// What is on a device.
    fn content(&self, device: &Device) -> Result<Content, Failure>;
    /// Makes a file system with the label [`UNREADY`].
    fn make(&self, device: &Device, fs: Fs, words: &[String]) -> Result<(), Failure>;
    /// Takes that label from it, once all of it is durable.
    fn make_ready(&self, device: &Device, fs: Fs) -> Result<(), Failure>;
    /// Mends what a crash has left.
    fn check(&self, device: &Device, kind: &str) -> Result<(), Failure>;
    /// The number of the device that is mounted here.
    fn mounted(&self, place: &Path) -> Result<Option<String>, Failure>;
    /// The number of a device, as mounts have it.
    fn number(&self, device: &Device) -> Result<String, Failure>;
    /// Mounts a device.
    fn mount(
        &self,
        device: &Device,
        kind: &str,
        options: Option<&str>,
        place: &Path,
    ) -> Result<(), Failure>;
    /// Makes the folder that containers see, unless it is there.
    fn make_folder(&self, folder: &Path) -> Result<(), Failure>;
    /// Unmounts; one that is in use only if `dead`, when it vanishes.
    fn unmount(&self, place: &Path, dead: bool) -> Result<(), Failure>;
}

/// This machine.
#[derive(Clone, Debug)]
pub(super) struct Linux(pub(super) Devices);

impl Machine for Linux {
    fn device(&self, name: &Name) -> Result<Option<Device>, Failure> {
        let found = self.0.found(name)?;
        Ok(found.map(|(path, open)| Device {
            path,
            open: Some(open),
        }))
    }

    fn attach(&self, name: &Name) -> Result<(), Failure> {
        self.0.begin(name, None)
    }

    fn detach(&self, name: &Name) -> Result<(), Failure> {
        match self.0.give_back(name, false) {
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn content(&self, device: &Device) -> Result<Content, Failure> {
        probe(device)
    }

    fn make(&self, device: &Device, fs: Fs, words: &[String]) -> Result<(), Failure> {
        let own: &[&str] = match fs {
            // A volume begins as zeroes on all nodes: there is nothing to be discarded.
            Fs::Ext4 => &["-q", "-F", "-E", "nodiscard"],
            Fs::Xfs => &["-q", "-f", "-K"],
        };
        let program = format!("mkfs.{fs}");
        let words = words.iter().map(String::as_str);
        let mut all: Vec<&str> = own.iter().copied().chain(words).collect();
        all.extend(["-L", UNREADY]);
        success(&program, &all, &device.path)
    }

    fn make_ready(&self, device: &Device, fs: Fs) -> Result<(), Failure> {
        let path = &device.path;
        let synced = || {
            let file = device.open.as_ref().map(File::sync_all);
            let doing = || format!("what was made on {} is not durable", path.display());
            file.transpose().context(doing)
        };
        synced()?;
        match fs {
            Fs::Ext4 => success("tune2fs", &["-L", ""], path),
            Fs::Xfs => success("xfs_admin", &["-L", "--"], path),
        }?;
        synced().map(drop)
    }

    fn check(&self, device: &Device, kind: &str) -> Result<(), Failure> {
        // XFS mends itself when it is mounted.
        if !["ext2", "ext3", "ext4"].contains(&kind) {
            return Ok(());
        }
        let output = run("e2fsck", &["-p"], &device.path)?;
        let code = output.status.code().unwrap_or(-1);
        if FSCK_GOOD.contains(&code) {
            return Ok(());
        }
        let failure = failed("e2fsck -p", &output, &device.path);
        Err(Failure::failed(format!(
            "{failure}: have `e2fsck -f` mend the volume's device, which `twinblk volume attach` makes"
        )))
    }

    fn mounted(&self, place: &Path) -> Result<Option<String>, Failure> {
        let table = std::fs::read_to_string("/proc/self/mountinfo");
        let table = table.context(|| "cannot read what is mounted".to_owned())?;
        Ok(mounted(&table, place))
    }

    fn number(&self, device: &Device) -> Result<String, Failure> {
        let metadata = std::fs::metadata(&device.path);
        let doing = || format!("cannot look at {}", device.path.display());
        let number = metadata.context(doing)?.rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        Ok(format!("{major}:{minor}"))
    }

    fn mount(
        &self,
        device: &Device,
        kind: &str,
        options: Option<&str>,
        place: &Path,
    ) -> Result<(), Failure> {
        let doing = || format!("cannot make {}", place.display());
        std::fs::create_dir_all(place).context(doing)?;
        let mut words = vec!["-t", kind];
        words.extend(options.iter().flat_map(|options| ["-o", options]));
        let mut command = child("mount", &words);
        command.arg(&device.path).arg(place);
        let output = output(command, "mount")?;
        match output.status.success() {
            true => Ok(()),
            false => Err(failed("mount", &output, &device.path)),
        }
    }

    fn make_folder(&self, folder: &Path) -> Result<(), Failure> {
        let doing = || format!("cannot make {}", folder.display());
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made.context(doing),
        }
    }

    fn unmount(&self, place: &Path, dead: bool) -> Result<(), Failure> {
        let flags = if dead {
            UnmountFlags::DETACH
        } else {
            UnmountFlags::NOFOLLOW
        };
        let shown = place.display();
        loop {
            match rustix::mount::unmount(place, flags) {
                // Whatever was mounted below it, or once more: until nothing is.
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(Errno::BUSY) => {
                    return Err(Failure::failed(format!(
                        "{shown} is in use: `fuser -vm {shown}` tells by whom; it is unmounted when they have ended"
                    )));
                }
                Err(error) => return Err(error).context(|| format!("cannot unmount {shown}")),
            }
        }
        // One that is not empty says later what it is.
        let _ = std::fs::remove_dir(place);
        Ok(())
    }
}

/// What blkid finds on a device, and whether it is nothing where blkid finds nothing.
fn probe(device: &Device) -> Result<Content, Failure> {
    // What cannot be read looks to blkid as if nothing was there.
    let mut beginning = [0; BEGINNING_BYTES];
    if let Some(file) = &device.open {
        let doing = || format!("cannot read {}", device.path.display());
        file.read_exact_at(&mut beginning, 0).context(doing)?;
    }
    let output = run("blkid", &["--probe", "--output", "export"], &device.path)?;
    match output.status.code() {
        Some(0) => Ok(content(&String::from_utf8_lossy(&output.stdout))),
        Some(BLKID_NOTHING) if beginning == [0; BEGINNING_BYTES] => Ok(Content::Nothing),
        Some(BLKID_NOTHING) => Ok(nameless()),
        Some(BLKID_SEVERAL) => Ok(Content::Other("more than one thing".to_owned())),
        _ => Err(failed("blkid", &output, &device.path)),
    }
}

/// What blkid tells of a device.
fn content(text: &str) -> Content {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    match (value("TYPE"), value("USAGE"), value("PTTYPE")) {
        (Some(_), Some("filesystem"), _) if value("LABEL") == Some(UNREADY) => Content::Unready,
        (Some(kind), Some("filesystem"), _) => Content::FileSystem(kind.to_owned()),
        (Some(kind), _, _) => Content::Other(kind.to_owned()),
        (None, _, Some(table)) => Content::Other(format!("a partition table ({table})")),
        (None, _, None) => nameless(),
    }
}

fn nameless() -> Content {
    Content::Other("something that blkid has no name for".to_owned())
}

/// The number of the device that is mounted in a place, the uppermost if there are several.
fn mounted(table: &str, place: &Path) -> Option<String> {
    // Names of volumes need no escapes, and neither do those of folders that are any good.
    let place = place.to_str()?;
    let mut lines = table.lines().rev();
    lines.find_map(|line| {
        let mut words = line.split(' ').skip(2);
        let (number, target) = (words.next()?, words.nth(1)?);
        (target == place).then(|| number.to_owned())
    })
}

/// A program that is ended when the plugin is: what it does would be in the way of whoever comes next.
fn child(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", program])
        .args(words)
        .stdin(Stdio::null());
    command
}

fn output(mut command: Command, program: &str) -> Result<Output, Failure> {
    command.output().context(|| format!("cannot run {program}"))
}

fn run(program: &str, words: &[&str], device: &Path) -> Result<Output, Failure> {
    let mut command = child(program, words);
    command.arg(device);
    output(command, program)
}

fn success(program: &str, words: &[&str], device: &Path) -> Result<(), Failure> {
    let output = run(program, words, device)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(program, &output, device)),
    }
}

fn failed(program: &str, output: &Output, device: &Path) -> Failure {
    let text =
        [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text).into_owned());
    let mut lines = text.iter().flat_map(|text| text.lines()).map(str::trim);
    let line = lines
        .find(|line| !line.is_empty())
        .unwrap_or("it says nothing")
        .to_owned();
    let device = device.display();
    Failure::failed(format!(
        "{program} has failed on {device} ({}): {line}",
        output.status
    ))
}

#[cfg(test)]
mod tests {
    use super::{Content, Device, content, mounted, nameless, probe};
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    #[test]
    fn what_blkid_tells_is_understood() {
        let ext4 = "DEVNAME=/dev/loop1\nUUID=5\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(content(ext4), Content::FileSystem("ext4".to_owned()));
        assert_eq!(
            content(&format!("LABEL=twinblk-new\n{ext4}")),
            Content::Unready
        );
        let mine = format!("LABEL=twinblk-newer\n{ext4}");
        assert_eq!(content(&mine), Content::FileSystem("ext4".to_owned()));
        let luks = "TYPE=crypto_LUKS\nUSAGE=crypto\n";
        assert_eq!(content(luks), Content::Other("crypto_LUKS".to_owned()));
        let parts = "DEVNAME=/dev/loop1\nPTUUID=1\nPTTYPE=dos\n";
        assert_eq!(
            content(parts),
            Content::Other("a partition table (dos)".to_owned())
        );
    }

    #[test]
    fn only_zeroes_are_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("device");
        let file = File::create_new(&path).expect("a file");
        file.set_len(1 << 20).expect("1 MiB of zeroes");
        let open = Some(File::open(&path).expect("it is there"));
        let device = Device { path, open };
        assert_eq!(probe(&device), Ok(Content::Nothing));
        // As a file system is without the mark that wipefs takes away.
        file.write_all_at(b"a name, or a size", 1024)
            .expect("written");
        assert_eq!(probe(&device), Ok(nameless()));
    }

    #[test]
    fn the_uppermost_mount_counts() {
        let table = "31 22 7:3 / /run/x/a rw - ext4 /dev/loop3 rw\n\
            32 31 7:4 / /run/x/a rw shared:2 - ext4 /dev/loop4 rw\n33 22 7:5 / /run/x/ab rw - ext4 /dev/loop5 rw\n";
        assert_eq!(
            mounted(table, Path::new("/run/x/a")).as_deref(),
            Some("7:4")
        );
        assert_eq!(mounted(table, Path::new("/run/x/b")), None);
    }
}
