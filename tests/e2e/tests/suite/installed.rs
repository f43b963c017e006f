//! The package on two machines of its own, with systemd and Debian's kernel: by what the README says to a mounted volume, and
//! on under what is written there through a crash and an upgrade.

use e2e::guest::{Guest, System};
use e2e::wait_for;
use std::path::Path;
use std::time::Duration;

/// How long something may take: all is emulated, on a machine that may have more to do.
const TIME_MAX: Duration = Duration::from_secs(400);
/// The program that the README calls an editor: on the other machine names and addresses are exchanged, and on both a peer may be
/// silent for as long as it is emulated beside others.
const EDITOR: &str = r#"#!/bin/sh
if [ "$(hostname)" = beta ]; then
    sed -i 's/"alpha"/"-"/; s/"beta"/"alpha"/; s/"-"/"beta"/; s/0\.0\.1:/0.0.-:/; s/0\.0\.2:/0.0.1:/; s/0\.0\.-:/0.0.2:/' "$1"
fi
printf '[failover]\nlease_ms = 30000\n' >> "$1"
"#;
/// Writes one small file after the other, durably, and notes what each has to read.
const WRITER: &str = "
cd /srv/pgdata || exit
number=0
until [ -e /root/enough ]; do
    number=$((number + 1))
    dd if=/dev/urandom of=$number bs=64k count=1 conv=fsync status=none || exit
    sha256sum $number >> /root/written || exit
    sleep 0.5
done
";
const UNMOUNT: &str = "systemctl stop srv-pgdata.mount";

/// The blocks of commands in a section of the README.
fn commands(section: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(path).expect("it can be read");
    let text = readme
        .split("\n## ")
        .find_map(|text| text.strip_prefix(section));
    let parts = text.expect("the section is there").split("```\n");
    let blocks = parts.skip(1).step_by(2);
    let lines = |block: &str| block.lines().map(str::to_owned).collect();
    blocks.map(lines).collect()
}

/// The same on both, at the same time.
fn on_both(machines: &mut [System; 2], command: &str) {
    std::thread::scope(|scope| {
        for machine in machines {
            scope.spawn(|| machine.does(command));
        }
    });
}

