//! What is said to the kernel's nbd driver and what it says, of linux/nbd-netlink.h, without any I/O.

use super::netlink::{Attribute, Message, attribute, message, nested};
use neli::genl::Nlattr;
use neli::types::Buffer;
use std::time::Duration;

/// The family's name.
pub(super) const FAMILY: &str = "nbd";
/// Whoever belongs to this group is told of connections that have ended.
pub(super) const GROUP: &str = "nbd_mc_group";

const VERSION: u8 = 1;

mod command {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const DISCONNECT: u8 = 2;
    pub(super) const RECONFIGURE: u8 = 3;
    pub(super) const LINK_DEAD: u8 = 4;
    pub(super) const STATUS: u8 = 5;
}

mod kind {
    pub(super) const INDEX: u16 = 1;
    pub(super) const SIZE_BYTES: u16 = 2;
    pub(super) const BLOCK_SIZE_BYTES: u16 = 3;
    pub(super) const TIMEOUT: u16 = 4;
    pub(super) const SERVER_FLAGS: u16 = 5;
    pub(super) const CLIENT_FLAGS: u16 = 6;
    pub(super) const SOCKETS: u16 = 7;
    pub(super) const DEAD_CONN_TIMEOUT: u16 = 8;
    pub(super) const DEVICE_LIST: u16 = 9;
    pub(super) const BACKEND_IDENTIFIER: u16 = 10;
    // Each of a list's items has this kind.
    pub(super) const ITEM: u16 = 1;
    pub(super) const SOCKET_FD: u16 = 1;
    pub(super) const DEVICE_INDEX: u16 = 1;
    pub(super) const DEVICE_CONNECTED: u16 = 2;
}

/// A new device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Connect<'a> {
    /// N of `/dev/nbdN`; without it one that is not used, or a new one.
    pub(super) index: Option<u32>,
    /// How large it is.
    pub(super) size_bytes: u64,
    /// What it is read and written in.
    pub(super) block_bytes: u64,
    /// After so long without an answer a connection is given up.
    pub(super) timeout: Duration,
    /// After so long without a connection requests fail.
    pub(super) dead_connection_timeout: Duration,
    /// What the server can do, as it has said.
    pub(super) server_flags: u16,
    /// The connections' descriptors in this process.
    pub(super) sockets: &'a [u32],
    /// Whose it is.
    pub(super) identifier: &'a str,
}

/// What is to change about a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Change<'a> {
    /// It has another size.
    pub(super) size_bytes: Option<u64>,
    /// See [`Connect`].
    pub(super) timeout: Option<Duration>,
    /// See [`Connect`].
    pub(super) dead_connection_timeout: Option<Duration>,
    /// Connections for those that have ended.
    pub(super) sockets: &'a [u32],
}

/// Asks for a device.
pub(super) fn connect(wanted: &Connect<'_>) -> Message {
    let mut attributes = Vec::new();
    attributes.extend(wanted.index.map(|index| attribute(kind::INDEX, index)));
    attributes.extend([
        attribute(kind::SIZE_BYTES, wanted.size_bytes),
        attribute(kind::BLOCK_SIZE_BYTES, wanted.block_bytes),
        attribute(kind::TIMEOUT, wanted.timeout.as_secs()),
        attribute(kind::SERVER_FLAGS, u64::from(wanted.server_flags)),
        // None: it neither ends when it is closed, nor vanishes when it has ended.
        attribute(kind::CLIENT_FLAGS, 0u64),
        sockets(wanted.sockets),
        attribute(
            kind::DEAD_CONN_TIMEOUT,
            wanted.dead_connection_timeout.as_secs(),
        ),
        attribute(kind::BACKEND_IDENTIFIER, wanted.identifier),
    ]);
    message(command::CONNECT, VERSION, attributes)
}

/// Changes a device, which is refused if it is not this one's any more. Without a change this asks whether it is.
pub(super) fn reconfigure(index: u32, identifier: &str, change: &Change<'_>) -> Message {
    let mut attributes = vec![attribute(kind::INDEX, index)];
    attributes.extend(
        change
            .size_bytes
            .map(|size| attribute(kind::SIZE_BYTES, size)),
    );
    attributes.extend(
        change
            .timeout
            .map(|time| attribute(kind::TIMEOUT, time.as_secs())),
    );
    if !change.sockets.is_empty() {
        attributes.push(sockets(change.sockets));
    }
    attributes.extend(
        change
            .dead_connection_timeout
            .map(|time| attribute(kind::DEAD_CONN_TIMEOUT, time.as_secs())),
    );
    attributes.push(attribute(kind::BACKEND_IDENTIFIER, identifier));
    message(command::RECONFIGURE, VERSION, attributes)
}

/// Ends a device: whatever is under way fails, and so does all that comes until the last has closed it.
pub(super) fn disconnect(index: u32) -> Message {
    message(
        command::DISCONNECT,
        VERSION,
        vec![attribute(kind::INDEX, index)],
    )
}

/// Asks for all devices.
pub(super) fn status() -> Message {
    message(command::STATUS, VERSION, Vec::new())
}

fn sockets(sockets: &[u32]) -> Attribute {
    let item = |socket: &u32| nested(kind::ITEM, [attribute(kind::SOCKET_FD, *socket)]);
    nested(kind::SOCKETS, sockets.iter().map(item))
}

/// N of the device that was made.
pub(super) fn connected(answer: &Message) -> Option<u32> {
    (*answer.cmd() == command::CONNECT).then(|| index(answer))?
}

/// N of the device that has lost a connection.
pub(super) fn link_dead(notice: &Message) -> Option<u32> {
    (*notice.cmd() == command::LINK_DEAD).then(|| index(notice))?
}

/// N of each device that is in use.
pub(super) fn in_use(answer: &Message) -> Option<Vec<u32>> {
    let attributes = answer.attrs().get_attr_handle();
    let devices = attributes.get_nested_attributes::<u16>(kind::DEVICE_LIST);
    let devices = devices.ok()?;
    let device = |item: &Nlattr<u16, Buffer>| {
        let item = item.get_attr_handle::<u16>().ok()?;
        let used: u8 = item.get_attr_payload_as(kind::DEVICE_CONNECTED).ok()?;
        let index: u32 = item.get_attr_payload_as(kind::DEVICE_INDEX).ok()?;
        Some((index, used != 0))
    };
    let devices: Option<Vec<_>> = devices.iter().map(device).collect();
    let used = devices?.into_iter().filter(|(_, used)| *used);
    Some(used.map(|(index, _)| index).collect())
}

fn index(message: &Message) -> Option<u32> {
    let attributes = message.attrs().get_attr_handle();
    attributes.get_attr_payload_as(kind::INDEX).ok()
}

#[cfg(test)]
mod tests;
