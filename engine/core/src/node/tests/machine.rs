//! A machine of the world in miniature: its disk does at once what it is told, fails or hangs.

use super::world::blocks;
use crate::Node;
use crate::command::{Answer, Refusal};
use crate::event::{DiskError, Effect, Event, RequestError};
use crate::notice::Notice;
use format::bitmap_page::BitmapPage;
use format::superblock::Superblock;
use format::types::BLOCK_BYTES;
use std::collections::{BTreeMap, VecDeque};

/// A machine: a node that may be running, and what is on its disk.
pub(super) struct Machine {
    pub(super) node: Option<Node>,
    pub(super) superblock: Superblock,
    pub(super) pages: BTreeMap<(usize, u32), BitmapPage>,
    pub(super) hot: Vec<u32>,
    pub(super) blocks: BTreeMap<u64, u64>,
    pub(super) buffers: BTreeMap<u32, Vec<u64>>,
    pub(super) events: VecDeque<Event>,
    pub(super) disk_fails: Option<DiskError>,
    pub(super) disk_hangs: bool,
    pub(super) hung: Vec<Event>,
    pub(super) notices: Vec<Notice>,
    pub(super) answers: BTreeMap<u64, Result<Answer, Refusal>>,
    pub(super) replies: BTreeMap<u32, Result<Vec<u64>, RequestError>>,
}

impl Machine {
    pub(super) fn of(superblock: Superblock) -> Machine {
        Machine {
            node: None,
            superblock,
            pages: BTreeMap::new(),
            hot: Vec::new(),
            blocks: BTreeMap::new(),
            buffers: BTreeMap::new(),
            events: VecDeque::new(),
            disk_fails: None,
            disk_hangs: false,
            hung: Vec::new(),
            notices: Vec::new(),
            answers: BTreeMap::new(),
            replies: BTreeMap::new(),
        }
    }

    pub(super) fn outcome(&self) -> Result<(), DiskError> {
        self.disk_fails.map_or(Ok(()), Err)
    }

    /// Carries a write or flush out at once.
    pub(super) fn write(&mut self, effect: Effect) {
        let outcome = self.outcome();
        let (io, result) = match effect {
            Effect::WriteLocal {
                io,
                span,
                buffer,
                start,
                ..
            } => {
                let skip = usize::try_from(u64::from(start) / BLOCK_BYTES).expect("small");
                let content = self.buffers[&buffer.0].iter().copied().skip(skip);
                if outcome.is_ok() {
                    self.blocks.extend(blocks(span).zip(content));
                }
                (io, outcome)
            }
            Effect::ZeroLocal { io, span, .. } => {
                self.blocks.retain(|block, _| !blocks(span).contains(block));
                (io, outcome)
            }
            Effect::FlushLocal { io } if self.disk_fails == Some(DiskError::Full) => (io, Ok(())),
            Effect::FlushLocal { io } => (io, outcome),
            Effect::WriteSuperblock { io, superblock } => {
                self.superblock = *superblock;
                (io, Ok(()))
            }
            Effect::WriteLog { io, .. } => (io, Ok(())),
            Effect::WritePage { io, page } => {
                self.pages.insert((page.slot.index(), page.index), page);
                (io, Ok(()))
            }
            other => unreachable!("{other:?} writes nothing"),
        };
        let done = Event::IoDone { io, result };
        match self.disk_hangs {
            true => self.hung.push(done),
            false => self.events.push_back(done),
        }
    }

    /// What was written while the disk hung has ended, all at once.
    pub(super) fn disk_answers(&mut self) {
        self.disk_hangs = false;
        self.events.extend(self.hung.drain(..));
    }

    pub(super) fn blocks_set(&self) -> BTreeMap<u64, u64> {
        self.blocks
            .iter()
            .filter(|(_, value)| **value != 0)
            .map(|(k, v)| (*k, *v))
            .collect()
    }

    /// The rows of its handshakes so far.
    pub(super) fn rows(&self) -> Vec<&'static str> {
        self.notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::Handshake { row, .. } => Some(*row),
                _ => None,
            })
            .collect()
    }
}
