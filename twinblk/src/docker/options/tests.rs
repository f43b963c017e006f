use super::{Fs, Options, Replicas, Settings};
use format::types::Name;
use std::collections::BTreeMap;

fn read(typed: &[(&str, &str)]) -> Result<Options, String> {
    let owned = typed
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Options::read(&owned.collect()).map_err(|failure| failure.message)
}

#[test]
fn what_was_typed_is_what_every_node_reads() {
    let options = read(&[
        ("size", "20G"),
        ("replicas", "alpha, beta"),
        ("fs", "xfs"),
        ("mkfs", "-m reflink=0  -K"),
        ("mount_options", "noatime,discard"),
        ("reclaim", "delete"),
    ]);
    let options = options.expect("all are known");
    assert_eq!(options.size_bytes, Some(20 << 30));
    let names = ["alpha", "beta"].map(|name| Name::new(name).expect("a name"));
    assert_eq!(options.replicas, Some(Replicas::Named(names.to_vec())));
    let settings = Settings::of(&options.labels()).expect("they are well");
    let wanted = Settings {
        fs: Some(Fs::Xfs),
        mkfs: ["-m", "reflink=0", "-K"].map(str::to_owned).to_vec(),
        mount_options: Some("noatime,discard".to_owned()),
        deletes: true,
    };
    assert_eq!(settings, wanted);

    let plain = read(&[("size", "1G"), ("replicas", "2")]).expect("all are known");
    assert_eq!(plain.replicas, Some(Replicas::Count(2)));
    let settings = Settings::of(&plain.labels()).expect("they are well");
    assert_eq!(settings.fs, Some(Fs::Ext4));
    assert!(!settings.deletes && settings.mkfs.is_empty() && settings.mount_options.is_none());
    // Not created through Docker: nothing is made on it.
    assert_eq!(Settings::of(&BTreeMap::new()), Ok(Settings::default()));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let long = "x".repeat(300);
    for (name, value, words) in [
        (
            "sise",
            "1G",
            "unknown option `sise`: there are size, replicas",
        ),
        (&long, "1G", "unknown option `xxx"),
        ("size", "big", "option size: `big` is no size"),
        ("replicas", "0", "option replicas: `0`"),
        ("replicas", "alpha,,beta", "option replicas"),
        ("replicas", "Alpha", "`Alpha` is no name"),
        ("fs", "btrfs", "option fs: `btrfs` is neither ext4 nor xfs"),
        (
            "mkfs",
            "-q -Lmine",
            "option mkfs: the label is twinblk's own",
        ),
        (
            "mount_options",
            "a b",
            "option mount_options: separate them by commas",
        ),
        (
            "mount_options",
            "a\nb",
            "option mount_options: it has a control character",
        ),
        (
            "reclaim",
            "maybe",
            "option reclaim: `maybe` is neither keep nor delete",
        ),
    ] {
        let complaint = read(&[(name, value)]).expect_err("it is wrong");
        assert!(complaint.contains(words), "{complaint}");
        assert!(complaint.len() < 300, "{complaint}");
    }
    let small = read(&[("size", "100M"), ("fs", "xfs")]).expect_err("mkfs.xfs refuses");
    assert!(small.contains("300M"), "{small}");
}

#[test]
fn an_existing_volume_is_not_what_it_is_not() {
    let labels = read(&[("reclaim", "delete"), ("fs", "ext4")])
        .expect("known")
        .labels();
    let nodes = ["alpha", "beta"];
    let difference = |typed: &[(&str, &str)]| {
        let options = read(typed).expect("all are known");
        options.difference(1 << 30, &nodes, &labels)
    };
    assert_eq!(difference(&[]), None);
    assert_eq!(
        difference(&[
            ("size", "1G"),
            ("replicas", "beta,alpha"),
            ("reclaim", "delete")
        ]),
        None
    );
    for (typed, words) in [
        (("size", "2G"), "its size is 1G, not 2G"),
        (("replicas", "3"), "its replicas are alpha,beta, not 3"),
        (
            ("replicas", "alpha"),
            "its replicas are alpha,beta, not alpha",
        ),
        (("reclaim", "keep"), "its reclaim is `delete`, not `keep`"),
        (
            ("mount_options", "noatime"),
            "its mount_options is ``, not `noatime`",
        ),
    ] {
        assert_eq!(difference(&[typed]).as_deref(), Some(words));
    }
}
