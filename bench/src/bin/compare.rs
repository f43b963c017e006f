//! Measures twinblk, single and mirrored, beside QEMU's quorum pair, qemu-nbd and nbdkit.
#![forbid(unsafe_code)]

use bench::report::Report;
use bench::stores::{Kind, Store, versions};
use bench::work::{self, Work};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Each round runs every work on every store in turn, so that whatever else the machine does
/// touches all alike. Exits with 1 if the mirror does not reach what it promises against the pair.
#[derive(Parser)]
struct Options {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Each store's size.
    #[arg(long, default_value_t = 512)]
    size_mib: u64,
    /// A folder in memory; empty for none.
    #[arg(long, default_value = "/dev/shm")]
    tmpfs: String,
    /// A folder on a disk; empty for none.
    #[arg(long, default_value = "/var/tmp")]
    disk: String,
    /// The stores, by name; all if none is named.
    #[arg(long, value_delimiter = ',')]
    stores: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let unknown = |name: &&String| Kind::ALL.iter().all(|kind| kind.name() != name.as_str());
    if let Some(name) = options.stores.iter().find(unknown) {
        let names = Kind::ALL.map(Kind::name).join(", ");
        eprintln!("compare: no store is named {name}: there are {names}");
        return ExitCode::from(2);
    }
    println!("{}\n", versions().join(", "));
    let mut report = Report::default();
    for (place, folder) in [("tmpfs", &options.tmpfs), ("disk", &options.disk)] {
        if !folder.is_empty() {
            compare(place, &PathBuf::from(folder), &options, &mut report);
        }
    }
    let (verdict, kept) = report.verdict();
    println!(
        "\nMedians of {} rounds of {} s:\n",
        options.rounds, options.seconds
    );
    println!("{}\n{verdict}", report.table());
    ExitCode::from(u8::from(!kept))
}

fn compare(place: &str, folder: &Path, options: &Options, report: &mut Report) {
    let wanted = |kind: &Kind| {
        options.stores.is_empty() || options.stores.iter().any(|name| name == kind.name())
    };
    let stores: Vec<Store> = Kind::ALL
        .into_iter()
        .filter(wanted)
        .map(|kind| {
            let store = Store::start(kind, folder, options.size_mib);
            work::fill(&store, options.size_mib);
            store
        })
        .collect();
    for round in 1..=options.rounds {
        for work in Work::ALL {
            for store in &stores {
                let measured = work::measure(store, work, options.size_mib, options.seconds);
                let (kind, name) = (store.kind(), store.kind().name());
                println!(
                    "{place} round {round}: {}: {name}: {:.0} writes/s, {:.1} us CPU each",
                    work.name(),
                    measured.iops,
                    measured.processor_us,
                );
                report.add(place, kind, work, measured);
            }
        }
    }
}
