use super::files::meta_bytes;
use super::{Found, Holes, Metadata, Store, open};
use crate::config::{Creation, Paths};
use crate::frontend::Allocation;
use crate::memory::{self, Buffers, Pool};
use crate::report::OpenError;
use crate::shell::{Shell, Token, now};
use crate::testing::{SIZE, TestReplica, creation, noise};
use crate::volume::Volume;
use format::bitmap_page::{BitmapPage, PAGE_CHUNKS};
use format::layout::{BITMAP_OFFSET, LOG_OFFSET, SUPERBLOCK_OFFSETS, page_offset};
use format::log_block::{LOG_CONTEXT, LogBlock, NO_EXTENT};
use format::types::{DiskState, Slot, Span};
use replica::event::{Event, IoId};
use ring::Ring;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .expect("it can be opened");
    file.write_all_at(bytes, offset).expect("it can be written");
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("it can be opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)
        .expect("it can be read");
    file.write_all_at(&[byte[0] ^ 0x10], offset)
        .expect("it can be written");
}

fn opened(replica: &TestReplica) -> Found {
    open(&replica.paths()).expect("it opens")
}

/// Opens what must be refused, in one line and without a change.
fn refused(replica: &TestReplica) -> OpenError {
    let paths = replica.paths();
    let contents = || (fs::read(&paths.data).ok(), fs::read(&paths.meta).ok());
    let before = contents();
    let error = open(&paths).err().expect("it is refused");
    assert!(contents() == before, "the files are bit-identical");
    assert!(
        error.protects_data && !error.to_string().contains('\n'),
        "{error}"
    );
    error
}

#[test]
fn a_new_replica_is_sparse_and_clean() {
    let replica = TestReplica::create(0, 2);
    let paths = replica.paths();
    let found = opened(&replica);
    let superblock = &found.opening.superblock;
    assert_eq!((superblock.size_bytes, superblock.clean), (SIZE, true));
    assert_eq!(superblock.configuration.in_sync.len(), 2);
    assert_eq!(found.opening.hot_extents, Some(Vec::new()));
    assert!(found.opening.pages.is_empty() && found.mended.is_empty());
    assert_eq!(used(&paths.data), 0);
    assert!(has_its_space(&paths.meta));
    assert_eq!(
        fs::metadata(&paths.meta).expect("it exists").len(),
        meta_bytes(SIZE)
    );
}

fn used(path: &Path) -> u64 {
    fs::metadata(path).expect("it exists").blocks() * 512
}

/// Whether there is space for the one page of the other replica's bitmap, and none for the slots that are not in
/// use. A file system may count a block or two of its own.
fn has_its_space(meta: &Path) -> bool {
    let wanted = BITMAP_OFFSET + 4096;
    (wanted..=wanted + 3 * 4096).contains(&used(meta))
}

#[test]
fn metadata_that_was_sparse_is_given_its_space() {
    let replica = TestReplica::create(0, 2);
    let meta = replica.paths().meta;
    let before = fs::read(&meta).expect("it can be read");
    let file = OpenOptions::new().write(true).open(&meta);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let length = meta_bytes(SIZE) - LOG_OFFSET;
    fallocate(file.expect("it opens"), punch, LOG_OFFSET, length).expect("its space is given back");
    assert!(!has_its_space(&meta));
    opened(&replica);
    assert!(has_its_space(&meta));
    assert!(fs::read(&meta).expect("it can be read") == before);
}

#[test]
fn nothing_is_created_over_something() {
    let replica = TestReplica::create(0, 1);
    let paths = replica.paths();
    let again = Volume::create(&paths, &creation(0, 1)).expect_err("it exists");
    assert!(again.protects_data, "{again}");
    fs::remove_file(&paths.data).expect("it can be removed");
    let again = Volume::create(&paths, &creation(0, 1)).expect_err("its metadata exists");
    assert!(again.protects_data, "{again}");
    assert!(!paths.data.exists(), "what was made is taken away again");
}

#[test]
fn impossible_sizes_are_refused() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let paths = Paths {
        data: folder.path().join("data"),
        meta: folder.path().join("meta"),
    };
    for size_bytes in [0, 4095, 4097, u64::MAX - 4095] {
        let creation = Creation {
            size_bytes,
            ..creation(0, 1)
        };
        Volume::create(&paths, &creation).expect_err("no volume has that size");
    }
    assert!(!paths.data.exists() && !paths.meta.exists());
}

