//! Foreign clients against the listener, negotiation and session. They come with the packages
//! libnbd-bin and qemu-utils, which scripts/setup installs.

use super::memory::{Memory, SIZE_BYTES};
use super::{Address, Listener, Server};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::watch;

impl Server {
    fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }
}

/// Runs a client to its end.
async fn run(command: &str, arguments: &[&str]) -> Output {
    let output = Command::new(command)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let output = output.expect("the client ends in time");
    output.expect("libnbd-bin and qemu-utils are installed")
}

/// Runs a client that succeeds and returns what it prints.
async fn prints(command: &str, arguments: &[&str]) -> String {
    let output = run(command, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nbdinfo_lists_describes_and_opens_nothing() {
    let server = Server::start(8).await;
    let listed = prints("nbdinfo", &["--list", "--json", &server.uri("")]).await;
    for expected in [
        "\"protocol\": \"newstyle-fixed\"",
        "\"structured\": true",
        "\"export-name\": \"pg\"",
        "\"export-size\": 33554432",
        "\"base:allocation\"",
        "\"can_multi_conn\": true",
        "\"can_fua\": true",
        "\"block_size_minimum\": 1",
        "\"block_size_preferred\": 4096",
        "\"block_size_maximum\": 33554432",
    ] {
        assert!(listed.contains(expected), "{expected} is not in {listed}");
    }
    assert!(server.memory.opened().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn qemu_io_shows_why_an_export_cannot_be_had() {
    let server = Server::start(8).await;
    let reasons = [
        ("away", "away is served by beta: connect there"),
        ("nosuch", "there is no volume"),
    ];
    for (export, reason) in reasons {
        let output = run("qemu-io", &["-f", "raw", &server.uri(export)]).await;
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(reason), "{reason} is not in {errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nbdcopy_brings_an_image_there_and_back() {
    let server = Server::start(16).await;
    let image = server.folder.path().join("image");
    let back = server.folder.path().join("back");
    let (image, back) = (image.to_string_lossy(), back.to_string_lossy());
    // Half data, half hole, and the data ends within a block.
    let data_bytes = SIZE_BYTES / 2 + 12_345;
    let mut bytes: Vec<u8> = (1..=250).cycle().take(data_bytes).collect();
    bytes.resize(SIZE_BYTES, 0);
    std::fs::write(&*image, &bytes).expect("there is room");
    let uri = server.uri("pg");
    let arguments = ["--connections=4", "--requests=64", "--flush", &image, &uri];
    prints("nbdcopy", &arguments).await;
    prints("nbdcopy", &[&uri, &back]).await;
    let copied = std::fs::read(&*back).expect("it was written");
    assert!(copied == bytes, "the image is not what it was");
    let map = prints("nbdinfo", &["--map", "--totals", &uri]).await;
    let data_bytes = data_bytes.next_multiple_of(4096);
    for expected in [data_bytes, SIZE_BYTES - data_bytes] {
        assert!(
            map.contains(&expected.to_string()),
            "{expected} is not in {map}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn qemu_io_reads_what_it_wrote_over_unix_socket_and_tcp() {
    let server = Server::start(8).await;
    let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".into()))
        .await
        .expect("any port");
    let port = listener.tcp_port().expect("it has one");
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(listener.serve(Arc::new(Memory::new()), stopped));
    for uri in [server.uri("pg"), format!("nbd://127.0.0.1:{port}/pg")] {
        let commands = [
            "write -P 0xab 1M 64k",
            "read -P 0xab 1M 64k",
            "write -z -u 1M 64k",
            "read -P 0 1M 64k",
            "write -f -P 7 2M 512",
            "write -P 9 3000001 777",
            "read -P 9 3000001 777",
            "discard 2M 64k",
            "flush",
        ];
        let mut arguments = vec!["-f", "raw"];
        commands
            .iter()
            .for_each(|command| arguments.extend(["-c", command]));
        arguments.push(&uri);
        let printed = prints("qemu-io", &arguments).await;
        assert!(!printed.contains("failed"), "{printed}");
    }
}
