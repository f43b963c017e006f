//! Making, adopting and extending a replica's files, durably.

use super::files::{At, error, is_block_device, lock, open_plain, refusal, size, sync_directory};
use super::open::{boot_id, growth_path, read_superblock};
use super::space::reserve;
use crate::config::{Creation, Paths};
use crate::report::OpenError;
use format::layout::SUPERBLOCK_OFFSETS;
use format::superblock::{Replica, Superblock};
use format::types::{
    BLOCK_BYTES, Configuration, DiskState, Generation, NodeSet, REPLICAS_MAX, Slot,
    VOLUME_BYTES_MAX,
};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes at a device's start that must be zero: where partition tables and file systems begin.
const FOREIGN_BYTES: usize = 1 << 20;

/// Makes the files of a new replica. What was made is taken away again if not all can be made.
pub(crate) fn create(paths: &Paths, creation: &Creation) -> Result<(), OpenError> {
    make(paths, creation, &first_superblock(creation)?)
}

/// Makes the files of a replica that joins a volume which is in use. Nothing is known of its blocks: it is compared, block
/// by block, with a good one. The `spent` slots are of replicas that there were.
pub(crate) fn create_joining(
    paths: &Paths,
    creation: &Creation,
    spent: NodeSet,
) -> Result<(), OpenError> {
    let mut superblock = first_superblock(creation)?;
    forget_all(&mut superblock);
    for slot in spent.iter() {
        superblock.mark_floor[slot.index()] = 1;
    }
    make(paths, creation, &superblock)
}

fn make(paths: &Paths, creation: &Creation, superblock: &Superblock) -> Result<(), OpenError> {
    check_size(&paths.data, creation.size_bytes)?;
    for path in [&paths.data, &paths.meta] {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at(parent, "make it")?;
        }
    }
    let made_data = create_data(&paths.data, creation)?;
    let made = create_meta(&paths.meta, superblock);
    if made.is_err() && made_data {
        // The error that is told is the one that led here.
        let _ = fs::remove_file(&paths.data);
    }
    made
}

/// Makes new metadata for a data file whose metadata is lost. If the file is the `only_copy`, the
/// volume begins anew with it; else it is compared, block by block, with a good one.
pub(crate) fn adopt(paths: &Paths, creation: &Creation, only_copy: bool) -> Result<(), OpenError> {
    check_size(&paths.data, creation.size_bytes)?;
    let data = open_plain(&paths.data)?;
    lock(&data, &paths.data)?;
    let found = size(&data, &paths.data)?;
    if found != creation.size_bytes {
        let wanted = creation.size_bytes;
        let message = format!("it has {found} bytes and the volume {wanted}: nothing was changed");
        return Err(refusal(&paths.data, message));
    }
    let mut superblock = first_superblock(creation)?;
    let others = superblock.configuration.in_sync.without(creation.slot);
    if only_copy || others.is_empty() {
        superblock.history_complete = false;
        superblock.marks_valid = NodeSet::EMPTY;
        superblock.configuration.primary = None;
        superblock.configuration.in_sync = NodeSet::only(creation.slot);
    } else {
        forget_all(&mut superblock);
    }
    create_meta(&paths.meta, &superblock)
}

/// Makes it the superblock of a replica of whose data nothing is known: the other replicas are to say.
fn forget_all(superblock: &mut Superblock) {
    superblock.history_complete = false;
    superblock.marks_valid = NodeSet::EMPTY;
    superblock.configuration = Configuration {
        epoch: 0,
        generation: Generation::NONE,
        primary: None,
        in_sync: superblock.configuration.in_sync.without(superblock.slot),
    };
    superblock.data_generation = Generation::NONE;
    superblock.disk_state = DiskState::Inconsistent;
}

/// Takes the space in advance that a replica's metadata needs for one more replica of its volume.
pub(crate) fn reserve_for(paths: &Paths, slot: Slot, replica: &Replica) -> Result<(), OpenError> {
    let meta = open_plain(&paths.meta)?;
    let (mut superblock, _) = read_superblock(&meta, &paths.meta)?;
    superblock.replicas[slot.index()].get_or_insert_with(|| replica.clone());
    reserve(&meta, &paths.meta, &superblock, superblock.size_bytes)?;
    meta.sync_all().at(&paths.meta, "sync it")
}

/// Extends a replica's files, so that its volume can grow; doing it again does no harm. Until the
/// volume has grown, a note beside the metadata lets the next opening undo it.
pub(crate) fn extend(paths: &Paths, size_bytes: u64) -> Result<(), OpenError> {
    check_size(&paths.data, size_bytes)?;
    let (data, meta) = (open_plain(&paths.data)?, open_plain(&paths.meta)?);
    let found = size(&data, &paths.data)?;
    if is_block_device(&data, &paths.data)? {
        if found < size_bytes {
            let message = format!("the device has {found} bytes: extend it to {size_bytes} first");
            return Err(error(&paths.data, message));
        }
    } else if found > size_bytes {
        return Err(refusal(&paths.data, "a volume cannot shrink"));
    } else {
        let marker = growth_path(&paths.meta);
        let noted = File::create(&marker).and_then(|mut file| {
            write!(file, "{size_bytes}")?;
            file.sync_all()
        });
        noted.at(&marker, "write it")?;
        sync_directory(&marker)?;
        data.set_len(size_bytes).at(&paths.data, "extend it")?;
        data.sync_all().at(&paths.data, "sync it")?;
    }
    let (superblock, _) = read_superblock(&meta, &paths.meta)?;
    reserve(&meta, &paths.meta, &superblock, size_bytes)?;
    meta.sync_all().at(&paths.meta, "sync it")
}

