//! From the files to what the core is opened with. Nothing is written before everything has been
//! checked.

use super::files::{
    At, error, is_block_device, meta_bytes, open_direct, open_plain, page_at, refusal, size,
};
use super::space::reserve_later;
use crate::config::Paths;
use crate::report::OpenError;
use format::Damage;
use format::bitmap_page::BitmapPage;
use format::layout::{BITMAP_OFFSET, LOG_OFFSET, META_BLOCK_BYTES, SUPERBLOCK_OFFSETS};
use format::log_block::{self, LOG_RING_BLOCKS, Recovered};
use format::superblock::{Superblock, SuperblockChoice, choose_superblock};
use format::types::{BootId, Slot};
use replica::Opening;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == META_BLOCK_BYTES);

/// A replica's files, opened and checked.
pub(crate) struct Found {
    /// What the core is opened with.
    pub(crate) opening: Opening,
    /// What was mended, for a person.
    pub(crate) mended: Vec<String>,
    /// The data file for the ring, locked.
    pub(crate) data_direct: OwnedFd,
    /// The metadata file for the ring, locked.
    pub(crate) meta_direct: OwnedFd,
    /// The data file once more: its position may be moved.
    pub(crate) data: File,
}

/// Opens a replica's files.
pub(crate) fn open(paths: &Paths) -> Result<Found, OpenError> {
    let meta = open_meta(&paths.meta)?;
    let data = open_plain(&paths.data)?;
    let meta_direct = open_direct(&paths.meta, &meta)?;
    let data_direct = open_direct(&paths.data, &data)?;
    let (superblock, repairs) = read_superblock(&meta, &paths.meta)?;
    check_meta_size(&meta, &paths.meta, superblock.size_bytes)?;
    let mut mended = Vec::new();
    settle_growth(paths, &data, superblock.size_bytes, &mut mended)?;
    check_data_size(&data, &paths.data, superblock.size_bytes)?;
    let hot_extents = read_log(&meta, superblock.log_instance);
    let (pages, damaged_pages) = read_pages(&meta, &paths.meta)?;
    mended.extend(repair(&meta, &paths.meta, &superblock, repairs)?);
    reserve_later(&meta, &paths.meta, &superblock);
    if hot_extents.is_none() && !superblock.clean {
        mended.push("the activity log is damaged: everything will be compared".to_owned());
    }
    if !damaged_pages.is_empty() {
        let count = damaged_pages.len();
        mended.push(format!(
            "{count} pages of bitmaps are damaged: their blocks will be compared"
        ));
    }
    Ok(Found {
        opening: Opening {
            superblock,
            pages,
            damaged_pages,
            hot_extents,
            boot: boot_id()?,
            seed: random()?,
            now: crate::shell::now(),
        },
        mended,
        data_direct,
        meta_direct,
        data,
    })
}

fn open_meta(path: &Path) -> Result<File, OpenError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => Err(refusal(
            path,
            "there is no metadata: where the data file is good, `twinblk volume adopt` makes new",
        )),
        opened => opened.at(path, "open it"),
    }
}

/// The newer good copy, and what is wrong with the other.
pub(super) fn read_superblock(
    meta: &File,
    path: &Path,
) -> Result<(Superblock, Repairs), OpenError> {
    let mut copies = [[0; BLOCK], [0; BLOCK]];
    for (copy, offset) in copies.iter_mut().zip(SUPERBLOCK_OFFSETS) {
        // What cannot be read, or is not there, stays zero, which is no superblock.
        let _ = meta.read_exact_at(copy, offset);
    }
    match choose_superblock([&copies[0], &copies[1]]) {
        SuperblockChoice::Found { superblock, repair } => Ok((*superblock, repair)),
        SuperblockChoice::Refused(reason) => {
            Err(refusal(path, format!("{reason}; nothing was changed")))
        }
    }
}

/// Writes the copy anew that does not count, now that nothing else is wrong.
fn repair(
    meta: &File,
    path: &Path,
    superblock: &Superblock,
    repairs: Repairs,
) -> Result<Option<String>, OpenError> {
    let damaged = SUPERBLOCK_OFFSETS.into_iter().zip(repairs);
    let Some((offset, damage)) = damaged.into_iter().find_map(|(at, what)| Some((at, what?)))
    else {
        return Ok(None);
    };
    let written = meta.write_all_at(&superblock.encode()[..], offset);
    written
        .and_then(|()| meta.sync_data())
        .at(path, "mend the superblock")?;
    Ok(Some(format!(
        "the superblock's copy at byte {offset} was mended: {damage}"
    )))
}

