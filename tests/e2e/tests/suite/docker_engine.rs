//! Real Docker Engines, each on a machine of its own that can die. They need root and Debian's docker.io.

use e2e::arbiter::Kind;
use e2e::cluster::Cluster;
use e2e::engine::{Engine, IMAGE, engines_possible};
use e2e::scene::Scene;
use e2e::trees::{DATABASE_USER, busybox_tree, postgres_tree};
use e2e::{PATIENCE, rounds, wait_for};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the container does: it counts, and says each number when it is on the disk.
const COUNT: &str = "n=$(tail -n 1 /data/log 2>/dev/null); while :; do n=$((n + 1)); echo $n >> /data/log; sync /data/log; \
    echo $n; sleep 0.02; done";

/// Two machines, the arbiter, and the image on both. The machines are dropped first.
struct Machines {
    engines: Vec<Engine>,
    scene: Scene,
}

impl Machines {
    fn up() -> Option<Machines> {
        Machines::with(|folder| (busybox_tree(folder), ())).map(|(machines, ())| machines)
    }

    /// The same, with an image of a tree.
    fn with<T>(tree: impl FnOnce(&Path) -> (PathBuf, T)) -> Option<(Machines, T)> {
        if !engines_possible() {
            eprintln!(
                "skipped: Docker Engines need root, FUSE, loop devices, and Debian's docker.io"
            );
            return None;
        }
        let mut scene = Scene::prepared(Kind::Witness, &["alpha", "beta"])?;
        let (tree, told) = tree(scene.cluster.folder());
        let hosts = scene.hosts.all().to_vec();
        let mut engines = Vec::new();
        for (node, host) in scene.cluster.nodes.iter_mut().zip(&hosts) {
            let mut engine = Engine::of(node, host);
            engine.boot(node);
            engine.import(&tree, IMAGE);
            engines.push(engine);
        }
        Some((Machines { engines, scene }, told))
    }

    fn cluster(&self) -> &Cluster {
        &self.scene.cluster
    }

    fn die(&mut self, node: usize) {
        self.engines[node].die(&mut self.scene.cluster.nodes[node]);
    }

    fn boot(&mut self, node: usize) {
        self.engines[node].boot(&mut self.scene.cluster.nodes[node]);
    }

    fn protected(&self) {
        self.cluster().nodes[0].wait_state("app", "Protected");
    }

    /// Creates and starts the container on a machine.
    fn run(&self, node: usize) -> e2e::program::Output {
        self.run_as(node, "0", COUNT)
    }

    fn run_as(&self, node: usize, user: &str, script: &str) -> e2e::program::Output {
        let words = [
            "run",
            "-d",
            "--name",
            "counter",
            "--restart",
            "always",
            "--user",
            user,
        ];
        let volume = [
            "--network",
            "none",
            "-v",
            "app:/data",
            IMAGE,
            "/bin/sh",
            "-c",
            script,
        ];
        self.engines[node].docker(&[&words[..], &volume].concat())
    }

    /// The last number that the container has said there.
    fn said(&self, node: usize) -> Option<u64> {
        let told = self.engines[node].docker(&["logs", "--tail", "1", "counter"]);
        told.stdout.trim().parse().ok()
    }

    fn wait_said(&self, node: usize, least: u64) -> u64 {
        wait_for("the container to go on", PATIENCE, || {
            self.said(node).filter(|said| *said >= least)
        })
    }

    /// What is on the volume, which the container on that machine uses.
    fn written(&self, node: usize) -> Vec<u64> {
        let told = self.engines[node].docker(&["exec", "counter", "cat", "/data/log"]);
        let text = told.success();
        text.lines()
            .map(|line| line.parse().expect("a number"))
            .collect()
    }
}

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
    let create = ["volume", "create", "-d", "twinblk", "-o", "size=64M", "app"];
    machines.engines[0].docker(&create).success();
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
    let create = ["volume", "create", "-d", "twinblk", "-o", "size=64M", "app"];
    machines.engines[0].docker(&create).success();
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
    machines.engines[0].plugin.kill();
    machines.engines[0].start_docker_and_plugin();
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
    machines.engines[0].plugin.wait_clean("app");
    // A program that is told so holds it a moment longer: nothing stays after it.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(machines.engines[0].plugin.traces("app"), [""; 0]);
}

/// What the database's container does: PostgreSQL, and a client that commits a row after the other, and says each number
/// when it has been told that it is committed.
fn postgres_script(programs: &str) -> String {
    format!(
        "export PATH={programs}:/bin\n\
         [ -s /data/db/PG_VERSION ] || initdb -D /data/db -U postgres --auth=trust --locale=C -E UTF8 > /tmp/initdb.log 2>&1\n\
         rm -f /data/db/postmaster.pid\n\
         postgres -D /data/db -c listen_addresses= -c unix_socket_directories=/tmp -c max_wal_size=64MB > /tmp/log 2>&1 &\n\
         until psql -h /tmp -U postgres -c 'create table if not exists rows (n bigint primary key)' > /tmp/create 2>&1\n\
         do sleep 0.05; done\n\
         n=$(psql -h /tmp -U postgres -At -c 'select coalesce(max(n), 0) from rows')\n\
         while :; do n=$((n + 1)); echo \"insert into rows values ($n) returning n;\"; done |\n\
         psql -h /tmp -U postgres -qAt"
    )
}

#[test]
fn a_database_loses_no_commit_with_its_machine() {
    let Some((mut machines, programs)) = Machines::with(postgres_tree) else {
        return;
    };
    let (user, script) = (DATABASE_USER.to_string(), postgres_script(&programs));
    let create = [
        "volume",
        "create",
        "-d",
        "twinblk",
        "-o",
        "size=512M",
        "app",
    ];
    machines.engines[0].docker(&create).success();
    machines.run_as(0, &user, &script).success();
    machines.wait_said(0, 200);
    machines.protected();
    machines.wait_said(0, 1000);

    let begun = Instant::now();
    machines.die(0);
    let words = machines.engines[0]
        .last_words()
        .expect("it has said something");
    let committed: u64 = words.parse().expect("a number");
    machines.run_as(1, &user, &script).success();
    let first = machines.wait_said(1, committed + 1);
    let took = begun.elapsed();
    let sql = "select count(*), max(n) from rows";
    let psql = format!("{programs}/psql");
    let words = [
        "exec", "counter", &psql, "-h", "/tmp", "-U", "postgres", "-AtF", " ", "-c", sql,
    ];
    let told = machines.engines[1].docker(&words).success();
    let (count, last) = told.trim().split_once(' ').expect("two numbers");
    println!(
        "{committed} rows were committed when the machine died; {took:?} later row {first} was; {count} rows, the \
         last is {last}"
    );
    assert_eq!(count, last, "no row is missing");
    assert!(last.parse::<u64>().expect("a number") > committed);
    machines.engines[1]
        .docker(&["rm", "-f", "counter"])
        .success();
}
