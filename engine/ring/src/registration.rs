//! Which of the arena's memory the kernel knows, and has.
//!
//! The kernel looks the pages of registered memory up once, not for each operation; in return they stay in memory. So the
//! arena is registered segment by segment as it comes into use, and what nobody uses any more is given back: a volume that
//! rests has next to nothing of its arena.

use crate::arena::Arena;
use io_uring::Submitter;
use std::io;

/// An arena may take this part of what an ordinary user may lock: the rings themselves count too,
/// and those of other volumes must still find room.
const LOCKED_SHARE: u64 = 4;

/// What a ring has registered of its arena.
#[derive(Debug)]
pub(crate) struct Registrations {
    segments: Box<[Segment]>,
    /// How many segments have been used and not given back.
    occupied: usize,
    /// Where a user may not lock as much memory the ring works without, a little slower.
    enabled: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct Segment {
    /// An operation has used it since the last sweep.
    used: bool,
    /// It may have pages: an operation has used it since it was given back.
    occupied: bool,
    /// The kernel knows it.
    registered: bool,
}

impl Registrations {
    /// Nothing is registered yet.
    pub(crate) fn new(submitter: &Submitter, arena: &Arena) -> Registrations {
        let segments = vec![Segment::default(); arena.segments()];
        let mut registrations = Registrations {
            segments: segments.into(),
            occupied: 0,
            enabled: true,
        };
        if let Err(error) = prepare(submitter, arena) {
            registrations.give_up(arena, &error);
        }
        registrations
    }

    /// The place in the kernel's table of the segment that the arena's byte `at` lies in. An operation is about to use it.
    pub(crate) fn place(&mut self, submitter: &Submitter, arena: &Arena, at: usize) -> Option<u16> {
        let index = arena.segment_of(at);
        let segment = &mut self.segments[index];
        segment.used = true;
        if !std::mem::replace(&mut segment.occupied, true) {
            self.occupied += 1;
        }
        let place = u16::try_from(index).ok()?;
        if !segment.registered && self.enabled {
            match update(submitter, place, arena.segment(index)) {
                Ok(()) => self.segments[index].registered = true,
                Err(error) => self.give_up(arena, &error),
            }
        }
        self.segments[index].registered.then_some(place)
    }

    /// Whether a sweep may find something, now or later.
    pub(crate) fn is_occupied(&self) -> bool {
        self.occupied > 0
    }

    /// Gives back what no operation has used since the last sweep and no slot occupies.
    pub(crate) fn sweep(&mut self, submitter: &Submitter, arena: &Arena) {
        for (index, segment) in self.segments.iter_mut().enumerate() {
            let used = std::mem::take(&mut segment.used);
            if used || !segment.occupied || !arena.is_vacant(index) {
                continue;
            }
            if segment.registered {
                let nothing = libc::iovec {
                    iov_base: std::ptr::null_mut(),
                    iov_len: 0,
                };
                let place = u16::try_from(index).unwrap_or(u16::MAX);
                if update(submitter, place, nothing).is_err() {
                    continue;
                }
                segment.registered = false;
            }
            arena.discard(index);
            segment.occupied = false;
            self.occupied -= 1;
        }
    }

    fn give_up(&mut self, arena: &Arena, error: &io::Error) {
        self.enabled = false;
        tracing::warn!(
            "the arena of {} bytes is not registered ({error}): I/O works, a little slower; \
             raise RLIMIT_MEMLOCK to {LOCKED_SHARE} times that",
            arena.bytes()
        );
    }
}

/// Makes a table with room for all segments.
fn prepare(submitter: &Submitter, arena: &Arena) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let too_much = limit.is_some_and(|limit| arena.bytes() as u64 > limit / LOCKED_SHARE);
    if too_much && !rustix::process::geteuid().is_root() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let places = u32::try_from(arena.segments()).unwrap_or(u32::MAX);
    submitter.register_buffers_sparse(places)
}

/// Puts memory of the arena, or nothing, at a place of the table.
fn update(submitter: &Submitter, place: u16, memory: libc::iovec) -> io::Result<()> {
    // SAFETY: the memory is the arena's, which the ring holds until it has been drained and closed.
    let updated = unsafe { submitter.register_buffers_update(u32::from(place), &[memory], None) };
    updated.map(drop)
}
