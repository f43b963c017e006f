//! One mapping of memory, cut into slots of 4 KiB, 16 KiB, 64 KiB and 256 KiB.
//!
//! The mapping is divided into *pools*, so that one user of memory cannot starve another, and a
//! pool into *regions* of 256 KiB. A region is a word with one bit for each free page; a slot is an
//! aligned run of 1, 4, 16 or 64 pages. So taking and giving back a slot is a little arithmetic on
//! one word, and a region serves whatever sizes are wanted at the moment.

use std::cell::Cell;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::rc::Rc;

#[cfg(test)]
mod tests;

/// The alignment of slots and the smallest of them, in bytes.
const PAGE_BYTES: usize = 4096;
/// Pages in a region: as many as a word has bits.
const REGION_PAGES: usize = u64::BITS as usize;
/// The largest slot, in bytes: a whole region.
pub const SLOT_BYTES_MAX: usize = REGION_PAGES * PAGE_BYTES;
/// Pages in the slots of each class.
const CLASS_PAGES: [usize; 4] = [1, 4, 16, 64];
/// Memory is registered with the kernel, and given back to it, in segments of this many bytes; no region crosses a
/// multiple of it.
const SEGMENT_BYTES: usize = 1 << 20;
/// Regions in a segment.
const SEGMENT_REGIONS: usize = SEGMENT_BYTES / SLOT_BYTES_MAX;

const _: () = assert!(SEGMENT_BYTES.is_multiple_of(SLOT_BYTES_MAX));

/// The arena. Clones share it; the memory goes with the last of its slots and clones.
#[derive(Clone, Debug)]
pub struct Arena {
    mapping: Rc<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    pools: Box<[Pool]>,
    /// For each region, a bit for each free page.
    free: Box<[Cell<u64>]>,
    /// For the first page of each slot in use, how many handles it has.
    handles: Box<[Cell<u32>]>,
}

#[derive(Debug)]
struct Pool {
    regions: Range<usize>,
    /// For each class, the first region that may have room.
    hints: [Cell<usize>; CLASS_PAGES.len()],
}

impl Arena {
    /// Maps an arena with a pool for each of these sizes, each rounded up to whole regions.
    pub fn new(pool_bytes: &[usize]) -> io::Result<Arena> {
        let mut pools = Vec::with_capacity(pool_bytes.len());
        let mut regions = 0;
        for bytes in pool_bytes {
            let end = regions + bytes.div_ceil(SLOT_BYTES_MAX).max(1);
            let hints = std::array::from_fn(|_| Cell::new(regions));
            pools.push(Pool {
                regions: regions..end,
                hints,
            });
            regions = end;
        }
        let bytes = regions * SLOT_BYTES_MAX;
        Ok(Arena {
            mapping: Rc::new(Mapping {
                base: map(bytes)?,
                bytes,
                pools: pools.into(),
                free: (0..regions).map(|_| Cell::new(u64::MAX)).collect(),
                handles: (0..regions * REGION_PAGES).map(|_| Cell::new(0)).collect(),
            }),
        })
    }

    /// A slot of at least this many bytes, or `None` while the pool has none. What it holds is what
    /// its last user left.
    ///
    /// # Panics
    ///
    /// If no slot is that large or there is no such pool.
    pub fn take(&self, pool: usize, bytes: usize) -> Option<OwnedSlot> {
        assert!(
            bytes <= SLOT_BYTES_MAX,
            "no slot holds {bytes} bytes: the largest holds {SLOT_BYTES_MAX}"
        );
        let class = CLASS_PAGES
            .iter()
            .position(|pages| bytes <= pages * PAGE_BYTES)?;
        let page = self.mapping.take_pages(&self.mapping.pools[pool], class)?;
        self.mapping.handles[page].set(1);
        Some(OwnedSlot(Handle {
            mapping: Rc::clone(&self.mapping),
            page,
            pages: CLASS_PAGES[class],
        }))
    }

