//! Reads a whole volume, or a raw file, and says which blocks do not read what they must.

use crate::BLOCK_BYTES;
use crate::journal::{Finding, Journal};
use crate::nbd::{Client, Request};
use crate::stamp::Content;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const PIECE_BYTES: u32 = 256 << 10;

/// What each block of a volume or file holds, from the first on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image(pub Vec<Content>);

impl Image {
    /// Reads a volume through a client.
    pub fn of_volume(client: &mut Client) -> io::Result<Image> {
        let mut contents = Vec::new();
        let mut offset = 0;
        while offset < client.size_bytes() {
            let left = client.size_bytes() - offset;
            let length = u32::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            contents.extend(contents_of(&client.call(Request::Read { offset, length })?));
            offset += u64::from(length);
        }
        Ok(Image(contents))
    }

    /// Reads a raw file.
    pub fn of_file(path: &Path) -> io::Result<Image> {
        let mut file = File::open(path)?;
        let mut contents = Vec::new();
        let mut piece = vec![0; PIECE_BYTES as usize];
        let mut left = file.metadata()?.len();
        while left > 0 {
            let length = usize::try_from(left)
                .unwrap_or(piece.len())
                .min(piece.len());
            file.read_exact(&mut piece[..length])?;
            contents.extend(contents_of(&piece[..length]));
            left -= length as u64;
        }
        Ok(Image(contents))
    }

    /// The blocks that read neither their last acknowledged version nor a later one that was issued.
    ///
    /// # Panics
    /// If the image is of another size than the journal.
    pub fn judge(&self, journal: &Journal) -> Vec<Finding> {
        let range = journal.range();
        assert_eq!(
            self.0.len() as u64,
            range.end - range.start,
            "the image has the journal's size"
        );
        range
            .zip(&self.0)
            .filter_map(|(block, content)| journal.judge(block, *content).err())
            .collect()
    }

    /// Takes the image for the truth: what was in flight and is not in it must not come back.
    pub fn settle(&self, journal: &mut Journal) {
        for (block, content) in journal.range().zip(&self.0) {
            journal.settle(block, *content);
        }
    }
}

/// How many blocks of two files differ, byte by byte; where one is longer, all that the other lacks.
pub fn differing_blocks(left: &Path, right: &Path) -> io::Result<u64> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let lengths = (left.metadata()?.len(), right.metadata()?.len());
    let mut remaining = lengths.0.min(lengths.1);
    let mut differing = lengths.0.abs_diff(lengths.1).div_ceil(BLOCK_BYTES as u64);
    let mut pieces = (vec![0; PIECE_BYTES as usize], vec![0; PIECE_BYTES as usize]);
    while remaining > 0 {
        let length = usize::try_from(remaining)
            .unwrap_or(usize::MAX)
            .min(PIECE_BYTES as usize);
        left.read_exact(&mut pieces.0[..length])?;
        right.read_exact(&mut pieces.1[..length])?;
        if pieces.0[..length] != pieces.1[..length] {
            let blocks = pieces.0[..length]
                .chunks(BLOCK_BYTES)
                .zip(pieces.1[..length].chunks(BLOCK_BYTES));
            differing += blocks.filter(|(left, right)| left != right).count() as u64;
        }
        remaining -= length as u64;
    }
    Ok(differing)
}

fn contents_of(bytes: &[u8]) -> impl Iterator<Item = Content> {
    bytes.chunks(BLOCK_BYTES).map(Content::of)
}
