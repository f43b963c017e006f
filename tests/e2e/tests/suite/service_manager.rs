//! What a service manager is told, and the units that are shipped in `scripts/systemd`.

use e2e::PATIENCE;
use e2e::arbiter::{Arbiter, Kind};
use e2e::cluster::Cluster;
use e2e::program;
use rustix::process::Signal;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
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

/// A folder with the units as they are shipped, but for this build's program in the place of the installed one.
fn units(folder: &Path) -> Vec<PathBuf> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/systemd");
    let shipped = std::fs::read_dir(shipped).expect("the units are there");
    let program = program::twinblk().display().to_string();
    let shipped = shipped.map(|entry| entry.expect("a unit").path());
    let units = shipped.filter(|path| path.extension() != Some(OsStr::new("rules")));
    let units = units.map(|path| {
        let name = match path.file_name().and_then(OsStr::to_str) {
            // A template cannot be loaded, and a mount has the name of its place.
            Some("twinblk-attach@.service") => "twinblk-attach@pgdata.service",
            Some("example.mount") => "srv-pgdata.mount",
            name => name.expect("a name"),
        };
        let text = std::fs::read_to_string(&path).expect("a unit");
        let unit = folder.join(name);
        std::fs::write(&unit, text.replace("/usr/bin/twinblk", &program)).expect("a unit");
        unit
    });
    units.collect()
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let units = units(folder.path());
    assert!(units.len() >= 5, "{units:?}");
    let mut verify = Command::new("systemd-analyze");
    let path = format!("{}:", folder.path().display());
    verify.env("SYSTEMD_UNIT_PATH", path);
    verify
        .args(["verify", "--man=no", "--recursive-errors=yes"])
        .args(units);
    let found = program::run(verify, PATIENCE);
    assert_eq!(
        (found.code, found.stderr.as_str()),
        (Some(0), ""),
        "{found:?}"
    );
}

#[test]
fn what_needs_no_privileges_has_none() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/systemd");
    // In tenths of what systemd prints; docs/INSTALL.md has the figures.
    for (unit, exposure) in [("twinblk", 20), ("twinblk-witness", 15)] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager"]);
        analyze.arg(format!("--threshold={exposure}"));
        analyze.arg(shipped.join(format!("{unit}.service")));
        program::run(analyze, PATIENCE).success();
    }
}
