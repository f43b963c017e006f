//! What `docs/examples` has for Docker, as it is shipped, on real Docker Engines whose machines die. What they need is in
//! `scripts/setup`.

use e2e::engine::Engine;
use e2e::machines::Machines;
use e2e::program::shipped;
use e2e::trees::postgres_image_tree;
use e2e::{PATIENCE, wait_for};
use std::path::Path;
use std::time::{Duration, Instant};

/// The volume of the examples.
const VOLUME: &str = "pgdata";
/// Rows that are committed before the machine dies.
const ROWS: u64 = 300;
/// A container is made, and a database in it, while two other engines do the same on a machine that may be busy: this was seen
/// to take more than a minute.
const SWARM_PATIENCE: Duration = Duration::from_secs(150);

/// An example's database, wherever it runs.
struct Database {
    /// What Docker finds its container by.
    filter: &'static str,
}

impl Database {
    /// Asks it on a machine; nothing where it does not run or does not answer yet.
    fn ask(&self, engine: &Engine, sql: &str) -> Option<String> {
        let found = engine.docker(&["ps", "--quiet", "--filter", self.filter]);
        let container = found.stdout.lines().next()?.to_owned();
        let told = engine.docker(&["exec", &container, "psql", "-qAt", "-c", sql]);
        (told.code == Some(0)).then(|| told.stdout.trim().to_owned())
    }

    fn wait(&self, engine: &Engine, sql: &str, limit: Duration) -> String {
        let what = format!("`{sql}` in the container with {}", self.filter);
        wait_for(&what, limit, || self.ask(engine, sql))
    }

    /// Commits the rows, each by itself.
    fn commit(&self, engine: &Engine) {
        self.wait(engine, "create table t (n bigint primary key)", PATIENCE);
        let script = format!(
            "do $$ begin for n in 1..{ROWS} loop insert into t values (n); commit; end loop; end $$"
        );
        self.ask(engine, &script).expect("it commits");
    }

    /// Waits until it runs there, with every row.
    fn assert_whole(&self, engine: &Engine, limit: Duration) {
        let rows = self.wait(engine, "select count(*), max(n) from t", limit);
        assert_eq!(rows, format!("{ROWS}|{ROWS}"));
    }

    /// Whether there is a container of it, running or not.
    fn is_on(&self, engine: &Engine) -> bool {
        let found = engine.docker(&["ps", "--all", "--quiet", "--filter", self.filter]);
        !found.success().is_empty()
    }
}

/// Boots the machines, with a stand-in for the image that an example names.
fn boot(machines: &mut Machines, example: &Path) {
    let text = std::fs::read_to_string(example).expect("the example");
    let mut lines = text.lines();
    let image = lines.find_map(|line| line.trim().strip_prefix("image: "));
    let image = image.expect("it names an image");
    let (tree, changes) = postgres_image_tree(machines.cluster().folder());
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    for node in 0..machines.engines.len() {
        machines.boot(node);
        machines.engines[node].import(&tree, image, &changes);
    }
}

/// Creates the volume on both machines, as the page has it: on the second it is taken as it is.
fn create(machines: &Machines) {
    let words = [
        "volume",
        "create",
        "-d",
        "twinblk",
        "-o",
        "size=512M",
        VOLUME,
    ];
    machines.engines[0].docker(&words).success();
    machines.cluster().nodes[1].wait_state(VOLUME, "Protected");
    machines.engines[1].docker(&words).success();
}

#[test]
fn a_compose_project_goes_on_where_its_volume_is() {
    let Some(mut machines) = Machines::prepared() else {
        return;
    };
    let example = shipped("docs/examples/compose-postgres.yaml");
    let projects = machines.cluster().folder().join("compose");
    let project = projects.join(VOLUME);
    std::fs::create_dir_all(&project).expect("a folder");
    let file = project.join("compose.yaml");
    std::fs::copy(&example, &file).expect("a copy");
    std::fs::write(project.join("password"), "secret\n").expect("a file");
    let setting = format!("COMPOSE_DIRECTORY={}", projects.display());
    machines.hook("docker-compose", &[setting]);
    boot(&mut machines, &example);
    let database = Database {
        filter: "label=com.docker.compose.project=twinblk-pgdata",
    };

    // The first promotion is that of the new volume.
    create(&machines);
    database.commit(&machines.engines[0]);
    assert!(!database.is_on(&machines.engines[1]));
    let begun = Instant::now();
    machines.die(0);
    database.assert_whole(&machines.engines[1], SWARM_PATIENCE);
    println!("the project was up on beta {:?} later", begun.elapsed());

    // Docker does not start on alpha what it had there, and the hook takes it away.
    machines.boot(0);
    machines.cluster().nodes[1].wait_state(VOLUME, "Protected");
    wait_for("the project to be down on alpha", PATIENCE, || {
        (!database.is_on(&machines.engines[0])).then_some(())
    });
    database.assert_whole(&machines.engines[1], PATIENCE);

    // Moved back in good order.
    let shown = file.display().to_string();
    let words = ["--project-name", "twinblk-pgdata", "--file", &shown, "down"];
    machines.engines[1].run("docker-compose", &words).success();
    machines.cluster().nodes[1].ok(&["volume", "swap", VOLUME]);
    database.assert_whole(&machines.engines[0], PATIENCE);
    assert!(!database.is_on(&machines.engines[1]));
}

