//! What a client has asked of each block, and what it was promised.

use crate::BLOCK_BYTES;
use crate::stamp::{Content, Stamp};
use std::fmt;

#[cfg(test)]
mod tests;

/// How one version of a block was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    /// All zeroes: by a discard or a zero request, or because nothing was ever written.
    Zero,
    /// A write of the block's stamp with this version.
    Stamp,
    /// It was issued, not acknowledged, and is known not to be what the block reads: it must not appear
    /// any more.
    Lost,
}

/// One block: its versions in the order in which they were issued, the first the zeroes of a new volume.
#[derive(Clone, Debug)]
struct Block {
    versions: Vec<Version>,
    acknowledged: usize,
}

/// The blocks of a range of a volume. A range is written through one connection at a time, so that
/// the order in which versions are issued is the order in which they arrive.
#[derive(Clone, Debug)]
pub struct Journal {
    volume: u64,
    first: u64,
    blocks: Vec<Block>,
}

/// A block that does not read what it must.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The block's number.
    pub block: u64,
    /// What it reads.
    pub read: Content,
    /// Its last acknowledged version.
    pub acknowledged: u64,
    /// Its last issued version.
    pub issued: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            block,
            read,
            acknowledged,
            issued,
        } = self;
        write!(
            f,
            "block {block} reads {read:?}, acknowledged {acknowledged}, issued {issued}"
        )
    }
}

impl Journal {
    /// The journal of a new volume: all its blocks are zero.
    pub fn new(volume: u64, blocks: u64) -> Journal {
        let block = Block {
            versions: vec![Version::Zero],
            acknowledged: 0,
        };
        let count = usize::try_from(blocks).expect("a test's volume fits memory");
        Journal {
            volume,
            first: 0,
            blocks: vec![block; count],
        }
    }

