use super::{
    Change, Connect, connect, connected, disconnect, in_use, link_dead, reconfigure, status,
};
use crate::attach::netlink::{Message, attribute, message, nested};
use neli::ToBytes;
use std::io::Cursor;
use std::time::Duration;

fn bytes(message: &Message) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    message.to_bytes(&mut out).expect("memory takes it");
    out.into_inner()
}

const DAY: Duration = Duration::from_secs(86_400);

/// Golden bytes, by the numbers of linux/nbd-netlink.h and the layout of linux/netlink.h.
#[cfg(target_endian = "little")]
mod golden {
    use super::*;

    #[test]
    fn a_device_is_asked_for() {
        let wanted = Connect {
            index: Some(3),
            size_bytes: 64 << 20,
            block_bytes: 512,
            timeout: DAY,
            dead_connection_timeout: 2 * DAY,
            server_flags: 0x016d,
            sockets: &[9, 10],
            identifier: "run/v",
        };
        let mut golden = vec![1, 1, 0, 0];
        golden.extend(b"\x08\0\x01\0\x03\0\0\0");
        golden.extend(b"\x0c\0\x02\0\0\0\0\x04\0\0\0\0");
        golden.extend(b"\x0c\0\x03\0\0\x02\0\0\0\0\0\0");
        golden.extend(b"\x0c\0\x04\0\x80\x51\x01\0\0\0\0\0");
        golden.extend(b"\x0c\0\x05\0\x6d\x01\0\0\0\0\0\0");
        golden.extend(b"\x0c\0\x06\0\0\0\0\0\0\0\0\0");
        golden.extend(b"\x1c\0\x07\x80");
        golden.extend(b"\x0c\0\x01\x80\x08\0\x01\0\x09\0\0\0");
        golden.extend(b"\x0c\0\x01\x80\x08\0\x01\0\x0a\0\0\0");
        golden.extend(b"\x0c\0\x08\0\0\xa3\x02\0\0\0\0\0");
        golden.extend(b"\x0a\0\x0a\0run/v\0\0\0");
        assert_eq!(bytes(&connect(&wanted)), golden);

        let anywhere = Connect {
            index: None,
            ..wanted
        };
        golden.drain(4..12);
        assert_eq!(bytes(&connect(&anywhere)), golden);
    }

    #[test]
    fn a_device_is_changed() {
        let asked = reconfigure(7, "v", &Change::default());
        let mut golden = b"\x03\x01\0\0\x08\0\x01\0\x07\0\0\0".to_vec();
        let identifier = b"\x06\0\x0a\0v\0\0\0";
        assert_eq!(bytes(&asked), [&golden[..], identifier].concat());
        let change = Change {
            size_bytes: Some(4096),
            timeout: Some(Duration::from_secs(20)),
            dead_connection_timeout: Some(Duration::from_secs(60)),
            sockets: &[5],
        };
        golden.extend(b"\x0c\0\x02\0\0\x10\0\0\0\0\0\0");
        golden.extend(b"\x0c\0\x04\0\x14\0\0\0\0\0\0\0");
        golden.extend(b"\x10\0\x07\x80\x0c\0\x01\x80\x08\0\x01\0\x05\0\0\0");
        golden.extend(b"\x0c\0\x08\0\x3c\0\0\0\0\0\0\0");
        golden.extend(identifier);
        assert_eq!(bytes(&reconfigure(7, "v", &change)), golden);
    }

    #[test]
    fn a_device_is_ended_and_all_are_asked_for() {
        let golden = b"\x02\x01\0\0\x08\0\x01\0\x07\0\0\0";
        assert_eq!(bytes(&disconnect(7)), golden);
        assert_eq!(bytes(&status()), b"\x05\x01\0\0");
    }
}

#[test]
fn what_the_kernel_says_names_the_device() {
    let of = |command| message(command, 0, vec![attribute(1, 12u32)]);
    assert_eq!(connected(&of(1)), Some(12));
    assert_eq!(connected(&of(4)), None);
    assert_eq!(link_dead(&of(4)), Some(12));
    assert_eq!(link_dead(&of(5)), None);
    assert_eq!(link_dead(&message(4, 0, Vec::new())), None);
    // Of a length that no number has.
    assert_eq!(link_dead(&message(4, 0, vec![attribute(1, 1u16)])), None);
}

#[test]
fn devices_that_are_used_are_told_from_others() {
    let device = |index: u32, used: u8| nested(1, [attribute(1, index), attribute(2, used)]);
    let list = nested(9, [device(0, 0), device(1, 1), device(17, 1)]);
    let answer = message(5, 0, vec![list]);
    assert_eq!(in_use(&answer), Some(vec![1, 17]));
    let none = message(5, 0, vec![nested(9, [])]);
    assert_eq!(in_use(&none), Some(Vec::new()));
    assert_eq!(in_use(&message(5, 0, Vec::new())), None);
    let broken = nested(9, [nested(1, [attribute(1, 0u32)])]);
    assert_eq!(in_use(&message(5, 0, vec![broken])), None);
}
