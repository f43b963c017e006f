//! Measures twinblk, single and mirrored, beside QEMU's quorum pair, qemu-nbd and nbdkit.
#![forbid(unsafe_code)]

use bench::report::Report;
use bench::stores::{Kind, Store, versions};
use bench::work::{self, Work};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Each round runs every work on every store in turn, so that whatever else the machine does
/// touches all alike. What is aimed at and not reached is said, and fails nothing: a figure is no test.
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
    /// The works, by name: qd1, qd32, flush, large; all if none is named.
    #[arg(long, value_delimiter = ',')]
    works: Vec<String>,
    /// An earlier build of twinblk, to be measured mirrored in the same rounds as `twinblk-before`.
    #[arg(long)]
    before: Option<PathBuf>,
}

impl Options {
    fn wants_store(&self, kind: Kind) -> bool {
        match kind {
            Kind::TwinblkBefore => self.before.is_some(),
            _ => wants(&self.stores, kind.name()),
        }
    }

    /// The first name that names nothing, and what there is instead.
    fn unknown(&self) -> Option<(&str, String)> {
        let stores = (&self.stores, Kind::ALL.map(Kind::name).to_vec());
        let works = (&self.works, Work::ALL.map(Work::option).to_vec());
        [stores, works].into_iter().find_map(|(named, known)| {
            let unknown = named.iter().find(|name| !known.contains(&name.as_str()))?;
            Some((unknown.as_str(), known.join(", ")))
        })
    }
}

fn wants(named: &[String], name: &str) -> bool {
    named.is_empty() || named.iter().any(|wanted| wanted == name)
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some((name, known)) = options.unknown() {
        eprintln!("compare: nothing is named {name}: there are {known}");
        return ExitCode::from(2);
    }
    println!("{}\n", versions().join(", "));
    let mut report = Report::default();
    for (place, folder) in [("tmpfs", &options.tmpfs), ("disk", &options.disk)] {
        if !folder.is_empty() {
            compare(place, &PathBuf::from(folder), &options, &mut report);
        }
    }
    println!(
        "\nMedians of {} rounds of {} s:\n",
        options.rounds, options.seconds
    );
    println!(
        "{}\n{}{}",
        report.table(),
        report.verdict(),
        report.change()
    );
    ExitCode::SUCCESS
}

fn compare(place: &str, folder: &Path, options: &Options, report: &mut Report) {
    let stores: Vec<Store> = Kind::ALL
        .into_iter()
        .filter(|kind| options.wants_store(*kind))
        .map(|kind| {
            let store = Store::start(kind, folder, options.size_mib, options.before.as_deref());
            work::fill(&store, options.size_mib);
            store
        })
        .collect();
    for round in 1..=options.rounds {
        let works = Work::ALL.into_iter();
        for work in works.filter(|work| wants(&options.works, work.option())) {
            // Each is first in turn: what ran before, and what the machine did then, is not the same
            // for the first as for the others.
            let first = (round - 1) as usize % stores.len().max(1);
            let (earlier, later) = stores.split_at(first);
            for store in later.iter().chain(earlier) {
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
