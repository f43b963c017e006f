use super::{Cli, Command, VolumeCommand};
use clap::{CommandFactory, Parser};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_interface_promises_can_be_typed() {
    for line in [
        "twinblk demo",
        "twinblk serve --config /etc/twinblk/twinblk.toml",
        "twinblk witness --config /etc/twinblk/witness.toml",
        "twinblk agent --config /etc/twinblk/twinblk.toml",
        "twinblk key new /tmp/key",
        "twinblk --admin /run/a.sock node ls",
        "twinblk node ls --json --admin /run/a.sock",
        "twinblk node drain alpha",
        "twinblk node drain alpha --json",
        "twinblk node activate alpha",
        "twinblk volume create pgdata --size 10G",
        "twinblk volume create v --size 10G --replicas alpha,beta --backing alpha=/dev/sdb \
         --backing beta=/srv/v.img",
        "twinblk volume ls --quiet",
        "twinblk volume status",
        "twinblk volume status v --json",
        "twinblk volume wait v --state Protected --timeout 60s",
        "twinblk volume wait v --state Protected,Resync,Alone",
        "twinblk volume promote v --force",
        "twinblk volume demote v",
        "twinblk volume swap v",
        "twinblk volume verify v --repair",
        "twinblk volume resync v --full --to beta",
        "twinblk volume pause v",
        "twinblk volume resume v",
        "twinblk volume resolve v --discard beta --dry-run",
        "twinblk volume adopt v",
        "twinblk volume grow v --size 20G",
        "twinblk volume rm v --keep-data",
        "twinblk volume attach v",
        "twinblk volume attach v --device /dev/nbd12 --foreground",
        "twinblk volume detach v --force",
        "twinblk arbiter status --json",
        "twinblk arbiter set witness 10.0.0.3:7789 --mode automatic",
        "twinblk arbiter set etcd https://10.0.0.3:2379 https://10.0.0.4:2379 --ca-file /etc/ca.pem --cert-file \
         /etc/cert.pem --key-file /etc/key.pem",
        "twinblk arbiter reset v --force",
        "twinblk events --follow --json",
        "twinblk events --after 17 --follow",
    ] {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(parse(&line).is_ok(), "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for line in [
        "twinblk",
        "twinblk volume create v",
        "twinblk volume create V --size 1G",
        "twinblk volume create v --size 1.5G",
        "twinblk volume create v --size 1G --backing alpha",
        "twinblk volume create v --size 1G --backing alpha=relative",
        "twinblk volume wait v --timeout soon",
        "twinblk volume resolve v",
        "twinblk volume attach v --device nbd3",
        "twinblk volume attach v --device /dev/nbd",
        "twinblk volume attach v --device /dev/nbd3p1",
        "twinblk volume ls --json --quiet",
        "twinblk arbiter set witness",
        "twinblk arbiter set etcd http://h:2379 --user root",
        "twinblk arbiter set witness h:1 --mode sometimes",
        "twinblk arbiter reset",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn replicas_and_backing_are_lists() {
    let cli =
        parse("twinblk volume create v --size 1G --replicas a,b --backing a=/x --backing b=/y");
    let Ok(Cli {
        command:
            Command::Volume(VolumeCommand::Create {
                replicas, backing, ..
            }),
        ..
    }) = cli
    else {
        panic!("it is a creation");
    };
    assert_eq!((replicas.len(), backing.len()), (2, 2));
}
