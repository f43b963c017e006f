//! What load balancers and Prometheus see.

use e2e::cluster::Cluster;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::ports::free_ports;
use e2e::{PATIENCE, http, wait_for};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Two nodes that answer by HTTP, and where.
fn pair() -> (Cluster, Vec<SocketAddr>) {
    let mut cluster = Cluster::prepared(&["alpha", "beta"]);
    // The first two of those that are free now are the nodes' own.
    let ports = free_ports(4).split_off(2);
    let addresses: Vec<_> = ports
        .into_iter()
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .collect();
    for (node, address) in cluster.nodes.iter().zip(&addresses) {
        node.configure(&format!("[http]\nlisten = \"{address}\"\n"));
    }
    cluster.start();
    (cluster, addresses)
}

fn health(address: SocketAddr) -> (u16, String) {
    let answer = http::get(address, "/health/main").expect("the daemon answers");
    assert_eq!(answer.1.lines().count(), 1, "{answer:?}");
    answer
}

fn wait_healthy(address: SocketAddr, wanted: u16) -> String {
    let mut last = None;
    wait_for(&format!("health {wanted}"), PATIENCE, || {
        let (status, reason) = http::get(address, "/health/main").ok()?;
        last = Some((status, reason.clone()));
        (status == wanted).then_some(reason)
    })
}

/// The value of a time series.
fn metric(address: SocketAddr, series: &str) -> Option<f64> {
    let (status, text) = http::get(address, "/metrics").expect("the daemon answers");
    assert_eq!(status, 200, "{text}");
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

#[test]
fn only_the_node_that_serves_is_healthy() {
    let (mut cluster, addresses) = pair();
    let (alpha, beta) = (addresses[0], addresses[1]);
    assert_eq!(health(alpha).0, 404);
    cluster.create("main", "64M");
    assert_eq!(health(alpha).0, 200);
    let (status, reason) = health(beta);
    assert_eq!((status, reason.trim()), (503, "alpha is the primary"));

    cluster.nodes[0].ok(&["volume", "swap", "main"]);
    assert_eq!(health(alpha).0, 503);
    assert_eq!(health(beta).0, 200);

    // While nobody serves nobody is healthy; then the survivor is.
    cluster.beta().kill();
    assert_eq!(health(alpha).0, 503);
    cluster.nodes[0].wait_state("main", "Waiting for beta");
    cluster.nodes[0].ok(&["volume", "promote", "main", "--force"]);
    assert_eq!(health(alpha).0, 200);
    cluster.beta().start();
    wait_healthy(beta, 503);
    cluster.nodes[0].ok(&["volume", "demote", "main"]);
    assert!(health(alpha).1.contains("promote"));
    assert_eq!(http::get(alpha, "/").expect("it answers").0, 404);
}

#[test]
fn metrics_show_what_clients_do_and_what_is_missing_and_return_to_zero() {
    let (mut cluster, addresses) = pair();
    let alpha = addresses[0];
    cluster.create("main", "64M");
    let journal = Journal::new(1, 16 << 10);
    let plan = Plan::requests(1_000);
    let report = Load::complete(&cluster.nodes[0].endpoint(), "main", journal, &plan);
    let value = |series: &str| metric(alpha, series);
    let writes = value("twinblk_volume_writes_total{volume=\"main\"}");
    assert!(writes.is_some_and(|writes| writes > 100.0), "{writes:?}");
    let latency = "twinblk_volume_request_latency_seconds{volume=\"main\",quantile=\"0.99\"}";
    assert!(value(latency).is_some_and(|seconds| seconds > 0.0 && seconds < 60.0));

    let behind = "twinblk_volume_out_of_sync_bytes{volume=\"main\"}";
    let in_sync = "twinblk_volume_in_sync_replicas{volume=\"main\"}";
    let missing = "twinblk_peer_connection{volume=\"main\",peer=\"beta\",state=\"Connecting\"}";
    assert_eq!((value(behind), value(in_sync)), (Some(0.0), Some(2.0)));
    cluster.beta().kill();
    let load = Load::start(
        &cluster.nodes[0].endpoint(),
        "main",
        report.journal,
        &Plan { seed: 2, ..plan },
    );
    load.expect("it serves").wait().assert_clean();
    cluster.nodes[0].wait_state("main", "Alone");
    assert_eq!((value(in_sync), value(missing)), (Some(1.0), Some(1.0)));
    assert!(value(behind).is_some_and(|bytes| bytes > 0.0));

    cluster.beta().start();
    cluster.nodes[0].wait_state("main", "Protected");
    for series in [
        behind,
        missing,
        "twinblk_peer_out_of_sync_bytes{volume=\"main\",peer=\"beta\"}",
        "twinblk_resync_remaining_bytes{volume=\"main\"}",
    ] {
        assert_eq!(value(series), Some(0.0), "{series}");
    }
    assert_eq!(value(in_sync), Some(2.0));

    wait_for("the volume to be removed", PATIENCE, || {
        (cluster.nodes[0].cli(&["volume", "rm", "main"]).code == Some(0)).then_some(())
    });
    let (_, text) = http::get(alpha, "/metrics").expect("the daemon answers");
    assert!(!text.contains("main"), "{text}");
}

/// Whoever connects and says nothing, or sends without end, holds up nobody else for long and costs little.
#[test]
fn idle_and_endless_requests_are_cut_off() {
    let (mut cluster, addresses) = pair();
    let alpha = addresses[0];
    cluster.create("main", "64M");
    let idle: Vec<_> = (0..80)
        .map(|_| TcpStream::connect(alpha).expect("the kernel accepts"))
        .collect();
    let mut endless = TcpStream::connect(alpha).expect("the kernel accepts");
    let limit = Some(Duration::from_secs(20));
    endless.set_write_timeout(limit).expect("a limit");
    let word = [b'a'; 4096];
    let mut sent = 0;
    // It ends with an error, since the daemon hangs up.
    while sent < 64 << 20 && endless.write_all(&word).is_ok() {
        sent += word.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes of a request line were taken");
    assert_eq!(wait_healthy(alpha, 200).lines().count(), 1);
    for mut stream in idle {
        stream.set_read_timeout(limit).expect("a limit");
        let mut rest = Vec::new();
        // Whether it says why or not: it ends.
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || rest.is_empty(), "{ended:?}");
    }
    cluster.alpha().stop();
}
