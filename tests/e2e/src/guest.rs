//! A machine of its own, with Debian's kernel and what it needs of this one's programs, in QEMU.
//!
//! It has no disk and no network: all that it runs is in the archive that it boots from, and what it prints comes by its
//! serial console. It is emulated, so that it needs neither root nor KVM, and slow. A [`System`] has systemd and a network, too.

mod archive;
mod system;

pub use system::System;

use crate::program::{self, Output};
use archive::Archive;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the first program of the guest does: what it is to run is in /command.
const INIT: &str = r"#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TMPDIR=/tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
hostname guest
ip link set lo up
for module in $(cat /modules/order); do insmod /modules/$module; done
echo 1 > /sys/devices/system/cpu/cpu1/online
[ ! -e /lib/systemd/systemd ] || exec /lib/systemd/systemd
sh /end
";
/// What is done in the end.
const END: &str = "sh /command\necho guest-ended $?\npoweroff -f\n";
/// Who does it where there is a service manager.
const END_UNIT: &str = r"
[Unit]
DefaultDependencies=no
[Service]
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TMPDIR=/tmp
ExecStart=/bin/busybox sh /end
StandardOutput=file:/dev/console
StandardError=inherit
";
/// All that it is to start.
const DEFAULT_TARGET: &str = "[Unit]\nDefaultDependencies=no\nWants=end.service\n";
/// What END prints before the command's exit code.
const ENDED: &str = "guest-ended ";

/// A guest that is being put together.
#[derive(Debug)]
pub struct Guest {
    folder: tempfile::TempDir,
    tools: PathBuf,
    archive: Archive<BufWriter<File>>,
    // Programs and libraries are there once.
    added: BTreeSet<PathBuf>,
}

impl Guest {
    /// One with a shell and the kernel's modules; `None` where there is no such machine to be had.
    ///
    /// # Panics
    /// If `scripts/guest` has not been run, or its files cannot be read.
    pub fn new() -> Option<Guest> {
        Guest::with(INIT)
    }

