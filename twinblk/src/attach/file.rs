//! The file below a loop device: the volume, by FUSE.

use super::front::Front;
use super::held::Held;
use super::place::{Place, make_folder};
use crate::failure::{Context, Failure};
use fuser::{MountOption, Session, SessionUnmounter};
use rustix::mount::UnmountFlags;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The file below the device. Dropping it unmounts it, and waits until nobody has it.
#[derive(Debug)]
pub(super) struct Mounted {
    /// Where it is.
    pub(super) path: PathBuf,
    folder: PathBuf,
    unmounter: SessionUnmounter,
    thread: Option<JoinHandle<()>>,
    mounted: bool,
}

impl Mounted {
    /// Mounts it.
    pub(super) fn new(place: &Place, held: Arc<Held>) -> Result<Mounted, Failure> {
        let (name, folder) = (place.name().to_string(), place.own_folder());
        make_folder(&folder, 0o700)?;
        let mut options = fuser::Config::default();
        options.mount_options = vec![
            MountOption::FSName(format!("twinblk-{name}")),
            MountOption::Subtype("twinblk".to_owned()),
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::NoExec,
        ];
        let session = Session::new(Front::new(&name, held), &folder, &options);
        let mut session = session.map_err(|error| {
            let _ = std::fs::remove_dir(&folder);
            Failure::failed(format!("cannot mount {}: {error}", folder.display()))
        })?;
        let unmounter = session.unmount_callable();
        let serving = std::thread::Builder::new().name("fuse".to_owned());
        let thread = serving.spawn(move || {
            if let Err(error) = session.run() {
                tracing::warn!("the kernel's requests cannot be read: {error}");
            }
        });
        let mut mounted = Mounted {
            path: folder.join(&name),
            folder,
            unmounter,
            thread: None,
            mounted: true,
        };
        mounted.thread = Some(thread.context(|| "cannot start a thread".to_owned())?);
        Ok(mounted)
    }
}

impl Mounted {
    /// Unmounts it. The file system may last until all have left it, other mount namespaces included.
    pub(super) fn unmount(&mut self) {
        if !std::mem::replace(&mut self.mounted, false) {
            return;
        }
        if self.unmounter.unmount().is_err() {
            // Somebody looks into the folder just now.
            let _ = rustix::mount::unmount(&self.folder, UnmountFlags::DETACH);
        }
        if let Err(error) = std::fs::remove_dir(&self.folder) {
            tracing::warn!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
        if let Some(thread) = self.thread.take() {
            // It has said what was wrong, if anything was.
            let _ = thread.join();
        }
    }
}
