//! The state machine and its structures.
#![forbid(unsafe_code)]

use bench::pair::Pair;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use format::types::{BLOCK_BYTES, EXTENT_BYTES, Slot, Span};
use replica::activity_log::{ActivityLog, Entry};
use replica::dirty::Dirty;
use replica::inflight::{Access, Inflight};
use std::hint::black_box;

const VOLUME_BYTES: u64 = 1 << 40;
const DEPTH: u32 = 32;

/// Blocks that jump about a volume of this size, always the same.
fn block(step: u64, volume_bytes: u64) -> Span {
    let blocks = volume_bytes / BLOCK_BYTES;
    Span::new(
        step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks * BLOCK_BYTES,
        BLOCK_BYTES,
    )
}

fn dirty(criterion: &mut Criterion) {
    let slot = Slot::all().next().expect("there are slots");
    let mut group = criterion.benchmark_group("dirty bitmap, 1 TiB");
    let mut marks = Dirty::new(slot, VOLUME_BYTES);
    let mut step = 0;
    group.bench_function("set a block", |bencher| {
        bencher.iter(|| {
            step += 1;
            marks.set(block(step % 100_000, VOLUME_BYTES));
        });
    });
    let mut sparse = Dirty::new(slot, VOLUME_BYTES);
    (0..1000).for_each(|step| sparse.set(block(step, VOLUME_BYTES)));
    group.bench_function("walk 1,000 marks", |bencher| {
        bencher.iter(|| {
            let (mut from, mut found) = (0, 0);
            while let Some(chunk) = sparse.next_chunk(from) {
                found += sparse.mask(chunk).count_ones();
                from = chunk + 1;
            }
            black_box(found)
        });
    });
    group.finish();
}

fn activity_log(criterion: &mut Criterion) {
    let mut log = ActivityLog::new(1);
    let extents = 1000;
    let mut ready = Vec::new();
    for extent in 0..extents {
        assert_eq!(
            log.enter(
                extent,
                Span::new(u64::from(extent) * EXTENT_BYTES, BLOCK_BYTES)
            ),
            Entry::Waiting
        );
    }
    while log.next_block(|_| true).is_some() {
        log.committed(&mut ready);
    }
    for extent in 0..extents {
        log.leave(
            extent,
            Span::new(u64::from(extent) * EXTENT_BYTES, BLOCK_BYTES),
        );
    }
    let mut step = 0u64;
    criterion.bench_function("activity log: a write to a hot extent", |bencher| {
        bencher.iter(|| {
            step += 1;
            let span = block(step, u64::from(extents) * EXTENT_BYTES);
            let entry = log.enter(7, span);
            log.mark(span, step);
            log.set_stable_through(step);
            log.leave(7, span);
            black_box(entry)
        });
    });
}

fn inflight(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inflight table");
    for depth in [32u32, 1024] {
        let mut table = Inflight::new();
        let mut ready = Vec::new();
        for operation in 0..depth {
            table.enter(
                operation,
                block(u64::from(operation), VOLUME_BYTES),
                Access::Write,
            );
        }
        let mut step = depth;
        group.bench_function(format!("leave and enter among {depth}"), |bencher| {
            bencher.iter(|| {
                table.leave(step % depth, &mut ready);
                ready.clear();
                let free = table.enter(
                    step % depth,
                    block(u64::from(step), VOLUME_BYTES),
                    Access::Write,
                );
                step = step.wrapping_add(1);
                black_box(free)
            });
        });
    }
    group.finish();
}

/// Both nodes' share, with disks and links that answer at once.
fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Node::step, a mirrored 4 KiB write");
    for depth in [1, DEPTH] {
        let mut pair = Pair::new();
        let mut written = 0u64;
        group.throughput(Throughput::Elements(u64::from(depth)));
        group.bench_function(format!("QD{depth}"), |bencher| {
            let mut spans = Vec::new();
            bencher.iter(|| {
                spans.clear();
                spans.extend((0..u64::from(depth)).map(|place| block(written + place, 1 << 30)));
                written += u64::from(depth);
                pair.write(&spans);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, dirty, activity_log, inflight, step);
criterion_main!(benches);
