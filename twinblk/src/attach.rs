//! `twinblk volume attach` and `detach`: a volume as a block device of this machine.
//!
//! ```text
//!   file system                            file system
//!   /dev/nbdN     the kernel's driver      /dev/loopN    which /dev/twinblk/NAME is a link to
//!                                          one file      FUSE
//!   NBD                                    NBD           to the daemon, connected again whenever it ends
//! ```
//!
//! On the left the kernel speaks to the daemon, and a process of its own for each volume gives it connections; where the kernel
//! has no such driver, that process carries the requests itself. It is none of the daemon's, so that a restart or an
//! upgrade of the daemon is a pause for whoever uses the device and nothing else. Requests without an answer are held and
//! sent again. Where another node has served the volume meanwhile they fail instead, and so does everything after
//! them (see `reign`).

mod device;
mod file;
mod front;
mod given;
mod held;
mod keeper;
mod kernel_device;
mod loop_device;
mod messages;
mod mounts;
mod netlink;
mod outstanding;
mod patience;
mod place;
mod reach;
mod reign;
mod safety;
mod server;
mod traffic;

use crate::client::Client;
use crate::config::{Attach, Backend, Config};
use crate::failure::{Context, Failure};
use crate::logging::{self, tell_service_manager};
use device::Device;
use format::types::Name;
use nbd_server::listener::Address;
use place::Place;
use rustix::process::{Pid, Signal};
use server::Carrier;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the process that serves a device may take to end after its device has gone.
const END_TIME: Duration = Duration::from_secs(10);
/// How long one that has just been started may take until its device is there.
const BEGIN_TIME: Duration = Duration::from_secs(10);
/// How often that is looked at.
const END_PERIOD: Duration = Duration::from_millis(20);

/// How a volume is to be attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// The volume.
    pub(crate) name: Name,
    /// N of `/dev/nbdN`, if it has to be that.
    pub(crate) index: Option<u32>,
    /// The configuration's file.
    pub(crate) config: PathBuf,
    /// By this process, for a person.
    pub(crate) foreground: bool,
    /// By this process, for the one that has started it.
    pub(crate) child: bool,
}

/// Attaches a volume: by a process of its own, unless it is to be this one. `admin` is the daemon's socket, where the
/// configuration's is not meant.
pub(crate) fn attach(admin: Option<PathBuf>, wanted: &Wanted) -> Result<(), Failure> {
    let child = wanted.child;
    if !wanted.foreground && !child {
        let devices = Devices::new(admin, &wanted.config)?;
        devices.begin(&wanted.name, wanted.index)?;
        println!("{}", devices.place(&wanted.name).link().display());
        return Ok(());
    }
    let settings = Config::read(&wanted.config)?;
    check_root()?;
    let carrier = choose(settings.attach.backend, wanted.index)?;
    let place = Place::new(settings.attach.clone(), wanted.name.clone());
    logging::begin();
    if child {
        // Not the terminal's any more. It is no leader of a group, since it was started without one of its own.
        let _ = rustix::process::setsid();
        std::env::set_current_dir("/").context(|| "cannot go to /".to_owned())?;
    }
    let client = Client::new(admin.unwrap_or(settings.admin));
    let served = serve(place.clone(), client, &settings.nbd, carrier, move || {
        let told = writeln!(std::io::stdout(), "{}", place.link().display());
        tell_service_manager(&[sd_notify::NotifyState::Ready]);
        told.is_ok() || !child
    });
    if let (true, Err(failure)) = (child, &served) {
        // Until the device is there, somebody waits for a line.
        let text = serde_json::to_string(failure).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    served
}

fn serve(
    place: Place,
    client: Client,
    nbd: &[Address],
    carrier: Carrier,
    tell: impl FnOnce() -> bool,
) -> Result<(), Failure> {
    let local = |address: &&Address| matches!(address, Address::Unix(_));
    let address = nbd.iter().find(local).or(nbd.first()).cloned();
    let address = address
        .ok_or_else(|| Failure::failed("the daemon serves no NBD clients: set [node] nbd"))?;
    safety::keep_out_of_writeback();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context(|| "cannot start".to_owned())?;
    runtime.block_on(server::serve(place, client, address, carrier, tell))
}

fn check_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Failure::failed("attaching a volume needs root: use sudo"))
    }
}

