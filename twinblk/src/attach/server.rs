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
//!
//! A device of the kernel's driver fails by itself, also when this process has ended: it ends as soon as it has given such
//! a device up. If it is killed, the device goes on, and the next process with it.

use super::device::Device;
use super::file::Mounted;
use super::given::Given;
use super::held::Held;
use super::keeper::{self, End, Keeper, Look};
use super::kernel_device::KernelDevice;
use super::loop_device::LoopDevice;
use super::netlink::Family;
use super::place::{Lock, Place};
use super::reach::Reach;
use super::reign::Reign;
use crate::client::Client;
use crate::daemon::blocking;
use crate::failure::{Context, Failure};
use crate::nbd::Connection;
use nbd_server::listener::Address;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many connections the kernel is given, although exports take several, and devices may have several. On a second one it would
/// send again by itself what the first has not brought for too long, while a daemon that was stopped has yet to read
/// that from the first: an old write could undo a newer one. With one it waits for another, and whom the daemon lets in it
/// lets in after it has dropped who has hung up.
const CONNECTIONS: usize = 1;

/// Who is to carry the requests of a device that is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carrier {
    /// The kernel's driver, and its device of this number, if one is wanted.
    Kernel(Family, Option<u32>),
    /// This program, under a loop device.
    Loop,
}

/// Serves a volume as a block device. `tell` is called as soon as there is one; it is given back at once if nobody hears.
pub(super) async fn serve(
    place: Place,
    client: Client,
    address: Address,
    carrier: Carrier,
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
    let daemon = Daemon {
        place: place.clone(),
        client,
        address,
    };
    let mut begun = match daemon.go_on().await? {
        Some(begun) => begun,
        None => daemon.begin(carrier).await?,
    };
    if let Err(failure) = place.make_link(&begun.device) {
        begun.keeping.stop().await;
        let device = begun.device;
        blocking(move || device.abandon()).await?;
        return Err(failure);
    }
    tracing::info!(
        "{} is {}",
        place.link().display(),
        begun.device.path().display()
    );
    let wanted = tell();
    let mut served = Served {
        place,
        held: begun.held,
        device: begun.device,
        file: begun.file,
        lock: Some(lock),
    };
    if !wanted {
        tracing::warn!("whoever has asked for the device has gone");
    }
    let ended = served.serve(&mut begun.keeping, &mut signals, wanted);
    let ended = ended.await;
    // From here on there may be another, however long this file system lasts.
    served.lock = None;
    blocking(move || {
        drop(served.file);
        Ok(())
    })
    .await?;
    ended
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    give_up: Signal,
}

/// A device, and who carries its requests.
struct Begun {
    device: Device,
    // Below a loop device.
    file: Option<Mounted>,
    held: Arc<Held>,
    keeping: Keeping,
}

/// Where the volume is.
struct Daemon {
    place: Place,
    client: Client,
    address: Address,
}

impl Daemon {
    /// Makes a device.
    async fn begin(self, carrier: Carrier) -> Result<Begun, Failure> {
        let opened = keeper::begin(&self.client, &self.address, self.place.name());
        let (connection, reign) = opened.await?;
        match carrier {
            Carrier::Kernel(family, index) => self.kernel(family, index, connection, reign).await,
            Carrier::Loop => self.file(connection, reign).await,
        }
    }

    async fn kernel(
        self,
        family: Family,
        index: Option<u32>,
        connection: Connection,
        reign: Reign,
    ) -> Result<Begun, Failure> {
        let export = connection.export;
        let (held, place) = (Arc::new(Held::new(export.size_bytes)), self.place.clone());
        place.note(&reign)?;
        let (mut keeper, grown) = self.keeper(held.clone(), reign, true);
        let sockets = keeper.open_for_kernel(CONNECTIONS).await?;
        let (device, sockets) = blocking(move || {
            let identifier = place.identifier();
            let device = KernelDevice::connect(family, index, &export, &sockets, &identifier)?;
            Ok((device, sockets))
        })
        .await?;
        let given = Given::first(device.clone(), sockets)?;
        Ok(Begun {
            device: Device::Kernel(device),
            file: None,
            held,
            keeping: Keeping::begin(keeper, Some(connection), Some(given), grown),
        })
    }

