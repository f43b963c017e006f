//! Raw images, read and written with their holes.

use crate::failure::{Context, Failure};
use crate::units::Size;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

#[cfg(test)]
mod tests;

/// What is read at once, and at most written at once.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// Zeroes are left out in steps of this many bytes.
const GRAIN_BYTES: usize = 64 << 10;
const PIECE: u64 = PIECE_BYTES as u64;

/// Formats that look like data and are none: what they begin with.
const FOREIGN: [(&[u8], &str); 4] = [
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"<<< ", "vdi"),
];

/// An image or a block device that is read.
#[derive(Debug)]
pub(crate) struct Image {
    file: File,
    size_bytes: u64,
    /// Where the next data begins, once the system was asked.
    data: Range<u64>,
}

/// A part of an image that is not known to be zeroes.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Where it begins.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Image {
    /// Opens a raw image, whole.
    pub(crate) fn open(path: &Path) -> Result<Image, Failure> {
        let doing = || format!("cannot read {}", path.display());
        let kind = std::fs::metadata(path).context(doing)?.file_type();
        let mut options = File::options();
        options.read(true);
        if kind.is_block_device() {
            // One that is mounted, or part of something else, changes while it is read.
            options.custom_flags(exclusively());
        }
        let mut file = options.open(path).context(doing)?;
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Failure::usage(format!(
                "{}: it is neither a file nor a block device",
                path.display()
            )));
        }
        let mut begin = Vec::new();
        (&file).take(8).read_to_end(&mut begin).context(doing)?;
        if let Some((_, format)) = FOREIGN.iter().find(|(magic, _)| begin.starts_with(magic)) {
            return Err(Failure::usage(format!(
                "{0} is a {format} image: make a raw one of it first, as with `qemu-img convert -O raw {0} raw.img`",
                path.display()
            )));
        }
        let size_bytes = file.seek(SeekFrom::End(0)).context(doing)?;
        Ok(Image::of(file, size_bytes))
    }

    /// The first so many bytes of a file.
    pub(crate) fn of(file: File, size_bytes: u64) -> Image {
        Image {
            file,
            size_bytes,
            data: 0..0,
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The first piece from here on that is not all zeroes; `None` after the last.
    pub(crate) fn next_from(&mut self, mut offset: u64) -> io::Result<Option<Piece>> {
        while offset < self.size_bytes {
            if offset >= self.data.end {
                self.data = self.data_from(offset)?;
            }
            offset = offset.max(self.data.start);
            let end = self.data.end.min(offset + PIECE - offset % PIECE);
            if offset >= end {
                break;
            }
            let length = usize::try_from(end - offset).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, offset)?;
            if let Some(range) = data_in(&bytes) {
                bytes.truncate(range.end);
                bytes.drain(..range.start);
                let offset = offset + range.start as u64;
                return Ok(Some(Piece { offset, bytes }));
            }
            offset = end;
        }
        Ok(None)
    }

    /// The next part that is no hole, as far as the file system tells.
    fn data_from(&self, offset: u64) -> io::Result<Range<u64>> {
        use rustix::fs::{SeekFrom, seek};
        let begin = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(begin) => begin,
            Err(rustix::io::Errno::NXIO) => return Ok(self.size_bytes..self.size_bytes),
            // It does not know of holes.
            Err(rustix::io::Errno::INVAL) => return Ok(offset..self.size_bytes),
            Err(error) => return Err(error.into()),
        };
        let end = seek(&self.file, SeekFrom::Hole(begin))?;
        Ok(begin.min(self.size_bytes)..end.min(self.size_bytes))
    }
}

/// From the first grain that is not all zeroes to the last.
fn data_in(bytes: &[u8]) -> Option<Range<usize>> {
    let is_data = |grain: &[u8]| grain.iter().any(|byte| *byte != 0);
    let mut grains = bytes.chunks(GRAIN_BYTES);
    let first = grains.position(is_data)?;
    let last = bytes.chunks(GRAIN_BYTES).rposition(is_data)?;
    Some(first * GRAIN_BYTES..bytes.len().min((last + 1) * GRAIN_BYTES))
}

/// Copies an image to a file that is all zeroes or none, or, with its zeroes, over a block device. Tells how far it is, and
/// stops where `told` says no.
pub(crate) fn copy_to_file(
    image: &mut Image,
    to: &File,
    mut told: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let device = to.metadata()?.file_type().is_block_device();
    if !device {
        to.set_len(image.size_bytes)?;
        // On a file system that shares blocks the copy takes no time and no space.
        if image.file.metadata()?.len() == image.size_bytes
            && rustix::fs::ioctl_ficlone(to, &image.file).is_ok()
        {
            told(image.size_bytes);
            return to.sync_all();
        }
    }
    let mut done = 0;
    while let Some(piece) = image.next_from(done)? {
        if device {
            zero(to, done..piece.offset)?;
        }
        to.write_all_at(&piece.bytes, piece.offset)?;
        done = piece.offset + piece.bytes.len() as u64;
        if !told(done) {
            return Err(ErrorKind::Interrupted.into());
        }
    }
    if device {
        zero(to, done..image.size_bytes)?;
    }
    to.sync_all()
}

/// Copies an image to a stream, with its zeroes.
pub(crate) fn copy_to_stream(
    image: &mut Image,
    to: &mut impl io::Write,
    mut told: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let zeroes = vec![0; PIECE_BYTES];
    let mut done = 0;
    while done < image.size_bytes {
        let piece = image.next_from(done)?;
        let until = piece
            .as_ref()
            .map_or(image.size_bytes, |piece| piece.offset);
        while done < until {
            let length = usize::try_from((until - done).min(PIECE)).map_err(io::Error::other)?;
            to.write_all(&zeroes[..length])?;
            done += length as u64;
        }
        if let Some(piece) = piece {
            to.write_all(&piece.bytes)?;
            done += piece.bytes.len() as u64;
        }
        if !told(done) {
            return Err(ErrorKind::Interrupted.into());
        }
    }
    to.flush()
}

/// The flag by which a block device is opened by nobody else who asks for the same, the kernel's file systems included.
fn exclusively() -> i32 {
    i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or_default()
}

fn zero(device: &File, range: Range<u64>) -> io::Result<()> {
    let zeroes = vec![0; PIECE_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let length = usize::try_from((range.end - offset).min(PIECE)).map_err(io::Error::other)?;
        device.write_all_at(&zeroes[..length], offset)?;
        offset += length as u64;
    }
    Ok(())
}

/// Opens what an image is to be written to: a new file, or a block device that is large enough.
pub(crate) fn create(path: &Path, size_bytes: u64) -> Result<File, Failure> {
    let doing = || format!("cannot write {}", path.display());
    let is_device = |path: &Path| {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|metadata| metadata.file_type().is_block_device())
    };
    if !is_device(path) {
        return File::create_new(path).context(doing);
    }
    // What is mounted, or part of something else, is not written over.
    let mut options = File::options();
    options.write(true).custom_flags(exclusively());
    let mut device = options.open(path).context(doing)?;
    let has = device.seek(SeekFrom::End(0)).context(doing)?;
    if has < size_bytes {
        return Err(Failure::failed(format!(
            "{} has {} and the volume {}: it does not fit",
            path.display(),
            Size(has),
            Size(size_bytes)
        )));
    }
    Ok(device)
}