    /// One that begins with another script.
    fn with(init: &str) -> Option<Guest> {
        if std::env::consts::ARCH != "x86_64" {
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let tools = root.join(target).join("guest");
        assert!(tools.join("ready").exists(), "run scripts/guest first");
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::create(folder.path().join("archive")).expect("a file");
        let mut guest = Guest {
            folder,
            tools,
            archive: Archive::new(BufWriter::new(file)),
            added: BTreeSet::new(),
        };
        for name in ["bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp"] {
            guest.write(|archive| archive.folder(Path::new(name)));
        }
        guest.text("init", init);
        guest.text("end", END);
        guest.copy(Path::new("/usr/bin/busybox"), Path::new("bin/busybox"));
        guest.modules();
        Some(guest)
    }

    /// Adds the modules that were unpacked, and in which order they are loaded; others are in the kernel itself.
    fn modules(&mut self) {
        let order = std::fs::read_to_string(self.tools.join("modules"));
        let order = order.expect("it is written with the modules");
        let names = order.lines().map(|name| format!("{name}.ko"));
        let present: Vec<_> = names
            .filter(|name| self.tools.join(name).exists())
            .collect();
        for name in &present {
            self.copy(&self.tools.join(name), &Path::new("modules").join(name));
        }
        self.text("modules/order", &present.join("\n"));
    }

    /// Has systemd be there, with these units.
    ///
    /// # Panics
    /// If it is not installed, or they cannot be read.
    pub fn service_manager(&mut self, units: &[PathBuf]) {
        let systemd = Path::new("/lib/systemd/systemd");
        self.program_at(systemd, systemd);
        self.program("systemctl");
        let folder = Path::new("/lib/systemd/system");
        // What any unit depends on that says nothing else.
        let targets = ["basic.target", "sysinit.target"].map(|name| folder.join(name));
        for unit in units.iter().chain(&targets) {
            self.copy(unit, &folder.join(unit.file_name().unwrap_or_default()));
        }
        for (name, text) in [
            ("end.service", END_UNIT),
            ("default.target", DEFAULT_TARGET),
        ] {
            self.write(|archive| archive.text(&folder.join(name), text));
        }
        self.text("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    }

    /// Adds a program of this machine's, with the libraries that it needs.
    ///
    /// # Panics
    /// If there is none.
    pub fn program(&mut self, name: &str) {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths("/usr/sbin:/usr/bin")
            .chain(std::env::split_paths(&own))
            .map(|folder| folder.join(name))
            .find(|path| path.exists());
        let path = found.unwrap_or_else(|| panic!("{name} is not installed"));
        self.program_at(&path, &Path::new("/usr/bin").join(name));
    }

    /// Adds a program of those that scripts/guest has unpacked, at the place where it would be installed.
    ///
    /// # Panics
    /// If there is none.
    pub fn unpacked(&mut self, path: &str) {
        let from = self.tools.join(path);
        self.program_at(&from, &Path::new("/").join(path));
    }

    /// Adds a program at another place.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn program_at(&mut self, from: &Path, to: &Path) {
        self.copy(from, to);
        let mut command = Command::new("ldd");
        command.arg(from);
        let told = program::run(command, Duration::from_secs(60));
        // A program without libraries has none to tell.
        for library in told.stdout.lines().filter_map(library) {
            self.copy(library, library);
        }
    }

    /// Adds a file of this machine's.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn copy(&mut self, from: &Path, to: &Path) {
        if !self.added.insert(to.to_owned()) {
            return;
        }
        let mut file =
            File::open(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self.parents(to);
        self.write(|archive| archive.file(to, &mut file));
    }

    fn text(&mut self, to: &str, text: &str) {
        self.parents(Path::new(to));
        self.write(|archive| archive.text(Path::new(to), text));
    }

    fn parents(&mut self, path: &Path) {
        let parents: Vec<_> = path.ancestors().skip(1).map(Path::to_owned).collect();
        for parent in parents.into_iter().rev() {
            if parent.file_name().is_some() && self.added.insert(parent.clone()) {
                self.write(|archive| archive.folder(&parent));
            }
        }
    }

    fn write(&mut self, put: impl FnOnce(&mut Archive<BufWriter<File>>) -> io::Result<()>) {
        put(&mut self.archive).expect("it is written");
    }

    /// Boots it, has its shell run these commands, and returns what they have printed, and how they ended.
    ///
    /// # Panics
    /// If it has not ended in time, or they have not.
    pub fn run(mut self, commands: &str, limit: Duration) -> Output {
        self.text("command", commands);
        self.archive.finish().expect("it is written");
        // The kernel patches its code as it starts, and now and then the other emulated processor runs what has been there before.
        let mut machine = self.machine("maxcpus=1");
        machine.args(["-smp", "2", "-m", "3G"]);
        let output = program::run(machine, limit);
        let console = output.stdout.replace('\r', "");
        let code = console
            .rsplit_once(ENDED)
            .and_then(|(_, code)| code.lines().next()?.trim().parse().ok());
        assert!(
            code.is_some(),
            "the guest has not ended in order: {}\n{console}",
            output.stderr
        );
        Output {
            code,
            stdout: console,
            stderr: output.stderr,
        }
    }

    /// It, without processors and memory, in which its files are, too; with these settings for the kernel and those who read
    /// them there.
    fn machine(&self, settings: &str) -> Command {
        let unpacked = self.tools.join("usr/bin/qemu-system-x86_64");
        let mut command = if unpacked.exists() {
            let mut command = Command::new(unpacked);
            let libraries = self.tools.join("usr/lib/x86_64-linux-gnu");
            let both = format!(
                "{}:{}",
                libraries.display(),
                self.tools.join("lib/x86_64-linux-gnu").display()
            );
            command.env("LD_LIBRARY_PATH", both);
            command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
            for data in ["qemu", "seabios"] {
                command
                    .arg("-L")
                    .arg(self.tools.join("usr/share").join(data));
            }
            command
        } else {
            Command::new("qemu-system-x86_64")
        };
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet panic=-1 mitigations=off {settings}"
            ))
            .arg("-kernel")
            .arg(self.tools.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.folder.path().join("archive"));
        command
    }
}

/// A library's path in a line of what `ldd` prints.
fn library(line: &str) -> Option<&Path> {
    let words = line.split_whitespace();
    words.map(Path::new).find(|word| word.is_absolute())
}