    async fn file(self, connection: Connection, reign: Reign) -> Result<Begun, Failure> {
        let held = Arc::new(Held::new(connection.export.size_bytes));
        let place = self.place.clone();
        let (keeper, grown) = self.keeper(held.clone(), reign, false);
        let mut keeping = Keeping::begin(keeper, Some(connection), None, grown);
        let file = blocking({
            let held = held.clone();
            move || Mounted::new(&place, held)
        })
        .await?;
        let path = file.path.clone();
        let device = tokio::select! {
            device = blocking(move || LoopDevice::over(&path)) => device?,
            end = ended(&mut keeping.task) => return Err(Failure::failed(why(end))),
        };
        Ok(Begun {
            device: Device::Loop(device),
            file: Some(file),
            held,
            keeping,
        })
    }

    /// Goes on with a device of the kernel's driver that a process has left that was killed, if nobody else can have
    /// served the volume since it was made. Otherwise that is given up.
    async fn go_on(&self) -> Result<Option<Begun>, Failure> {
        let place = self.place.clone();
        let Some(device) = blocking(move || place.kernel_device()).await? else {
            self.place.forget();
            return Ok(None);
        };
        tracing::warn!(
            "{} was left by a process that was killed",
            device.path.display()
        );
        let held = Arc::new(Held::new(device.size_bytes()));
        let superseded = match self.place.noted() {
            Some(reign) => {
                let (mut keeper, grown) = self.keeper(held.clone(), reign, true);
                match keeper.look().await {
                    Look::Superseded(reason) => reason,
                    Look::Serving | Look::Held(_) => {
                        let given = Given::unknown(device.clone())?;
                        return Ok(Some(Begun {
                            device: Device::Kernel(device),
                            file: None,
                            held,
                            keeping: Keeping::begin(keeper, None, Some(given), grown),
                        }));
                    }
                }
            }
            None => "it is not known who has served the volume since".to_owned(),
        };
        tracing::warn!("{} fails from here on: {superseded}", device.path.display());
        let device = Device::Kernel(device);
        self.place.remove_link(&device);
        self.place.forget();
        blocking(move || device.abandon()).await?;
        Ok(None)
    }

    /// Who keeps the volume within reach, and tells when it grows. A device that may outlive this process is `noted`.
    fn keeper(&self, held: Arc<Held>, reign: Reign, noted: bool) -> (Keeper, watch::Receiver<u64>) {
        let (grown, growth) = watch::channel(held.size_bytes());
        let keeper = Keeper {
            reach: Reach {
                name: self.place.name().clone(),
                address: self.address.clone(),
                held,
            },
            client: self.client.clone(),
            reign,
            grown,
            notes: noted.then(|| self.place.clone()),
        };
        (keeper, growth)
    }
}

/// The task that carries requests.
struct Keeping {
    task: JoinHandle<End>,
    grown: watch::Receiver<u64>,
}

impl Keeping {
    fn begin(
        keeper: Keeper,
        connection: Option<Connection>,
        given: Option<Given>,
        grown: watch::Receiver<u64>,
    ) -> Keeping {
        Keeping {
            task: tokio::spawn(keeper.keep(connection, given)),
            grown,
        }
    }

    /// Ends it, and with it the connections.
    async fn stop(&mut self) {
        self.task.abort();
        // One that has ended may have been waited for before.
        if !self.task.is_finished() {
            // Whatever it was at: it has been told to end.
            let _ = (&mut self.task).await;
        }
    }
}

/// How it has ended.
async fn ended(task: &mut JoinHandle<End>) -> End {
    match task.await {
        Ok(end) => end,
        Err(error) => End::Superseded(error.to_string()),
    }
}

