use super::{ArbiterSettings, Backend, Config, Mode};
use nbd_server::listener::Address;
use std::path::Path;
use std::time::Duration;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("t.toml"), text).map_err(|failure| failure.message)
}

fn complaint(text: &str) -> String {
    parse(text).expect_err("the configuration is wrong")
}

const GOOD: &str = r#"
[node]
name = "alpha"
nbd = ["unix:/run/a.sock", "tcp:127.0.0.1:10809"]

[[peer]]
name = "beta"
address = "10.0.0.2:7788"

[[peer]]
name = "gamma"
address = ["10.0.0.3:7788", "[fe80::1]:7788"]

[failover]
lease_ms = 500

[io]
spin_us = 0
arena = "8M"

[resync]
first = ["pgdata"]

[http]
listen = "127.0.0.1:7780"

[hooks]
directory = "/srv/hooks"
time_limit_s = 5

[attach]
backend = "nbd"
"#;

#[test]
fn a_good_file_is_read_with_defaults() {
    let config = parse(GOOD).expect("it is good");
    assert_eq!(config.name.as_str(), "alpha");
    assert_eq!(config.listen.as_str(), "0.0.0.0:7788");
    assert_eq!(config.state_dir, Path::new("/var/lib/twinblk"));
    assert_eq!(config.nbd[0], Address::Unix("/run/a.sock".into()));
    assert_eq!(config.peers[1].addresses.len(), 2);
    assert_eq!(config.lease, Duration::from_millis(500));
    assert_eq!(config.arena_bytes, 8 << 20);
    assert_eq!(config.resync.at_once, 2);
    assert_eq!(config.resync.first[0].as_str(), "pgdata");
    let options = config.options();
    assert_eq!(options.settings.peer_timeout, 500_000_000);
    assert_eq!(options.spin_nanos_max, 0);
    assert_eq!(
        config.http.as_ref().map(super::Address::as_str),
        Some("127.0.0.1:7780")
    );
    assert_eq!(config.hooks.directory, Path::new("/srv/hooks"));
    assert_eq!(config.hooks.time_limit, Duration::from_secs(5));
    assert_eq!(config.hooks.hold, Duration::from_secs(10));
    assert_eq!(config.attach.backend, Backend::Nbd);
    assert_eq!(config.attach.devices, Path::new("/dev/twinblk"));
    let unwritten = parse("[node]\nname = \"a\"\n").expect("it is good");
    assert_eq!(unwritten.attach.backend, Backend::Auto);
    let wrong = complaint("[node]\nname = \"a\"\n[attach]\nbackend = \"fuse\"\n");
    assert!(wrong.contains("t.toml:4"), "{wrong}");
}

#[test]
fn an_arbiter_is_read_with_defaults() {
    let witness =
        "[node]\nname = \"a\"\n[arbiter]\nkind = \"witness\"\naddress = \"10.0.0.3:7789\"\n";
    let config = parse(witness).expect("it is good");
    let arbiter = config.arbiter.expect("there is one");
    assert_eq!((arbiter.kind(), arbiter.addresses().len()), ("witness", 1));
    let failover = config.failover;
    assert_eq!(failover.mode, Mode::OnDemand);
    assert_eq!(failover.times.grace(), 3_000_000_000);
    assert_eq!(failover.freeze_max, None);
    assert_eq!(failover.slow_peer, None);
    let waits = failover.suspect_promotes_after;
    assert_eq!(waits, Some(Duration::from_secs(60)));
    let list = witness.replace(
        "address = \"10.0.0.3:7789\"",
        "addresses = [\"h:1\", \"i:2\"]",
    );
    let arbiter = parse(&list).expect("it is good").arbiter;
    assert_eq!(arbiter.expect("there is one").addresses(), ["h:1", "i:2"]);
    let etcd = "[node]\nname = \"a\"\n[arbiter]\nkind = \"etcd\"\nendpoints = \"https://h:2379\"\n\
                ca_file = \"/etc/ca.pem\"\n[failover]\nmode = \"automatic\"\nlease_ms = 500\non_no_quorum = \
                \"error\"\nfreeze_max_ms = 100\nslow_peer_ms = 500\nrestart_hold_ms = 1\n\
                suspect_promotes_after_ms = \"never\"\n";
    let config = parse(etcd).expect("it is good");
    let Some(ArbiterSettings::Etcd(settings)) = &config.arbiter else {
        panic!("it is etcd");
    };
    assert_eq!(settings.prefix, "/twinblk/volumes");
    let failover = config.failover;
    assert_eq!(failover.mode, Mode::Automatic);
    assert_eq!(failover.times.grace(), 750_000_000);
    assert_eq!(config.options().settings.freeze_max, Some(100_000_000));
    assert_eq!(failover.freeze_max, Some(Duration::from_millis(100)));
    let settings = config.options().settings;
    assert_eq!(settings.slow_peer, Some(500_000_000));
    assert_eq!(settings.restart_hold, 1_000_000);
    assert_eq!(settings.suspect_promotes_after, None);
}