/// A command with the name of the package that there is.
fn with_package(command: &str, package: &str) -> String {
    let words = command.split(' ').map(|word| match word {
        name if name.starts_with("./twinblk_") => package,
        other => other,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What the README has one type on both machines.
fn install(machines: &mut [System; 2], block: &[String]) {
    for machine in &mut *machines {
        machine.write("/usr/local/bin/editor", EDITOR);
        machine.does("chmod 755 /usr/local/bin/editor");
    }
    for line in block {
        let Some((_, rest)) = line.split_once("# on one; copy ") else {
            on_both(machines, &with_package(line, "./older.deb"));
            continue;
        };
        let (path, _) = rest.split_once(' ').expect("a path");
        let [alpha, beta] = machines;
        alpha.does(line);
        let key = alpha.does(&format!("cat {path}"));
        beta.write(path, &key);
    }
}

/// How many files have been written.
fn written(machine: &mut System) -> usize {
    let lines = machine.does("wc -l < /root/written");
    lines.trim().parse().expect("a number")
}

/// Waits until writing has gone on.
fn goes_on(machine: &mut System) {
    let before = written(machine);
    wait_for("further files", TIME_MAX, || {
        machine.does("systemctl is-active writer");
        (written(machine) > before + 3).then_some(())
    });
}

/// What systemd says of a unit.
fn shown(machine: &mut System, unit: &str, property: &str) -> String {
    let command = format!("systemctl show --value --property {property} {unit}");
    machine.does(&command).trim().to_owned()
}

fn is_protected(machine: &mut System) {
    machine.does("twinblk volume wait pgdata --state Protected --timeout 400s");
}

/// The kernel has had no error to tell, and the service manager none.
fn no_complaint(machine: &mut System) {
    let log = machine.does("dmesg");
    for word in ["I/O error", "EXT4-fs error", "EXT4-fs warning", "JBD2"] {
        assert!(!log.contains(word), "{word}");
    }
    assert_eq!(
        machine.does("systemctl list-units --failed --quiet").trim(),
        ""
    );
}

/// What was written is all there, in a file system without faults.
fn is_whole(machine: &mut System, written: &str) {
    machine.write("/root/expected", written);
    machine.does("cd /srv/pgdata; sha256sum --check --quiet /root/expected");
    machine.does(UNMOUNT);
    machine.does("e2fsck -fn /dev/twinblk/pgdata");
}

/// What the README has one type on the machine that is to serve the volume.
fn make_volume(alpha: &mut System, block: &[String]) {
    for line in block {
        alpha.does(line);
    }
    let device = alpha.does("findmnt --noheadings --output SOURCE /srv/pgdata");
    assert!(device.starts_with("/dev/nbd"), "it is {device}");
    is_protected(alpha);
}

/// A crash of the daemon under the mount is a pause.
fn crash(alpha: &mut System) {
    let daemon = shown(alpha, "twinblk", "MainPID");
    alpha.does("systemctl kill --signal=SIGKILL twinblk");
    wait_for("another daemon", TIME_MAX, || {
        let another = shown(alpha, "twinblk", "MainPID");
        (another != daemon && another != "0").then_some(())
    });
    goes_on(alpha);
    is_protected(alpha);
}

/// So is an upgrade: it replaces the daemon, and leaves what serves the device alone.
fn upgrade(machine: &mut System, command: &str) {
    let process = |machine: &mut System, unit: &str| shown(machine, unit, "MainPID");
    let daemon = process(machine, "twinblk");
    let device = process(machine, "twinblk-attach@pgdata");
    machine.does(&with_package(command, "./newer.deb"));
    assert_ne!(process(machine, "twinblk"), daemon);
    assert_eq!(process(machine, "twinblk-attach@pgdata"), device);
    assert_eq!(shown(machine, "twinblk", "NeedDaemonReload"), "no");
    machine.does("! grep 'an older text' /lib/systemd/system/twinblk.service");
    machine.does("systemctl is-active twinblk twinblk-agent");
    is_protected(machine);
}

#[test]
fn what_the_readme_says_makes_a_volume_that_a_crash_and_an_upgrade_do_not_disturb() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/package");
    let version = env!("CARGO_PKG_VERSION");
    let newer = package.join(format!("twinblk_{version}-1_amd64.deb"));
    let older = package.join("older.deb");
    let files = [(older.as_path(), "older.deb"), (&newer, "newer.deb")];
    let Some(guest) = Guest::debian(&files) else {
        return;
    };
    let blocks = commands("Install\n");
    let [two, one] = blocks.as_slice() else {
        panic!("there are two blocks of commands in the README: {blocks:?}");
    };
    let [.., example, mount] = one.as_slice() else {
        panic!("the last two of its commands mount the volume: {one:?}");
    };
    let mut machines = guest.boot(["alpha", "beta"]);
    install(&mut machines, two);
    make_volume(&mut machines[0], one);
    // What mkfs has said to be free would have to be compared after a crash: gigabytes, which take minutes here.
    on_both(&mut machines, "systemctl restart twinblk");

    let alpha = &mut machines[0];
    alpha.write("/root/writer", WRITER);
    alpha.does("touch /root/written; systemd-run --unit=writer sh /root/writer");
    goes_on(alpha);
    crash(alpha);
    for machine in machines.iter_mut().rev() {
        upgrade(machine, &two[0]);
    }
    let [alpha, beta] = &mut machines;
    goes_on(alpha);
    alpha.does("touch /root/enough");
    wait_for("the writer's end", TIME_MAX, || {
        (alpha.run("systemctl is-active --quiet writer").code != Some(0)).then_some(())
    });

    let written = alpha.does("cat /root/written");
    // Nothing is cached of what is mounted anew, and there is nothing left that would only be in a log.
    alpha.does(&format!("{UNMOUNT}; {mount}"));
    is_whole(alpha, &written);
    is_protected(alpha);
    alpha.does("systemctl stop twinblk-attach@pgdata");
    no_complaint(alpha);
    alpha.does("twinblk volume swap pgdata");
    beta.does(&format!("{example}; {mount}"));
    is_whole(beta, &written);
    no_complaint(beta);
}
