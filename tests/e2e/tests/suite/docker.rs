//! The Docker plugin, asked as Docker would. Needs what attaching needs: elsewhere these tests do nothing.

use e2e::arbiter::{Arbiter, Kind};
use e2e::attached::{Attached, possible};
use e2e::cluster::Cluster;
use e2e::docker::{Plugin, ask};
use e2e::foreign::tool;
use e2e::program::Running;
use e2e::{PATIENCE, rounds, wait_for};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Two nodes that fail over by hand, and their plugins, all started.
fn pair() -> Option<(Cluster, Vec<Plugin>)> {
    if !possible() {
        eprintln!("skipped: attaching volumes needs root, FUSE and loop devices");
        return None;
    }
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut plugins: Vec<Plugin> = cluster.nodes.iter().map(Plugin::beside).collect();
    cluster.start();
    plugins.iter_mut().for_each(Plugin::start);
    Some((cluster, plugins))
}

/// The same, with an arbiter.
fn arbitrated(mode: &str) -> Option<(Cluster, Arbiter, Vec<Plugin>)> {
    if !possible() {
        eprintln!("skipped: attaching volumes needs root, FUSE and loop devices");
        return None;
    }
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    let mut plugins: Vec<Plugin> = cluster.nodes.iter().map(Plugin::beside).collect();
    let mut witness = Arbiter::new(Kind::Witness, cluster.folder(), &cluster.key());
    cluster.arbitrate(&witness, mode);
    witness.start();
    cluster.start();
    plugins.iter_mut().for_each(Plugin::start);
    Some((cluster, witness, plugins))
}

fn mounts(plugin: &Plugin, volume: &str) -> u64 {
    let volume = plugin.get(volume).expect("it is there");
    volume["Status"]["mounts"].as_u64().expect("a count")
}

#[test]
fn a_volume_lives_as_docker_has_it_live() {
    let Some((_cluster, plugins)) = pair() else {
        return;
    };
    let plugin = &plugins[0];
    let (_, answer) = plugin.ask("/Plugin.Activate", "").expect("it answers");
    assert_eq!(answer["Implements"], json!(["VolumeDriver"]));
    let answer = plugin
        .call("Capabilities", &json!({}))
        .expect("they are told");
    assert_eq!(answer["Capabilities"]["Scope"], "local");
    let refused = plugin.create("pgdata", &[]).expect_err("it has no size");
    assert!(refused.contains("size=10G"), "{refused}");
    let options = [
        ("size", "64M"),
        ("mount_options", "noatime"),
        ("mkfs", "-m 0"),
    ];
    plugin.create("pgdata", &options).expect("it is created");
    plugin
        .create("pgdata", &options)
        .expect("again is no error");
    let refused = plugin
        .create("pgdata", &[("size", "1G")])
        .expect_err("it has 64M");
    assert!(refused.contains("64M, not 1G"), "{refused}");
    assert_eq!(plugin.list(), ["pgdata"]);
    let volume = plugin.get("pgdata").expect("it is there");
    assert_eq!(volume["Mountpoint"], "");
    assert_eq!(volume["Status"]["state"], "Protected");
    assert_eq!(volume["Status"]["role"], "Primary");
    assert_eq!(volume["Status"]["out_of_sync_bytes"], 0);
    assert_eq!(volume["Status"]["resync_seconds_left"], Value::Null);

    let path = plugin.mount("pgdata", "one").expect("it is mounted");
    assert_eq!(path, plugin.place("pgdata").join("data"));
    assert!(
        std::fs::read_dir(&path).expect("a folder").next().is_none(),
        "as programs want it"
    );
    let table = std::fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let of_volume = format!("{} ext4 rw,noatime", plugin.place("pgdata").display());
    assert!(table.contains(&of_volume), "{table}");
    assert_eq!(plugin.mount("pgdata", "two").expect("it is mounted"), path);
    assert_eq!(mounts(plugin, "pgdata"), 2);
    let told = plugin
        .call("Path", &json!({ "Name": "pgdata" }))
        .expect("it is told");
    assert_eq!(told["Mountpoint"], path.display().to_string());
    plugin.unmount("pgdata", "two").expect("it is given back");
    assert!(path.exists(), "one still has it");
    plugin.unmount("pgdata", "one").expect("it is given back");
    assert_eq!(plugin.traces("pgdata"), [""; 0]);
}