#[test]
fn a_thick_volume_has_its_space_from_the_beginning() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().expect("a folder");
    let space = |name: &str, thick| {
        let paths = Paths {
            data: folder.path().join(format!("{name}.data")),
            meta: folder.path().join(format!("{name}.meta")),
        };
        let creation = Creation {
            thick,
            ..creation(0, 1)
        };
        Volume::create(&paths, &creation).expect("there is space");
        let metadata = fs::metadata(&paths.data).expect("it is there");
        assert_eq!(metadata.len(), SIZE);
        metadata.blocks() * 512
    };
    assert_eq!(space("thin", false), 0);
    assert!(space("thick", true) >= SIZE);
}

#[test]
fn a_damaged_copy_of_the_superblock_is_mended_from_the_other() {
    let replica = TestReplica::create(0, 2);
    let meta = replica.paths().meta;
    let whole = fs::read(&meta).expect("it can be read");
    for offset in SUPERBLOCK_OFFSETS {
        for byte in (0..4096).step_by(61) {
            flip(&meta, offset + byte);
            let found = opened(&replica);
            assert_eq!(found.mended.len(), 1, "byte {byte} of the copy at {offset}");
            drop(found);
            assert!(fs::read(&meta).expect("it can be read") == whole);
        }
    }
    assert!(opened(&replica).mended.is_empty());
}

#[test]
fn what_is_no_replica_is_refused_and_left_alone() {
    let paths_of = |replica: &TestReplica| replica.paths();
    let both = TestReplica::create(0, 2);
    SUPERBLOCK_OFFSETS
        .into_iter()
        .for_each(|offset| flip(&paths_of(&both).meta, offset + 100));
    assert!(refused(&both).message.contains("both copies"));

    let foreign = TestReplica::create(0, 2);
    fs::write(paths_of(&foreign).meta, noise(1, 3 << 20)).expect("it can be written");
    assert!(refused(&foreign).message.contains("no twinblk metadata"));

    for length in [
        0,
        100,
        4096,
        70_000,
        LOG_OFFSET,
        BITMAP_OFFSET,
        meta_bytes(SIZE) - 1,
    ] {
        let truncated = TestReplica::create(0, 2);
        let meta = OpenOptions::new()
            .write(true)
            .open(paths_of(&truncated).meta);
        meta.and_then(|meta| meta.set_len(length))
            .expect("it can be cut");
        refused(&truncated);
    }
    for (length, word) in [
        (SIZE - 4096, "smaller"),
        (SIZE + 4096, "larger"),
        (0, "smaller"),
    ] {
        let other = TestReplica::create(0, 2);
        let data = OpenOptions::new().write(true).open(paths_of(&other).data);
        data.and_then(|data| data.set_len(length))
            .expect("it can be cut");
        assert!(refused(&other).message.contains(word));
    }
    let lost = TestReplica::create(0, 2);
    fs::remove_file(paths_of(&lost).meta).expect("it can be removed");
    assert!(refused(&lost).message.contains("adopt"));
}

#[test]
fn pages_and_log_are_read_and_damage_is_told() {
    let replica = TestReplica::create(0, 2);
    let meta = replica.paths().meta;
    let slot = Slot::new(1).expect("there is such a slot");
    let mut page = BitmapPage {
        slot,
        index: 0,
        epoch: 1,
        masks: Box::new([0; PAGE_CHUNKS]),
    };
    page.masks[5] = 0xff00;
    overwrite(&meta, page_offset(slot, 0), &page.encode()[..]);
    let mut context = vec![NO_EXTENT; LOG_CONTEXT];
    context[3] = 17;
    let log = LogBlock {
        instance: 0,
        sequence: 0,
        updates: vec![(3, 17)],
        context,
    };
    overwrite(&meta, LOG_OFFSET, &log.encode()[..]);
    let found = opened(&replica);
    assert_eq!(found.opening.pages, [page]);
    assert_eq!(found.opening.hot_extents, Some(vec![17]));
    drop(found);
    flip(&meta, page_offset(slot, 0) + 50);
    let found = opened(&replica);
    assert_eq!(found.opening.damaged_pages, [(slot, 0)]);
    assert_eq!(found.mended.len(), 1);
}

#[test]
fn a_growth_that_does_not_happen_is_undone() {
    let replica = TestReplica::create(0, 1);
    let paths = replica.paths();
    Volume::extend(&paths, 2 * SIZE).expect("it can be extended");
    Volume::extend(&paths, 2 * SIZE).expect("and again");
    assert_eq!(
        fs::metadata(&paths.data).expect("it exists").len(),
        2 * SIZE
    );
    assert_eq!(opened(&replica).mended.len(), 1);
    assert_eq!(fs::metadata(&paths.data).expect("it exists").len(), SIZE);
    assert!(opened(&replica).mended.is_empty());
    assert!(
        Volume::extend(&paths, SIZE / 2)
            .expect_err("it is shorter")
            .protects_data
    );
}