fn check_meta_size(meta: &File, path: &Path, size_bytes: u64) -> Result<(), OpenError> {
    let (found, wanted) = (size(meta, path)?, meta_bytes(size_bytes));
    if found < wanted {
        return Err(refusal(
            path,
            format!(
                "it was truncated: it has {found} bytes and needs {wanted}; nothing was changed, \
                 put the whole file back"
            ),
        ));
    }
    Ok(())
}

fn check_data_size(data: &File, path: &Path, wanted: u64) -> Result<(), OpenError> {
    let found = size(data, path)?;
    // A device may be larger: it is extended before the volume grows into it.
    if found == wanted || (found > wanted && is_block_device(data, path)?) {
        return Ok(());
    }
    let relation = if found < wanted { "smaller" } else { "larger" };
    Err(refusal(
        path,
        format!(
            "it is {relation} than its volume: {found} bytes instead of {wanted}; nothing was \
             changed, put the right file back"
        ),
    ))
}

/// The file that a growth leaves beside the metadata until the volume has its new size.
pub(super) fn growth_path(meta: &Path) -> PathBuf {
    let mut name = meta.as_os_str().to_owned();
    name.push(".grow");
    name.into()
}

/// A growth that was begun: it has happened, or is undone. No block beyond the size that the
/// superblock tells has ever been written.
fn settle_growth(
    paths: &Paths,
    data: &File,
    size_bytes: u64,
    mended: &mut Vec<String>,
) -> Result<(), OpenError> {
    let marker = growth_path(&paths.meta);
    let wanted = match fs::read_to_string(&marker) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.at(&marker, "read it")?,
    };
    let found = size(data, &paths.data)?;
    let unfinished = found > size_bytes && wanted.trim().parse() == Ok(found);
    if unfinished && !is_block_device(data, &paths.data)? {
        data.set_len(size_bytes)
            .at(&paths.data, "undo a growth that was not finished")?;
        data.sync_all().at(&paths.data, "sync it")?;
        mended.push(format!(
            "a growth to {found} bytes was not finished and has been undone"
        ));
    }
    fs::remove_file(&marker).at(&marker, "remove it")
}

/// The extents that were hot; `None` if the log is damaged.
fn read_log(meta: &File, instance: u64) -> Option<Vec<u32>> {
    let mut ring = vec![0; LOG_RING_BLOCKS * BLOCK];
    meta.read_exact_at(&mut ring, LOG_OFFSET).ok()?;
    match log_block::recover(ring.chunks_exact(BLOCK), instance) {
        Recovered::Extents(extents) => Some(extents),
        Recovered::Damaged(_) => None,
    }
}

/// For each copy of the superblock, what is wrong with it.
pub(super) type Repairs = [Option<Damage>; 2];

type Pages = (Vec<BitmapPage>, Vec<(Slot, u32)>);

/// All pages that were ever written, the damaged ones by place.
fn read_pages(meta: &File, path: &Path) -> Result<Pages, OpenError> {
    let (mut pages, mut damaged) = (Vec::new(), Vec::new());
    let end = size(meta, path)?;
    let mut at = BITMAP_OFFSET;
    let mut block = [0; BLOCK];
    while at < end {
        match seek(meta, SeekFrom::Data(at)) {
            Ok(data) => at = data / META_BLOCK_BYTES * META_BLOCK_BYTES,
            Err(Errno::NXIO) => break,
            // The file system does not tell holes: they are read as zeroes.
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno).at(path, "find the bitmap's pages"),
        }
        let hole = seek(meta, SeekFrom::Hole(at)).unwrap_or(end).min(end);
        while at < hole {
            let read = meta.read_exact_at(&mut block, at);
            if let Some((slot, index)) = page_at(at) {
                match read.map(|()| BitmapPage::decode_at(slot, index, &block)) {
                    Ok(Ok(page)) => pages.extend(page),
                    Ok(Err(_)) | Err(_) => damaged.push((slot, index)),
                }
            }
            at += META_BLOCK_BYTES;
        }
    }
    Ok((pages, damaged))
}

/// The machine's boot.
pub(super) fn boot_id() -> Result<BootId, OpenError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).at(path, "read it")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16)
        .map(|number| BootId(number.to_be_bytes()))
        .map_err(|_| error(path, "it is no boot id"))
}

/// 128 bits from the system's random source.
pub(super) fn random() -> Result<u128, OpenError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let read = File::open(path).and_then(|mut source| source.read_exact(&mut bytes));
    read.at(path, "read it")?;
    Ok(u128::from_ne_bytes(bytes))
}
