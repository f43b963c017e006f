//! What a service manager is told.

use e2e::PATIENCE;
use e2e::arbiter::{Arbiter, Kind};
use e2e::cluster::Cluster;
use rustix::process::Signal;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

/// The watchdog's time: a third of it is well above how late two busy cores make a task.
const WATCHDOG: Duration = Duration::from_millis(900);

/// Listens as a service manager does.
struct Manager {
    socket: UnixDatagram,
    settings: [String; 3],
}

impl Manager {
    fn new(folder: &Path) -> Manager {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let named = format!("NOTIFY_SOCKET={}", path.display());
        let time = format!("WATCHDOG_USEC={}", WATCHDOG.as_micros());
        Manager {
            socket,
            settings: ["env".to_owned(), named, time],
        }
    }

    /// What a program is started by that shall tell it.
    fn wrapper(&self) -> [&str; 3] {
        self.settings.each_ref().map(String::as_str)
    }

    /// What it is told within a time.
    fn hear(&self, limit: Duration) -> Option<String> {
        let mut text = [0; 256];
        self.socket
            .set_read_timeout(Some(limit))
            .expect("a time limit");
        match self.socket.recv(&mut text) {
            Ok(length) => Some(String::from_utf8_lossy(&text[..length]).trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("the socket fails: {error}"),
        }
    }

    /// Waits for a line, past the signs of life.
    fn wait_for(&self, wanted: &str) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.hear(PATIENCE) {
                Some(line) if line == wanted => return,
                Some(line) => assert_eq!(line, "WATCHDOG=1"),
                None => break,
            }
        }
        panic!("it does not say {wanted}");
    }

    /// Signs of life come in time, so many times.
    fn assert_alive(&self, times: u32) {
        for _ in 0..times {
            let line = self.hear(WATCHDOG);
            assert_eq!(line.as_deref(), Some("WATCHDOG=1"));
        }
    }
}

#[test]
fn the_daemon_shows_that_it_lives_until_it_stops() {
    let mut cluster = Cluster::prepared(&["alpha"]);
    let manager = Manager::new(cluster.folder());
    let alpha = &mut cluster.nodes[0];
    alpha.wrap(&manager.wrapper());
    alpha.start();
    assert_eq!(manager.hear(PATIENCE).as_deref(), Some("READY=1"));
    manager.assert_alive(6);
    alpha.signal(Signal::STOP);
    let silent = (0..4).find(|_| manager.hear(WATCHDOG).is_none());
    assert!(silent.is_some(), "who does not run shows no life");
    alpha.signal(Signal::CONT);
    manager.assert_alive(3);
    alpha.stop();
    manager.wait_for("STOPPING=1");
}

#[test]
fn the_witness_shows_that_it_lives() {
    let cluster = Cluster::prepared(&["alpha"]);
    let manager = Manager::new(cluster.folder());
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    witness.wrap(&manager.wrapper());
    witness.start();
    assert_eq!(manager.hear(PATIENCE).as_deref(), Some("READY=1"));
    manager.assert_alive(4);
}