#[test]
fn neither_the_plugin_s_end_nor_a_removal_loses_anything() {
    let Some((_cluster, mut plugins)) = pair() else {
        return;
    };
    let plugin = &mut plugins[0];
    plugin
        .create("pgdata", &[("size", "64M")])
        .expect("it is created");
    let path = plugin.mount("pgdata", "one").expect("it is mounted");
    std::fs::write(path.join("kept"), "what was written").expect("it is written");
    plugin.mount("pgdata", "two").expect("it is mounted");
    plugin.unmount("pgdata", "one").expect("it is given back");
    let refused = plugin.remove("pgdata").expect_err("it is in use");
    assert!(refused.contains("mounted 1 times"), "{refused}");

    // Neither its end nor the daemon's is anybody's loss.
    plugin.kill();
    plugin.start();
    assert_eq!(mounts(plugin, "pgdata"), 1);
    assert_eq!(
        std::fs::read_to_string(path.join("kept")).expect("it is there"),
        "what was written"
    );
    plugin.stop();
    assert!(!plugin.socket().exists(), "Docker would wait for it");
    plugin.start();
    plugin.unmount("pgdata", "two").expect("it is given back");
    assert_eq!(plugin.traces("pgdata"), [""; 0]);
    plugin.unmount("pgdata", "two").expect("again is no error");

    plugin.remove("pgdata").expect("nobody uses it");
    assert_eq!(plugin.list(), [""; 0]);
    let gone = plugin
        .get("pgdata")
        .expect_err("Docker does not know it here");
    assert!(gone.contains("docker volume create"), "{gone}");
    plugin.mount("pgdata", "one").expect_err("nor mount it");
    assert_eq!(plugins[1].list(), ["pgdata"], "there nobody has removed it");
    let plugin = &mut plugins[0];
    plugin.create("pgdata", &[]).expect("it is there again");
    let path = plugin.mount("pgdata", "three").expect("it is mounted");
    assert_eq!(
        std::fs::read_to_string(path.join("kept")).expect("it is there"),
        "what was written"
    );
    plugin.unmount("pgdata", "three").expect("it is given back");
}

#[test]
fn nothing_is_said_of_a_volume_while_its_daemon_is_away() {
    let Some((mut cluster, plugins)) = pair() else {
        return;
    };
    let plugin = &plugins[0];
    let size = [("size", "64M")];
    plugin.create("pgdata", &size).expect("it is created");
    cluster.nodes[0].kill();
    // Whatever it said, Docker would take it for "there is none". Asking again it leaves the body out.
    for body in ["{\"Name\":\"pgdata\"}", ""] {
        let told = plugin.ask("/VolumeDriver.Get", body);
        assert!(told.is_err(), "{told:?}");
    }
    cluster.nodes[0].start();
    plugin.get("pgdata").expect("it is there");
    let told = plugin.get("other").expect_err("there is none");
    assert!(told.contains("no volume other"), "{told}");
}

#[test]
fn a_volume_is_deleted_where_that_was_asked_for() {
    let Some((cluster, plugins)) = pair() else {
        return;
    };
    let plugin = &plugins[0];
    plugin
        .create(
            "scratch",
            &[("size", "64M"), ("reclaim", "delete"), ("replicas", "2")],
        )
        .expect("created");
    plugin.mount("scratch", "one").expect("it is mounted");
    plugin.unmount("scratch", "one").expect("it is given back");
    plugin.remove("scratch").expect("it is removed");
    wait_for("it to be gone", PATIENCE, || {
        let gone = |node: &e2e::node::Node| node.status("scratch").is_none();
        cluster.nodes.iter().all(gone).then_some(())
    });
    plugin.remove("scratch").expect("again is no error");
}

