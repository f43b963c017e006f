//! A machine with a Docker Engine of its own: namespaces of processes, mounts and network, a name, a `/run` that nobody else
//! sees, `dockerd` and its containerd, and whatever else is started on it. It dies as machines do, all at once.
//!
//! Needs Debian's `docker.io` and `busybox-static`, and root.

use crate::attached::possible;
use crate::foreign::tool;
use crate::hosts::Host;
use crate::program::{self, Output, Running};
use crate::{PATIENCE, wait_for};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Docker itself waits for two minutes for a plugin.
const COMMAND_MAX: Duration = Duration::from_secs(180);
/// The image that all containers are of.
pub const IMAGE: &str = "box";

/// One machine. Dropping it ends all that runs on it.
pub struct Engine {
    host: Host,
    folder: PathBuf,
    cgroup: String,
    first: Option<Running>,
    dockerd: Option<Running>,
    live_restore: bool,
}

/// Whether this machine has what it takes.
pub fn engines_possible() -> bool {
    possible()
        && ["dockerd", "docker", "containerd"]
            .iter()
            .all(|name| found(name))
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

impl Engine {
    /// On a host, with its files in a folder, which must be there when it begins. Nothing runs.
    pub fn on(host: &Host, folder: &Path) -> Engine {
        Engine {
            host: host.clone(),
            folder: folder.to_owned(),
            cgroup: host.namespace().to_owned(),
            first: None,
            dockerd: None,
            live_restore: true,
        }
    }

    /// Its containers end with dockerd. A Swarm refuses others.
    pub fn without_live_restore(&mut self) {
        self.live_restore = false;
    }

    /// The address that others reach it at.
    pub fn address(&self) -> String {
        self.host.at(0).ip().to_string()
    }

    /// Begins a life of it, in which nothing runs yet. Its first process is a shell in a loop, which also buries the dead.
    ///
    /// # Panics
    /// If it does not begin.
    pub fn begin(&mut self) {
        let plugins = self.folder.join("plugins");
        std::fs::create_dir_all(&plugins).expect("a folder");
        let _ = std::fs::remove_file(plugins.join("twinblk.sock"));
        // A machine's /dev does not outlive it.
        let _ = std::fs::remove_dir_all(self.folder.join("devices"));
        let script = format!(
            "hostname {} && mount -t tmpfs tmpfs /run && mkdir -p /run/docker/plugins && \
             mount --bind {} /run/docker/plugins && while sleep 1; do :; done",
            self.host.name(),
            plugins.display()
        );
        let [nsenter, net] = self.host.wrapper();
        let mut command = Command::new(nsenter);
        let spaces = ["--mount", "--uts", "--pid", "--fork", "--kill-child"];
        command
            .args([&net, "unshare"])
            .args(spaces)
            .args(["--mount-proc", "sh", "-c", &script]);
        let log = self.folder.join("machine.log");
        self.first = Some(Running::start(command, &log).expect("it starts"));
        wait_for("the machine's /run", PATIENCE, || {
            self.first_child()?;
            let output = self.run("mountpoint", &["-q", "/run/docker/plugins"]);
            (output.code == Some(0)).then_some(())
        });
    }

    /// The first process, whose end is everybody's.
    fn first_child(&self) -> Option<u32> {
        let parent = self.first.as_ref()?.id();
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(path).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// The command line that a program's own is appended to, to run on it in this life. Whoever kills what is started so
    /// kills the program: `nsenter` is only its parent.
    pub fn wrapper(&self) -> Vec<String> {
        let first = self.first_child().unwrap_or_default().to_string();
        let enter = ["nsenter", "--target", &first];
        let spaces = ["--mount", "--uts", "--pid", "--net"];
        let die = ["setpriv", "--pdeathsig", "KILL", "--"];
        let words = [&enter[..], &spaces, &die].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs a program on it.
    pub fn run(&self, program: &str, words: &[&str]) -> Output {
        let wrapper = self.wrapper();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(program).args(words);
        program::run(command, COMMAND_MAX)
    }

    /// `docker`, with these words.
    pub fn docker(&self, words: &[&str]) -> Output {
        self.run("docker", words)
    }

    /// Starts dockerd, and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with its log.
    pub fn start_docker(&mut self) {
        let wrapper = self.wrapper();
        let mut command = Command::new(&wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg("dockerd")
            .arg("--data-root")
            .arg(self.folder.join("docker-data"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg(format!("--live-restore={}", self.live_restore))
            .arg(format!("--cgroup-parent=/{}", self.cgroup));
        let dockerd = Running::start(command, &self.folder.join("dockerd.log"));
        self.dockerd = Some(dockerd.expect("dockerd starts"));
        wait_for("dockerd to answer", PATIENCE, || {
            (self.docker(&["version"]).code == Some(0)).then_some(())
        });
    }

    /// SIGKILL to dockerd alone: containers go on.
    pub fn kill_docker(&mut self) {
        self.run(
            "sh",
            &[
                "-c",
                "kill -KILL $(cat /run/docker.pid) && rm -f /run/docker.pid",
            ],
        )
        .success();
        if let Some(dockerd) = self.dockerd.take() {
            dockerd.wait(PATIENCE);
        }
    }

    /// Takes an image in whose content is a folder's, with these changes, which are written as in a Dockerfile.
    ///
    /// # Panics
    /// If it cannot.
    pub fn import(&self, tree: &Path, name: &str, changes: &[&str]) {
        let archive = self.folder.join("image.tar");
        let (archive, tree) = (archive.display().to_string(), tree.display().to_string());
        tool("tar", &["-C", &tree, "-cf", &archive, "."]).success();
        let mut words = vec!["import"];
        words.extend(changes.iter().flat_map(|change| ["--change", change]));
        words.extend([archive.as_str(), name]);
        self.docker(&words).success();
    }

    /// Everything on it is killed at once.
    pub fn die(&mut self) {
        self.end();
        self.dockerd = None;
        self.forget();
    }

    /// The first process is gone only when all others are.
    fn end(&mut self) {
        let Some(child) = self.first_child() else {
            self.first = None;
            return;
        };
        let devices = self.devices();
        // Whoever is the last in a namespace unmounts what is in it. If that is who serves the device below, it waits for
        // itself. No machine's end does that; here this process is the last.
        let mounts = File::open(format!("/proc/{child}/ns/mnt")).expect("it lives");
        if let Some(first) = self.first.take() {
            first.kill();
        }
        let path = PathBuf::from(format!("/proc/{child}"));
        for _ in 0..500 {
            if !path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if path.exists() {
            eprintln!("{}'s processes have not ended", self.host.name());
        }
        drop(mounts);
        for device in devices {
            tool("losetup", &["--detach", &device]);
        }
    }

    /// The loop devices of its volumes: only in it their files have their whole names.
    fn devices(&self) -> Vec<String> {
        let words = [
            "--list",
            "--noheadings",
            "--raw",
            "--output",
            "NAME,BACK-FILE",
        ];
        let listed = self.run("losetup", &words).stdout;
        let folder = self.folder.display().to_string();
        let devices = listed.lines().filter_map(|line| line.split_once(' '));
        let own = devices.filter(|(_, file)| file.starts_with(&folder));
        own.map(|(device, _)| device.to_owned()).collect()
    }

    /// What a machine's end takes with it, and this one's leaves to the kernel that it shares.
    fn forget(&self) {
        // As deep as Docker makes them.
        let script = format!(
            "find /sys/fs/cgroup -depth -type d \\( -name '{0}' -o -path '*/{0}/*' \\) -exec rmdir {{}} + 2>/dev/null",
            self.cgroup
        );
        tool("sh", &["-c", &script]);
    }

    /// The last whole line that a container has printed there, dead or alive.
    pub fn last_words(&self) -> Option<String> {
        let containers = std::fs::read_dir(self.folder.join("docker-data/containers"));
        let last = |folder: std::fs::DirEntry| {
            let name = folder.file_name().into_string().ok()?;
            let log =
                std::fs::read_to_string(folder.path().join(format!("{name}-json.log"))).ok()?;
            let mut lines = log.lines().rev();
            lines.find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                line["log"].as_str()?.strip_suffix('\n').map(str::to_owned)
            })
        };
        containers.into_iter().flatten().flatten().find_map(last)
    }

    /// What dockerd has said in all its lives.
    pub fn docker_log(&self) -> String {
        std::fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.first.is_some() {
                let script = "tail -n 20 /tmp/*; tail -n 5 /data/log";
                let told = self.docker(&["exec", "counter", "/bin/sh", "-c", script]);
                eprintln!("the container on {}: {told:?}", self.host.name());
            }
            let log = self.docker_log();
            let skipped = log.lines().count().saturating_sub(30);
            let end: Vec<&str> = log.lines().skip(skipped).collect();
            eprintln!(
                "the end of {}'s dockerd.log:\n{}",
                self.host.name(),
                end.join("\n")
            );
        }
        self.end();
        self.forget();
    }
}
