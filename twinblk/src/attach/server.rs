//! The process that serves a device, from the first connection until nobody has the device open any more.
//!
//! ```text
//!                 superseded, or told to give up
//!   Serving ------------------------------------------> Failing
//!      |     mounts vanish, everything fails with EIO       |
//!      | nobody has the device open                         | nobody has it open
//!      v                                                    v
//!     end                                                  end
//! ```

use super::connection::Connection;
use super::device::LoopDevice;
use super::front::Front;
use super::held::Held;
use super::keeper::{self, Keeper};
use super::place::{Lock, Place, make_folder};
use super::reign::Reign;
use crate::client::Client;
use crate::daemon::blocking;
use crate::failure::{Context, Failure};
use fuser::{MountOption, Session, SessionUnmounter};
use nbd_server::listener::Address;
use rustix::mount::UnmountFlags;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Serves a volume as a block device. `tell` is called as soon as there is one; it is given back at once if nobody hears.
pub(super) async fn serve(
    place: Place,
    client: Client,
    address: Address,
    tell: impl FnOnce() -> bool,
) -> Result<(), Failure> {
    let doing = || "cannot listen to signals".to_owned();
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate()).context(doing)?,
        interrupt: signal(SignalKind::interrupt()).context(doing)?,
        give_up: signal(SignalKind::user_defined1()).context(doing)?,
    };
    place.prepare()?;
    let lock = place.lock()?;
    place.clear()?;
    let (connection, reign) = keeper::begin(&client, &address, place.name()).await?;
    let held = Arc::new(Held::new(connection.export.size_bytes));
    let mut keeping = Keeping::begin(connection, reign, &place, client, address, held.clone());
    let file = blocking({
        let (place, held) = (place.clone(), held.clone());
        move || Mounted::new(&place, held)
    })
    .await?;
    let device = tokio::select! {
        device = above(&file) => device?,
        superseded = ended(&mut keeping.task) => return Err(Failure::failed(superseded)),
    };
    place.make_link(&device)?;
    tracing::info!("{} is {}", place.link().display(), device.path.display());
    let wanted = tell();
    let served = Served {
        place,
        held,
        device,
        lock: Some(lock),
    };
    if !wanted {
        tracing::warn!("whoever has asked for the device has gone");
        served.release().await;
    }
    let ended = served.go_on(&mut keeping, &mut signals).await;
    blocking(move || {
        drop(file);
        Ok(())
    })
    .await?;
    ended
}

async fn above(file: &Mounted) -> Result<LoopDevice, Failure> {
    let path = file.path.clone();
    blocking(move || LoopDevice::over(&path)).await
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    give_up: Signal,
}

/// The task that carries requests.
struct Keeping {
    task: tokio::task::JoinHandle<String>,
    grown: watch::Receiver<u64>,
}

impl Keeping {
    fn begin(
        connection: Connection,
        reign: Reign,
        place: &Place,
        client: Client,
        address: Address,
        held: Arc<Held>,
    ) -> Keeping {
        let (grown, growth) = watch::channel(held.size_bytes());
        let keeper = Keeper {
            name: place.name().clone(),
            client,
            address,
            held,
            reign,
            grown,
        };
        Keeping {
            task: tokio::spawn(keeper.keep(connection)),
            grown: growth,
        }
    }
}

/// Why it has ended.
async fn ended(task: &mut tokio::task::JoinHandle<String>) -> String {
    match task.await {
        Ok(reason) => reason,
        Err(error) => error.to_string(),
    }
}

/// Waits until the volume has grown.
async fn grows(grown: &mut watch::Receiver<u64>) {
    if grown.changed().await.is_err() {
        // It has ended, which is heard of elsewhere.
        std::future::pending::<()>().await;
    }
}

/// A device that is there.
struct Served {
    place: Place,
    held: Arc<Held>,
    device: LoopDevice,
    lock: Option<Lock>,
}

impl Served {
    async fn go_on(mut self, keeping: &mut Keeping, signals: &mut Signals) -> Result<(), Failure> {
        let mut failing = None;
        loop {
            let held = self.held.clone();
            tokio::select! {
                () = held.unused() => break,
                reason = ended(&mut keeping.task), if failing.is_none() => {
                    let reason = format!("volume {}: {reason}", self.place.name());
                    tracing::warn!("{reason}; {} fails from here on", self.device.path.display());
                    failing = Some(Err(Failure::failed(reason)));
                    self.give_up().await;
                }
                () = grows(&mut keeping.grown), if failing.is_none() => self.grow().await,
                _ = signals.give_up.recv(), if failing.is_none() => {
                    tracing::warn!("told to give {} up", self.place.link().display());
                    failing = Some(Ok(()));
                    keeping.task.abort();
                    self.give_up().await;
                }
                _ = signals.terminate.recv() => self.release().await,
                _ = signals.interrupt.recv() => self.release().await,
            }
        }
        self.place.remove_link(&self.device);
        tracing::info!("{} is given back", self.device.path.display());
        failing.unwrap_or(Ok(()))
    }

    /// Nobody is kept waiting any longer, and another device may take this one's place.
    async fn give_up(&mut self) {
        self.held.give_up();
        self.place.remove_link(&self.device);
        let device = self.device.clone();
        if let Err(failure) = blocking(move || device.abandon()).await {
            tracing::warn!("{failure}");
        }
        self.lock = None;
    }

    async fn release(&self) {
        let (device, folder) = (self.device.clone(), self.place.own_folder());
        if let Err(failure) = blocking(move || device.release(&folder)).await {
            tracing::warn!("it goes on: {failure}");
        }
    }

    /// The file's size is asked for anew, and then the device's set to it.
    async fn grow(&self) {
        let (device, file) = (self.device.clone(), self.place.own_folder());
        let name = self.place.name().to_string();
        let resized = blocking(move || {
            let _ = std::fs::metadata(file.join(name));
            device.resize()
        });
        match resized.await {
            Ok(()) => tracing::info!(
                "{} has {} bytes",
                self.place.link().display(),
                self.held.size_bytes()
            ),
            Err(failure) => tracing::warn!("{failure}"),
        }
    }
}

/// The file below the device. Dropping it unmounts it.
struct Mounted {
    path: PathBuf,
    folder: PathBuf,
    unmounter: SessionUnmounter,
    thread: Option<JoinHandle<()>>,
}

impl Mounted {
    fn new(place: &Place, held: Arc<Held>) -> Result<Mounted, Failure> {
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
        };
        mounted.thread = Some(thread.context(|| "cannot start a thread".to_owned())?);
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.unmounter.unmount().is_err() {
            // Somebody looks into the folder just now.
            let _ = rustix::mount::unmount(&self.folder, UnmountFlags::DETACH);
        }
        if let Some(thread) = self.thread.take() {
            // It has said what was wrong, if anything was.
            let _ = thread.join();
        }
        if let Err(error) = std::fs::remove_dir(&self.folder) {
            tracing::warn!("cannot remove {}: {error}", self.folder.display());
        }
    }
}
