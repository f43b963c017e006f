//! The hooks that are shipped in `scripts/hooks`, as they are.

use e2e::PATIENCE;
use e2e::foreign::tool;
use e2e::program::{self, Output, shipped};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn example(name: &str) -> PathBuf {
    shipped(&format!("scripts/hooks/{name}"))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&path).map(|folder| folder.join(program));
    paths.any(|path| path.exists())
}

/// A folder at the beginning of the path, with programs that write down how they are called.
struct Fakes {
    folder: tempfile::TempDir,
}

impl Fakes {
    fn new(programs: &[&str]) -> Fakes {
        let fakes = Fakes {
            folder: tempfile::tempdir().expect("a folder"),
        };
        for program in programs {
            let calls = fakes.file("calls");
            let calls = calls.display();
            let script = format!(
                "#!/bin/sh\necho \"{program} $*\" >> {calls}\n[ -t 0 ] || cat >> {calls}\n[ ! -e {calls}.fail ]\n"
            );
            fakes.add(program, &script);
        }
        fakes
    }

    fn add(&self, program: &str, script: &str) {
        let path = self.file(program);
        fs::write(&path, script).expect("a program");
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a program");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, hook: &str, event: &str, settings: &[(&str, &Path)]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(example(hook));
        command
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("TWINBLK_EVENT", event)
            .env("TWINBLK_VOLUME", "pg.data")
            .envs(settings.iter().copied());
        program::run(command, PATIENCE)
    }

    /// What has been called since the last look.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.file("calls"));
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn every_example_is_plain_shell_and_says_how_it_is_installed() {
    for name in [
        "virtual-ip",
        "systemd-target",
        "docker-compose",
        "swarm-label",
        "dns-update",
    ] {
        let path = example(name);
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.starts_with("#!/bin/sh\n"), "{name}");
        assert!(
            text.contains("# Install, on every node, as root:"),
            "{name}"
        );
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{name} is executable");
        let shown = path.to_str().expect("its name is UTF-8");
        tool("sh", &["-n", shown]).success();
        if is_there("shellcheck") {
            tool("shellcheck", &["--shell=sh", shown]).success();
        }
    }
}

#[test]
fn a_systemd_target_follows_the_volume() {
    let fakes = Fakes::new(&["systemctl"]);
    // The real one where there is one; else one for the only name that is asked for.
    if !is_there("systemd-escape") {
        fakes.add("systemd-escape", "#!/bin/sh\nprintf '%s\\n' \"$1\"\n");
    }
    fakes.run("systemd-target", "promote", &[]).success();
    assert_eq!(
        fakes.calls(),
        ["systemctl start twinblk-primary@pg.data.target"]
    );
    fakes.run("systemd-target", "demote", &[]).success();
    assert_eq!(
        fakes.calls(),
        ["systemctl stop twinblk-primary@pg.data.target"]
    );
    fakes.run("systemd-target", "alone", &[]).success();
    assert_eq!(fakes.calls(), [""; 0]);
    // A unit that does not start is told.
    fs::write(fakes.file("calls.fail"), "").expect("it is written");
    assert_ne!(fakes.run("systemd-target", "promote", &[]).code, Some(0));
}

#[test]
fn a_compose_project_follows_the_volume() {
    let fakes = Fakes::new(&["docker", "docker-compose"]);
    let projects = fakes.file("compose");
    let settings = [("COMPOSE_DIRECTORY", projects.as_path())];
    // A volume without a project has nothing to start.
    fakes.run("docker-compose", "promote", &settings).success();
    assert_eq!(fakes.calls(), [""; 0]);

    fs::create_dir_all(projects.join("pg.data")).expect("a folder");
    let file = projects.join("pg.data/compose.yaml");
    fs::write(&file, "services: {db: {image: postgres}}\n").expect("it is written");
    let common = format!("--project-name twinblk-pg_data --file {}", file.display());
    let up = format!("{common} up --detach --remove-orphans");
    let down = format!("{common} down --timeout 10");
    let before = ["docker version", "docker compose version"].map(str::to_owned);
    fakes.run("docker-compose", "promote", &settings).success();
    let called = [&before[..], &[format!("docker compose {up}")]].concat();
    assert_eq!(fakes.calls(), called);
    fakes.run("docker-compose", "demote", &settings).success();
    let called = [&before[..], &[format!("docker compose {down}")]].concat();
    assert_eq!(fakes.calls(), called);
    fakes.run("docker-compose", "frozen", &settings).success();
    assert_eq!(fakes.calls(), [""; 0]);

    // A Docker without that plugin, as Debian 12's.
    fakes.add("docker", "#!/bin/sh\n[ \"$1\" = version ]\n");
    fakes.run("docker-compose", "promote", &settings).success();
    assert_eq!(fakes.calls(), [format!("docker-compose {up}")]);
    fakes.run("docker-compose", "demote", &settings).success();
    assert_eq!(fakes.calls(), [format!("docker-compose {down}")]);

    // The real program knows these words, where it is installed.
    if is_there("docker") && tool("docker", &["compose", "version"]).code == Some(0) {
        let help = tool("docker", &["compose", "up", "--help"]).success();
        assert!(help.contains("--detach") && help.contains("--remove-orphans"));
        let help = tool("docker", &["compose", "down", "--help"]).success();
        assert!(help.contains("--timeout"));
        let shown = file.to_str().expect("its name is UTF-8");
        let words = [
            "compose",
            "--project-name",
            "twinblk-pg_data",
            "--file",
            shown,
        ];
        let config = tool("docker", &[&words[..], &["config", "--quiet"]].concat());
        assert_eq!(config.code, Some(0), "{config:?}");
    }
}

