use super::{Content, Stamp};
use crate::BLOCK_BYTES;

#[test]
fn a_stamp_is_read_back_and_a_torn_one_is_not() {
    let (old, new) = (
        Stamp {
            volume: 7,
            block: 9,
            version: 1,
        },
        Stamp {
            volume: 7,
            block: 9,
            version: 2,
        },
    );
    let mut block = vec![0; BLOCK_BYTES];
    assert_eq!(Content::of(&block), Content::Zero);
    old.fill(&mut block);
    assert_eq!(Content::of(&block), Content::Stamp(old));
    let mut newer = block.clone();
    new.fill(&mut newer);
    for sector in 1..8 {
        let mut torn = newer.clone();
        torn[sector * 512..].copy_from_slice(&block[sector * 512..]);
        assert_eq!(Content::of(&torn), Content::Broken);
    }
}
