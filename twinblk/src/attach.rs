//! `twinblk volume attach` and `detach`: a volume as a block device of this machine.
//!
//! ```text
//!   file system
//!   /dev/loopN     which /dev/twinblk/NAME is a link to
//!   one file       FUSE, by a process of its own for each volume
//!   NBD            to the daemon, connected again whenever it ends
//! ```
//!
//! The process is none of the daemon's, so that a restart or an upgrade of the daemon is a pause for whoever uses the
//! device and nothing else. Requests without an answer are held and sent again. Where another node has served the volume
//! meanwhile they fail instead, and so does everything after them (see `reign`).

mod connection;
mod device;
mod front;
mod held;
mod keeper;
mod outstanding;
mod place;
mod protocol;
mod reign;
mod safety;
mod server;

use crate::client::Client;
use crate::config::{Attach, Config};
use crate::failure::{Context, Failure};
use crate::logging::{self, tell_service_manager};
use format::types::Name;
use nbd_server::listener::Address;
use place::Place;
use rustix::process::{Pid, Signal};
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

/// Attaches a volume: by a process of its own, or by this one, for a person (`foreground`) or the process that has
/// started it (`child`). `admin` is the daemon's socket, where the configuration's is not meant.
pub(crate) fn attach(
    admin: Option<PathBuf>,
    config: &Path,
    name: Name,
    foreground: bool,
    child: bool,
) -> Result<(), Failure> {
    if !foreground && !child {
        let devices = Devices::new(admin, config)?;
        devices.begin(&name)?;
        println!("{}", devices.place(&name).link().display());
        return Ok(());
    }
    let settings = Config::read(config)?;
    check_machine()?;
    let place = Place::new(settings.attach.clone(), name);
    logging::begin();
    if child {
        // Not the terminal's any more. It is no leader of a group, since it was started without one of its own.
        let _ = rustix::process::setsid();
        std::env::set_current_dir("/").context(|| "cannot go to /".to_owned())?;
    }
    let client = Client::new(admin.unwrap_or(settings.admin));
    let served = serve(place.clone(), client, &settings.nbd, move || {
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
    runtime.block_on(server::serve(place, client, address, tell))
}

/// What is missing is said before anything is begun.
fn check_machine() -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::failed("attaching a volume needs root: use sudo"));
    }
    for (path, remedy) in [
        ("/dev/fuse", "load the module `fuse`"),
        ("/dev/loop-control", "load the module `loop`"),
    ] {
        if !Path::new(path).exists() {
            return Err(Failure::failed(format!("there is no {path}: {remedy}")));
        }
    }
    Ok(())
}

/// Has a process of its own serve the device, and returns once it is there.
fn start(place: &Place, admin: Option<&Path>, config: &Path) -> Result<(), Failure> {
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
        .args(["volume", "attach", "--child", "--config"])
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
        check_machine()?;
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
                let open = File::open(&device.path);
                if place.device_of(server)?.as_ref() == Some(&device) {
                    let open = open.context(|| format!("cannot open {}", device.path.display()))?;
                    return Ok(Some((device.path, open)));
                }
            }
            if begun.elapsed() > BEGIN_TIME {
                return Err(half_way(name));
            }
            std::thread::sleep(END_PERIOD);
        }
        Ok(None)
    }

    /// Attaches a volume, by a process of its own.
    pub(crate) fn begin(&self, name: &Name) -> Result<(), Failure> {
        start(&self.place(name), self.admin.as_deref(), &self.config)
    }

    /// Detaches a volume; with `force` also one that is in use, or whose daemon is away.
    pub(crate) fn give_back(&self, name: &Name, force: bool) -> Result<(), Failure> {
        let place = self.place(name);
        place.prepare()?;
        let begun = Instant::now();
        loop {
            let Some(server) = place.server()? else {
                // What a process that was killed has left is in nobody's way any more.
                place.clear()?;
                return Err(Failure::not_found(format!("volume {name} is not attached")));
            };
            if force {
                let told = rustix::process::kill_process(server, Signal::USR1);
                told.context(|| format!("cannot tell process {}", server.as_raw_nonzero()))?;
                return wait_for_end(&place, server);
            }
            if let Some(device) = place.device_of(server)? {
                device.release(&place.folder_of(server))?;
                return wait_for_end(&place, server);
            }
            if begun.elapsed() > BEGIN_TIME {
                return Err(half_way(name));
            }
            std::thread::sleep(END_PERIOD);
        }
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
