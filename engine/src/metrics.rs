//! What has been done for clients, and how long it took.

use crate::frontend::{ClientKind, ClientRequest};
use crate::report::IoStatus;
use hdrhistogram::Histogram;
use replica::event::Nanos;

#[cfg(test)]
mod tests;

/// A histogram is begun anew this often; the last two are looked at, so that they cover between
/// half a minute and a whole one.
const WINDOW_NANOS: Nanos = 30_000_000_000;
/// The longest latency that is told from longer ones: ten minutes, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Digits to which latencies are told apart.
const DIGITS: u8 = 2;

/// Counts since the start and latencies of the last minute or so.
pub(crate) struct Metrics {
    counts: IoStatus,
    current: Histogram<u32>,
    previous: Histogram<u32>,
    window_began: Nanos,
}

impl Metrics {
    /// Nothing has been done yet.
    pub(crate) fn new() -> Metrics {
        let empty = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        let empty: Histogram<u32> = empty.expect("the bounds are in order");
        Metrics {
            counts: IoStatus::default(),
            current: empty.clone(),
            previous: empty,
            window_began: 0,
        }
    }

    /// A request has ended.
    pub(crate) fn ended(
        &mut self,
        request: &ClientRequest,
        succeeded: bool,
        started_at: Nanos,
        now: Nanos,
    ) {
        let bytes = if succeeded { request.span.length } else { 0 };
        match request.kind {
            ClientKind::Read => {
                self.counts.reads += 1;
                self.counts.read_bytes += bytes;
            }
            ClientKind::Write { .. } => {
                self.counts.writes += 1;
                self.counts.written_bytes += bytes;
            }
            ClientKind::Zero { .. } => self.counts.writes += 1,
            ClientKind::Flush => self.counts.flushes += 1,
            ClientKind::Extents => return,
        }
        self.turn_window(now);
        self.current
            .saturating_record(now.saturating_sub(started_at) / 1000);
    }

    /// What a person wants to know.
    pub(crate) fn status(&mut self, clients: usize, now: Nanos) -> IoStatus {
        self.turn_window(now);
        let mut recent = self.previous.clone();
        recent += &self.current;
        let percentile = |percent: f64| recent.value_at_percentile(percent);
        IoStatus {
            latency_us: [percentile(50.0), percentile(99.0), percentile(99.9)],
            clients: u32::try_from(clients).unwrap_or(u32::MAX),
            ..self.counts.clone()
        }
    }

    fn turn_window(&mut self, now: Nanos) {
        let age = now.saturating_sub(self.window_began);
        if age < WINDOW_NANOS {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.reset();
        if age >= 2 * WINDOW_NANOS {
            self.previous.reset();
        }
        self.window_began = now;
    }
}
