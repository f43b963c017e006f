//! The kernel's side: a file system with one file, the volume.
//!
//! Nothing of it is cached and no request has a time limit, so that a daemon that is away is a pause for whoever reads
//! and writes, however long. Sizes are asked for anew each time, since volumes grow.

use super::held::{Answer, Held};
use super::outstanding::Operation;
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, WriteFlags,
};
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The inode of the volume; the root's is 1.
const VOLUME: INodeNo = INodeNo(2);
/// What the volume is read and written in; also the granularity of discards.
const BLOCK_BYTES: u32 = 4096;
/// The most data of one request. All that are under way are kept in memory that cannot be swapped out.
const DATA_BYTES_MAX: u32 = 1 << 20;
/// The most requests under way; what is beyond waits in the kernel.
const REQUESTS_MAX: u16 = 64;
/// Nothing is remembered.
const NO_TIME: Duration = Duration::ZERO;
// Of linux/falloc.h.
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

/// The file system.
#[derive(Debug)]
pub(super) struct Front {
    name: OsString,
    held: Arc<Held>,
}

impl Front {
    /// A volume of this name.
    pub(super) fn new(name: &str, held: Arc<Held>) -> Front {
        Front {
            name: name.into(),
            held,
        }
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            VOLUME => (FileType::RegularFile, 0o600, self.held.size_bytes()),
            _ => return None,
        };
        let then = SystemTime::UNIX_EPOCH;
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: then,
            mtime: then,
            ctime: then,
            crtime: then,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }
}

impl Filesystem for Front {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without it the kernel would wait for each request of the device's before it sent the next.
        let several = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        several.map_err(|_| io::Error::other("this kernel's FUSE is too old"))?;
        let bounded = config
            .set_max_write(DATA_BYTES_MAX)
            .and(config.set_max_background(REQUESTS_MAX).map_err(u32::from));
        bounded.map_err(|_| io::Error::other("this kernel's FUSE takes no such limits"))?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = parent == INodeNo::ROOT && name == self.name;
        match self.attributes(VOLUME).filter(|_| found) {
            Some(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&NO_TIME, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn access(&self, _request: &Request, _inode: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Nobody but root gets here.
        reply.ok();
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if inode != VOLUME {
            return reply.error(Errno::EISDIR);
        }
        self.held.opened();
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
        self.held.closed();
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Sent when a descriptor is closed. What has to be durable is asked for by fsync.
        reply.ok();
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.held.size_bytes().saturating_sub(offset);
        let length = u32::try_from(left).unwrap_or(u32::MAX).min(size);
        if length == 0 {
            return reply.data(&[]);
        }
        let operation = Operation::Read { offset, length };
        self.held.ask(operation, Answer::Data(reply));
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Ok(bytes) = u32::try_from(data.len()) else {
            return reply.error(Errno::EINVAL);
        };
        let data = data.into();
        let operation = Operation::Write { offset, data };
        self.held.ask(operation, Answer::Written(reply, bytes));
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.held.ask(Operation::Flush, Answer::Done(reply));
    }

    fn fallocate(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = match mode & !KEEP_SIZE {
            PUNCH_HOLE => false,
            ZERO_RANGE => true,
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        // The device's discards are never longer; a program's own may be.
        let Ok(length) = u32::try_from(length) else {
            return reply.error(Errno::EFBIG);
        };
        let operation = Operation::Zero {
            offset,
            length,
            allocated,
        };
        self.held.ask(operation, Answer::Done(reply));
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let blocks = self.held.size_bytes() / u64::from(BLOCK_BYTES);
        reply.statfs(blocks, 0, 0, 1, 0, BLOCK_BYTES, 255, BLOCK_BYTES);
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let entries = [
            (INodeNo::ROOT, FileType::Directory, OsStr::new(".")),
            (INodeNo::ROOT, FileType::Directory, OsStr::new("..")),
            (VOLUME, FileType::RegularFile, self.name.as_os_str()),
        ];
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((inode, kind, name), next) in entries.into_iter().zip(1..).skip(from) {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
