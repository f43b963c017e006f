//! Tests of block devices once more, in a guest whose kernel has an nbd driver: there they are that driver's.

use e2e::attached::IN_GUEST;
use e2e::guest::Guest;
use e2e::program;
use std::path::Path;
use std::time::Duration;

/// What the tests need besides themselves and the program under test.
const PROGRAMS: &[&str] = &[
    "blockdev",
    "dd",
    "e2fsck",
    "fio",
    "fstrim",
    "losetup",
    "mkfs.ext4",
    "mount",
    "resize2fs",
    "setpriv",
    "sha256sum",
    "sync",
    "umount",
];
/// DRBD's own, and those that it hands over to for the version of it that is in the kernel.
const DRBD: &[&str] = &[
    "sbin/drbdadm",
    "sbin/drbdmeta",
    "lib/drbd/drbdadm-84",
    "lib/drbd/drbdsetup-84",
];
/// Emulated, everything takes several times as long.
const TIME_MAX: Duration = Duration::from_secs(540);
/// The same in the long run.
const LONG_TIME_MAX: Duration = Duration::from_secs(3_000);

/// Runs tests of this program, one after the other, in a guest.
fn run_in_guest(tests: &[&str]) {
    run_in_guest_with(|_| (), tests);
}

/// The same in a guest with more in it.
fn run_in_guest_with(add: impl FnOnce(&mut Guest), tests: &[&str]) {
    // Within one there is no other.
    if std::env::var_os(IN_GUEST).is_some() {
        return;
    }
    let Some(mut guest) = Guest::new() else {
        return;
    };
    for name in PROGRAMS {
        guest.program(name);
    }
    add(&mut guest);
    guest.program_at(program::twinblk(), Path::new("/usr/bin/twinblk"));
    let own = std::env::current_exe().expect("it runs");
    guest.program_at(&own, Path::new("/usr/bin/suite"));
    let mut environment = format!("TWINBLK_BIN=/usr/bin/twinblk {IN_GUEST}=1");
    let mut limit = TIME_MAX;
    if is_long() {
        guest.program("fsx");
        environment += " TWINBLK_LONG=1";
        limit = LONG_TIME_MAX;
    }
    let names = tests.join(" ");
    let command = format!("{environment} suite --exact --test-threads=1 --show-output {names}\n");
    let output = guest.run(&command, limit);
    println!("{}", output.stdout);
    assert_eq!(output.code, Some(0));
    let all = format!("{} passed; 0 failed", tests.len());
    assert!(output.stdout.contains(&all), "not all were run");
}

fn is_long() -> bool {
    std::env::var_os("TWINBLK_LONG").is_some()
}

#[test]
fn the_kernel_s_driver_holds_requests_while_the_daemon_is_away() {
    run_in_guest(&[
        "attach::a_restart_of_the_daemon_is_a_pause",
        "attach_kernel::a_daemon_that_is_silent_for_long_is_a_pause",
        "attach_kernel::a_device_outlives_the_process_that_serves_it",
    ]);
}

#[test]
fn the_kernel_s_driver_gives_up_what_another_has_served() {
    run_in_guest(&[
        "attach::a_volume_that_was_moved_takes_nothing_more_from_the_old_mount",
        "attach::who_was_away_when_another_took_over_fails_what_was_held",
    ]);
}

#[test]
fn the_kernel_s_driver_does_what_a_disk_does() {
    run_in_guest(&[
        "attach::attach_and_detach_say_what_is_wrong",
        "attach::discards_free_blocks_on_both_nodes",
        "attach_kernel::a_device_is_the_kernel_s_own",
        "attach_kernel::an_ext4_grows_online",
    ]);
}

#[test]
fn the_kernel_s_driver_carries_docker_s_volumes() {
    let programs = ["blkid", "mkswap", "tune2fs"];
    let mut tests = vec![
        "docker::a_volume_lives_as_docker_has_it_live",
        "docker::neither_the_plugin_s_end_nor_a_removal_loses_anything",
        "docker::twenty_come_and_go_at_once",
    ];
    if is_long() {
        tests.extend([
            "docker::a_file_system_is_made_only_where_that_was_asked_for",
            "docker::a_mount_that_nobody_waits_for_is_undone",
            "docker::a_plugin_that_is_killed_leaks_nothing",
            "docker::a_volume_is_deleted_where_that_was_asked_for",
        ]);
    }
    run_in_guest_with(
        |guest| programs.iter().for_each(|name| guest.program(name)),
        &tests,
    );
}

#[test]
fn a_device_s_unit_is_under_systemd() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/systemd");
    let unit = units.join("twinblk-attach@.service");
    run_in_guest_with(
        |guest| guest.service_manager(&[unit]),
        &["attach_unit::a_device_whose_process_dies_is_gone_on_with"],
    );
}

#[test]
fn volumes_are_encrypted() {
    if !is_long() {
        return;
    }
    let programs = ["blkdiscard", "cryptsetup"];
    run_in_guest_with(
        |guest| programs.iter().for_each(|name| guest.program(name)),
        &[
            "encryption::a_volume_holds_a_container",
            "encryption::a_container_passes_discards_on_and_grows",
            "encryption::a_container_holds_a_replica",
        ],
    );
}

#[test]
fn volumes_begin_with_drbd_s_devices() {
    if !is_long() {
        return;
    }
    run_in_guest_with(
        |guest| {
            guest.program("blkdiscard");
            DRBD.iter().for_each(|path| guest.unpacked(path));
        },
        &["drbd::a_volume_begins_with_a_device_of_drbd"],
    );
}

#[test]
fn the_kernel_s_driver_bears_a_long_run() {
    if is_long() {
        run_in_guest(&[
            "attach::a_device_keeps_its_volume_over_a_restart",
            "attach::a_file_is_exercised",
        ]);
    }
}
