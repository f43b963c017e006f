//! A device of the kernel's nbd driver: it speaks to the daemon itself, on connections that it is given.

use super::messages::{self, Change, Connect};
use super::netlink::{Family, Notices, malformed};
use crate::failure::{Context, Failure};
use crate::nbd::Export;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// When the kernel sends a request that has had no answer again, on another connection, and ends the one that it was sent on.
/// Nothing fails by that: it waits for connections. It does not look at what was under way when a connection ends
/// before this time is over, so that it is also the pause that the daemon's restart means for that. It is longer than
/// what a member's loss takes. (0, for ever, is twice a minute in fact, and each time with a complaint of every request.)
/// At first: see [`Patience`](super::patience::Patience).
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// When requests fail although the daemon may come back.
const DEAD_CONNECTION_TIMEOUT: Duration = Duration::from_secs(86_400);
/// The same while the size is changed: the kernel waits for what is under way then, and takes no connection meanwhile.
const RESIZE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same sectors as a loop device's, so that a file system or a partition table made on the one can be used on the other.
const BLOCK_BYTES: u64 = 512;
/// How often it is tried to bring in the kernel's module, until it is there.
const LOAD_TRIES: usize = 2;

/// `/dev/nbdN`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KernelDevice {
    /// Where it is.
    pub(super) path: PathBuf,
    index: u32,
    // Whose it is: the kernel changes nothing about it for others.
    identifier: String,
    family: Family,
}

/// Why the kernel did not take connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NotGiven {
    /// Somebody has ended the device.
    Gone,
    /// It may be tried again.
    NotNow(String),
}

/// The kernel's driver, if this machine has it or can load it.
pub(super) fn driver() -> io::Result<Option<Family>> {
    for _ in 1..LOAD_TRIES {
        if let Some(family) = Family::find(messages::FAMILY, messages::GROUP)? {
            return Ok(Some(family));
        }
        let mut command = Command::new("modprobe");
        command.args(["--quiet", "nbd"]).stdin(Stdio::null());
        // Where there is no such program, or no such module, there is no driver.
        let loaded = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !loaded.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
    }
    Family::find(messages::FAMILY, messages::GROUP)
}

impl KernelDevice {
    /// Makes one over connections that have an export open: the one with this number, or any that is not used.
    pub(super) fn connect(
        family: Family,
        index: Option<u32>,
        export: &Export,
        sockets: &[OwnedFd],
        identifier: &str,
    ) -> Result<KernelDevice, Failure> {
        let wanted = Connect {
            index,
            size_bytes: export.size_bytes,
            block_bytes: BLOCK_BYTES,
            timeout: TIMEOUT,
            dead_connection_timeout: DEAD_CONNECTION_TIMEOUT,
            server_flags: export.flags,
            sockets: &numbers(sockets),
            identifier,
        };
        let shown = index.map_or_else(
            || "an nbd device".to_owned(),
            |index| format!("/dev/nbd{index}"),
        );
        let doing = || format!("the kernel does not make {shown}");
        let answers = family.ask(messages::connect(&wanted)).context(doing)?;
        let index = answers.iter().find_map(messages::connected);
        let index = index
            .ok_or_else(|| malformed("of a device"))
            .context(doing)?;
        let device = KernelDevice::new(family, index, identifier);
        if identifier_of(index).as_deref() != Some(identifier) {
            device.disconnect()?;
            return Err(Failure::failed(
                "the kernel's nbd is too old (5.14 is needed): write [attach] backend = \"loop\"",
            ));
        }
        Ok(device)
    }

    /// The one that is somebody's, if there is one; not one that was ended and that somebody still has open.
    pub(super) fn find(identifier: &str) -> Result<Option<KernelDevice>, Failure> {
        let doing = || "cannot list the kernel's nbd devices".to_owned();
        let Some(family) = Family::find(messages::FAMILY, messages::GROUP).context(doing)? else {
            return Ok(None);
        };
        let answers = family.ask(messages::status()).context(doing)?;
        let used = answers.iter().find_map(messages::in_use);
        let used = used
            .ok_or_else(|| malformed("of all devices"))
            .context(doing)?;
        let ours = used
            .into_iter()
            .filter(|index| identifier_of(*index).as_deref() == Some(identifier))
            .map(|index| KernelDevice::new(family, index, identifier));
        Ok(ours.into_iter().find(KernelDevice::lasts))
    }