/// Who is to carry a new device's requests. What is missing is said before anything is begun.
fn choose(backend: Backend, index: Option<u32>) -> Result<Carrier, Failure> {
    let driver =
        || kernel_device::driver().context(|| "cannot ask for the kernel's nbd".to_owned());
    if let Some(family) = decide(backend, index.is_some(), driver)? {
        return Ok(Carrier::Kernel(family, index));
    }
    for (path, remedy) in [
        ("/dev/fuse", "load the module `nbd`, or `fuse`"),
        ("/dev/loop-control", "load the module `nbd`, or `loop`"),
    ] {
        if !Path::new(path).exists() {
            return Err(Failure::failed(format!("there is no {path}: {remedy}")));
        }
    }
    Ok(Carrier::Loop)
}

/// Which driver of the kernel's it is, if it is to be one. It is looked for only where it would be used.
fn decide<T>(
    backend: Backend,
    names_device: bool,
    driver: impl FnOnce() -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    match backend {
        Backend::Loop if names_device => Err(Failure::usage(
            "--device is for the kernel's nbd driver, and [attach] backend is \"loop\"",
        )),
        Backend::Loop => Ok(None),
        Backend::Auto if !names_device => Ok(driver().unwrap_or_else(|failure| {
            tracing::warn!("{failure}");
            None
        })),
        Backend::Auto | Backend::Nbd => match driver()? {
            Some(driver) => Ok(Some(driver)),
            None => Err(Failure::failed(
                "the kernel has no nbd: load the module `nbd`",
            )),
        },
    }
}

/// Has a process of its own serve the device, and returns once it is there.
fn start(
    place: &Place,
    admin: Option<&Path>,
    config: &Path,
    index: Option<u32>,
) -> Result<(), Failure> {
    place.prepare()?;
    let log = place.log();
    let output = File::options().create(true).append(true).open(&log);
    let output = output.context(|| format!("cannot write {}", log.display()))?;
    let doing = || "cannot start the process that serves the device".to_owned();
    let config = std::fs::canonicalize(config).context(doing)?;
    let mut command = Command::new(std::env::current_exe().context(doing)?);
    if let Some(admin) = admin {
        command
            .arg("--admin")
            .arg(std::path::absolute(admin).context(doing)?);
    }
    command
        .args(["volume", "attach", "--child"])
        .args(index.map(|index| format!("--device=/dev/nbd{index}")))
        .arg("--config")
        .arg(config)
        .arg(place.name().to_string())
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(output);
    let mut child = command.spawn().context(doing)?;
    let mut line = String::new();
    if let Some(told) = child.stdout.take() {
        let _ = BufReader::new(told).read_line(&mut line);
    }
    let line = line.trim_end();
    if line == place.link().display().to_string() {
        // Also where whoever has started it goes on for long: it is waited for when it ends.
        std::thread::spawn(move || child.wait());
        return Ok(());
    }
    let ended = child.wait().context(doing)?;
    Err(serde_json::from_str(line).unwrap_or_else(|_| {
        Failure::failed(format!(
            "the process that serves the device has ended ({ended}): see {}",
            log.display()
        ))
    }))
}

/// Detaches a volume; with `force` also one that is in use, or whose daemon is away.
pub(crate) fn detach(config: &Path, name: &Name, force: bool) -> Result<(), Failure> {
    Devices::new(None, config)?.give_back(name, force)?;
    println!("{name}: detached");
    Ok(())
}

/// The block devices of this machine, for those who use many.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    admin: Option<PathBuf>,
    config: PathBuf,
    settings: Attach,
}

impl Devices {
    /// Those of a node with this configuration. `admin` is the daemon's socket, where the configuration's is not meant.
    pub(crate) fn new(admin: Option<PathBuf>, config: &Path) -> Result<Devices, Failure> {
        let settings = Config::read(config)?.attach;
        check_root()?;
        Ok(Devices {
            admin,
            config: config.to_owned(),
            settings,
        })
    }

    fn place(&self, name: &Name) -> Place {
        Place::new(self.settings.clone(), name.clone())
    }

    /// A volume's device, if it is attached; opened, so that it is nobody else's for as long as that lasts. Where it is
    /// given back at that moment, its number is another's the next.
    pub(crate) fn found(&self, name: &Name) -> Result<Option<(PathBuf, File)>, Failure> {
        let place = self.place(name);
        let begun = Instant::now();
        while let Some(server) = place.server()? {
            if let Some(device) = place.device_of(server)? {
                let open = File::open(device.path());
                if place.device_of(server)?.as_ref() == Some(&device) {
                    let path = device.path().to_owned();
                    let open = open.context(|| format!("cannot open {}", path.display()))?;
                    return Ok(Some((path, open)));
                }
            }
            if begun.elapsed() > BEGIN_TIME {
                return Err(half_way(name));
            }
            std::thread::sleep(END_PERIOD);
        }
        Ok(None)
    }

