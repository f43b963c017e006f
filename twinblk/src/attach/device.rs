//! The block device, whoever carries its requests.

use super::kernel_device::KernelDevice;
use super::loop_device::LoopDevice;
use super::mounts::{mounts, unmount_all};
use crate::failure::{Context, Failure};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a device that is given back may take to go.
const RELEASE_TIME: Duration = Duration::from_secs(10);
/// How often that is looked at.
const RELEASE_PERIOD: Duration = Duration::from_millis(20);

/// A block device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Device {
    /// The kernel's loop device over a file of this program's.
    Loop(LoopDevice),
    /// The kernel's own client of the daemon.
    Kernel(KernelDevice),
}

impl Device {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        match self {
            Device::Loop(device) => &device.path,
            Device::Kernel(device) => &device.path,
        }
    }

    /// The volume has grown.
    pub(super) fn resize(&self, size_bytes: u64) -> Result<(), Failure> {
        match self {
            // It takes the size of its file.
            Device::Loop(device) => device.resize(),
            Device::Kernel(device) => device.resize(size_bytes),
        }
    }

    /// Takes it out of use at once, whoever uses it: its mounts vanish, and it goes when the last has closed it.
    pub(super) fn abandon(&self) -> Result<(), Failure> {
        match self {
            Device::Loop(device) => {
                unmount_all(&device.path)?;
                device.detach()
            }
            Device::Kernel(device) if !device.is_ours() => Ok(()),
            Device::Kernel(device) => {
                // First, since a mount that vanishes writes what is dirty, and waits for that.
                device.disconnect()?;
                unmount_all(&device.path)
            }
        }
    }

    /// Gives it back, if nobody uses it, and what was written through it is durable. A loop device that has no file in this
    /// folder any more has gone by itself, and its number may be another's.
    pub(super) fn release(&self, folder: &Path) -> Result<(), Failure> {
        if let Device::Kernel(device) = self
            && !device.lasts()
        {
            // Somebody was quicker.
            return Ok(());
        }
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or_default())
            .open(self.path());
        let file = file.map_err(|error| self.in_use(&error))?;
        if let Device::Loop(device) = self
            && !device.is_below(folder)?
        {
            return Ok(());
        }
        file.sync_all()
            .context(|| format!("what was written to {} is not durable", self.shown()))?;
        match self {
            Device::Loop(device) => {
                drop(file);
                device.detach()?;
                self.wait_until_gone(device)
            }
            Device::Kernel(device) => {
                // Nobody else mounts it in between.
                let ended = device.disconnect();
                drop(file);
                ended
            }
        }
    }

    fn wait_until_gone(&self, device: &LoopDevice) -> Result<(), Failure> {
        let begun = Instant::now();
        while device.has_file() {
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
        let mounts = mounts(self.path()).unwrap_or_default();
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

    fn shown(&self) -> std::path::Display<'_> {
        self.path().display()
    }
}