/// Docker on a node of a Swarm whose other node is `other`: it is up when it is asked for the second time.
fn swarm() -> Fakes {
    let fakes = Fakes::new(&[]);
    let folder = fakes.folder.path().display();
    let script = format!(
        "#!/bin/sh\ncd {folder}\necho \"$*\" >> calls\n\
         case \"$1 $2\" in\n\
         'info --format') [ -e up ] || {{ : > up; exit 1; }}; cat swarm ;;\n\
         'node ls') echo own; echo other ;;\n\
         'node inspect') cat labelled ;;\n\
         esac\n"
    );
    fakes.add("docker", &script);
    fakes
}

#[test]
fn a_label_of_the_swarm_follows_the_volume() {
    let fakes = swarm();
    let set = |file: &str, text: &str| fs::write(fakes.file(file), text).expect("it is written");
    let updates = |event: &str| {
        let settings = [("TWINBLK_EPOCH", Path::new("5"))];
        fakes.run("swarm-label", event, &settings).success();
        let calls = fakes.calls();
        let updates = calls
            .iter()
            .filter_map(|call| call.strip_prefix("node update "));
        updates.map(str::to_owned).collect::<Vec<_>>()
    };
    let label = "twinblk.pg.data";
    let add = format!("--label-add {label}=primary --label-add {label}.epoch=5 own");
    let take = |node: &str| format!("--label-rm {label} --label-rm {label}.epoch {node}");
    set("swarm", "active true own\n");

    set("labelled", "own 5\nother 4\n");
    assert_eq!(updates("promote"), [add.clone(), take("other")]);
    // One that became the primary later keeps it.
    set("labelled", "other 6\nown 5\n");
    assert_eq!(updates("promote"), [add]);
    assert_eq!(updates("demote"), [take("own")]);
    // The other node has taken it already.
    set("labelled", "\nother 6\n");
    assert_eq!(updates("demote"), [""; 0]);
    assert_eq!(updates("alone"), [""; 0]);

    // Only a manager can do it.
    for state in ["inactive false \n", "active false own\n"] {
        set("swarm", state);
        let told = fakes.run("swarm-label", "promote", &[]);
        assert!(
            told.code == Some(1) && told.stderr.contains("no manager"),
            "{told:?}"
        );
    }
}

#[test]
fn a_name_points_to_the_node_that_is_promoted() {
    let fakes = Fakes::new(&["nsupdate"]);
    let (conf, key) = (fakes.file("dns-update.conf"), fakes.file("key"));
    let lines = "other other.example.com. ns1.example.com 5 10.0.0.9\n\
                 pg.data pgdata.example.com. ns1.example.com 5 10.0.0.1\n\
                 pg.data pgdata.example.com. ns1.example.com 5 fd00::1\n";
    fs::write(&conf, lines).expect("it is written");
    let settings = [
        ("DNS_UPDATE_CONF", conf.as_path()),
        ("DNS_UPDATE_KEY", key.as_path()),
    ];
    fakes.run("dns-update", "promote", &settings).success();
    let call = format!("nsupdate -t 10 -k {}", key.display());
    assert_eq!(
        fakes.calls(),
        [
            &call,
            "server ns1.example.com",
            "update delete pgdata.example.com. A",
            "update add pgdata.example.com. 5 A 10.0.0.1",
            "send",
            &call,
            "server ns1.example.com",
            "update delete pgdata.example.com. AAAA",
            "update add pgdata.example.com. 5 AAAA fd00::1",
            "send",
        ]
    );
    fakes.run("dns-update", "demote", &settings).success();
    assert_eq!(fakes.calls(), [""; 0]);
    fs::write(fakes.file("calls.fail"), "").expect("it is written");
    assert_ne!(fakes.run("dns-update", "promote", &settings).code, Some(0));
    let nowhere = [("DNS_UPDATE_CONF", Path::new("/nowhere"))];
    assert_ne!(fakes.run("dns-update", "promote", &nowhere).code, Some(0));
}