    fn new(family: Family, index: u32, identifier: &str) -> KernelDevice {
        KernelDevice {
            path: format!("/dev/nbd{index}").into(),
            index,
            identifier: identifier.to_owned(),
            family,
        }
    }

    /// Whether it has not been ended. Where the kernel cannot tell, it has not.
    pub(super) fn lasts(&self) -> bool {
        let answer = self.change(&Change::default());
        answer.map_err(|error| error.kind()) != Err(io::ErrorKind::InvalidInput)
    }

    /// How many connections it has, living or not.
    pub(super) fn connections(&self) -> usize {
        let queues = std::fs::read_dir(self.system_folder().join("mq"));
        queues.map_or(0, Iterator::count)
    }

    /// Its size.
    pub(super) fn size_bytes(&self) -> u64 {
        const SECTOR_BYTES: u64 = 512;
        let sectors = std::fs::read_to_string(self.system_folder().join("size"));
        let sectors: Option<u64> = sectors.ok().and_then(|text| text.trim().parse().ok());
        sectors.unwrap_or(0) * SECTOR_BYTES
    }

    /// From now on what it sends is sent again, on another connection, if it has had no answer after so long.
    pub(super) fn wait_for_answers(&self, timeout: Duration) -> io::Result<()> {
        self.change(&Change {
            timeout: Some(timeout),
            ..Change::default()
        })
    }

    /// Gives it connections for those that have ended, as many as have.
    pub(super) fn give(&self, sockets: &[OwnedFd]) -> Result<(), NotGiven> {
        let change = Change {
            sockets: &numbers(sockets),
            ..Change::default()
        };
        self.change(&change).map_err(|error| {
            if self.lasts() {
                NotGiven::NotNow(format!("the kernel takes no connection: {error}"))
            } else {
                NotGiven::Gone
            }
        })
    }

    /// It has another size.
    pub(super) fn resize(&self, size_bytes: u64) -> Result<(), Failure> {
        let time = |time| Change {
            dead_connection_timeout: Some(time),
            ..Change::default()
        };
        let size = Change {
            size_bytes: Some(size_bytes),
            ..Change::default()
        };
        let doing = || format!("{} keeps its size", self.path.display());
        self.change(&time(RESIZE_TIMEOUT)).context(doing)?;
        let resized = self.change(&size);
        self.change(&time(DEAD_CONNECTION_TIMEOUT)).context(doing)?;
        resized.context(doing)
    }

    /// Whether it is still the same: one that was ended and closed may be somebody else's by now.
    pub(super) fn is_ours(&self) -> bool {
        identifier_of(self.index).as_deref() == Some(&self.identifier)
    }

    /// Ends it. What is under way fails, and whatever comes until the last has closed it.
    pub(super) fn disconnect(&self) -> Result<(), Failure> {
        let doing = || format!("cannot give {} back", self.path.display());
        let told = self.family.ask(messages::disconnect(self.index));
        told.map(drop).context(doing)
    }

    /// What the kernel tells of all devices, from now on.
    pub(super) fn listen(&self) -> io::Result<Notices> {
        self.family.listen()
    }

    /// Whether a notice is of a connection of this one's that has ended.
    pub(super) fn is_meant(&self, notice: &super::netlink::Message) -> bool {
        messages::link_dead(notice) == Some(self.index)
    }

    fn change(&self, change: &Change<'_>) -> io::Result<()> {
        let message = messages::reconfigure(self.index, &self.identifier, change);
        self.family.ask(message).map(drop)
    }

    fn system_folder(&self) -> PathBuf {
        system_folder(self.index)
    }
}

fn system_folder(index: u32) -> PathBuf {
    Path::new("/sys/block").join(format!("nbd{index}"))
}

/// Whose a device is.
fn identifier_of(index: u32) -> Option<String> {
    let text = std::fs::read_to_string(system_folder(index).join("backend")).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

fn numbers(sockets: &[OwnedFd]) -> Vec<u32> {
    let numbers = sockets
        .iter()
        .map(|socket| u32::try_from(socket.as_raw_fd()));
    numbers
        .collect::<Result<_, _>>()
        .expect("descriptors are not negative")
}