    /// Attaches a volume, by a process of its own, as `/dev/nbdN` if that is named.
    pub(crate) fn begin(&self, name: &Name, index: Option<u32>) -> Result<(), Failure> {
        choose(self.settings.backend, index)?;
        let place = self.place(name);
        start(&place, self.admin.as_deref(), &self.config, index)
    }

    /// Detaches a volume; with `force` also one that is in use, or whose daemon is away.
    pub(crate) fn give_back(&self, name: &Name, force: bool) -> Result<(), Failure> {
        let place = self.place(name);
        place.prepare()?;
        let begun = Instant::now();
        loop {
            let Some(server) = place.server()? else {
                return give_back_left(&place, force);
            };
            if force {
                tell(server, Signal::USR1)?;
                return wait_for_end(&place, server);
            }
            if let Some(device) = place.device_of(server)? {
                device.release(&place.folder_of(server))?;
                if let Device::Kernel(_) = device {
                    // It has ended. The process would see it by and by.
                    tell(server, Signal::TERM)?;
                }
                return wait_for_end(&place, server);
            }
            if begun.elapsed() > BEGIN_TIME {
                return Err(half_way(name));
            }
            std::thread::sleep(END_PERIOD);
        }
    }
}

/// What a process that was killed has left is in nobody's way any more, but for a device that goes on without it.
fn give_back_left(place: &Place, force: bool) -> Result<(), Failure> {
    let _lock = place.lock()?;
    place.clear()?;
    let Some(device) = place.kernel_device()?.map(Device::Kernel) else {
        let name = place.name();
        return Err(Failure::not_found(format!("volume {name} is not attached")));
    };
    if force {
        device.abandon()?;
    } else {
        device.release(&place.own_folder())?;
    }
    place.remove_link(&device);
    place.forget();
    Ok(())
}

fn tell(server: Pid, signal: Signal) -> Result<(), Failure> {
    match rustix::process::kill_process(server, signal) {
        // It has been quicker.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        told => told.context(|| format!("cannot tell process {}", server.as_raw_nonzero())),
    }
}

fn half_way(name: &Name) -> Failure {
    Failure::failed(format!(
        "volume {name} is just being attached or detached: try again"
    ))
}

fn wait_for_end(place: &Place, server: Pid) -> Result<(), Failure> {
    let begun = Instant::now();
    while place.server()? == Some(server) {
        if begun.elapsed() > END_TIME {
            return Err(Failure::failed(format!(
                "process {} still serves {}: see {}",
                server.as_raw_nonzero(),
                place.link().display(),
                place.log().display()
            )));
        }
        std::thread::sleep(END_PERIOD);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::decide;
    use crate::config::Backend;
    use crate::failure::{Failure, FailureKind};

    #[test]
    fn the_kernel_s_driver_is_used_where_it_is_or_has_to_be() {
        let there = || Ok(Some(7));
        let missing = || Ok(None);
        let broken = || Err(Failure::failed("broken"));
        let unasked = || -> Result<Option<u32>, Failure> { panic!("nobody needs it") };
        assert_eq!(decide(Backend::Auto, false, there), Ok(Some(7)));
        assert_eq!(decide::<u32>(Backend::Auto, false, missing), Ok(None));
        assert_eq!(decide::<u32>(Backend::Auto, false, broken), Ok(None));
        assert_eq!(decide(Backend::Auto, true, there), Ok(Some(7)));
        assert!(decide::<u32>(Backend::Auto, true, missing).is_err());
        assert!(decide::<u32>(Backend::Auto, true, broken).is_err());
        for names_device in [false, true] {
            assert_eq!(decide(Backend::Nbd, names_device, there), Ok(Some(7)));
            let refused = decide::<u32>(Backend::Nbd, names_device, missing);
            let refused = refused.expect_err("there is none");
            assert!(refused.message.contains("load the module"), "{refused}");
            assert!(decide::<u32>(Backend::Nbd, names_device, broken).is_err());
        }
        assert_eq!(decide(Backend::Loop, false, unasked), Ok(None));
        let refused = decide(Backend::Loop, true, unasked).expect_err("it makes no sense");
        assert_eq!(refused.kind, FailureKind::Usage);
    }
}