fn why(end: End) -> String {
    match end {
        End::Superseded(reason) => reason,
        End::Gone => "somebody has ended its device".to_owned(),
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
    device: Device,
    // Below a loop device.
    file: Option<Mounted>,
    lock: Option<Lock>,
}

impl Served {
    /// Serves the device until it is given back, which it is at once if it is not `wanted`.
    async fn serve(
        &mut self,
        keeping: &mut Keeping,
        signals: &mut Signals,
        wanted: bool,
    ) -> Result<(), Failure> {
        let mut failing = None;
        if !wanted {
            self.release(&mut failing).await;
        }
        let result = match failing {
            Some(result) => result,
            None => self.go_on(keeping, signals).await,
        };
        // Whoever sees the lock free finds the volume closed as well, so that another node can have it, and nothing mounted.
        keeping.stop().await;
        if let Some(mut file) = self.file.take() {
            let unmounted = blocking(move || {
                file.unmount();
                Ok(file)
            });
            self.file = unmounted.await.ok();
        }
        self.place.remove_link(&self.device);
        if self.lock.is_some() {
            // Otherwise it may be another's by now.
            self.place.forget();
        }
        tracing::info!("{} is given back", self.device.path().display());
        result
    }

    async fn go_on(&mut self, keeping: &mut Keeping, signals: &mut Signals) -> Result<(), Failure> {
        let kernel = matches!(self.device, Device::Kernel(_));
        let mut failing = None;
        loop {
            let held = self.held.clone();
            tokio::select! {
                () = held.unused(), if !kernel => return failing.unwrap_or(Ok(())),
                end = ended(&mut keeping.task), if failing.is_none() => {
                    if end == End::Gone {
                        return Ok(());
                    }
                    let reason = format!("volume {}: {}", self.place.name(), why(end));
                    tracing::warn!("{reason}; {} fails from here on", self.device.path().display());
                    failing = Some(Err(Failure::failed(reason)));
                    self.give_up().await;
                }
                () = grows(&mut keeping.grown), if failing.is_none() => self.grow().await,
                _ = signals.give_up.recv(), if failing.is_none() => {
                    tracing::warn!("told to give {} up", self.place.link().display());
                    failing = Some(Ok(()));
                    keeping.stop().await;
                    self.give_up().await;
                }
                _ = signals.terminate.recv() => self.release(&mut failing).await,
                _ = signals.interrupt.recv() => self.release(&mut failing).await,
            }
            if kernel && let Some(result) = failing.take() {
                return result;
            }
        }
    }

    /// Nobody is kept waiting any longer, and another device may take this one's place.
    async fn give_up(&mut self) {
        self.held.give_up();
        self.place.remove_link(&self.device);
        let device = self.device.clone();
        if let Err(failure) = blocking(move || device.abandon()).await {
            tracing::warn!("{failure}");
        }
        self.place.forget();
        self.lock = None;
    }

    /// Gives the device back, if nobody uses it. A loop device's end is told by its file's.
    async fn release(&self, failing: &mut Option<Result<(), Failure>>) {
        let (device, folder) = (self.device.clone(), self.place.own_folder());
        match blocking(move || device.release(&folder)).await {
            Ok(()) if matches!(self.device, Device::Kernel(_)) => *failing = Some(Ok(())),
            Ok(()) => {}
            Err(failure) => tracing::warn!("it goes on: {failure}"),
        }
    }

    /// The file's size is asked for anew, and then the device's set to it.
    async fn grow(&self) {
        let (device, file) = (self.device.clone(), self.place.own_folder());
        let name = self.place.name().to_string();
        let size_bytes = self.held.size_bytes();
        let resized = blocking(move || {
            let _ = std::fs::metadata(file.join(name));
            device.resize(size_bytes)
        });
        match resized.await {
            Ok(()) => tracing::info!("{} has {} bytes", self.place.link().display(), size_bytes),
            Err(failure) => tracing::warn!("{failure}"),
        }
    }
}
