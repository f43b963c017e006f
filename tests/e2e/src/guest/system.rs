//! Guests with a Debian of which systemd is the first program, and with a network.

use super::Guest;
use crate::program::{Output, Running};
use crate::{PATIENCE, wait_for};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Unpacks the Debian into memory, gives it the kernel's modules and what is added, and goes on in there.
const INIT: &str = r"#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox --install -s /bin
mkdir -p /root /added
mount -t proc proc /proc
mount -t tmpfs -o mode=755 root /root
tar -x -f /debian.tar -C /root
modules=/root/lib/modules/$(uname -r)
mkdir -p $modules
cp /modules/*.ko $modules
chroot /root depmod
cp -r /added/. /root
chroot /root systemctl --quiet enable systemd-networkd shell
umount /proc
exec switch_root /root /lib/systemd/systemd
";
/// Runs what comes by a line of its own, which is no terminal.
const SHELL: &str = "[Service]
ExecStart=/bin/sh -c 'exec sh <>/dev/vport0p1 >&0 2>&1'
WorkingDirectory=/root
Environment=HOME=/root DEBIAN_FRONTEND=noninteractive
[Install]
WantedBy=multi-user.target
";
/// What the shell prints before a command's exit code.
const ENDED: &str = "command-ended ";
/// How long a guest may be silent: emulated on a machine that has more to do, a package takes minutes.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// A guest that runs. It is ended when this is dropped.
#[derive(Debug)]
pub struct System {
    name: &'static str,
    shell: BufReader<UnixStream>,
    console: PathBuf,
    _machine: Running,
    // Has what it has booted from, and its sockets.
    _guest: Arc<Guest>,
}

impl Guest {
    /// One that becomes [`System`]s, with these files in root's folder, as they are named there; `None` where no such machine or
    /// no Debian is to be had.
    ///
    /// # Panics
    /// If `scripts/guest` and `scripts/test-package` have not been run, or their files cannot be read.
    pub fn debian(files: &[(&Path, &str)]) -> Option<Guest> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let made = target.join("package").exists();
        assert!(made, "run scripts/test-package first");
        // Only root can make it.
        let debian = target.join("chroot/debian.tar");
        if !debian.exists() {
            return None;
        }
        let mut guest = Guest::with(INIT)?;
        guest.copy(&debian, Path::new("debian.tar"));
        for (file, name) in files {
            guest.copy(file, &Path::new("added/root").join(name));
        }
        guest.text("added/etc/systemd/system/shell.service", SHELL);
        Some(guest)
    }

    /// Boots two, which are 10.0.0.1 and 10.0.0.2 in a network of their own.
    ///
    /// # Panics
    /// If they cannot be started.
    pub fn boot(mut self, names: [&'static str; 2]) -> [System; 2] {
        self.archive.finish().expect("it is written");
        let guest = Arc::new(self);
        let [first, second] = names;
        [(first, second, 1), (second, first, 2)]
            .map(|(name, other, number)| System::boot(&guest, name, other, number))
    }
}

impl System {
    fn boot(guest: &Arc<Guest>, name: &'static str, other: &str, number: u8) -> System {
        let file = |name: &str, kind: &str| guest.folder.path().join(format!("{name}.{kind}"));
        let shell = file(name, "shell");
        let mut machine = guest.machine(&format!(
            "systemd.hostname={name} net.ifnames=0 ip=10.0.0.{number}:::255.255.255.0::eth0:off"
        ));
        machine
            .args(["-smp", "1", "-m", "2G"])
            .args(["-device", "virtio-serial-pci"])
            .args(["-device", "virtserialport,chardev=shell"])
            .arg("-chardev")
            .arg(format!(
                "socket,id=shell,path={},server=on,wait=off",
                shell.display()
            ))
            .arg("-device")
            .arg(format!(
                "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:00:00:0{number}"
            ))
            .arg("-netdev")
            .arg(format!(
                "dgram,id=net,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                file(name, "net").display(),
                file(other, "net").display()
            ));
        let console = file(name, "console");
        let machine = Running::start(machine, &console).expect("QEMU is there");
        let stream = wait_for("its shell's socket", PATIENCE, || {
            UnixStream::connect(&shell).ok()
        });
        stream
            .set_read_timeout(Some(SILENCE_MAX))
            .expect("a time limit");
        System {
            name,
            shell: BufReader::new(stream),
            console,
            _machine: machine,
            _guest: Arc::clone(guest),
        }
    }

    /// Runs commands as root, in root's folder, and shows what they print.
    ///
    /// # Panics
    /// If they have not ended in time, with what was said on the console.
    pub fn run(&mut self, commands: &str) -> Output {
        println!("{}# {commands}", self.name);
        let mut printed = String::new();
        let code = self.ask(commands, &mut printed).unwrap_or_else(|error| {
            let console = std::fs::read(&self.console).unwrap_or_default();
            panic!("{error}\n{printed}\n{}", String::from_utf8_lossy(&console));
        });
        println!("{printed}");
        Output {
            code: Some(code),
            stdout: printed,
            stderr: String::new(),
        }
    }

    fn ask(&mut self, commands: &str, printed: &mut String) -> io::Result<i32> {
        let all = format!("(\n{commands}\n) < /dev/null 2>&1; code=$?; echo; echo {ENDED}$code\n");
        self.shell.get_mut().write_all(all.as_bytes())?;
        let mut line = String::new();
        while self.shell.read_line(&mut line)? > 0 {
            if let Some(code) = line.strip_prefix(ENDED) {
                return code.trim().parse().map_err(io::Error::other);
            }
            printed.push_str(&line);
            line.clear();
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// As [`Self::run`], what has to end well.
    ///
    /// # Panics
    /// If it does not, with what the services have said.
    pub fn does(&mut self, commands: &str) -> String {
        let output = self.run(commands);
        if output.code != Some(0) {
            self.run("journalctl --no-pager --lines 100");
        }
        output.success()
    }

    /// Writes a file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&mut self, path: &str, text: &str) {
        self.does(&format!(
            "umask 077; cat > {path} << 'END'\n{}\nEND",
            text.trim_end()
        ));
    }
}
