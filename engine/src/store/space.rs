//! The space of a metadata file, taken in advance: a disk that is full must never keep the activity log, the
//! superblock or a mark from being written, for without them no request goes on.

use super::files::{At, is_unsupported, meta_bytes, pages};
use crate::report::OpenError;
use format::layout::{BITMAP_OFFSET, META_BLOCK_BYTES, page_offset};
use format::superblock::Superblock;
use format::types::Slot;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The unit of a file's allocated blocks, whatever its file system's.
const STAT_BLOCK_BYTES: u64 = 512;

/// Gives the metadata file of a volume of this size its length and all the space that its replicas can ask of it;
/// the bitmaps of slots without a replica stay holes. What is there already stays as it is.
pub(super) fn reserve(
    meta: &File,
    path: &Path,
    superblock: &Superblock,
    size_bytes: u64,
) -> Result<(), OpenError> {
    let before = meta.metadata().at(path, "examine it")?.len();
    let length = meta_bytes(size_bytes);
    if before < length {
        meta.set_len(length).at(path, "extend it")?;
    }
    for (offset, bytes) in spans(superblock, size_bytes) {
        match fallocate(meta, FallocateFlags::empty(), offset, bytes) {
            // Where space cannot be reserved it is used, as far as nothing can be there yet.
            Err(refused) if is_unsupported(refused) && offset >= before => {
                let zeroes = vec![0; usize::try_from(bytes).unwrap_or(0)];
                meta.write_all_at(&zeroes, offset)
                    .at(path, "reserve its space")?;
            }
            Err(refused) if is_unsupported(refused) => {}
            reserved => reserved.at(path, "reserve its space")?,
        }
    }
    Ok(())
}

/// Reserves the space of a metadata file that an earlier version has made, which was sparse; where there is not
/// enough it goes on being so.
pub(super) fn reserve_later(meta: &File, path: &Path, superblock: &Superblock) {
    let size_bytes = superblock.size_bytes;
    let wanted: u64 = spans(superblock, size_bytes).map(|(_, bytes)| bytes).sum();
    let has_all = |blocks| blocks * STAT_BLOCK_BYTES >= wanted;
    if meta.metadata().is_ok_and(|found| has_all(found.blocks())) {
        return;
    }
    if let Err(error) = reserve(meta, path, superblock, size_bytes) {
        tracing::warn!("{error}: should the disk fill up, requests will wait until space is freed");
    }
}

/// What is written of the file: superblock and log, and the other replicas' bitmap pages.
fn spans(superblock: &Superblock, size_bytes: u64) -> impl Iterator<Item = (u64, u64)> {
    let others: Vec<Slot> = Slot::all()
        .filter(|slot| *slot != superblock.slot && superblock.replicas[slot.index()].is_some())
        .collect();
    let pages = (0..pages(size_bytes)).flat_map(move |index| {
        let offsets = others.clone().into_iter();
        offsets.map(move |slot| (page_offset(slot, index), META_BLOCK_BYTES))
    });
    std::iter::once((0, BITMAP_OFFSET)).chain(pages)
}
