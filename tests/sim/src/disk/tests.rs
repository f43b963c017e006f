use super::{Disk, Ended, Loss, Write};
use crate::content::{BLOCK_SECTORS, tag};
use crate::rng::Rng;
use replica::event::IoId;
use std::rc::Rc;

fn write(disk: &mut Disk, number: u32, value: u64, fua: bool) {
    let content = Rc::new((0..BLOCK_SECTORS).map(|nth| tag(value, nth)).collect());
    let blocks = number..number + 1;
    disk.begin_write(
        IoId(value),
        Write {
            blocks,
            content: Some((content, 0)),
            fua,
        },
    );
    disk.end_write(IoId(value), Ended::Done, &mut Rng::new(value));
}

fn version(disk: &Disk, number: u32) -> u64 {
    disk.get(number)[0] >> 16
}

#[test]
fn a_write_is_visible_at_once_and_durable_after_a_flush() {
    let mut disk = Disk::default();
    write(&mut disk, 7, 1, false);
    let flush = disk.begin_flush();
    write(&mut disk, 7, 2, false);
    disk.end_flush(flush);
    assert_eq!(version(&disk, 7), 2);
    let after: Vec<u64> = disk.outcomes(7, 0).map(|tag| tag >> 16).collect();
    assert_eq!(
        after,
        [1, 2],
        "the flush covers only what had ended when it began"
    );
    disk.lose_power(Loss::All, &mut Rng::new(1));
    assert_eq!(version(&disk, 7), 1);
}

#[test]
fn fua_is_durable_without_a_flush() {
    let mut disk = Disk::default();
    write(&mut disk, 3, 1, false);
    write(&mut disk, 3, 2, true);
    assert!(!disk.is_volatile(3));
    disk.lose_power(Loss::All, &mut Rng::new(1));
    assert_eq!(version(&disk, 3), 2);
}

#[test]
fn a_power_cut_leaves_any_version_and_a_torn_one_any_sector_of_one() {
    let mut seen = std::collections::BTreeSet::new();
    let mut torn = false;
    for seed in 0..200 {
        let mut disk = Disk::default();
        write(&mut disk, 0, 1, false);
        write(&mut disk, 0, 2, false);
        let loss = if seed % 2 == 0 { Loss::Any } else { Loss::Torn };
        disk.lose_power(loss, &mut Rng::new(seed));
        seen.insert(version(&disk, 0));
        torn |= disk.get(0)[0] >> 16 != disk.get(0)[1] >> 16;
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(torn);
}

#[test]
fn zeroing_changes_only_what_there_is() {
    let mut disk = Disk::default();
    write(&mut disk, 5, 1, true);
    disk.begin_write(
        IoId(9),
        Write {
            blocks: 0..4096,
            content: None,
            fua: false,
        },
    );
    assert_eq!(
        disk.volatile_in(0..4096).into_iter().collect::<Vec<_>>(),
        [5]
    );
    let changed = disk.end_write(IoId(9), Ended::Done, &mut Rng::new(1));
    assert_eq!(changed, [5]);
    assert_eq!(disk.blocks().count(), 0);
}
