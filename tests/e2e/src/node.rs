//! One daemon and its folder.

use crate::nbd::{Client, Endpoint};
use crate::program::{self, Output, Running};
use crate::{PATIENCE, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A node's name, port and files; and its daemon, while that runs.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    daemon: Option<Running>,
    wrapper: Vec<String>,
}

impl Node {
    /// A node whose configuration lies in the folder as `twinblk.toml`.
    pub fn new(name: &str, folder: &Path) -> Node {
        Node {
            name: name.to_owned(),
            folder: folder.to_owned(),
            daemon: None,
            wrapper: Vec::new(),
        }
    }

    /// The daemon is started by this command line, which its own is appended to.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Adds sections to its configuration, for the daemon's next start.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn configure(&self, sections: &str) {
        let file = self.folder.join("twinblk.toml");
        let mut text = std::fs::read_to_string(&file).expect("the configuration");
        text.push('\n');
        text.push_str(sections);
        std::fs::write(&file, text).expect("the configuration");
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// A volume's data file.
    pub fn data(&self, volume: &str) -> PathBuf {
        self.state().join("volumes").join(volume).join("data")
    }

    /// A volume's metadata file.
    pub fn metadata(&self, volume: &str) -> PathBuf {
        self.state().join("volumes").join(volume).join("meta")
    }

    /// Where NBD clients connect to.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.nbd_socket())
    }

    /// The socket for NBD clients.
    pub fn nbd_socket(&self) -> PathBuf {
        self.folder.join("nbd.sock")
    }

    /// A volume as libnbd's and QEMU's tools name it.
    pub fn uri(&self, volume: &str) -> String {
        format!(
            "nbd+unix:///{volume}?socket={}",
            self.nbd_socket().display()
        )
    }

    /// Opens a volume, as soon as the node serves it.
    ///
    /// # Panics
    /// If it does not in time; with its last refusal.
    pub fn open(&self, volume: &str) -> Client {
        let mut refusal = String::new();
        let limit = std::time::Instant::now() + PATIENCE;
        loop {
            match Client::open(&self.endpoint(), volume) {
                Ok(client) => return client,
                Err(error) => refusal = error.to_string().max(refusal),
            }
            assert!(
                std::time::Instant::now() < limit,
                "{} does not serve {volume}: {refusal}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tries to open a volume.
    pub fn try_open(&self, volume: &str) -> io::Result<Client> {
        Client::open(&self.endpoint(), volume)
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with its log.
    pub fn start(&mut self) {
        self.launch();
        wait_for(
            &format!("{} to answer\n{}", self.name, self.log()),
            PATIENCE,
            || {
                if let Some(status) = self.daemon.as_mut().and_then(Running::ended) {
                    panic!("{} has ended with {status}:\n{}", self.name, self.log());
                }
                (self.cli(&["volume", "ls", "--json"]).code == Some(0)).then_some(())
            },
        );
    }

    /// Starts the daemon and does not wait.
    ///
    /// # Panics
    /// If it runs already, or cannot be started.
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "{} runs already", self.name);
        let command = self.command();
        self.daemon = Some(Running::start(command, &self.log_path()).expect("the daemon starts"));
    }

    /// The daemon's command line.
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str);
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(program::twinblk());
                command
            }
            None => Command::new(program::twinblk()),
        };
        command
            .arg("serve")
            .arg("--config")
            .arg(self.folder.join("twinblk.toml"));
        command
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Panics
    /// If the end is not clean, with the log.
    pub fn stop(&mut self) {
        let Some(daemon) = self.daemon.take() else {
            return;
        };
        daemon.signal(Signal::TERM);
        let status = daemon
            .wait(PATIENCE)
            .unwrap_or_else(|| panic!("{} does not stop:\n{}", self.name, self.log()));
        assert!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            self.log()
        );
    }

    /// The daemon's exit code, once it has ended by itself.
    ///
    /// # Panics
    /// If it has not in time.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        let daemon = self.daemon.take()?;
        let status = daemon.wait(PATIENCE);
        status
            .unwrap_or_else(|| panic!("{} does not end:\n{}", self.name, self.log()))
            .code()
    }

    /// The daemon's process number.
    pub fn process(&self) -> Option<u32> {
        self.daemon.as_ref().map(Running::id)
    }

    /// Where a path of the daemon's is found, which may have mounts of its own.
    ///
    /// # Panics
    /// If it does not run, or the path is not absolute.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let process = self.process().expect("the daemon runs");
        let relative = path.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{process}/root")).join(relative)
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(daemon) = &self.daemon {
            daemon.signal(signal);
        }
    }

    /// What the daemon has printed in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs the command line tool against this node.
    pub fn cli(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program::twinblk());
        command
            .arg("--admin")
            .arg(self.folder.join("admin.sock"))
            .args(words);
        program::run(command, 2 * PATIENCE)
    }

    /// Runs the command line tool, which must end well.
    ///
    /// # Panics
    /// If it does not, with what it and the daemon printed.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.cli(words);
        if output.code != Some(0) {
            panic!("{} {words:?}: {output:?}\n{}", self.name, self.log());
        }
        output.stdout
    }

    /// A volume's status.
    ///
    /// # Panics
    /// If the tool's answer is not JSON.
    pub fn status(&self, volume: &str) -> Option<Value> {
        let output = self.cli(&["volume", "status", volume, "--json"]);
        (output.code == Some(0))
            .then(|| serde_json::from_str(&output.stdout).expect("status --json prints JSON"))
    }

    /// Waits until a volume's status is as wanted.
    ///
    /// # Panics
    /// If that takes too long, with the last status and the log.
    pub fn wait_status(&self, volume: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begin = std::time::Instant::now();
        loop {
            let status = self.status(volume);
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{}: {volume} is not {what}: {status:?}\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a state word.
    pub fn wait_state(&self, volume: &str, state: &str) -> Value {
        self.wait_status(volume, state, |status| status["state"] == state)
    }

    /// The daemon's events, one JSON object each.
    ///
    /// # Panics
    /// If the tool's answer is not JSON.
    pub fn events(&self) -> Vec<Value> {
        let text = self.ok(&["events", "--json"]);
        if let Ok(Value::Array(events)) = serde_json::from_str(&text) {
            return events;
        }
        text.lines()
            .map(|line| serde_json::from_str(line).expect("events --json prints JSON"))
            .collect()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }
}