#[test]
fn lost_metadata_is_made_anew() {
    let replica = TestReplica::create(1, 2);
    let paths = replica.paths();
    overwrite(&paths.data, 4096, &noise(1, 4096));
    for only_copy in [false, true] {
        fs::remove_file(&paths.meta).expect("it can be removed");
        Volume::adopt(&paths, &creation(1, 2), only_copy).expect("it can be adopted");
        let superblock = opened(&replica).opening.superblock;
        assert_eq!(superblock.disk_state == DiskState::UpToDate, only_copy);
        assert_eq!(superblock.data_generation.is_none(), !only_copy);
        assert!(!superblock.history_complete);
    }
    let again = Volume::adopt(&paths, &creation(1, 2), true).expect_err("it has metadata");
    assert!(again.protects_data);
    assert!(fs::read(&paths.data).expect("it can be read")[4096..8192] == noise(1, 4096));
}

/// A store over a replica's files, without a core.
struct Bench {
    shell: Shell,
    store: Store,
    replica: TestReplica,
    ios: u64,
}

impl Bench {
    fn new() -> Bench {
        let replica = TestReplica::create(0, 2);
        let found = opened(&replica);
        let arena = memory::arena(4 << 20).expect("memory can be mapped");
        let ring = Ring::new(arena).expect("io_uring works here");
        let data = ring::File::from(found.data_direct);
        let meta = ring::File::from(found.meta_direct);
        let mut shell = Shell {
            ring,
            buffers: Buffers::default(),
            events: Default::default(),
            now: now(),
        };
        let store = Store::new(&mut shell, data, meta);
        Bench {
            shell,
            store,
            replica,
            ios: 0,
        }
    }

    fn io(&mut self) -> IoId {
        self.ios += 1;
        IoId(self.ios)
    }

    /// Turns until so many effects have ended.
    fn wait(&mut self, count: usize) -> Vec<Event> {
        while self.shell.events.len() < count {
            let timeout = Some(Duration::from_secs(5));
            self.shell.ring.turn(timeout).expect("the ring turns");
            let before = self.shell.ring.in_flight();
            while let Some(completion) = self.shell.ring.next() {
                let Token::Store(step) = completion.token else {
                    panic!("there are no sockets");
                };
                self.store.completed(&mut self.shell, step, completion.done);
            }
            self.store.slots_freed(&mut self.shell);
            assert!(before > 0, "something is under way");
        }
        self.shell.events.drain(..).collect()
    }

    fn done(&mut self) {
        let events = self.wait(1);
        assert!(
            matches!(events[..], [Event::IoDone { result: Ok(()), .. }]),
            "{events:?}"
        );
    }

    fn write(&mut self, span: Span, data: &[u8]) {
        let mut slot = memory::take(self.shell.ring.arena(), Pool::Writes, data.len() + 4096)
            .expect("there is room");
        slot[4096..4096 + data.len()].copy_from_slice(data);
        let buffer = self.shell.buffers.insert(slot.share());
        let io = self.io();
        self.store
            .write(&mut self.shell, io, span, (buffer, 4096), true);
        self.shell.buffers.remove(buffer);
        self.done();
    }

    fn data(&self) -> Vec<u8> {
        self.replica.data()
    }
}

#[test]
fn effects_reach_the_data_file() {
    let mut bench = Bench::new();
    bench.write(Span::new(8192, 65_536), &noise(1, 65_536));
    let io = bench.io();
    bench.store.flush(&mut bench.shell, io);
    bench.done();
    assert!(bench.data()[8192..73_728] == noise(1, 65_536));
    for (unmap, durable) in [(false, false), (false, true), (true, false), (true, true)] {
        bench.write(Span::new(0, 65_536), &noise(2, 65_536));
        let io = bench.io();
        bench
            .store
            .zero(&mut bench.shell, io, Span::new(4096, 8192), unmap, durable);
        bench.done();
        let mut expected = noise(2, 65_536);
        expected[4096..12_288].fill(0);
        assert!(bench.data()[..65_536] == expected);
    }
}