    /// The numbers of its blocks.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.blocks.len() as u64
    }

    /// Cuts it into ranges of about equal size, one a connection.
    pub fn split(mut self, parts: usize) -> Vec<Journal> {
        let size = self.blocks.len().div_ceil(parts.max(1)).max(1);
        let mut pieces = Vec::new();
        while !self.blocks.is_empty() {
            let rest = self.blocks.split_off(size.min(self.blocks.len()));
            let blocks = std::mem::replace(&mut self.blocks, rest);
            let length = blocks.len() as u64;
            pieces.push(Journal {
                volume: self.volume,
                first: self.first,
                blocks,
            });
            self.first += length;
        }
        pieces
    }

    /// Puts the ranges together again.
    ///
    /// # Panics
    /// If there are none, or they do not follow each other.
    pub fn join(pieces: Vec<Journal>) -> Journal {
        let mut pieces = pieces.into_iter();
        let mut whole = pieces.next().expect("at least one range");
        for piece in pieces {
            assert_eq!(whole.range().end, piece.first, "ranges follow each other");
            whole.blocks.extend(piece.blocks);
        }
        whole
    }

    /// Notes that a write of the block is about to be sent, and fills what it writes.
    pub fn issue_write(&mut self, block: u64, bytes: &mut [u8]) -> u64 {
        let version = self.issue(block, Version::Stamp);
        Stamp {
            volume: self.volume,
            block,
            version,
        }
        .fill(bytes);
        version
    }

    /// Notes that the block is about to be zeroed.
    pub fn issue_zero(&mut self, block: u64) -> u64 {
        self.issue(block, Version::Zero)
    }

    /// Fills what a write to a node is about to send that another node has taken over from: it must never appear.
    pub fn issue_in_vain(&mut self, block: u64, bytes: &mut [u8]) {
        let version = self.issue_write(block, bytes);
        self.at(block).versions[index(version)] = Version::Lost;
    }

    /// Notes what a client has read: whoever reads later must find this or something newer. Zeroes do not tell which
    /// version they are, and are passed over.
    pub fn observe(&mut self, block: u64, read: Content) {
        let acknowledged = self.acknowledged(block);
        if let (Content::Stamp(_), Some(version)) = (read, self.matching(block, acknowledged, read))
        {
            self.acknowledge(block, version as u64);
        }
    }

    /// Notes that the server has acknowledged a version.
    pub fn acknowledge(&mut self, block: u64, version: u64) {
        let block = self.at(block);
        block.acknowledged = block.acknowledged.max(index(version));
    }

    /// The version that a read sent now must find at least.
    pub fn acknowledged(&self, block: u64) -> u64 {
        self.blocks[index(block - self.first)].acknowledged as u64
    }

    /// Whether the block may read this: its last acknowledged version, or a later one.
    pub fn judge(&self, block: u64, read: Content) -> Result<(), Finding> {
        self.judge_since(block, self.acknowledged(block), read)
    }

    /// As [`Self::judge`], with what had been acknowledged at some time in the past.
    pub fn judge_since(&self, block: u64, acknowledged: u64, read: Content) -> Result<(), Finding> {
        match self.matching(block, acknowledged, read) {
            Some(_) => Ok(()),
            None => Err(Finding {
                block,
                read,
                acknowledged,
                issued: self.blocks[index(block - self.first)].versions.len() as u64 - 1,
            }),
        }
    }

    /// Takes what was read after a failure for the truth: from now on the block must read this or
    /// something newer, and whatever else was in flight must not come back.
    pub fn settle(&mut self, block: u64, read: Content) {
        let acknowledged = self.acknowledged(block);
        if let Some(version) = self.matching(block, acknowledged, read) {
            let block = self.at(block);
            block.acknowledged = version;
            block.versions[version + 1..].fill(Version::Lost);
        }
    }

    /// The bytes of the version before the last acknowledged one, of a block that has them: what a
    /// server that lost one write would return.
    pub fn previous_version(&self, pick: u64) -> Option<(u64, Vec<u8>)> {
        let count = self.blocks.len();
        let block = (0..count)
            .map(|step| (index(pick) + step) % count)
            .find(|at| {
                let block = &self.blocks[*at];
                block.acknowledged >= 2
                    && block.versions[block.acknowledged - 1..=block.acknowledged]
                        == [Version::Stamp; 2]
            })?;
        let number = self.first + block as u64;
        let version = self.blocks[block].acknowledged as u64 - 1;
        let mut bytes = vec![0; BLOCK_BYTES];
        Stamp {
            volume: self.volume,
            block: number,
            version,
        }
        .fill(&mut bytes);
        Some((number, bytes))
    }

    /// Blocks that nobody has ever asked anything of.
    pub fn untouched(&self) -> impl Iterator<Item = u64> {
        (self.first..)
            .zip(&self.blocks)
            .filter(|(_, block)| block.versions.len() == 1)
            .map(|(at, _)| at)
    }

    /// How many blocks have an acknowledged write.
    pub fn written(&self) -> u64 {
        self.blocks
            .iter()
            .filter(|block| block.acknowledged > 0)
            .count() as u64
    }

    /// How many blocks have been acknowledged more than once.
    pub fn rewritten(&self) -> u64 {
        self.blocks
            .iter()
            .filter(|block| block.acknowledged > 1)
            .count() as u64
    }

    /// How many blocks have a version that was issued and neither acknowledged nor settled.
    pub fn unsettled(&self) -> u64 {
        let open = |block: &&Block| {
            let later = &block.versions[block.acknowledged + 1..];
            later.iter().any(|version| *version != Version::Lost)
        };
        self.blocks.iter().filter(open).count() as u64
    }

    fn issue(&mut self, block: u64, version: Version) -> u64 {
        let block = self.at(block);
        block.versions.push(version);
        block.versions.len() as u64 - 1
    }

    fn at(&mut self, block: u64) -> &mut Block {
        &mut self.blocks[index(block - self.first)]
    }

    /// The latest version from `acknowledged` on that reads like this.
    fn matching(&self, block: u64, acknowledged: u64, read: Content) -> Option<usize> {
        let versions = &self.blocks[index(block - self.first)].versions;
        (index(acknowledged)..versions.len())
            .rev()
            .find(|version| match versions[*version] {
                Version::Zero => read == Content::Zero,
                Version::Stamp => {
                    let (volume, version) = (self.volume, *version as u64);
                    read == Content::Stamp(Stamp {
                        volume,
                        block,
                        version,
                    })
                }
                Version::Lost => false,
            })
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a test's numbers fit memory")
}