fn check_size(path: &Path, size_bytes: u64) -> Result<(), OpenError> {
    let possible = (BLOCK_BYTES..=VOLUME_BYTES_MAX).contains(&size_bytes);
    if !possible || !size_bytes.is_multiple_of(BLOCK_BYTES) {
        let message = format!(
            "a volume cannot have {size_bytes} bytes: it has a multiple of {BLOCK_BYTES}, and at \
             most {VOLUME_BYTES_MAX}"
        );
        return Err(error(path, message));
    }
    Ok(())
}

/// Makes the data file, or zeroes the device; whether it made a file.
fn create_data(path: &Path, creation: &Creation) -> Result<bool, OpenError> {
    let size_bytes = creation.size_bytes;
    match OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
    {
        Ok(file) => {
            let taken = match creation.thick {
                true => {
                    fallocate(&file, FallocateFlags::empty(), 0, size_bytes).map_err(Into::into)
                }
                false => file.set_len(size_bytes),
            };
            let made = taken.and_then(|()| file.sync_all());
            made.at(path, "extend it")
                .and_then(|()| sync_directory(path))
                .inspect_err(|_| {
                    // The error that is told is the one that led here.
                    let _ = fs::remove_file(path);
                })?;
            Ok(true)
        }
        Err(exists) if exists.kind() == ErrorKind::AlreadyExists => {
            prepare_device(path, size_bytes).map(|()| false)
        }
        Err(other) => Err(other).at(path, "make it"),
    }
}

fn prepare_device(path: &Path, size_bytes: u64) -> Result<(), OpenError> {
    let device = open_plain(path)?;
    lock(&device, path)?;
    if !is_block_device(&device, path)? {
        return Err(refusal(
            path,
            "it exists already: move it away, or adopt it",
        ));
    }
    let found = size(&device, path)?;
    if found != size_bytes {
        let message = format!("the device has {found} bytes and the volume {size_bytes}");
        return Err(error(path, message));
    }
    let mut start = vec![0; FOREIGN_BYTES.min(usize::try_from(found).unwrap_or(FOREIGN_BYTES))];
    device.read_exact_at(&mut start, 0).at(path, "read it")?;
    if start.iter().any(|byte| *byte != 0) {
        let message = "the device is not empty: if nothing on it is needed, zero its first MiB \
                       (blkdiscard --zeroout --length 1M)";
        return Err(refusal(path, message));
    }
    // All replicas of a new volume are known to be zero.
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let zeroed = fallocate(&device, punch, 0, size_bytes)
        .or_else(|_| fallocate(&device, FallocateFlags::ZERO_RANGE, 0, size_bytes));
    zeroed.at(path, "zero it")?;
    device.sync_all().at(path, "sync it")
}

fn create_meta(path: &Path, superblock: &Superblock) -> Result<(), OpenError> {
    let meta = match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(exists) if exists.kind() == ErrorKind::AlreadyExists => {
            return Err(refusal(
                path,
                "it exists already: this is a replica's metadata",
            ));
        }
        opened => opened.at(path, "make it")?,
    };
    write_meta(&meta, path, superblock)
        .and_then(|()| sync_directory(path))
        .inspect_err(|_| {
            // The error that is told is the one that led here.
            let _ = fs::remove_file(path);
        })
}

fn write_meta(meta: &File, path: &Path, superblock: &Superblock) -> Result<(), OpenError> {
    reserve(meta, path, superblock, superblock.size_bytes)?;
    for offset in SUPERBLOCK_OFFSETS {
        meta.write_all_at(&superblock.encode()[..], offset)
            .at(path, "write it")?;
    }
    meta.sync_all().at(path, "sync it")
}

fn first_superblock(creation: &Creation) -> Result<Superblock, OpenError> {
    let replicas = creation.replicas.clone();
    let in_sync = Slot::all()
        .filter(|slot| replicas[slot.index()].is_some())
        .collect();
    Ok(Superblock {
        sequence: 1,
        volume: creation.volume,
        name: creation.name.clone(),
        size_bytes: creation.size_bytes,
        slot: creation.slot,
        replicas,
        configuration: Configuration {
            epoch: 1,
            generation: creation.generation,
            primary: Some(creation.primary),
            in_sync,
        },
        data_generation: creation.generation,
        history: Vec::new(),
        history_complete: true,
        proposal: None,
        pending_admission: None,
        disk_state: DiskState::UpToDate,
        clean: true,
        suspect: false,
        crashed_primary: false,
        discarded: false,
        forced: false,
        arbitrated: false,
        boot: boot_id()?,
        log_instance: 0,
        mark_floor: [0; REPLICAS_MAX],
        marks_valid: in_sync.without(creation.slot),
    })
}
