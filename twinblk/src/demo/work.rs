//! What the demonstration's client does to the volume.

use super::blocks::{BLOCK_BYTES, Model, Numbers};
use crate::failure::{Context, Failure};
use crate::nbd::{Broken, Error, NbdClient};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// Writes that are under way at once.
const WINDOW: usize = 32;
/// Every other write goes to one of so many blocks, so that many are written again and again.
const HOT_BLOCKS: u64 = 2048;
/// Blocks that are read at once.
const READ_BLOCKS: usize = 64;

/// Writes at random until `enough` says so, then waits for the replies; notes each in the model and
/// in `acknowledged`.
pub(super) async fn write(
    client: &mut NbdClient,
    model: &mut Model,
    numbers: &mut Numbers,
    acknowledged: &Cell<u64>,
    enough: impl Fn() -> bool,
) -> Result<(), Error> {
    let mut under_way: BTreeMap<u64, usize> = BTreeMap::new();
    loop {
        while under_way.len() < WINDOW && !enough() {
            let range = if numbers.next().is_multiple_of(2) {
                HOT_BLOCKS
            } else {
                model.blocks() as u64
            };
            let block = usize::try_from(numbers.next() % range).map_err(io::Error::other)?;
            let (sequence, content) = model.issue(block);
            let offset = (block * BLOCK_BYTES) as u64;
            client.send_write(sequence, offset, &content).await?;
            under_way.insert(sequence, block);
        }
        client.push().await?;
        if under_way.is_empty() {
            return Ok(());
        }
        loop {
            let sequence = client.reply().await?;
            let block = under_way.remove(&sequence);
            let block = block.ok_or(Broken("a reply to no request"))?;
            model.acknowledge(block, sequence);
            acknowledged.set(acknowledged.get() + 1);
            if !client.has_reply() {
                break;
            }
        }
    }
}

/// Writes gently at random, as an application does beside a resync, until `enough` says so.
pub(super) async fn write_gently(
    client: &mut NbdClient,
    model: &mut Model,
    numbers: &mut Numbers,
    acknowledged: &Cell<u64>,
    enough: impl Fn() -> bool,
) -> Result<(), Error> {
    while !enough() {
        let before = acknowledged.get();
        write(client, model, numbers, acknowledged, || {
            acknowledged.get() > before
        })
        .await?;
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Reads every block through the client and checks it.
pub(super) async fn check_all(client: &mut NbdClient, model: &mut Model) -> Result<(), Failure> {
    for first in (0..model.blocks()).step_by(READ_BLOCKS) {
        let bytes = client
            .read(
                (first * BLOCK_BYTES) as u64,
                READ_BLOCKS.min(model.blocks() - first) * BLOCK_BYTES,
            )
            .await;
        let bytes = bytes.context(|| "reading back".to_owned())?;
        check(model, first, &bytes)?;
    }
    Ok(())
}

/// Compares both raw files with each other, and with what the client was promised.
pub(super) fn compare_files(a: &Path, b: &Path, model: &mut Model) -> Result<(), Failure> {
    let open = |path: &Path| File::open(path).context(|| format!("cannot read {}", path.display()));
    let (mut file_a, mut file_b) = (open(a)?, open(b)?);
    for first in (0..model.blocks()).step_by(READ_BLOCKS) {
        let bytes = BLOCK_BYTES * READ_BLOCKS.min(model.blocks() - first);
        let read = |file: &mut File| {
            let mut buffer = vec![0; bytes];
            file.read_exact(&mut buffer)
                .context(|| "reading the files".to_owned())?;
            Ok::<_, Failure>(buffer)
        };
        let (from_a, from_b) = (read(&mut file_a)?, read(&mut file_b)?);
        let differing = from_a.chunks(BLOCK_BYTES).zip(from_b.chunks(BLOCK_BYTES));
        if let Some(at) = differing.into_iter().position(|(a, b)| a != b) {
            return Err(Failure::failed(format!(
                "the copies differ in block {}",
                first + at
            )));
        }
        check(model, first, &from_a)?;
    }
    let rest = |mut file: File| {
        file.read(&mut [0])
            .context(|| "reading the files".to_owned())
    };
    if rest(file_a)? + rest(file_b)? != 0 {
        return Err(Failure::failed("a data file is larger than the volume"));
    }
    Ok(())
}

fn check(model: &mut Model, first: usize, bytes: &[u8]) -> Result<(), Failure> {
    for (index, content) in bytes.chunks(BLOCK_BYTES).enumerate() {
        model
            .check(first + index, content)
            .map_err(Failure::failed)?;
    }
    Ok(())
}