    /// Bytes of a pool that no slot occupies.
    pub fn free_bytes(&self, pool: usize) -> usize {
        let regions = self.mapping.pools[pool].regions.clone();
        let pages: u32 = self.mapping.free[regions]
            .iter()
            .map(|free| free.get().count_ones())
            .sum();
        pages as usize * PAGE_BYTES
    }

    pub(crate) fn bytes(&self) -> usize {
        self.mapping.bytes
    }

    /// How many segments it has; the last may be shorter.
    pub(crate) fn segments(&self) -> usize {
        self.mapping.bytes.div_ceil(SEGMENT_BYTES)
    }

    /// The segment in which the byte `at` lies.
    pub(crate) fn segment_of(&self, at: usize) -> usize {
        at / SEGMENT_BYTES
    }

    /// A segment's memory.
    pub(crate) fn segment(&self, index: usize) -> libc::iovec {
        let begin = index * SEGMENT_BYTES;
        assert!(begin < self.mapping.bytes, "there is no segment {index}");
        libc::iovec {
            iov_base: self.mapping.base.as_ptr().wrapping_add(begin).cast(),
            iov_len: SEGMENT_BYTES.min(self.mapping.bytes - begin),
        }
    }

    /// Whether no slot occupies any of a segment.
    pub(crate) fn is_vacant(&self, index: usize) -> bool {
        let regions = self.mapping.free.chunks(SEGMENT_REGIONS).nth(index);
        regions.is_some_and(|regions| regions.iter().all(|free| free.get() == u64::MAX))
    }

    /// Gives a segment's pages back to the kernel: they are zeroes when they are used again.
    ///
    /// # Panics
    ///
    /// If a slot occupies any of it.
    pub(crate) fn discard(&self, index: usize) {
        assert!(self.is_vacant(index), "slots of segment {index} are in use");
        let memory = self.segment(index);
        // SAFETY: the range is part of our private mapping, and no slot, and so nobody, refers to what it holds.
        let advised =
            unsafe { libc::madvise(memory.iov_base, memory.iov_len, libc::MADV_DONTNEED) };
        if advised != 0 {
            tracing::debug!("memory is not given back: {}", io::Error::last_os_error());
        }
    }

    fn is_of(&self, handle: &Handle) -> bool {
        Rc::ptr_eq(&self.mapping, &handle.mapping)
    }
}

impl Mapping {
    fn take_pages(&self, pool: &Pool, class: usize) -> Option<usize> {
        for region in pool.hints[class].get()..pool.regions.end {
            let free = self.free[region].get();
            let starts = run_starts(free, class);
            if starts != 0 {
                let start = starts.trailing_zeros() as usize;
                self.free[region].set(free & !run(start, CLASS_PAGES[class]));
                pool.hints[class].set(region);
                return Some(region * REGION_PAGES + start);
            }
        }
        pool.hints[class].set(pool.regions.end);
        None
    }

    fn give_pages(&self, page: usize, pages: usize) {
        let (region, start) = (page / REGION_PAGES, page % REGION_PAGES);
        let run = run(start, pages);
        assert_eq!(self.free[region].get() & run, 0, "slot given back twice");
        self.free[region].set(self.free[region].get() | run);
        let pool = self
            .pools
            .iter()
            .find(|pool| pool.regions.contains(&region));
        for hint in pool.iter().flat_map(|pool| &pool.hints) {
            hint.set(hint.get().min(region));
        }
    }
}

/// One bit for each of the run's pages.
fn run(start: usize, pages: usize) -> u64 {
    (u64::MAX >> (REGION_PAGES - pages)) << start
}

