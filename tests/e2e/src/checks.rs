//! What most tests check in the end.

use crate::cluster::Cluster;
use crate::journal::{Finding, Journal};
use crate::nbd::{Client, Request};
use crate::node::Node;
use crate::verdict::{Image, differing_blocks};
use serde_json::Value;

/// What a node says about its last resync.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Receipt {
    /// Blocks that were marked.
    pub blocks_dirty: u64,
    /// Bytes of blocks that were copied.
    pub bytes_moved: u64,
    /// All bytes that the resync sent, both ways.
    pub bytes_on_wire: u64,
    /// Bytes that were marked and found equal.
    pub bytes_saved_by_hash: u64,
}

/// A node's last receipt for the volume; all zero if there was no resync.
///
/// # Panics
/// If the node has no such volume.
pub fn receipt(node: &Node, volume: &str) -> Receipt {
    let status = node.status(volume).expect("the node knows the volume");
    let number = |name: &str| status["last_receipt"][name].as_u64().unwrap_or(0);
    Receipt {
        blocks_dirty: number("blocks_dirty"),
        bytes_moved: number("bytes_moved"),
        bytes_on_wire: number("bytes_on_wire"),
        bytes_saved_by_hash: number("bytes_saved_by_hash"),
    }
}

/// Fails if there are findings, naming the first.
///
/// # Panics
/// With their number and the first of them.
pub fn assert_none_found(place: &str, found: &[Finding]) {
    if let Some(first) = found.first() {
        panic!(
            "{place}: {} blocks do not read what they must: {first}",
            found.len()
        );
    }
}

/// Reads the whole volume and fails unless every block reads its last acknowledged version or a later
/// one, and the same a second time.
///
/// # Panics
/// With the first block that does not.
pub fn assert_holds(client: &mut Client, journal: &Journal) -> Image {
    let image = Image::of_volume(client).expect("the volume reads");
    assert_none_found("the volume", &image.judge(journal));
    let again = Image::of_volume(client).expect("the volume reads");
    assert!(image == again, "two reads of the volume differ");
    image
}

/// Fails unless the data files of all nodes that have one are the same, byte by byte, and are what the
/// journal says. Nobody may be writing.
///
/// # Panics
/// With what differs.
pub fn assert_copies(cluster: &Cluster, volume: &str, journal: &Journal) {
    let files = cluster.nodes.iter().map(|node| node.data(volume));
    let files: Vec<_> = files.filter(|file| file.exists()).collect();
    assert!(files.len() > 1, "copies: {files:?}");
    for other in &files[1..] {
        let differing = differing_blocks(&files[0], other).expect("both files are read");
        if differing > 0 {
            print_differing(&[files[0].clone(), other.clone()], journal);
        }
        assert_eq!(differing, 0, "blocks that differ between the two files");
    }
    for file in files {
        let image = Image::of_file(&file).expect("the file is read");
        assert_none_found(&file.display().to_string(), &image.judge(journal));
    }
}

/// Each block that differs, what either file holds of it, and what the journal says to that.
fn print_differing(files: &[std::path::PathBuf; 2], journal: &Journal) {
    let [left, right] = files
        .each_ref()
        .map(|file| Image::of_file(file).expect("the file is read"));
    for (block, (left, right)) in journal.range().zip(left.0.iter().zip(&right.0)) {
        if left != right {
            let verdicts = [left, right].map(|read| journal.judge(block, *read).is_ok());
            let acknowledged = journal.acknowledged(block);
            eprintln!(
                "block {block}: {left:?}, {right:?}; acknowledged {acknowledged}, allowed {verdicts:?}"
            );
        }
    }
}

/// Puts one acknowledged block back to its previous version, fails unless exactly that is found, and
/// mends it.
///
/// # Panics
/// If the loss is not found, or no block was written twice.
pub fn assert_loss_is_found(client: &mut Client, journal: &mut Journal, pick: u64) {
    let (block, mut data) = journal
        .previous_version(pick)
        .expect("blocks were rewritten");
    let offset = block * data.len() as u64;
    client
        .call(Request::Write {
            offset,
            data: &data,
            fua: false,
        })
        .expect("a write");
    let found = Image::of_volume(client)
        .expect("the volume reads")
        .judge(journal);
    assert_eq!(
        found
            .iter()
            .map(|finding| finding.block)
            .collect::<Vec<_>>(),
        [block]
    );
    let version = journal.issue_write(block, &mut data);
    client
        .call(Request::Write {
            offset,
            data: &data,
            fua: false,
        })
        .expect("a write");
    journal.acknowledge(block, version);
}

/// The names of a node's events so far.
pub fn event_names(node: &Node) -> Vec<String> {
    node.events()
        .iter()
        .filter_map(|event| event["name"].as_str().map(str::to_owned))
        .collect()
}

/// What a replica's node is said to hold, by the node that is asked.
pub fn replica<'a>(status: &'a Value, node: &str) -> &'a Value {
    let replicas = status["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    replicas
        .iter()
        .find(|replica| replica["node"] == node)
        .unwrap_or(&Value::Null)
}
