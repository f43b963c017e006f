//! Where an attached volume leaves its traces, so that a second attachment finds the first, and what a dead one has left.
//!
//! ```text
//! RUN/NAME.lock        locked by the process that serves the device, whose number it holds
//! RUN/NAME.log         what that process says, where nobody watches it
//! RUN/NAME.PID/NAME    the file below the device, if that is a loop device
//! RUN/NAME.reign       the reign that the device was attached in, if the kernel's driver carries its requests
//! DEVICES/NAME         the link to the device
//! ```
//!
//! A device of the kernel's driver outlives the process that serves it, so that another can go on with it.

use super::device::Device;
use super::kernel_device::KernelDevice;
use super::loop_device::LoopDevice;
use super::reign::Reign;
use crate::config::Attach;
use crate::failure::{Context, Failure};
use format::types::Name;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::Pid;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One that has been killed holds the lock until it has ended, and whoever looks who holds it does for a moment.
const LOCK_TIME: Duration = Duration::from_secs(1);
/// How often is looked whether it has.
const LOCK_PERIOD: Duration = Duration::from_millis(10);

/// A volume's places.
#[derive(Clone, Debug)]
pub(super) struct Place {
    settings: Attach,
    name: Name,
}

/// As long as it lives nobody else attaches the volume here.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Place {
    pub(super) fn new(settings: Attach, name: Name) -> Place {
        Place { settings, name }
    }

    /// The volume.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// What a person uses.
    pub(super) fn link(&self) -> PathBuf {
        self.settings.devices.join(self.name.to_string())
    }

    pub(super) fn log(&self) -> PathBuf {
        self.settings.run_dir.join(format!("{}.log", self.name))
    }

    /// The folder of the file below this process's device.
    pub(super) fn own_folder(&self) -> PathBuf {
        let name = format!("{}.{}", self.name, std::process::id());
        self.settings.run_dir.join(name)
    }

    /// Makes the folders that all volumes share.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        make_folder(&self.settings.run_dir, 0o700)?;
        make_folder(&self.settings.devices, 0o755)
    }

    /// Takes the lock; refuses if the volume is attached.
    pub(super) fn lock(&self) -> Result<Lock, Failure> {
        let begun = Instant::now();
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let (mut file, mut locked) = self.try_lock(exclusive)?;
        while !locked && begun.elapsed() < LOCK_TIME {
            std::thread::sleep(LOCK_PERIOD);
            (file, locked) = self.try_lock(exclusive)?;
        }
        if !locked {
            let link = self.link();
            return Err(Failure::failed(format!(
                "volume {} is attached already: {}",
                self.name,
                link.display()
            )));
        }
        let path = self.lock_path();
        let write = |mut file: &File| {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())
        };
        write(&file).context(|| format!("cannot write {}", path.display()))?;
        Ok(Lock { _file: file })
    }

    /// The process that serves the device, if there is one.
    pub(super) fn server(&self) -> Result<Option<Pid>, Failure> {
        if !self.lock_path().exists() {
            return Ok(None);
        }
        // Whoever else looks as well is no server.
        let (_, locked) = self.try_lock(FlockOperation::NonBlockingLockShared)?;
        if locked {
            return Ok(None);
        }
        let path = self.lock_path();
        let text =
            std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let unknown = || {
            format!(
                "{} is locked and names no process: try again",
                path.display()
            )
        };
        pid.map(Some).ok_or_else(|| Failure::failed(unknown()))
    }

    fn lock_path(&self) -> PathBuf {
        self.settings.run_dir.join(format!("{}.lock", self.name))
    }

    fn try_lock(&self, how: FlockOperation) -> Result<(File, bool), Failure> {
        let path = self.lock_path();
        let doing = || format!("cannot lock {}", path.display());
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).context(doing)?;
        match flock(&file, how) {
            Ok(()) => Ok((file, true)),
            Err(Errno::WOULDBLOCK) => Ok((file, false)),
            Err(error) => Err(error).context(doing),
        }
    }

    /// The folder of the file below the device that a process serves.
    pub(super) fn folder_of(&self, server: Pid) -> PathBuf {
        let name = format!("{}.{}", self.name, server.as_raw_nonzero());
        self.settings.run_dir.join(name)
    }

    /// The device that a process serves.
    pub(super) fn device_of(&self, server: Pid) -> Result<Option<Device>, Failure> {
        if let Some(device) = self.kernel_device()? {
            return Ok(Some(Device::Kernel(device)));
        }
        let devices = LoopDevice::all_below(&self.folder_of(server))?;
        let device = devices.into_iter().map(|(device, _)| device).next();
        Ok(device.map(Device::Loop))
    }

    /// The volume's device of the kernel's driver, whichever process has made it.
    pub(super) fn kernel_device(&self) -> Result<Option<KernelDevice>, Failure> {
        KernelDevice::find(&self.identifier())
    }

    /// What the kernel knows the volume's device by: each node of a machine has a folder of its own.
    pub(super) fn identifier(&self) -> String {
        let path = self.settings.run_dir.join(self.name.to_string());
        path.display().to_string()
    }

    /// Notes how far the reign is known to have lasted.
    pub(super) fn note(&self, reign: &Reign) -> Result<(), Failure> {
        let path = self.reign_path();
        let draft = path.with_extension("reign.new");
        let doing = || format!("cannot write {}", path.display());
        let text = serde_json::to_string(reign).context(doing)?;
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &path))
            .context(doing)
    }

    /// What was noted; nothing, if it cannot be told.
    pub(super) fn noted(&self) -> Option<Reign> {
        let text = std::fs::read_to_string(self.reign_path()).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// There is no device any more that a note could be of.
    pub(super) fn forget(&self) {
        // Mostly there is none.
        let _ = std::fs::remove_file(self.reign_path());
    }

    fn reign_path(&self) -> PathBuf {
        self.settings.run_dir.join(format!("{}.reign", self.name))
    }

    /// Has the link name this device.
    pub(super) fn make_link(&self, device: &Device) -> Result<(), Failure> {
        let link = self.link();
        let draft = self.settings.devices.join(format!(".{}", self.name));
        // Of an earlier process that was ended between the two.
        let _ = std::fs::remove_file(&draft);
        std::os::unix::fs::symlink(device.path(), &draft)
            .and_then(|()| std::fs::rename(&draft, &link))
            .context(|| format!("cannot make {}", link.display()))
    }

    /// Removes the link, if it names this device.
    pub(super) fn remove_link(&self, device: &Device) {
        let link = self.link();
        let ours = std::fs::read_link(&link).is_ok_and(|target| target == device.path());
        if ours && let Err(error) = std::fs::remove_file(&link) {
            tracing::warn!("cannot remove {}: {error}", link.display());
        }
    }

    /// Clears away what processes have left that were killed, but for a device of the kernel's driver. Those that have
    /// only lost the volume, and whose device is still open, are left alone.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        let doing = || format!("cannot list {}", self.settings.run_dir.display());
        for entry in std::fs::read_dir(&self.settings.run_dir).context(doing)? {
            let path = entry.context(doing)?.path();
            if !path
                .file_name()
                .is_some_and(|name| self.is_folder(&name.to_string_lossy()))
            {
                continue;
            }
            let gone = std::fs::metadata(&path)
                .err()
                .and_then(|error| error.raw_os_error());
            if gone == Some(Errno::NOTCONN.raw_os_error()) {
                self.clear_one(&path)?;
            } else {
                // Of a process that was killed before it was mounted; one that is mounted is busy.
                let _ = std::fs::remove_dir(&path);
            }
        }
        Ok(())
    }

    fn clear_one(&self, folder: &Path) -> Result<(), Failure> {
        tracing::warn!("{} was left by a process that was killed", folder.display());
        for (device, _) in LoopDevice::all_below(folder)? {
            let device = Device::Loop(device);
            device.abandon()?;
            self.remove_link(&device);
        }
        let doing = || format!("cannot clear {} away", folder.display());
        rustix::mount::unmount(folder, UnmountFlags::DETACH).context(doing)?;
        std::fs::remove_dir(folder).context(doing)
    }

    /// Whether a folder of this name is of this volume: NAME.PID.
    fn is_folder(&self, folder: &str) -> bool {
        let rest = folder.strip_prefix(&self.name.to_string());
        let pid = rest.and_then(|rest| rest.strip_prefix('.'));
        pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// The folder may be there.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.context(|| format!("cannot make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::api::samples::protected;
    use crate::attach::device::Device;
    use crate::attach::loop_device::LoopDevice;
    use crate::attach::reign::Reign;
    use crate::config::{Attach, Backend};
    use format::types::Name;
    use std::path::Path;

    fn place(folder: &Path) -> Place {
        let settings = Attach {
            run_dir: folder.join("run"),
            devices: folder.join("dev"),
            backend: Backend::Auto,
        };
        let place = Place::new(settings, Name::new("main").expect("a name"));
        place.prepare().expect("folders");
        place
    }

    #[test]
    fn one_process_has_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        assert_eq!(place.server(), Ok(None));
        let lock = place.lock().expect("it is free");
        let refused = place.lock().expect_err("it is taken");
        assert!(refused.message.contains("attached already"), "{refused}");
        let server = place.server().expect("it is read");
        let own = i32::try_from(std::process::id()).expect("a process number");
        assert_eq!(server.map(|pid| pid.as_raw_nonzero().get()), Some(own));
        drop(lock);
        assert_eq!(place.server(), Ok(None));
        drop(place.lock().expect("it is free again"));
    }

    #[test]
    fn a_link_is_replaced_and_removed_by_whose_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        let [one, two] =
            ["/dev/loop1", "/dev/loop2"].map(|path| Device::Loop(LoopDevice { path: path.into() }));
        place.make_link(&one).expect("a link");
        place.make_link(&two).expect("another");
        place.remove_link(&one);
        assert_eq!(
            std::fs::read_link(place.link()).expect("it is there"),
            two.path()
        );
        place.remove_link(&two);
        assert!(std::fs::read_link(place.link()).is_err());
    }

    #[test]
    fn a_reign_is_noted_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        assert_eq!(place.noted(), None);
        let reign = Reign::of(&protected()).expect("alpha serves");
        place.note(&reign).expect("it is written");
        assert_eq!(place.noted(), Some(reign));
        place.forget();
        assert_eq!(place.noted(), None);
    }

    #[test]
    fn only_a_volume_s_own_folders_are_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        for (name, own) in [
            ("main.17", true),
            ("main.", false),
            ("main.lock", false),
            ("main.1.17", false),
            ("mainly.17", false),
            ("other.17", false),
        ] {
            assert_eq!(place.is_folder(name), own, "{name}");
            std::fs::create_dir(folder.path().join("run").join(name)).expect("a folder");
        }
        place.clear().expect("it is cleared");
        let left = std::fs::read_dir(folder.path().join("run")).expect("a list");
        assert_eq!(left.count(), 5);
    }
}