/// A Swarm of the two machines and the arbiter's, all of them managers.
struct Swarm {
    third: Engine,
    machines: Machines,
}

impl Swarm {
    /// On machines that are up, and a third, which is booted.
    fn of(machines: Machines) -> Swarm {
        let host = machines.arbiter_host();
        let folder = machines.cluster().folder().join("third");
        std::fs::create_dir(&folder).expect("a folder");
        let mut third = Engine::on(host, &folder);
        third.without_live_restore();
        third.begin();
        third.start_docker();
        let leader = third.address();
        let init = ["swarm", "init", "--advertise-addr", &leader];
        third.docker(&init).success();
        let token = third.docker(&["swarm", "join-token", "--quiet", "manager"]);
        let token = token.success();
        for engine in &machines.engines {
            // Has it find the plugin. What it finds later the Swarm learns only within 20 s.
            engine.docker(&["volume", "ls"]).success();
            let own = engine.address();
            let join = ["swarm", "join", "--advertise-addr", &own, "--token"];
            let words = [&join[..], &[token.trim(), &leader]].concat();
            engine.docker(&words).success();
        }
        Swarm { third, machines }
    }

    /// Nodes with the label.
    fn labelled(&self) -> Vec<String> {
        let format = "{{if eq (index .Spec.Labels \"twinblk.pgdata\") \"primary\"}}{{.Description.Hostname}}{{end}}";
        let nodes = ["alpha", "beta", "arbiter"];
        let words = [&["node", "inspect", "--format", format][..], &nodes].concat();
        let told = self.third.docker(&words).success();
        told.split_whitespace().map(str::to_owned).collect()
    }

    fn wait_labelled(&self, node: &str) {
        let begun = Instant::now();
        while self.labelled() != [node] {
            let labelled = self.labelled();
            let services = self.third.docker(&["service", "ps", "--no-trunc", "pg_db"]);
            assert!(
                begun.elapsed() < SWARM_PATIENCE,
                "{labelled:?}, and not {node}; {services:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn scale(&self, count: u8) {
        let service = format!("pg_db={count}");
        let words = ["service", "scale", "--detach=false", &service];
        self.third.docker(&words).success();
    }
}

#[test]
fn a_swarm_service_goes_on_where_its_volume_is() {
    let Some(mut machines) = Machines::prepared() else {
        return;
    };
    let example = shipped("docs/examples/stack-postgres.yaml");
    machines.hook("swarm-label", &[]);
    for engine in &mut machines.engines {
        engine.without_live_restore();
    }
    boot(&mut machines, &example);
    let mut swarm = Swarm::of(machines);
    let database = Database {
        filter: "label=com.docker.swarm.service.name=pg_db",
    };
    create(&swarm.machines);
    swarm.wait_labelled("alpha");
    let password = swarm.machines.cluster().folder().join("password");
    std::fs::write(&password, "secret\n").expect("a file");
    let password = password.display().to_string();
    let secret = ["secret", "create", "password", &password];
    swarm.third.docker(&secret).success();
    let stack = example.display().to_string();
    let deploy = ["stack", "deploy", "--resolve-image", "never"];
    let words = [&deploy[..], &["--compose-file", &stack, "pg"]].concat();
    swarm.third.docker(&words).success();
    database.wait(&swarm.machines.engines[0], "select 1", SWARM_PATIENCE);
    database.commit(&swarm.machines.engines[0]);

    let begun = Instant::now();
    swarm.machines.die(0);
    swarm.wait_labelled("beta");
    println!("beta had the label {:?} later", begun.elapsed());
    database.assert_whole(&swarm.machines.engines[1], SWARM_PATIENCE);
    println!("the service was up on beta {:?} later", begun.elapsed());

    swarm.machines.boot(0);
    let machines = &swarm.machines;
    machines.cluster().nodes[1].wait_state(VOLUME, "Protected");
    assert_eq!(swarm.labelled(), ["beta"]);

    // Moved back in good order.
    swarm.scale(0);
    machines.cluster().nodes[1].ok(&["volume", "swap", VOLUME]);
    swarm.wait_labelled("alpha");
    swarm.scale(1);
    database.assert_whole(&machines.engines[0], SWARM_PATIENCE);
}
