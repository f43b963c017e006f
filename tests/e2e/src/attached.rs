//! A volume as a block device of this machine, with or without a file system on it.

use crate::foreign::tool;
use crate::node::Node;
use crate::program::{self, Output, Running};
use crate::{PATIENCE, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Set where these tests are run in a guest, for its kernel's nbd driver.
pub const IN_GUEST: &str = "TWINBLK_GUEST";

/// Who carries the devices' requests, as the configuration names it.
pub fn backend() -> &'static str {
    if std::env::var_os(IN_GUEST).is_some() {
        "nbd"
    } else {
        "loop"
    }
}

/// How many bytes to write where another machine can take this many: everything is slow in a guest.
pub fn amount(bytes: usize) -> usize {
    if backend() == "nbd" { bytes / 8 } else { bytes }
}

/// Whether this machine can do it, and this user may.
///
/// # Panics
/// In a guest that cannot.
pub fn possible() -> bool {
    if backend() == "nbd" {
        assert!(Path::new("/sys/module/nbd").exists(), "it is a guest's");
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    root && Path::new("/dev/fuse").exists() && Path::new("/dev/loop-control").exists()
}

/// An attached volume. Dropping it gives it back, whatever state it is in.
#[derive(Debug)]
pub struct Attached {
    folder: PathBuf,
    volume: String,
    // Gone when the volume's own process has been killed or has ended.
    process: Option<Running>,
    device: PathBuf,
}

impl Attached {
    /// To be called once, before the node is started: keeps what is attached in its folder.
    pub fn prepare(node: &Node) {
        let shown = node.folder().display();
        node.configure(&format!(
            "[attach]\ndevices = \"{shown}/devices\"\nrun_dir = \"{shown}/attached\"\nbackend = \"{}\"\n",
            backend()
        ));
    }

    /// Attaches a volume, by a process that is this one's child.
    ///
    /// # Panics
    /// If there is no device in time.
    pub fn new(node: &Node, volume: &str) -> Attached {
        Attached::with(node, volume, &[])
    }

    /// As [`Self::new`], with these words behind the command.
    ///
    /// # Panics
    /// If there is no device in time.
    pub fn with(node: &Node, volume: &str, words: &[&str]) -> Attached {
        let folder = node.folder().to_owned();
        let log = folder.join(format!("{volume}.attach.log"));
        let mut command = command(&folder, &["attach", volume, "--foreground"]);
        command.args(words);
        command.env("RUST_LOG", "info,fuser=error");
        let mut process = Running::start(command, &log).expect("it starts");
        let link = folder.join("devices").join(volume);
        let device = wait_for("the device", PATIENCE, || {
            if let Some(status) = process.ended() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("{volume} is not attached ({status}): {log}");
            }
            std::fs::canonicalize(&link).ok()
        });
        Attached {
            folder,
            volume: volume.to_owned(),
            process: Some(process),
            device,
        }
    }

    /// A volume that was attached by a command.
    ///
    /// # Panics
    /// If there is no device.
    pub fn found(node: &Node, volume: &str) -> Attached {
        let folder = node.folder().to_owned();
        let link = folder.join("devices").join(volume);
        let device = std::fs::canonicalize(link).expect("the device is there");
        Attached {
            folder,
            volume: volume.to_owned(),
            process: None,
            device,
        }
    }

    /// `/dev/nbdN` or `/dev/loopN`.
    ///
    /// # Panics
    /// If its name is no text.
    pub fn device(&self) -> &str {
        self.device.to_str().expect("its name is UTF-8")
    }

    /// What `/dev/twinblk/NAME` would be.
    pub fn link(&self) -> PathBuf {
        self.folder.join("devices").join(&self.volume)
    }

    /// Makes a file system, and mounts it.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn mkfs(&self) -> PathBuf {
        tool("mkfs.ext4", &["-q", self.device()]).success();
        self.mount()
    }

    /// Mounts the file system.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub fn mount(&self) -> PathBuf {
        let place = self.folder.join(format!("{}.mnt", self.volume));
        std::fs::create_dir_all(&place).expect("a folder");
        tool("mount", &[self.device(), text(&place)]).success();
        place
    }

    /// Unmounts it.
    ///
    /// # Panics
    /// If it is in use.
    pub fn unmount(&self) {
        let place = self.folder.join(format!("{}.mnt", self.volume));
        tool("umount", &[text(&place)]).success();
    }

    /// Unmounts an ext4, and looks for faults.
    ///
    /// # Panics
    /// If it is in use or there are faults.
    pub fn unmount_clean(&self) {
        self.unmount();
        tool("e2fsck", &["-fn", self.device()]).success();
    }

    /// The process that serves the device.
    ///
    /// # Panics
    /// If its number is not written down.
    pub fn server(&self) -> Pid {
        let lock = self.folder.join(format!("attached/{}.lock", self.volume));
        let number = std::fs::read_to_string(lock).expect("its number");
        let number = number.trim().parse().ok();
        number.and_then(Pid::from_raw).expect("a process number")
    }

    /// `twinblk volume detach`, with these words behind it.
    pub fn detach(&self, words: &[&str]) -> Output {
        let words = [&["detach", &self.volume], words].concat();
        program::run(command(&self.folder, &words), PATIENCE)
    }

    /// How the process that serves the device has ended.
    ///
    /// # Panics
    /// If it has not in time.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let process = self.process.take().expect("it is this one's child");
        process.wait(PATIENCE).expect("it ends")
    }

    /// SIGKILL to the process that serves the device.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill(&mut self) {
        match self.process.take() {
            Some(process) => process.kill(),
            None => kill_process(self.server(), Signal::KILL).expect("it lives"),
        }
    }

    /// What the process that serves the device says.
    pub fn log(&self) -> String {
        let log = self.folder.join(format!("{}.attach.log", self.volume));
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Attached {
    /// Nothing of it may stay, also when a test has failed at the worst moment. Where nothing is left, all fail.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of {}'s device:\n{}", self.volume, self.log());
        }
        let place = self.folder.join(format!("{}.mnt", self.volume));
        if place.exists() {
            tool("umount", &["--lazy", "--quiet", text(&place)]);
        }
        let told = self.detach(&["--force"]);
        if let (Some(process), Some(0)) = (self.process.take(), told.code) {
            process.wait(PATIENCE);
        }
        // Of a process that was killed.
        self.detach(&[]);
    }
}

/// `twinblk volume …` with the folder's configuration.
pub fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program::twinblk());
    command
        .arg("volume")
        .args(words)
        .arg("--config")
        .arg(folder.join("twinblk.toml"));
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}
