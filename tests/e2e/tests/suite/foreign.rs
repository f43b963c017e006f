//! Other projects' clients.

use e2e::cluster::Cluster;
use e2e::foreign::tool;
use e2e::random::Random;
use e2e::verdict::differing_blocks;
use std::path::PathBuf;

/// A mirrored volume, and a file of the same size with data, zeroes and holes.
struct Setting {
    cluster: Cluster,
    uri: String,
    source: PathBuf,
}

fn setting() -> Setting {
    let cluster = Cluster::pair();
    cluster.create("main", "128M");
    let source = cluster.folder().join("source.img");
    let mut bytes = vec![0; 128 << 20];
    let mut random = Random::new(5);
    for piece in bytes.chunks_mut(1 << 20).step_by(3) {
        for word in piece.chunks_exact_mut(8) {
            word.copy_from_slice(&random.bits().to_le_bytes());
        }
    }
    std::fs::write(&source, bytes).expect("the source file");
    let uri = cluster.nodes[0].uri("main");
    Setting {
        cluster,
        uri,
        source,
    }
}

impl Setting {
    fn source(&self) -> &str {
        self.source
            .to_str()
            .expect("a temporary folder's name is UTF-8")
    }

    fn path(&self, name: &str) -> String {
        self.cluster.folder().join(name).display().to_string()
    }

    fn assert_copies(&self) {
        for node in &self.cluster.nodes {
            let differing =
                differing_blocks(&node.data("main"), &self.source).expect("both are read");
            assert_eq!(differing, 0, "{}'s file and the source", node.name());
        }
    }
}

#[test]
fn libnbd_reads_and_writes() {
    let setting = setting();
    let (uri, source, back) = (&setting.uri, setting.source(), setting.path("back.img"));
    let info: serde_json::Value =
        serde_json::from_str(&tool("nbdinfo", &["--json", uri]).success())
            .expect("nbdinfo prints JSON");
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], 128 << 20, "{info}");
    for promise in ["can_multi_conn", "can_fua", "can_trim", "can_zero"] {
        assert_eq!(export[promise], true, "{promise}: {info}");
    }
    let list = tool("nbdinfo", &["--list", &uri.replace("/main?", "/?")]).success();
    assert!(list.contains("main"), "{list}");

    tool(
        "nbdcopy",
        &["--connections=4", "--requests=64", "--flush", source, uri],
    )
    .success();
    tool("nbdcopy", &[uri, &back]).success();
    tool("cmp", &[source, &back]).success();
    let map = tool("nbdinfo", &["--map", uri]).success();
    assert!(map.contains("hole") && map.contains("data"), "{map}");
    setting.assert_copies();
}

/// As the kernel's client does: long reads at once, answered by simple replies, each of which promises its whole length.
#[test]
fn long_reads_at_once_have_simple_replies() {
    const SCRIPT: &str = "
import nbd, sys
h = nbd.NBD()
h.set_request_structured_replies(False)
h.connect_uri(sys.argv[1])
assert not h.get_structured_replies_negotiated()
source = open(sys.argv[2], 'rb').read()
ended = 0
for start in range(0, 96 << 20, 16 << 20):
    # Of many lengths, none of which divides another.
    reads = [(start + i * 700001, 4096 if i % 3 == 0 else 600000 + 4001 * i) for i in range(16)]
    buffers = [nbd.Buffer(length) for _, length in reads]
    cookies = [h.aio_pread(buffer, offset) for (offset, _), buffer in zip(reads, buffers)]
    for cookie, (offset, length), buffer in zip(cookies, reads, buffers):
        while not h.aio_command_completed(cookie):
            h.poll(-1)
        assert buffer.to_bytearray() == source[offset:offset + length], (offset, length)
        ended += 1
print(ended)
";
    let setting = setting();
    let (uri, source) = (&setting.uri, setting.source());
    tool("nbdcopy", &[source, uri]).success();
    let told = tool("/usr/bin/python3", &["-c", SCRIPT, uri, source]).success();
    assert_eq!(told.trim(), "96");
}

#[test]
fn qemu_reads_and_writes() {
    let setting = setting();
    let (uri, source) = (&setting.uri, setting.source());
    let convert = [
        "convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "8", source, uri,
    ];
    tool("qemu-img", &convert).success();
    tool(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", source, uri],
    )
    .success();
    setting.assert_copies();
    let commands = [
        "write -P 0xab 1M 64k",
        "read -P 0xab 1M 64k",
        "write -z -u 1M 64k",
        "read -P 0 1M 64k",
        "write -f -P 7 2M 512",
        "read -P 7 2M 512",
        "write -P 9 4097 10001",
        "read -P 9 4097 10001",
        "discard 2M 64k",
        "read -P 0 2M 64k",
        "write -P 3 0 32M",
        "read -P 3 0 32M",
        "flush",
    ];
    let words: Vec<&str> = ["-f", "raw"]
        .into_iter()
        .chain(commands.iter().flat_map(|c| ["-c", c]))
        .collect();
    let output = tool("qemu-io", &[&words[..], &[uri.as_str()]].concat()).success();
    assert!(!output.contains("failed"), "{output}");
    let [alpha, beta] = &setting.cluster.nodes[..] else {
        panic!("two nodes")
    };
    assert_eq!(
        differing_blocks(&alpha.data("main"), &beta.data("main")).expect("both are read"),
        0
    );
}

#[test]
fn fio_verifies_what_it_wrote() {
    let setting = setting();
    let uri = format!("--uri={}", setting.uri);
    let words = [
        "--name=v",
        "--ioengine=nbd",
        &uri,
        "--rw=randwrite",
        "--bssplit=4k/50:8k/20:64k/30",
        "--size=128M",
        "--iodepth=32",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_backlog=1024",
        "--do_verify=1",
        "--verify_state_save=0",
    ];
    tool("fio", &words).success();
    let [alpha, beta] = &setting.cluster.nodes[..] else {
        panic!("two nodes")
    };
    assert_eq!(
        differing_blocks(&alpha.data("main"), &beta.data("main")).expect("both are read"),
        0
    );
}
