//! `twinblk docker` beside a daemon, asked as Docker asks it: HTTP over its unix socket.

use crate::attached::{Attached, command};
use crate::foreign::tool;
use crate::node::Node;
use crate::program::{Running, run, twinblk};
use crate::{PATIENCE, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longer than Docker waits.
const SILENCE_MAX: Duration = Duration::from_secs(130);

/// A node's plugin, and whatever it has mounted. Dropping it takes all of that away.
pub struct Plugin {
    folder: PathBuf,
    process: Option<Running>,
    wrapper: Vec<String>,
}

impl Plugin {
    /// For a node, before its daemon is started. Nothing runs yet.
    pub fn beside(node: &Node) -> Plugin {
        Attached::prepare(node);
        let shown = node.folder().display();
        node.configure(&format!(
            "[docker]\nsocket = \"{shown}/plugins/twinblk.sock\"\nrun_dir = \"{shown}/mounts\"\nstate_dir = \"{shown}/docker\"\n"
        ));
        Plugin {
            folder: node.folder().to_owned(),
            process: None,
            wrapper: Vec::new(),
        }
    }

    /// The plugin is started by this command line, which its own is appended to.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Its command line.
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str);
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(twinblk());
                command
            }
            None => Command::new(twinblk()),
        };
        command
            .arg("docker")
            .arg("--config")
            .arg(self.folder.join("twinblk.toml"));
        command
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with its log.
    pub fn start(&mut self) {
        let process = Running::start(self.command(), &self.folder.join("docker.log"));
        self.process = Some(process.expect("the plugin starts"));
        wait_for("the plugin to answer", PATIENCE, || {
            if let Some(status) = self.process.as_mut().and_then(Running::ended) {
                panic!("the plugin has ended ({status}):\n{}", self.log());
            }
            self.ask("/Plugin.Activate", "").ok()
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Panics
    /// If the end is not clean.
    pub fn stop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        process.signal(Signal::TERM);
        let status = process.wait(PATIENCE).expect("the plugin stops");
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("plugins/twinblk.sock")
    }

    /// Where it mounts a volume.
    pub fn place(&self, volume: &str) -> PathBuf {
        self.folder.join("mounts").join(volume)
    }

    /// Sends a request's body as it is, and returns the status and the answer.
    pub fn ask(&self, path: &str, body: &str) -> io::Result<(u16, Value)> {
        ask(&self.socket(), path, body)
    }

    /// `VolumeDriver.CALL`: the answer, or what is wrong.
    ///
    /// # Panics
    /// If nobody answers.
    pub fn call(&self, call: &str, body: &Value) -> Result<Value, String> {
        let asked = self.ask(&format!("/VolumeDriver.{call}"), &body.to_string());
        let (_, answer) = asked.unwrap_or_else(|error| panic!("{call}: {error}\n{}", self.log()));
        match answer["Err"].as_str() {
            None | Some("") => Ok(answer),
            Some(error) => Err(error.to_owned()),
        }
    }

    /// Creates a volume.
    pub fn create(&self, volume: &str, options: &[(&str, &str)]) -> Result<(), String> {
        let options: serde_json::Map<String, Value> = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let body = json!({ "Name": volume, "Opts": options });
        self.call("Create", &body).map(drop)
    }

    /// Mounts a volume for a container; where it is.
    pub fn mount(&self, volume: &str, id: &str) -> Result<PathBuf, String> {
        let answer = self.call("Mount", &json!({ "Name": volume, "ID": id }))?;
        Ok(PathBuf::from(
            answer["Mountpoint"].as_str().unwrap_or_default(),
        ))
    }

    /// Unmounts it.
    pub fn unmount(&self, volume: &str, id: &str) -> Result<(), String> {
        let body = json!({ "Name": volume, "ID": id });
        self.call("Unmount", &body).map(drop)
    }

    /// Removes it.
    pub fn remove(&self, volume: &str) -> Result<(), String> {
        self.call("Remove", &json!({ "Name": volume })).map(drop)
    }

    /// What `docker volume inspect` would show.
    pub fn get(&self, volume: &str) -> Result<Value, String> {
        let answer = self.call("Get", &json!({ "Name": volume }))?;
        Ok(answer["Volume"].clone())
    }

    /// The names of all volumes.
    ///
    /// # Panics
    /// If they are not told.
    pub fn list(&self) -> Vec<String> {
        let answer = self.call("List", &json!({})).expect("they are told");
        let volumes = answer["Volumes"].as_array().expect("a list");
        let name = |volume: &Value| volume["Name"].as_str().unwrap_or_default().to_owned();
        volumes.iter().map(name).collect()
    }

    /// What there is of a volume: mounts, the device, and its process.
    pub fn traces(&self, volume: &str) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let devices = tool(
            "losetup",
            &["--list", "--noheadings", "--output", "NAME,BACK-FILE"],
        );
        let folder = self.folder.display().to_string();
        let lines = mounts.lines().chain(devices.stdout.lines());
        let mut traces: Vec<String> = lines
            .filter(|line| {
                line.contains(&format!("{folder}/")) && line.contains(&format!("/{volume}"))
            })
            .map(str::to_owned)
            .collect();
        let link = self.folder.join("devices").join(volume);
        traces.extend(
            link.symlink_metadata()
                .ok()
                .map(|_| link.display().to_string()),
        );
        traces
    }

    /// Waits until there is nothing of a volume.
    ///
    /// # Panics
    /// If something stays.
    pub fn wait_clean(&self, volume: &str) {
        let begun = std::time::Instant::now();
        loop {
            let traces = self.traces(volume);
            if traces.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{traces:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGKILL to the processes that serve devices, as where the machine dies.
    pub fn kill_devices(&self) {
        for volume in self.attached() {
            let lock = self.folder.join(format!("attached/{volume}.lock"));
            let number = std::fs::read_to_string(&lock).unwrap_or_default();
            let process = number.trim().parse().ok().and_then(Pid::from_raw);
            let serves = |process: Pid| {
                let path = format!("/proc/{}/cmdline", process.as_raw_nonzero());
                let text = std::fs::read(path).unwrap_or_default();
                String::from_utf8_lossy(&text).contains("attach")
            };
            if let Some(process) = process.filter(|process| serves(*process)) {
                let _ = kill_process(process, Signal::KILL);
            }
        }
    }

    /// Volumes that were ever attached.
    fn attached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join("attached"));
        let entries = entries.into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let locks = names.filter_map(|name| name.strip_suffix(".lock").map(str::to_owned));
        locks.collect()
    }

    /// What it has printed in all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("docker.log")).unwrap_or_default()
    }
}

impl Drop for Plugin {
    /// Nothing of it may stay, also when a test has failed at the worst moment.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the plugin's log:\n{}", self.log());
        }
        self.kill();
        for volume in self.attached() {
            let place = self.place(&volume);
            if place.exists() {
                let place = place.display().to_string();
                tool("umount", &["--lazy", "--quiet", &place]);
            }
            run(
                command(&self.folder, &["detach", &volume, "--force"]),
                PATIENCE,
            );
            // Of a process that was killed.
            run(command(&self.folder, &["detach", &volume]), PATIENCE);
        }
    }
}

/// Posts a body to a path of a server behind a unix socket; the status and the answer, which is JSON.
pub fn ask(socket: &Path, path: &str, body: &str) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, text.clone());
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let answer = serde_json::from_str(body).map_err(|_| broken())?;
    Ok((status.ok_or_else(broken)?, answer))
}
