//! Opening, checking and syncing files: what creating and opening a replica share.

use crate::report::OpenError;
use format::bitmap_page::PAGE_CHUNKS;
use format::layout::{META_BLOCK_BYTES, page_offset};
use format::types::{CHUNK_BYTES, REPLICAS_MAX, Slot};
use rustix::fs::{FlockOperation, FsWord, OFlags, flock, fstatfs};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a lock is waited for: a disk ends what a killed process had under way sooner. Where it hangs, a
/// replica that stays closed meanwhile, and is tried again, is better than a daemon that does not answer.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How often it is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// By which a tmpfs is known.
const TMPFS_MAGIC: FsWord = 0x0102_1994;

/// An error about a file that is not opened.
pub(super) fn error(path: &Path, message: impl Into<String>) -> OpenError {
    OpenError {
        path: path.to_owned(),
        message: message.into(),
        protects_data: false,
    }
}

/// As [`error`], about a file that is left alone because touching it could lose data.
pub(super) fn refusal(path: &Path, message: impl Into<String>) -> OpenError {
    OpenError {
        protects_data: true,
        ..error(path, message)
    }
}

/// Puts the file's name to an I/O error.
pub(super) trait At<T> {
    fn at(self, path: &Path, doing: &str) -> Result<T, OpenError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: &Path, doing: &str) -> Result<T, OpenError> {
        self.map_err(|source| error(path, format!("cannot {doing}: {}", source.into())))
    }
}

/// Whether a file system has just said that it cannot do this at all.
pub(super) fn is_unsupported(errno: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NODEV].contains(&errno)
}

/// Opens a file for reading and writing.
pub(super) fn open_plain(path: &Path) -> Result<File, OpenError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.at(path, "open it")
}

/// Holds a file against every other process, for as long as it is open.
///
/// The ring's operations keep the file that they use open, also when their process has been killed.
/// So a lock on that file is not had before everything old has been written; for that it waits.
pub(super) fn lock(file: impl AsFd, path: &Path) -> Result<(), OpenError> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_WAIT => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(
                        "{}: waiting for another process's I/O to end",
                        path.display()
                    );
                }
                sleep(LOCK_INTERVAL);
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(error(
                    path,
                    "another process uses it: stop that one, or give this one a state directory \
                     of its own",
                ));
            }
            Err(errno) => return Err(errno).at(path, "lock it"),
        }
    }
}

/// Opens a file that is already open once more and locks it, so that the ring reads and writes past the page
/// cache. A file system that cannot do that is used through the cache, with one line that says so.
pub(super) fn open_direct(path: &Path, open: &File) -> Result<OwnedFd, OpenError> {
    let mut flags = OFlags::DIRECT;
    if fstatfs(open).at(path, "examine its file system")?.f_type == TMPFS_MAGIC {
        // Memory is never waited for, but a tmpfs does not say so: told not to wait, the kernel
        // does its I/O at once rather than in a thread of its own.
        flags |= OFlags::NONBLOCK;
    }
    let flags = flags.bits().cast_signed();
    let direct = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path);
    let direct = match direct {
        Err(refused) if refused.kind() == io::ErrorKind::InvalidInput => {
            tracing::warn!(
                "{}: its file system has no direct I/O; going on through the page cache",
                path.display()
            );
            OpenOptions::new().read(true).write(true).open(path)
        }
        opened => opened,
    };
    let direct = direct.at(path, "open it")?;
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
    if identity(&direct).at(path, "examine it")? != identity(open).at(path, "examine it")? {
        return Err(error(
            path,
            "it was replaced while it was being opened: try again",
        ));
    }
    lock(&direct, path)?;
    Ok(direct.into())
}

/// The bytes of a file or block device.
pub(super) fn size(file: &File, path: &Path) -> Result<u64, OpenError> {
    rustix::fs::seek(file, rustix::fs::SeekFrom::End(0)).at(path, "measure it")
}

/// Whether this is a block device.
pub(super) fn is_block_device(file: &File, path: &Path) -> Result<bool, OpenError> {
    let found = file.metadata().at(path, "examine it")?;
    Ok(found.file_type().is_block_device())
}

/// Makes what the file's directory says of it durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let opened = File::open(directory).at(directory, "open it")?;
    opened.sync_all().at(directory, "sync it")
}

/// Pages in one replica's bitmap of a volume of this size.
pub(super) fn pages(size_bytes: u64) -> u32 {
    let page_bytes = PAGE_CHUNKS as u64 * CHUNK_BYTES;
    u32::try_from(size_bytes.div_ceil(page_bytes)).unwrap_or(u32::MAX)
}

/// The length of the metadata file of a volume of this size.
pub(super) fn meta_bytes(size_bytes: u64) -> u64 {
    let last_slot = Slot::all().last().expect("there are slots");
    let last_page = pages(size_bytes).saturating_sub(1);
    page_offset(last_slot, last_page) + META_BLOCK_BYTES
}

/// Where the bitmap page that lies there belongs.
pub(super) fn page_at(offset: u64) -> Option<(Slot, u32)> {
    let number = offset.checked_sub(format::layout::BITMAP_OFFSET)? / META_BLOCK_BYTES;
    let slot = u8::try_from(number % REPLICAS_MAX as u64).ok()?;
    let index = u32::try_from(number / REPLICAS_MAX as u64).ok()?;
    Some((Slot::new(slot)?, index))
}