#[test]
fn whatever_is_asked_wrongly_is_answered_in_one_line() {
    let Some((_cluster, plugins)) = pair() else {
        return;
    };
    let plugin = &plugins[0];
    let long = "x".repeat(300);
    let deep = "[".repeat(2000);
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "5",
        "{}",
        "{\"Name\":5}",
        "{\"Name\":null}",
        &deep,
        "\u{0}",
    ];
    for call in ["Create", "Remove", "Mount", "Unmount", "Path", "Get"] {
        let of_names = ["", "a/b", "../etc", "A", "a b", "a\nb", &long]
            .map(|name| json!({ "Name": name, "ID": "one", "Opts": { "size": "1G" } }).to_string());
        // To nothing `Get` says nothing.
        let skipped = usize::from(call == "Get");
        let bodies = bodies.iter().skip(skipped).map(|body| (*body).to_owned());
        for body in bodies.chain(of_names) {
            let (status, answer) = plugin
                .ask(&format!("/VolumeDriver.{call}"), &body)
                .expect("it answers");
            let error = answer["Err"].as_str().unwrap_or_default();
            assert!(
                !error.is_empty() && error.len() < 300 && !error.contains('\n'),
                "{call} {body}: {answer}"
            );
            assert_eq!(status, 400, "{call} {body}: {answer}");
        }
    }
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let Some((_cluster, plugins)) = pair() else {
        return;
    };
    let plugin = &plugins[0];
    for (call, body) in [
        ("Create", json!({ "Name": "a", "Opts": [] })),
        ("Mount", json!({ "Name": "a" })),
        ("Mount", json!({ "Name": "a", "ID": "" })),
        ("Mount", json!({ "Name": "absent", "ID": "one" })),
        ("Get", json!({ "Name": "absent" })),
        ("Path", json!({ "Name": "absent" })),
        ("Create", json!({ "Name": "a", "Opts": { "size": "4X" } })),
        (
            "Create",
            json!({ "Name": "a", "Opts": { "size": "1G", "colour": "red" } }),
        ),
        (
            "Create",
            json!({ "Name": "a", "Opts": { "size": "1G", "replicas": "beta" } }),
        ),
        (
            "Create",
            json!({ "Name": "a", "Opts": { "size": "1G", "replicas": "5" } }),
        ),
        (
            "Create",
            json!({ "Name": "a", "Opts": { "size": "1G", "replicas": "alpha,gamma" } }),
        ),
        ("Create", json!({ "Name": "a", "Opts": { "size": "1023" } })),
        ("Nothing", json!({})),
    ] {
        let error = plugin.call(call, &body).expect_err("it is refused");
        assert!(
            error.len() < 300 && !error.contains('\n'),
            "{call} {body}: {error}"
        );
        println!("{call} {body}: {error}");
    }
    plugin
        .unmount("absent", "one")
        .expect("nobody has it mounted");
    assert_eq!(plugin.list(), [""; 0]);
    // A second one would count anew.
    let second = e2e::program::run(plugin.command(), PATIENCE);
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains("another twinblk"), "{second:?}");
}

#[test]
fn a_file_system_is_made_only_where_that_was_asked_for() {
    let Some((cluster, plugins)) = pair() else {
        return;
    };
    let node = &cluster.nodes[0];
    let plugin = &plugins[0];
    node.ok(&["volume", "create", "by-hand", "--size", "64M"]);
    let refused = plugin
        .mount("by-hand", "one")
        .expect_err("it was not created for Docker");
    assert!(
        refused.contains("mkfs.ext4 /dev/twinblk/by-hand"),
        "{refused}"
    );
    let attached = Attached::new(node, "by-hand");
    tool("mkfs.ext4", &["-q", attached.device()]).success();
    // Attached by somebody, it is used as it is and left so.
    plugin.mount("by-hand", "one").expect("it has one now");
    plugin.unmount("by-hand", "one").expect("it is given back");
    assert!(attached.link().exists(), "it was not the plugin's");
    tool("mkswap", &[attached.device()]).success();
    let refused = plugin.mount("by-hand", "one").expect_err("somebody's swap");
    assert!(refused.contains("holds swap"), "{refused}");
    drop(attached);
}

#[test]
fn a_file_system_is_made_once() {
    let Some((cluster, mut plugins)) = pair() else {
        return;
    };
    let node = &cluster.nodes[0];
    let plugin = &mut plugins[0];
    // The machine has died in the middle of mkfs.
    plugin
        .create("cut", &[("size", "64M")])
        .expect("it is created");
    let attached = Attached::new(node, "cut");
    tool("mkfs.ext4", &["-q", "-L", "twinblk-new", attached.device()]).success();
    tool(
        "dd",
        &[
            "if=/dev/urandom",
            &format!("of={}", attached.device()),
            "bs=64k",
            "seek=2",
            "count=16",
            "conv=fsync",
        ],
    );
    assert_eq!(attached.detach(&[]).code, Some(0));
    let path = plugin.mount("cut", "one").expect("it is made anew");
    std::fs::write(path.join("kept"), "kept").expect("it is written");
    plugin.unmount("cut", "one").expect("it is given back");
    let label = tool(
        "blkid",
        &["-p", "-s", "LABEL", &node.data("cut").display().to_string()],
    );
    assert!(!label.stdout.contains("LABEL"), "{label:?}");
    // Whatever a crash leaves in the journal is mended before it is mounted, and no second one is made.
    let path = plugin.mount("cut", "two").expect("it is mounted");
    assert_eq!(
        std::fs::read_to_string(path.join("kept")).expect("it is there"),
        "kept"
    );
    plugin.kill();
    plugin.kill_devices();
    plugin.start();
    plugin.unmount("cut", "two").expect("what is dead vanishes");
    plugin.wait_clean("cut");
    let path = plugin.mount("cut", "three").expect("it is mounted again");
    assert_eq!(
        std::fs::read_to_string(path.join("kept")).expect("it is there"),
        "kept"
    );
    plugin.unmount("cut", "three").expect("it is given back");

    plugin
        .create("xfs", &[("size", "320M"), ("fs", "xfs")])
        .expect("it is created");
    let path = plugin.mount("xfs", "one").expect("it is mounted");
    std::fs::write(path.join("kept"), "kept").expect("it is written");
    plugin.unmount("xfs", "one").expect("it is given back");
    let path = plugin.mount("xfs", "two").expect("it is mounted");
    assert_eq!(
        std::fs::read_to_string(path.join("kept")).expect("it is there"),
        "kept"
    );
    plugin.unmount("xfs", "two").expect("it is given back");
}

