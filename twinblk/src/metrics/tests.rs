use super::text;
use crate::api::samples::{alone, protected};
use crate::api::{NodeView, ResyncView, VolumeView};

fn nodes() -> Vec<NodeView> {
    let node = |name: &str, state: &str| NodeView {
        name: name.to_owned(),
        id: None,
        addresses: Vec::new(),
        state: state.to_owned(),
        reason: None,
        facts: None,
    };
    vec![node("alpha", "Self"), node("beta", "Connected")]
}

fn scrape(volumes: &[VolumeView]) -> String {
    text(&nodes(), volumes).expect("text is encoded")
}

fn assert_has(text: &str, line: &str) {
    assert!(
        text.lines().any(|one| one == line),
        "{line}\nnot in\n{text}"
    );
}

#[test]
fn a_mirrored_volume_shows_its_state_and_its_work() {
    let text = scrape(&[protected()]);
    for line in [
        "twinblk_node_connected{node=\"beta\"} 1",
        "twinblk_volume_size_bytes{volume=\"main\"} 67108864",
        "twinblk_volume_serving{volume=\"main\"} 1",
        "twinblk_volume_role{volume=\"main\",role=\"Primary\"} 1",
        "twinblk_volume_role{volume=\"main\",role=\"Secondary\"} 0",
        "twinblk_volume_state{volume=\"main\",state=\"Protected\"} 1",
        "twinblk_volume_state{volume=\"main\",state=\"Alone\"} 0",
        "twinblk_volume_replicas{volume=\"main\"} 2",
        "twinblk_volume_in_sync_replicas{volume=\"main\"} 2",
        "twinblk_volume_out_of_sync_bytes{volume=\"main\"} 0",
        "twinblk_peer_connection{volume=\"main\",peer=\"beta\",state=\"Connected\"} 1",
        "twinblk_peer_out_of_sync_bytes{volume=\"main\",peer=\"beta\"} 0",
        "twinblk_resync_remaining_bytes{volume=\"main\"} 0",
        "twinblk_volume_clients{volume=\"main\"} 1",
        "twinblk_volume_writes_total{volume=\"main\"} 7",
        "twinblk_volume_written_bytes_total{volume=\"main\"} 8192",
        "twinblk_volume_request_latency_seconds{volume=\"main\",quantile=\"0.99\"} 0.0025",
        "# EOF",
    ] {
        assert_has(&text, line);
    }
}

#[test]
fn gauges_rise_while_a_copy_is_missing_and_return_to_zero() {
    let mut behind = alone();
    behind.state = "Resync 25%".to_owned();
    behind.resync = Some(ResyncView {
        waits: false,
        node: "beta".to_owned(),
        direction: "SyncSource".to_owned(),
        bytes_total: 16384,
        bytes_done: 4096,
        bytes_on_wire: 5000,
        rate_bytes_per_s: 100,
        seconds_left: Some(120),
    });
    let text = scrape(&[behind]);
    for line in [
        "twinblk_volume_state{volume=\"main\",state=\"Resync\"} 1",
        "twinblk_volume_in_sync_replicas{volume=\"main\"} 1",
        "twinblk_volume_out_of_sync_bytes{volume=\"main\"} 12288",
        "twinblk_peer_in_sync{volume=\"main\",peer=\"beta\"} 0",
        "twinblk_resync_size_bytes{volume=\"main\"} 16384",
        "twinblk_resync_remaining_bytes{volume=\"main\"} 12288",
        "twinblk_resync_bytes_per_second{volume=\"main\"} 100",
    ] {
        assert_has(&text, line);
    }
    let text = scrape(&[protected()]);
    for name in [
        "volume_out_of_sync_bytes",
        "resync_size_bytes",
        "resync_remaining_bytes",
        "resync_bytes_per_second",
    ] {
        assert_has(&text, &format!("twinblk_{name}{{volume=\"main\"}} 0"));
    }
}

#[test]
fn a_volume_that_is_gone_has_left_nothing() {
    assert!(scrape(&[protected()]).contains("volume=\"main\""));
    assert!(!scrape(&[]).contains("volume="));
}