#[test]
fn what_cannot_be_freed_is_zeroed_by_the_file_system() {
    let mut bench = Bench::new();
    let span = Span::new(0, 65_536);
    bench.write(span, &noise(1, 65_536));
    bench.store.lacks_punch = true;
    let io = bench.io();
    bench.store.zero(&mut bench.shell, io, span, true, true);
    bench.done();
    assert!(bench.data()[..65_536].iter().all(|byte| *byte == 0));
    let file = fs::metadata(bench.replica.paths().data).expect("it is there");
    // Some file systems, as in memory, can free space only.
    assert!(bench.store.lacks_zero || file.blocks() * 512 >= 65_536);
}

#[test]
fn zeroes_are_written_where_nothing_else_works() {
    let mut bench = Bench::new();
    let length = 700 * 4096;
    for offset in (0..length).step_by(65_536) {
        bench.write(Span::new(offset, 65_536), &noise(offset, 65_536));
    }
    (bench.store.lacks_zero, bench.store.lacks_punch) = (true, true);
    let before = bench.data();
    let io = bench.io();
    let span = Span::new(4096, length - 8192);
    bench.store.zero(&mut bench.shell, io, span, true, true);
    bench.done();
    let data = bench.data();
    let zeroed = 4096..memory::length(span.end());
    assert!(data[zeroed.clone()].iter().all(|byte| *byte == 0));
    assert!(data[..4096] == before[..4096] && data[zeroed.end..] == before[zeroed.end..]);
}

#[test]
fn reads_beyond_the_pool_wait_their_turn() {
    let mut bench = Bench::new();
    bench.write(Span::new(0, 65_536), &noise(1, 65_536));
    let length = 65_536;
    let count = 100;
    for _ in 0..count {
        let io = bench.io();
        bench.store.read(&mut bench.shell, io, Span::new(0, length));
    }
    let mut read = 0;
    while read < count {
        for event in bench.wait(1) {
            let Event::ReadDone {
                result: Ok(buffer), ..
            } = event
            else {
                panic!("every read succeeds: {event:?}");
            };
            assert!(bench.shell.buffers.slot(buffer)[..65_536] == noise(1, 65_536));
            bench.shell.buffers.remove(buffer);
            read += 1;
        }
        bench.store.slots_freed(&mut bench.shell);
    }
}

#[test]
fn metadata_is_read_back_as_it_was_written() {
    let mut bench = Bench::new();
    let mut superblock = creation_superblock(&bench);
    superblock.sequence = 7;
    superblock.clean = false;
    let slot = Slot::new(1).expect("there is such a slot");
    let io = bench.io();
    let metadata = Metadata::Superblock(Box::new(superblock.clone()));
    bench.store.write_metadata(&mut bench.shell, io, metadata);
    bench.done();
    for index in 0..300 {
        let io = bench.io();
        let page = BitmapPage {
            slot,
            index: 0,
            epoch: index,
            masks: Box::new([1; PAGE_CHUNKS]),
        };
        bench
            .store
            .write_metadata(&mut bench.shell, io, Metadata::Page(page));
    }
    assert_eq!(bench.wait(300).len(), 300);
    let Bench {
        shell,
        store,
        replica,
        ..
    } = bench;
    drop((shell, store));
    let found = opened(&replica);
    assert_eq!(found.opening.superblock, superblock);
    assert_eq!(found.opening.pages.len(), 1);
    assert!(found.mended.is_empty());
}

fn creation_superblock(bench: &Bench) -> format::superblock::Superblock {
    let mut bytes = [0; 4096];
    let meta = File::open(bench.replica.paths().meta).expect("it can be opened");
    meta.read_exact_at(&mut bytes, SUPERBLOCK_OFFSETS[0])
        .expect("it can be read");
    format::superblock::Superblock::decode(&bytes).expect("it is sound")
}

#[test]
fn holes_are_told_only_when_they_can_be_trusted() {
    let file = tempfile::tempfile().expect("a file can be made");
    file.set_len(1 << 20).expect("it can be extended");
    file.write_all_at(&[1; 65_536], 131_072)
        .expect("it can be written");
    let mut holes = Holes::new(file);
    let whole = Span::new(0, 1 << 20);
    let data = |length, hole| Allocation { length, hole };
    assert_eq!(holes.allocations(whole), [data(1 << 20, false)]);
    holes.trusted = true;
    let expected = [
        data(131_072, true),
        data(65_536, false),
        data(851_968, true),
    ];
    assert_eq!(holes.allocations(whole), expected);
    let inside = Span::new(131_073, 100);
    assert_eq!(holes.allocations(inside), [data(100, false)]);
    let across = Span::new(131_000, 65_700);
    assert_eq!(
        holes.allocations(across),
        [data(72, true), data(65_536, false), data(92, true)]
    );
}
