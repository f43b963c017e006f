//! Blocks that say what they are, and what each of them must be.

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 4096;
const MAGIC: u64 = 0x6b6c_626e_6977_7431;

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    /// From this seed.
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next one.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What was written to a block and what was acknowledged, by sequence number; 0 is "never".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Promise {
    issued: u64,
    acknowledged: u64,
}

/// What every block of a volume must be.
#[derive(Debug)]
pub(super) struct Model {
    promises: Vec<Promise>,
    sequence: u64,
}

impl Model {
    /// A new volume: all zero.
    pub(super) fn new(blocks: usize) -> Model {
        Model {
            promises: vec![Promise::default(); blocks],
            sequence: 0,
        }
    }

    /// Blocks of the volume.
    pub(super) fn blocks(&self) -> usize {
        self.promises.len()
    }

    /// Blocks that have been written at least once.
    pub(super) fn written(&self) -> Vec<usize> {
        (0..self.blocks())
            .filter(|block| self.promises[*block].issued > 0)
            .collect()
    }

    /// Blocks with a write of which no reply has come.
    pub(super) fn unacknowledged(&self) -> usize {
        self.promises
            .iter()
            .filter(|promise| promise.issued > promise.acknowledged)
            .count()
    }

    /// Notes that a block is being written, and tells the write's number and content.
    pub(super) fn issue(&mut self, block: usize) -> (u64, Vec<u8>) {
        self.sequence += 1;
        self.promises[block].issued = self.sequence;
        (self.sequence, content(block, self.sequence))
    }

    /// Notes that a write was acknowledged.
    pub(super) fn acknowledge(&mut self, block: usize, sequence: u64) {
        let promise = &mut self.promises[block];
        promise.acknowledged = promise.acknowledged.max(sequence);
    }

    /// Checks what was read: the acknowledged write or a later one, whole. From here on it must stay
    /// that.
    pub(super) fn check(&mut self, block: usize, bytes: &[u8]) -> Result<(), String> {
        let promise = &mut self.promises[block];
        let found = sequence_of(block, bytes)
            .ok_or_else(|| format!("block {block} holds something that was never written to it"))?;
        if found < promise.acknowledged || found > promise.issued {
            return Err(format!(
                "block {block} holds write {found}, but {} was acknowledged and {} the last issued",
                promise.acknowledged, promise.issued
            ));
        }
        *promise = Promise {
            issued: found,
            acknowledged: found,
        };
        Ok(())
    }
}

/// The content of a write: nothing of it can be taken for another's.
fn content(block: usize, sequence: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(sequence ^ (block as u64) << 32);
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    for word in [MAGIC, block as u64, sequence] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    while bytes.len() < BLOCK_BYTES {
        bytes.extend_from_slice(&numbers.next().to_le_bytes());
    }
    bytes
}

/// Which write a block's content is, every byte of it.
fn sequence_of(block: usize, bytes: &[u8]) -> Option<u64> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let sequence = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (content(block, sequence) == bytes).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, Model};

    #[test]
    fn an_older_write_than_the_acknowledged_one_is_found() {
        let mut model = Model::new(4);
        let (first, old) = model.issue(2);
        model.acknowledge(2, first);
        let (second, new) = model.issue(2);
        // Until the second is acknowledged, either may be there, and then must stay there.
        model.check(2, &new).expect("it was issued");
        model.check(2, &old).expect_err("the later one was seen");
        model.acknowledge(2, second);
        model.check(2, &old).expect_err("it was overwritten");
    }

    #[test]
    fn what_was_never_written_is_found() {
        let mut model = Model::new(4);
        let (_, content) = model.issue(1);
        model
            .check(1, &[0; BLOCK_BYTES])
            .expect("the write may have been lost");
        let (sequence, mut torn) = (model.issue(1).0, content);
        model.acknowledge(1, sequence);
        torn[BLOCK_BYTES - 1] ^= 1;
        model.check(1, &torn).expect_err("it is torn");
        model.check(1, &[0; BLOCK_BYTES]).expect_err("it is lost");
        let (_, other) = model.issue(3);
        model
            .check(2, &other)
            .expect_err("it belongs to another block");
    }
}
