//! Generic netlink: one question to the kernel and what it answers, and what it tells unasked.

use neli::consts::nl::NlmF;
use neli::consts::socket::NlFamily;
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder, NoUserHeader};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::socket::{asynchronous, synchronous};
use neli::types::{Buffer, GenlBuffer};
use neli::utils::Groups;
use neli::{Size, ToBytes};
use std::io;

/// A command and its attributes.
pub(super) type Message = Genlmsghdr<u8, u16, NoUserHeader>;
/// An attribute.
pub(super) type Attribute = neli::genl::Nlattr<u16, Buffer>;

/// The family that knows the others, of linux/genetlink.h.
mod control {
    pub(super) const FAMILY: u16 = 0x10;
    pub(super) const VERSION: u8 = 2;
    pub(super) const GET_FAMILY: u8 = 3;
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
    pub(super) const GROUPS: u16 = 7;
    pub(super) const GROUP_NAME: u16 = 1;
    pub(super) const GROUP_ID: u16 = 2;
}

/// A part of the kernel that can be spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Family {
    id: u16,
    // Whoever belongs to it is told things.
    group: u32,
}

/// An attribute of a message.
pub(super) fn attribute(kind: u16, payload: impl Size + ToBytes) -> Attribute {
    let kind = AttrTypeBuilder::default().nla_type(kind).build();
    let kind = kind.expect("a kind is all that it needs");
    let attribute = NlattrBuilder::default().nla_type(kind).nla_payload(payload);
    attribute.build().expect("both are there")
}

/// An attribute that consists of others.
pub(super) fn nested(kind: u16, inner: impl IntoIterator<Item = Attribute>) -> Attribute {
    let outer = attribute(kind, Buffer::from(Vec::new()));
    inner.into_iter().fold(outer, |outer, inner| {
        outer.nest(&inner).expect("memory takes what is written")
    })
}

/// A message of a family's.
pub(super) fn message(command: u8, version: u8, attributes: Vec<Attribute>) -> Message {
    let message = GenlmsghdrBuilder::default()
        .cmd(command)
        .version(version)
        .attrs(attributes.into_iter().collect::<GenlBuffer<u16, Buffer>>());
    message.build().expect("command and version are there")
}

impl Family {
    /// Looks a family up, with one of its groups; there is none if the kernel's part is not loaded.
    pub(super) fn find(name: &str, group: &str) -> io::Result<Option<Family>> {
        let attributes = vec![attribute(control::FAMILY_NAME, name)];
        let question = message(control::GET_FAMILY, control::VERSION, attributes);
        let answers = match ask(control::FAMILY, question) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            answers => answers?,
        };
        let found = answers.first().and_then(|answer| described(answer, group));
        let found = found.ok_or_else(|| malformed("of a family"))?;
        Ok(Some(found))
    }

    /// Has the kernel do something, and returns what it answers besides that it is done. It may take its time.
    pub(super) fn ask(self, question: Message) -> io::Result<Vec<Message>> {
        ask(self.id, question)
    }

    /// What the kernel tells unasked, from now on.
    pub(super) fn listen(self) -> io::Result<Notices> {
        let socket =
            asynchronous::NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty());
        let socket = socket.map_err(io::Error::other)?;
        let joined = socket.add_mcast_membership(Groups::new_groups(&[self.group]));
        joined.map_err(io::Error::other)?;
        Ok(Notices { socket })
    }
}

/// A family's number and its group's in what the kernel says of it.
fn described(answer: &Message, group: &str) -> Option<Family> {
    let attributes = answer.attrs().get_attr_handle();
    let id = attributes.get_attr_payload_as(control::FAMILY_ID).ok()?;
    let groups = attributes.get_nested_attributes::<u16>(control::GROUPS);
    let group = groups.ok()?.iter().find_map(|item| {
        let item = item.get_attr_handle::<u16>().ok()?;
        let name = item.get_attribute(control::GROUP_NAME)?.nla_payload();
        let name = name.as_ref().strip_suffix(b"\0").unwrap_or(name.as_ref());
        let id = item.get_attr_payload_as(control::GROUP_ID).ok()?;
        (name == group.as_bytes()).then_some(id)
    });
    Some(Family { id, group: group? })
}

/// Each question has a socket of its own, so that an answer is never another's.
fn ask(family: u16, question: Message) -> io::Result<Vec<Message>> {
    let socket = synchronous::NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty());
    let socket = socket.map_err(io::Error::other)?;
    let request = NlmsghdrBuilder::default()
        .nl_type(family)
        .nl_flags(NlmF::REQUEST | NlmF::ACK)
        .nl_seq(1)
        .nl_payload(NlPayload::Payload(question));
    let request = request.build().expect("all of it is there");
    socket.send(&request).map_err(io::Error::other)?;
    let mut answers = Vec::new();
    loop {
        let (received, _) = socket.recv::<u16, Message>().map_err(io::Error::other)?;
        for message in received {
            let message: Nlmsghdr<u16, Message> = message.map_err(io::Error::other)?;
            match message.nl_payload() {
                NlPayload::Payload(answer) => answers.push(answer.clone()),
                NlPayload::Err(error) => {
                    return Err(io::Error::from_raw_os_error(-error.error()));
                }
                NlPayload::Ack(_) => return Ok(answers),
                NlPayload::Empty | NlPayload::DumpExtAck(_) => {}
            }
        }
    }
}

/// What an answer lacks.
pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::other(format!("the kernel's answer {what} is not understood"))
}

/// What the kernel tells unasked.
pub(super) struct Notices {
    socket: asynchronous::NlSocketHandle,
}

impl Notices {
    /// The next; `None` where it cannot be told what it was, or whether some were lost.
    pub(super) async fn next(&self) -> Option<Message> {
        let (mut received, _) = self.socket.recv::<u16, Message>().await.ok()?;
        let message: Nlmsghdr<u16, Message> = received.next()?.ok()?;
        message.get_payload().cloned()
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, attribute, described, message, nested};

    #[test]
    fn a_family_is_described_with_its_group() {
        let group = |id: u32, name: &str| {
            nested(
                u16::try_from(id).expect("small"),
                [attribute(2, id), attribute(1, name)],
            )
        };
        let attributes = |groups| vec![attribute(2, "nbd"), attribute(1, 31u16), nested(7, groups)];
        let answer = message(
            1,
            2,
            attributes(vec![group(5, "other"), group(9, "nbd_mc_group")]),
        );
        let found = described(&answer, "nbd_mc_group");
        assert_eq!(found, Some(Family { id: 31, group: 9 }));
        let answer = message(1, 2, attributes(vec![group(5, "other")]));
        assert_eq!(described(&answer, "nbd_mc_group"), None);
        assert_eq!(described(&message(1, 2, Vec::new()), "nbd_mc_group"), None);
    }

    #[test]
    fn a_family_that_is_not_there_is_none() {
        let found = Family::find("twinblk-none", "none").expect("the kernel answers");
        assert_eq!(found, None);
    }

    #[test]
    fn the_family_of_families_is_there() {
        let found = Family::find("nlctrl", "notify").expect("the kernel answers");
        assert_eq!(found.expect("it is").id, 0x10);
    }
}
