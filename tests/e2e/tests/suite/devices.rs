//! Block devices instead of data files. Loop devices need root: elsewhere these tests do nothing.

use e2e::checks::{assert_holds, receipt};
use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::node::Node;
use e2e::verdict::{Image, differing_blocks};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BLOCKS: u64 = 16 << 10;

/// A loop device over a file of its own. The kernel detaches it when nobody has it open any more, however this
/// process ends.
pub(crate) struct Device {
    file: tempfile::NamedTempFile,
    pub(crate) path: String,
    _held: File,
}

impl Device {
    pub(crate) fn new(bytes: u64) -> Device {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(bytes).expect("it is extended");
        let name = file.path().to_str().expect("its name is UTF-8");
        let told = tool("losetup", &["--find", "--show", name]).success();
        let path = told.trim().to_owned();
        let held = File::open(&path).expect("the device opens");
        tool("losetup", &["--detach", &path]).success();
        Device {
            file,
            path,
            _held: held,
        }
    }

    pub(crate) fn file(&self) -> &Path {
        self.file.path()
    }
}

/// How large a block device is.
pub(crate) fn size_bytes(device: &str) -> u64 {
    let size = tool("blockdev", &["--getsize64", device]).success();
    size.trim().parse().expect("a number")
}

fn create(node: &Node, backing: &[(&str, &str)]) -> e2e::program::Output {
    let mut words = vec!["volume", "create", "main", "--size", "64M"];
    let backing: Vec<String> = backing
        .iter()
        .map(|(node, path)| format!("--backing={node}={path}"))
        .collect();
    words.extend(backing.iter().map(String::as_str));
    node.cli(&words)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn load(cluster: &Cluster, node: usize, journal: Journal, seed: u64) -> Load {
    let plan = Plan {
        seed,
        ..Plan::default()
    };
    let load = Load::start(&cluster.nodes[node].endpoint(), "main", journal, &plan);
    load.expect("it serves")
}

/// One copy on a device and one in a file: the node with the device is killed under load, comes back, and takes
/// its place again.
#[test]
fn a_block_device_holds_a_copy() {
    if !is_root() {
        return;
    }
    let device = Device::new(BLOCKS * 4096);
    let mut cluster = Cluster::pair();
    let created = create(&cluster.nodes[0], &[("alpha", &device.path)]);
    assert_eq!(created.code, Some(0), "{created:?}");
    cluster.nodes[0].wait_state("main", "Protected");

    let first = load(&cluster, 0, Journal::new(1, BLOCKS), 1);
    first.wait_for_acknowledged(5_000);
    cluster.alpha().kill();
    let report = first.wait();
    report.assert_reads();
    assert!(report.acknowledged >= 5_000, "{:?}", report.broken);
    let mut journal = report.journal;
    cluster.nodes[1].ok(&["volume", "promote", "main", "--force"]);
    let mut client = cluster.nodes[1].open("main");
    assert_holds(&mut client, &journal).settle(&mut journal);
    drop(client);
    let second = load(&cluster, 1, journal, 2);
    second.wait_for_acknowledged(2_000);
    let report = second.stop();
    report.assert_clean();

    let copies = |cluster: &Cluster| [device.file().to_owned(), cluster.nodes[1].data("main")];
    let [ours, theirs] = copies(&cluster);
    let differing = differing_blocks(&ours, &theirs).expect("both are read");
    cluster.alpha().start();
    cluster.nodes[1].wait_state("main", "Protected");
    let receipt = receipt(&cluster.nodes[1], "main");
    println!("{differing} blocks differed; {receipt:?}");
    assert!(receipt.bytes_moved <= differing * 4096, "{receipt:?}");
    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    assert_holds(&mut cluster.nodes[0].open("main"), &report.journal);

    cluster.alpha().stop();
    cluster.beta().stop();
    for copy in copies(&cluster) {
        let image = Image::of_file(&copy).expect("it reads");
        assert_eq!(image.judge(&report.journal), [], "{}", copy.display());
    }
}

#[test]
fn a_device_that_may_be_somebody_s_is_left_alone() {
    if !is_root() {
        return;
    }
    let (device, small) = (Device::new(64 << 20), Device::new(32 << 20));
    let mut cluster = Cluster::prepared(&["alpha"]);
    cluster.start();
    let refused = create(&cluster.nodes[0], &[("alpha", &small.path)]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&small.path), "{refused:?}");

    let file = File::options().write(true).open(&device.path);
    let file = file.expect("the device opens");
    file.write_all_at(b"somebody's", 4096)
        .expect("it is written");
    file.sync_all().expect("it is durable");
    drop(file);
    let refused = create(&cluster.nodes[0], &[("alpha", &device.path)]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let remedy = "blkdiscard --zeroout --length 1M";
    assert!(refused.stderr.contains(remedy), "{refused:?}");
    let mut bytes = [0; 10];
    let file = File::open(device.file()).expect("the file opens");
    file.read_exact_at(&mut bytes, 4096).expect("it reads");
    assert_eq!(&bytes, b"somebody's");
    assert_eq!(cluster.nodes[0].ok(&["volume", "ls", "--quiet"]), "");

    // Once it is empty it is taken, and given back as it is when the volume is removed.
    let words: Vec<&str> = remedy.split(' ').skip(1).collect();
    tool("blkdiscard", &[&words[..], &[&device.path]].concat()).success();
    let created = create(&cluster.nodes[0], &[("alpha", &device.path)]);
    assert_eq!(created.code, Some(0), "{created:?}");
    cluster.nodes[0].wait_state("main", "Protected");
    let first = load(&cluster, 0, Journal::new(1, BLOCKS), 3);
    first.wait_for_acknowledged(500);
    let report = first.stop();
    report.assert_clean();
    cluster.nodes[0].ok(&["volume", "rm", "main"]);
    assert!(
        PathBuf::from(&device.path).exists(),
        "a device is no file of ours"
    );
    let image = Image::of_file(device.file()).expect("it reads");
    assert_eq!(image.judge(&report.journal), []);
}