#[test]
fn a_volume_comes_only_where_nobody_uses_it() {
    let Some((mut cluster, _witness, mut plugins)) = arbitrated("automatic") else {
        return;
    };
    plugins[0]
        .create("moving", &[("size", "64M")])
        .expect("it is created");
    let path = plugins[0].mount("moving", "one").expect("it is mounted");
    std::fs::write(path.join("kept"), "alpha's").expect("it is written");
    let refused = plugins[1].mount("moving", "two").expect_err("alpha has it");
    assert!(
        refused.contains("alpha is the primary and has it open"),
        "{refused}"
    );
    std::fs::write(path.join("kept"), "still alpha's").expect("nothing has happened to it");

    plugins[0]
        .unmount("moving", "one")
        .expect("it is given back");
    let path = plugins[1].mount("moving", "two").expect("nobody has it");
    assert_eq!(
        std::fs::read_to_string(path.join("kept")).expect("it is there"),
        "still alpha's"
    );
    std::fs::write(path.join("kept"), "beta's").expect("it is written");
    let file = std::fs::File::open(path.join("kept")).expect("it is there");
    file.sync_all().expect("it is durable");

    // All of beta dies.
    let begun = Instant::now();
    plugins[1].kill();
    cluster.beta().kill();
    plugins[1].kill_devices();
    let path = plugins[0]
        .mount("moving", "one")
        .expect("its primary is gone");
    println!(
        "mounted {:?} after the death of the primary",
        begun.elapsed()
    );
    assert_eq!(
        std::fs::read_to_string(path.join("kept")).expect("it is there"),
        "beta's"
    );

    // It returns, and whatever starts there takes nothing away.
    plugins[1].start();
    cluster.beta().start();
    let refused = plugins[1]
        .mount("moving", "two")
        .expect_err("alpha has it now");
    assert!(
        refused.contains("alpha is the primary and has it open"),
        "{refused}"
    );
    std::fs::write(path.join("kept"), "alpha's").expect("nothing has happened to it");
    plugins[0]
        .unmount("moving", "one")
        .expect("it is given back");
    cluster.nodes[1].wait_state("moving", "Protected");
    plugins[1].mount("moving", "two").expect("nobody has it");
    plugins[1]
        .unmount("moving", "two")
        .expect("it is given back");
    plugins[0].wait_clean("moving");
    plugins[1].wait_clean("moving");
}

#[test]
fn twenty_come_and_go_at_once() {
    const VOLUMES: [&str; 4] = ["v0", "v1", "v2", "v3"];
    let Some((_cluster, plugins)) = pair() else {
        return;
    };
    let plugin = &plugins[0];
    for volume in VOLUMES {
        plugin
            .create(volume, &[("size", "32M")])
            .expect("it is created");
    }
    std::thread::scope(|scope| {
        for container in 0..20 {
            scope.spawn(move || {
                let (volume, id) = (
                    VOLUMES[container % VOLUMES.len()],
                    format!("container-{container}"),
                );
                for round in 0..rounds(4, 20) {
                    let path = plugin.mount(volume, &id).expect("it is mounted");
                    let file = path.join(&id);
                    std::fs::write(&file, format!("{round}")).expect("it is written");
                    let text = std::fs::read_to_string(&file).expect("it is there");
                    assert_eq!(text, format!("{round}"));
                    plugin.unmount(volume, &id).expect("it is given back");
                }
            });
        }
    });
    for volume in VOLUMES {
        assert_eq!(mounts(plugin, volume), 0);
        assert_eq!(plugin.traces(volume), [""; 0]);
        let path = plugin.mount(volume, "last").expect("it is mounted");
        let files = std::fs::read_dir(path).expect("a folder").count();
        assert_eq!(files, 5, "each has written one");
        plugin.unmount(volume, "last").expect("it is given back");
    }
}

