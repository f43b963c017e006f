//! Medians, ratios, and whether they are what is aimed at.

use crate::stores::Kind;
use crate::work::{Measurement, Work};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A folder's name, a store and a work, by their place in the report's order.
type Key = (String, usize, usize);

/// All that was measured.
#[derive(Default)]
pub struct Report {
    measured: BTreeMap<Key, Vec<Measurement>>,
}

/// What the mirror must reach against the quorum pair, measured in the same rounds.
struct Aim {
    place: &'static str,
    work: Work,
    ratio_min: f64,
}

const AIMS: [Aim; 4] = [
    Aim {
        place: "tmpfs",
        work: Work::Random32,
        ratio_min: 3.0,
    },
    Aim {
        place: "tmpfs",
        work: Work::Random1,
        ratio_min: 1.5,
    },
    Aim {
        place: "tmpfs",
        work: Work::Large4,
        ratio_min: 2.0,
    },
    Aim {
        place: "disk",
        work: Work::RandomFlush,
        ratio_min: 1.2,
    },
];

impl Report {
    /// Adds a run.
    pub fn add(&mut self, place: &str, kind: Kind, work: Work, measurement: Measurement) {
        self.measured
            .entry(key(place, kind, work))
            .or_default()
            .push(measurement);
    }

    /// The table of medians.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| place | work | store | writes/s | MiB/s | median us | p99 us | server CPU us/write |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for ((place, work, kind), runs) in &self.measured {
            let of = |figure: fn(&Measurement) -> f64| median(runs.iter().map(figure).collect());
            let _ = writeln!(
                text,
                "| {place} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
                Work::ALL[*work].name(),
                Kind::ALL[*kind].name(),
                of(|run| run.iops),
                of(|run| run.mib_per_s),
                of(|run| run.median_us),
                of(|run| run.p99_us),
                of(|run| run.processor_us),
            );
        }
        text
    }

    /// The mirror against the quorum pair, a line each: what is aimed at, and whether it is reached.
    pub fn verdict(&self) -> String {
        let mut text = String::new();
        for aim in &AIMS {
            let Aim {
                place,
                work,
                ratio_min,
            } = aim;
            let Some(ratio) = self.ratio(place, *work, Kind::QuorumPair, |run| run.iops) else {
                continue;
            };
            let reached = ratio >= *ratio_min;
            let word = if reached { "reached" } else { "NOT REACHED" };
            let _ = writeln!(
                text,
                "{place}, {}: {ratio:.2} times the quorum pair, at least {ratio_min} aimed at: {word}",
                work.name(),
            );
        }
        text
    }

    /// The mirror against its earlier build, a line for each work; empty if that was not measured.
    pub fn change(&self) -> String {
        let mut text = String::new();
        for (place, work) in ["tmpfs", "disk"]
            .into_iter()
            .flat_map(|place| Work::ALL.map(|work| (place, work)))
        {
            let rates = self.ratio(place, work, Kind::TwinblkBefore, |run| run.iops);
            let costs = self.ratio(place, work, Kind::TwinblkBefore, |run| run.processor_us);
            if let (Some(rates), Some(costs)) = (rates, costs) {
                let _ = writeln!(
                    text,
                    "{place}, {}: {rates:.2} times the build before, for {costs:.2} times the CPU each",
                    work.name(),
                );
            }
        }
        text
    }

    /// The median of the ratios of each round, so that a machine that slows down slows both.
    fn ratio(
        &self,
        place: &str,
        work: Work,
        other: Kind,
        figure: fn(&Measurement) -> f64,
    ) -> Option<f64> {
        let ours = self
            .measured
            .get(&key(place, Kind::TwinblkMirrored, work))?;
        let theirs = self.measured.get(&key(place, other, work))?;
        let ratios = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| figure(ours) / figure(theirs));
        Some(median(ratios.collect()))
    }
}

fn key(place: &str, kind: Kind, work: Work) -> Key {
    (place.to_owned(), work as usize, kind as usize)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}