/// One bit for each page at which an aligned run of the class's pages is free.
fn run_starts(free: u64, class: usize) -> u64 {
    const FOURS: u64 = 0x1111_1111_1111_1111;
    const SIXTEENS: u64 = 0x0001_0001_0001_0001;
    let fours = |word: u64| {
        let pairs = word & word >> 1;
        pairs & pairs >> 2 & FOURS
    };
    let sixteens = |word: u64| {
        let pairs = fours(word) & fours(word) >> 4;
        pairs & pairs >> 8 & SIXTEENS
    };
    match class {
        0 => free,
        1 => fours(free),
        2 => sixteens(free),
        _ => u64::from(free == u64::MAX),
    }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new private anonymous mapping touches no memory that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A child between fork and exec must not make the kernel copy pages that operations in flight
    // use. That the advice is refused is no reason to fail.
    // SAFETY: the range is the mapping just made.
    unsafe { libc::madvise(base, bytes, libc::MADV_DONTFORK) };
    NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and every handle to it, those of operations in flight
        // included, keeps it alive, so that nobody refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A claim on a run of pages.
#[derive(Debug)]
struct Handle {
    mapping: Rc<Mapping>,
    page: usize,
    pages: usize,
}

impl Handle {
    fn bytes(&self) -> usize {
        self.pages * PAGE_BYTES
    }

    fn address(&self) -> NonNull<u8> {
        // SAFETY: `page` lies within the mapping.
        unsafe { self.mapping.base.add(self.page * PAGE_BYTES) }
    }

    fn count(&self) -> &Cell<u32> {
        &self.mapping.handles[self.page]
    }

    /// The offset of its first byte in the arena, if it belongs to this one.
    fn offset_in(&self, arena: &Arena) -> Option<usize> {
        arena.is_of(self).then_some(self.page * PAGE_BYTES)
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        self.count().set(self.count().get() + 1);
        Handle {
            mapping: Rc::clone(&self.mapping),
            page: self.page,
            pages: self.pages,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let count = self.count().get() - 1;
        self.count().set(count);
        if count == 0 {
            self.mapping.give_pages(self.page, self.pages);
        }
    }
}

/// A slot with one owner, who may write to it.
#[derive(Debug)]
pub struct OwnedSlot(Handle);

impl OwnedSlot {
    /// From now on it may have many owners, who only read.
    pub fn share(self) -> SharedSlot {
        SharedSlot(self.0)
    }

    /// A pointer to the byte `at`, for the kernel to write from there on.
    pub(crate) fn pointer_at(&mut self, at: usize) -> *mut u8 {
        assert!(at <= self.0.bytes());
        self.0.address().as_ptr().wrapping_add(at)
    }

    /// The offset of its first byte in the arena, if it belongs to this one.
    pub(crate) fn offset_in(&self, arena: &Arena) -> Option<usize> {
        self.0.offset_in(arena)
    }
}

impl Deref for OwnedSlot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages are mapped, initialised (with zeroes, by the kernel) and, since this is
        // their one handle and an operation that writes owns its handle, nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.0.address().as_ptr(), self.0.bytes()) }
    }
}

impl DerefMut for OwnedSlot {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and this is the only handle, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.address().as_ptr(), self.0.bytes()) }
    }
}

/// A slot that many may read.
#[derive(Clone, Debug)]
pub struct SharedSlot(Handle);

impl SharedSlot {
    /// The slot with one owner again, if this is the only handle.
    pub fn into_owned(self) -> Result<OwnedSlot, SharedSlot> {
        if self.0.count().get() == 1 {
            Ok(OwnedSlot(self.0))
        } else {
            Err(self)
        }
    }

    /// A pointer to the byte `at`, for the kernel to read from there on.
    pub(crate) fn pointer_at(&self, at: usize) -> *const u8 {
        assert!(at <= self.0.bytes());
        self.0.address().as_ptr().wrapping_add(at)
    }

    /// The offset of its first byte in the arena, if it belongs to this one.
    pub(crate) fn offset_in(&self, arena: &Arena) -> Option<usize> {
        self.0.offset_in(arena)
    }
}

impl Deref for SharedSlot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages are mapped and initialised, and while there is a shared handle there is
        // no owned one, by which alone they are written.
        unsafe { std::slice::from_raw_parts(self.0.address().as_ptr(), self.0.bytes()) }
    }
}
