//! Ports for what tests start.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Ports that nobody listens on, below those that the kernel gives to outgoing connections. Tests run in
/// processes of their own, so each begins its search elsewhere, and gives no port twice.
pub fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("nothing fails while it is held");
    let first = 10_000 + u16::try_from(std::process::id() * 7 % 20_000).unwrap_or(0);
    let ports: Vec<u16> = (first..32_000)
        .chain(10_000..first)
        .filter(|port| !given.contains(port))
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(count)
        .collect();
    given.extend(&ports);
    ports
}
