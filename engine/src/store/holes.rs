//! Where the data file has no data.

use crate::frontend::Allocation;
use format::types::Span;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;

/// Pieces that one answer tells; a client that wants more asks for the rest.
const PIECES_MAX: usize = 1024;

/// The data file's holes.
pub(crate) struct Holes {
    file: File,
    /// Whether the local disk tells where the volume is zero: not while it is behind others.
    pub(crate) trusted: bool,
}

impl Holes {
    /// The holes of this file, which nobody else moves about in.
    pub(crate) fn new(file: File) -> Holes {
        Holes {
            file,
            trusted: false,
        }
    }

    /// The pieces of the span, in order from its first byte on, perhaps not to its last.
    pub(crate) fn allocations(&self, span: Span) -> Vec<Allocation> {
        let mut pieces = Vec::new();
        let mut at = span.offset;
        while at < span.end() && pieces.len() < PIECES_MAX {
            let (to, hole) = self.piece(at).unwrap_or((span.end(), false));
            let length = to.clamp(at + 1, span.end()) - at;
            pieces.push(Allocation { length, hole });
            at += length;
        }
        pieces
    }

    /// Where the piece ends that begins at this byte, and whether it is a hole; `None` if the file
    /// does not tell or cannot be believed.
    fn piece(&self, at: u64) -> Option<(u64, bool)> {
        if !self.trusted {
            return None;
        }
        match seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) if data > at => Some((data, true)),
            Ok(_) => Some((seek(&self.file, SeekFrom::Hole(at)).ok()?, false)),
            // There is no data from here on.
            Err(Errno::NXIO) => Some((u64::MAX, true)),
            Err(_) => None,
        }
    }
}