/// The plugin is killed at any moment of a mount and of an unmount. What is left is what it has told.
#[test]
fn a_plugin_that_is_killed_leaks_nothing() {
    let Some((_cluster, mut plugins)) = pair() else {
        return;
    };
    let plugin = &mut plugins[0];
    plugin
        .create("killed", &[("size", "32M")])
        .expect("it is created");
    let ask_and_kill = |plugin: &mut Plugin, call: &str, delay: Duration| {
        let (socket, body) = (
            plugin.socket(),
            json!({ "Name": "killed", "ID": "one" }).to_string(),
        );
        let path = format!("/VolumeDriver.{call}");
        let asked = std::thread::spawn(move || ask(&socket, &path, &body).is_ok());
        std::thread::sleep(delay);
        plugin.kill();
        asked.join().expect("it ends")
    };
    let (mut answered, rounds) = (0, rounds(12, 100));
    for round in 0..rounds {
        // A mount takes a few hundred milliseconds here.
        let delay = Duration::from_millis((round * 400 / rounds) as u64);
        let told = ask_and_kill(plugin, "Mount", delay);
        answered += usize::from(told);
        plugin.start();
        if told {
            assert_eq!(mounts(plugin, "killed"), 1);
        } else {
            // It may have been counted, and told nobody: Docker asks again.
            let path = plugin.mount("killed", "one").expect("it is mounted");
            std::fs::write(path.join(format!("{round}")), "written").expect("it is written");
        }
        ask_and_kill(plugin, "Unmount", delay / 2);
        plugin.start();
        plugin.unmount("killed", "one").expect("Docker asks again");
        plugin.wait_clean("killed");
        assert_eq!(mounts(plugin, "killed"), 0);
    }
    println!("{answered} of {rounds} mounts were answered before the end");
    let path = plugin.mount("killed", "one").expect("it is mounted");
    let files = std::fs::read_dir(path).expect("a folder").count();
    assert_eq!(
        files,
        rounds - answered,
        "no file system was made over another"
    );
    plugin.unmount("killed", "one").expect("it is given back");
}

/// Who asked for a mount and has gone will never ask for the end of it.
#[test]
fn a_mount_that_nobody_waits_for_is_undone() {
    let Some((_cluster, plugins)) = pair() else {
        return;
    };
    let plugin = &plugins[0];
    plugin
        .create("left", &[("size", "32M")])
        .expect("it is created");
    let body = json!({ "Name": "left", "ID": "one" }).to_string();
    let mut stream = std::os::unix::net::UnixStream::connect(plugin.socket()).expect("it listens");
    let head = format!(
        "POST /VolumeDriver.Mount HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).expect("it is sent");
    std::thread::sleep(Duration::from_millis(50));
    drop(stream);
    wait_for("the end of it", PATIENCE, || {
        plugin.log().contains("nobody waits").then_some(())
    });
    plugin.wait_clean("left");
    assert_eq!(mounts(plugin, "left"), 0);
}

/// As the service manager starts it, with the socket as its descriptor 3.
#[test]
fn a_socket_can_be_passed() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::prepared(&["alpha"]);
    let plugin = Plugin::beside(&cluster.nodes[0]);
    cluster.start();
    let socket = cluster.folder().join("passed.sock");
    let mut command = Command::new("python3");
    let script = "import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\n\
        os.dup2(s.fileno(), 3)\nos.set_inheritable(3, True)\nos.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
        os.execvp(sys.argv[2], sys.argv[2:])\n";
    command.args(["-c", script]).arg(&socket);
    let own = plugin.command();
    command
        .arg(own.get_program())
        .args(own.get_args())
        .process_group(0);
    let process = Running::start(command, &cluster.folder().join("passed.log")).expect("it starts");
    let (status, answer) = wait_for("an answer", PATIENCE, || {
        ask(&socket, "/VolumeDriver.List", "").ok()
    });
    assert_eq!((status, &answer["Volumes"]), (200, &json!([])));
    process.signal(rustix::process::Signal::TERM);
    let ended = process.wait(PATIENCE).expect("it ends");
    assert!(ended.success());
    assert!(socket.exists(), "it is the service manager's");
}
