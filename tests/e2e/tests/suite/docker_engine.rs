//! Real Docker Engines, each on a machine of its own that can die. They need root and Debian's docker.io.

use e2e::engine::IMAGE;
use e2e::machines::Machines;
use e2e::{PATIENCE, rounds, wait_for};
use std::path::Path;
use std::time::{Duration, Instant};

/// The container that was running on alpha runs on beta, and is not started on alpha as well.
fn assert_refused(machines: &Machines) {
    wait_for("Docker to try", PATIENCE, || {
        let log = machines.engines[0].docker_log();
        log.contains("beta is the primary and has it open")
            .then_some(())
    });
    let refused = machines.engines[0].docker(&["start", "counter"]);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("beta is the primary"),
        "{refused:?}"
    );
    let said = machines.said(1).expect("it counts");
    machines.wait_said(1, said + 10);
}

/// Docker's own tidying leaves the volume alone; removed, it is only forgotten there.
fn assert_forgotten(machines: &Machines) {
    let written = machines.written(0);
    machines.engines[0]
        .docker(&["rm", "-f", "counter"])
        .success();
    machines.engines[0]
        .docker(&["system", "prune", "--all", "--volumes", "--force"])
        .success();
    machines.engines[0]
        .docker(&["volume", "inspect", "app"])
        .success();
    machines.engines[0]
        .docker(&["volume", "rm", "app"])
        .success();
    let listed = machines.engines[0].docker(&["volume", "ls", "-q"]);
    assert_eq!(listed.success(), "");
    machines.engines[1].docker(&["start", "counter"]).success();
    machines.wait_said(1, written.len() as u64);
    machines.engines[1]
        .docker(&["rm", "-f", "counter"])
        .success();
}

#[test]
fn a_container_goes_on_where_its_volume_is() {
    let Some(mut machines) = Machines::up() else {
        return;
    };
    machines.create("64M");
    for engine in &machines.engines {
        let listed = engine.docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]);
        assert_eq!(listed.success(), "twinblk app\n");
    }
    machines.run(0).success();
    machines.wait_said(0, 50);
    let copied =
        machines.engines[0].docker(&["exec", "counter", "stat", "-c", "%u %s", "/data/from-image"]);
    assert_eq!(
        copied.success(),
        "33 12\n",
        "with its owner, as Docker does"
    );
    let refused = machines.run(1);
    assert!(
        refused
            .stderr
            .contains("alpha is the primary and has it open"),
        "{refused:?}"
    );
    machines.engines[1].docker(&["rm", "counter"]);
    machines.protected();

    let said = machines.wait_said(0, 100);
    let begun = Instant::now();
    machines.die(0);
    machines.run(1).success();
    machines.wait_said(1, said + 1);
    println!(
        "the container has gone on {:?} after the end of its machine",
        begun.elapsed()
    );
    let written = machines.written(1);
    let counted: Vec<u64> = (1..=written.len() as u64).collect();
    assert_eq!(written, counted, "nothing is missing, and nothing twice");
    assert!(written.len() as u64 > said);

    // It comes back, and its Docker starts the container that was running.
    machines.boot(0);
    assert_refused(&machines);
    machines.protected();
    machines.engines[1]
        .docker(&["stop", "-t", "1", "counter"])
        .success();
    let said = machines.said(1).expect("it has counted");
    machines.engines[0].docker(&["start", "counter"]).success();
    machines.wait_said(0, said + 1);
    let written = machines.written(0);
    assert_eq!(written, (1..=written.len() as u64).collect::<Vec<_>>());

    assert_forgotten(&machines);
}

#[test]
fn containers_do_not_notice_what_is_restarted_below_them() {
    let Some(mut machines) = Machines::up() else {
        return;
    };
    machines.create("64M");
    machines.run(0).success();
    machines.wait_said(0, 10);
    machines.protected();
    let epoch = |machines: &Machines| {
        machines.cluster().nodes[0]
            .status("app")
            .expect("it is there")["epoch"]
            .clone()
    };
    let before = epoch(&machines);

    machines.engines[0].kill_docker();
    machines.plugins[0].kill();
    machines.start_docker_and_plugin(0);
    let said = machines.said(0).expect("it counts");
    machines.wait_said(0, said + 10);
    let shown =
        machines.engines[0].docker(&["volume", "inspect", "--format", "{{.Status.mounts}}", "app"]);
    assert_eq!(shown.success(), "1\n");

    for _ in 0..rounds(5, 50) {
        machines.engines[0].docker(&["kill", "counter"]).success();
        machines.engines[0].docker(&["start", "counter"]).success();
    }
    let said = machines.said(0).expect("it has counted");
    machines.wait_said(0, said + 5);
    let status = machines.cluster().nodes[0]
        .status("app")
        .expect("it is there");
    assert_eq!(epoch(&machines), before, "{status}");
    assert!(
        status["last_receipt"].is_null(),
        "nothing was resynced: {status}"
    );
    let written = machines.written(0);
    assert_eq!(written, (1..=written.len() as u64).collect::<Vec<_>>());

    machines.engines[0]
        .docker(&["rm", "-f", "counter"])
        .success();
    let clean = || {
        let mounts = machines.engines[0]
            .run("cat", &["/proc/self/mounts"])
            .stdout;
        (!mounts.contains("/mounts/app")).then_some(())
    };
    wait_for("the mount to go", PATIENCE, clean);
    machines.plugins[0].wait_clean("app");
    // A program that is told so holds it a moment longer: nothing stays after it.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(machines.plugins[0].traces("app"), [""; 0]);
}

#[test]
fn docker_makes_no_empty_volume_while_the_daemon_is_away() {
    let Some(mut machines) = Machines::up() else {
        return;
    };
    machines.create("64M");
    machines.kill_daemon(0);
    let refused = machines.run(0);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("error while checking"),
        "{refused:?}"
    );
    machines.start_daemon(0);
    let listed = machines.engines[0].docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]);
    assert_eq!(listed.success(), "twinblk app\n");
    machines.run(0).success();
    machines.wait_said(0, 1);
}

/// The commands of the page on migrating, with these words in the place of its names.
fn migrating() -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/MIGRATING.md");
    let page = std::fs::read_to_string(page).expect("the page is read");
    let commands = page.lines().filter_map(|line| line.strip_prefix("docker "));
    let words = |line: &str| line.replace("busybox", IMAGE);
    commands
        .map(|line| words(line).split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn a_local_volume_becomes_one_that_follows() {
    let Some(mut machines) = Machines::up() else {
        return;
    };
    let fill =
        "echo kept > /data/file; chown 5:6 /data/file; chmod 640 /data/file; ln -s file /data/link";
    let old = ["run", "--rm", "--network", "none", "-v", "old:/data", IMAGE];
    let words = [&old[..], &["/bin/sh", "-c", fill]].concat();
    machines.engines[0].docker(&words).success();
    let commands = migrating();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        machines.engines[0].docker(&words).success();
    }
    machines.cluster().nodes[0].wait_state("app", "Protected");
    machines.die(0);
    let look = "stat -c '%u %g %a' /data/file; readlink /data/link; cat /data/link";
    let new = ["run", "--rm", "--network", "none", "-v", "app:/data", IMAGE];
    let words = [&new[..], &["/bin/sh", "-c", look]].concat();
    let found = machines.engines[1].docker(&words).success();
    assert_eq!(found, "5 6 640\nfile\nkept\n");
}