#[test]
fn complaints_about_an_arbiter_name_line_and_remedy() {
    for (text, line, words) in [
        ("[arbiter]\n", 3, "missing field `kind`"),
        ("[arbiter]\nkind = \"zookeeper\"\n", 4, "unknown variant"),
        ("[arbiter]\nkind = \"witness\"\n", 4, "HOST:7789"),
        (
            "[arbiter]\nkind = \"witness\"\naddress = \"h:1\"\nprefix = \"/x\"\n",
            4,
            "kind = \"etcd\"",
        ),
        (
            "[arbiter]\nkind = \"witness\"\naddress = \"h\"\n",
            5,
            "write HOST:PORT",
        ),
        (
            "[arbiter]\nkind = \"etcd\"\naddress = \"h:1\"\n",
            4,
            "endpoints = ",
        ),
        ("[arbiter]\nkind = \"etcd\"\n", 4, "endpoints = "),
        (
            "[arbiter]\nkind = \"etcd\"\nendpoints = [\"h:2379\"]\n",
            4,
            "http://HOST:2379",
        ),
        (
            "[arbiter]\nkind = \"etcd\"\nendpoints = \"https://h:2379\"\n",
            4,
            "ca_file",
        ),
        (
            "[arbiter]\nkind = \"etcd\"\nendpoints = \"http://h:2379\"\nuser = \"u\"\n",
            4,
            "password_file",
        ),
        ("[failover]\nmode = \"automatic\"\n", 4, "add an [arbiter]"),
        (
            "[failover]\nlease_ms = 1000\ngrace_ms = 1000\n",
            5,
            "write 1052 to 10000",
        ),
        ("[failover]\nfreeze_max_ms = 1\n", 4, "on_no_quorum"),
        (
            "[failover]\nslow_peer_ms = 1\n",
            4,
            "slow_peer_ms cannot be 1",
        ),
        (
            "[failover]\non_no_quorum = \"panic\"\n",
            4,
            "unknown variant",
        ),
    ] {
        let message = complaint(&format!("[node]\nname = \"a\"\n{text}"));
        assert!(
            message.starts_with(&format!("t.toml:{line}: ")),
            "{text}: {message}"
        );
        assert!(message.contains(words), "{text}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn complaints_name_file_line_and_remedy() {
    for (text, line, words) in [
        (
            "[node]\nname = \"a\"\nlisen = \"x\"\n",
            3,
            "unknown field `lisen`",
        ),
        ("[node]\nname = \"Alpha\"\n", 2, "is no name"),
        (
            "[node]\nname = \"a\"\nlisten = \"10.0.0.1\"\n",
            3,
            "write HOST:PORT",
        ),
        ("[node]\nname = \"a\"\nnbd = \"unix\"\n", 3, "unix:/path"),
        (
            "[node]\nname = \"a\"\nnbd = [\"unix:/a\", \"b\"]\n",
            3,
            "\"b\" is no address",
        ),
        (
            "[node]\nname = \"a\"\n[[peer]]\nname = \"b\"\n",
            3,
            "missing field `address`: add it",
        ),
        (
            "[node]\nname = \"a\"\n[[peer]]\nname = \"b\"\naddress = []\n",
            4,
            "has no address",
        ),
        (
            "[node]\nname = \"a\"\n[[peer]]\nname = \"a\"\naddress = \"h:1\"\n",
            4,
            "this node itself",
        ),
        (
            "[node]\nname = \"a\"\n[failover]\n\nlease_ms = 5\n",
            5,
            "write 200 to 60000",
        ),
        (
            "[node]\nname = \"a\"\n[io]\nspin_us = 5000\n",
            4,
            "write 0 to 1000",
        ),
        (
            "[node]\nname = \"a\"\n[io]\narena = \"1K\"\n",
            4,
            "write \"4M\" to \"4G\"",
        ),
        (
            "[node]\nname = \"a\"\n[io]\narena = \"lots\"\n",
            4,
            "is no size",
        ),
        (
            "[node]\nname = \"a\"\n[https]\nlisten = \"h:1\"\n",
            3,
            "unknown field `https`",
        ),
        ("[node\n", 1, ""),
    ] {
        let message = complaint(text);
        assert!(
            message.starts_with(&format!("t.toml:{line}: ")),
            "{message}"
        );
        assert!(message.contains(words), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_hook_has_some_time() {
    let none = complaint("[node]\nname = \"a\"\n[hooks]\ntime_limit_s = 0\n");
    assert_eq!(none, "t.toml:4: time_limit_s cannot be 0: write 1 to 3600");
}

#[test]
fn a_peer_named_twice_is_refused() {
    let twice = format!("{GOOD}\n[[peer]]\nname = \"beta\"\naddress = \"h:1\"\n");
    assert!(complaint(&twice).contains("peer beta is named twice"));
}

#[test]
fn the_example_is_good() {
    let text = include_str!("../../../docs/examples/twinblk.toml");
    let config = parse(text).expect("it is good");
    assert_eq!(config.failover.mode, Mode::Automatic);
    // The other arbiter, with the comment signs taken away and the first one's lines left out.
    let etcd: String = text
        .lines()
        .filter(|line| !line.starts_with("kind") && !line.starts_with("address = \"10.0.0.3"))
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = parse(&etcd).expect("it is good");
    let arbiter = config.arbiter.expect("there is one");
    assert_eq!((arbiter.kind(), arbiter.addresses().len()), ("etcd", 3));
}

#[test]
fn what_the_package_installs_is_good() {
    let text = include_str!("../../../scripts/debian/twinblk.toml");
    assert!(parse(text).expect("it is good").arbiter.is_none());
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = parse(&all).expect("it is good");
    assert!(config.arbiter.is_some());
    assert_eq!(config.failover.mode, Mode::Automatic);
}
