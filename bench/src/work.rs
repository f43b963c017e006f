//! What fio does to a store, and what it measured.

use crate::stores::{Store, Target};
use e2e::program;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// A kind of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Random 4 KiB writes, one at a time.
    Random1,
    /// Random 4 KiB writes, 32 at a time.
    Random32,
    /// Random 4 KiB writes, one at a time, each followed by a flush.
    RandomFlush,
    /// Writes of 1 MiB in order, four at a time.
    Large4,
}

/// What one run of fio measured.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Writes a second.
    pub iops: f64,
    /// MiB written a second.
    pub mib_per_s: f64,
    /// Median time of a write in microseconds.
    pub median_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
    /// Processor time of all servers for each write, in microseconds.
    pub processor_us: f64,
}

impl Work {
    /// All, in the order of the report.
    pub const ALL: [Work; 4] = [
        Work::Random1,
        Work::Random32,
        Work::RandomFlush,
        Work::Large4,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Work::Random1 => "randwrite 4k QD1",
            Work::Random32 => "randwrite 4k QD32",
            Work::RandomFlush => "randwrite 4k QD1, flush each",
            Work::Large4 => "write 1M QD4",
        }
    }

    /// Its name in options.
    pub fn option(self) -> &'static str {
        match self {
            Work::Random1 => "qd1",
            Work::Random32 => "qd32",
            Work::RandomFlush => "flush",
            Work::Large4 => "large",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Work::Random1 => &["--rw=randwrite", "--bs=4k", "--iodepth=1"],
            Work::Random32 => &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
            Work::RandomFlush => &["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"],
            Work::Large4 => &["--rw=write", "--bs=1M", "--iodepth=4"],
        }
    }
}

/// Writes all of the store once, so that no run pays for finding space.
pub fn fill(store: &Store, size_mib: u64) {
    let mut command = fio(store, size_mib);
    command.args(["--rw=write", "--bs=1M", "--iodepth=4", "--end_fsync=1"]);
    program::run(command, Duration::from_secs(600)).success();
}

/// Runs fio for so many seconds.
///
/// # Panics
/// If fio fails.
pub fn measure(store: &Store, work: Work, size_mib: u64, seconds: u64) -> Measurement {
    let mut command = fio(store, size_mib);
    command
        .args(work.options())
        .args(["--time_based", &format!("--runtime={seconds}")]);
    let before = store.processor_time();
    let output = program::run(command, Duration::from_secs(seconds + 120)).success();
    let used = store.processor_time().saturating_sub(before);
    // fio prints warnings in front of the document.
    let document = output.find('{').map_or("", |start| &output[start..]);
    let report: Value = serde_json::from_str(document).expect("fio prints JSON");
    let write = &report["jobs"][0]["write"];
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let percentile = |name: &str| number(&write["clat_ns"]["percentile"][name]) / 1e3;
    Measurement {
        iops: number(&write["iops"]),
        mib_per_s: number(&write["bw_bytes"]) / f64::from(1 << 20),
        median_us: percentile("50.000000"),
        p99_us: percentile("99.000000"),
        processor_us: used.as_secs_f64() * 1e6 / number(&write["total_ios"]).max(1.0),
    }
}

fn fio(store: &Store, size_mib: u64) -> Command {
    let mut command = Command::new("fio");
    command.args([
        "--name=work",
        "--output-format=json",
        "--randrepeat=0",
        "--norandommap",
    ]);
    command.arg(format!("--size={size_mib}M"));
    match store.target() {
        Target::Nbd(uri) => command.arg("--ioengine=nbd").arg(format!("--uri={uri}")),
        Target::File(path) => command
            .args(["--ioengine=io_uring", "--direct=1"])
            .arg(format!("--filename={}", path.display())),
    };
    command
}
