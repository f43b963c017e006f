//! How fast a walk goes: as fast as it can while clients do not feel it.
//!
//! Additive increase and multiplicative decrease (Chiu and Jain, "Analysis of the increase and decrease
//! algorithms for congestion avoidance", 1989) of the number of chunks under way, by what clients'
//! requests took. At least one chunk is always under way, so that a walk never falls to a crawl.

use crate::limits::{PACE_INTERVAL_NANOS, WALK_CHUNKS_MAX};
use crate::time::Nanos;

/// Buckets of a latency histogram: two for each power of two of nanoseconds.
const BUCKETS: usize = 96;

/// How long clients' requests took, within a factor of 1.5.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    counts: [u64; BUCKETS],
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            counts: [0; BUCKETS],
            total: 0,
        }
    }
}

impl Latencies {
    fn bucket(nanos: Nanos) -> usize {
        let nanos = nanos.max(2);
        let power = nanos.ilog2();
        let half = (nanos >> (power - 1)) & 1;
        (power as usize * 2 + usize::from(half == 1)).min(BUCKETS - 1)
    }

    /// Adds a request.
    pub(crate) fn add(&mut self, nanos: Nanos) {
        self.counts[Self::bucket(nanos)] += 1;
        self.total += 1;
    }

    /// What 99 of 100 requests took at most, rounded up to the bucket's end; 0 if there were none.
    pub(crate) fn p99(&self) -> Nanos {
        let beyond = self.total / 100;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate().rev() {
            seen += count;
            if seen > beyond {
                let power = 1u64 << (bucket / 2);
                return if bucket % 2 == 1 {
                    power * 2
                } else {
                    power / 2 * 3
                };
            }
        }
        0
    }
}

/// The pace of a walk.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Chunks that may be under way.
    chunks: usize,
    interval: Latencies,
    decided_at: Nanos,
    /// Of the whole walk.
    pub(crate) latencies: Latencies,
}

impl Pace {
    /// The pace of a walk that begins.
    pub(crate) fn new(now: Nanos) -> Pace {
        Pace {
            chunks: WALK_CHUNKS_MAX / 2,
            interval: Latencies::default(),
            decided_at: now,
            latencies: Latencies::default(),
        }
    }

    /// A client's request has ended.
    pub(crate) fn request_took(&mut self, nanos: Nanos) {
        self.interval.add(nanos);
        self.latencies.add(nanos);
    }

    /// Chunks that may be under way, given what clients should feel at most.
    pub(crate) fn chunks(&mut self, now: Nanos, p99_max: Nanos) -> usize {
        if now.saturating_sub(self.decided_at) >= PACE_INTERVAL_NANOS {
            self.decided_at = now;
            let felt = std::mem::take(&mut self.interval).p99() > p99_max;
            self.chunks = if felt {
                (self.chunks / 2).max(1)
            } else {
                (self.chunks + 1).min(WALK_CHUNKS_MAX)
            };
        }
        self.chunks
    }
}

#[cfg(test)]
mod tests;
