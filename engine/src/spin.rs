//! When to spin for completions rather than to sleep.
//!
//! Waking a core that sleeps costs more than most waits last when one request at a time is under
//! way. So a reactor spins, but only
//!
//! - while waits have been short of late: an idle one sleeps,
//! - while its turns have been short too: behind much work a wake-up does not count, and where all
//!   cores have work nobody has to be woken,
//! - while nobody else has wanted the core for long: who has given way to others gets it back late,
//!   while who has slept gets it as soon as there is something to do.

use crate::shell::{Shell, now};
use replica::event::Nanos;
use std::io;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How much one wait or turn counts in an average, as a power of two.
const WEIGHT: u32 = 3;
/// The longest turn behind which a wake-up counts: it costs less than that.
const TURN_NANOS_MAX: Nanos = 25_000;
/// Whoever has had the core for longer is not who is waited for: a client or another node takes less
/// for the one request in which spinning matters, even where it has to wake the other core up.
const AWAY_NANOS_MAX: Nanos = 200_000;
/// After somebody else has had the core a reactor sleeps through the waits of so many times as long:
/// beside somebody who never stops it loses this part of its time at most.
const REST_TIMES: Nanos = 128;

/// Decides between spinning and sleeping.
pub(crate) struct Spin {
    nanos_max: Nanos,
    waits: Average,
    turns: Average,
    /// When the last wait ended.
    turned_at: Nanos,
    /// Until then waits are slept through, since the core was wanted.
    rests_until: Nanos,
}

/// The running average of times; those longer than a few times the limit all count alike.
struct Average {
    nanos: Nanos,
    nanos_max: Nanos,
}

impl Average {
    /// Is not below the limit at first.
    fn new(nanos_max: Nanos) -> Average {
        Average {
            nanos: nanos_max.saturating_mul(4),
            nanos_max,
        }
    }

    fn take(&mut self, nanos: Nanos) {
        let nanos = nanos.min(self.nanos_max.saturating_mul(4));
        self.nanos = self.nanos - (self.nanos >> WEIGHT) + (nanos >> WEIGHT);
    }

    fn is_short(&self) -> bool {
        self.nanos < self.nanos_max
    }
}

impl Spin {
    /// Spins this long at most; never on one core, where nothing can happen meanwhile.
    pub(crate) fn new(nanos_max: Nanos) -> Spin {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Spin {
            nanos_max: if cores > 1 { nanos_max } else { 0 },
            waits: Average::new(nanos_max),
            turns: Average::new(TURN_NANOS_MAX),
            turned_at: 0,
            rests_until: 0,
        }
    }

    /// Waits for a completion, a wake-up or the timeout.
    pub(crate) fn wait(&mut self, shell: &mut Shell, timeout: Option<Duration>) -> io::Result<()> {
        if self.nanos_max == 0 || timeout == Some(Duration::ZERO) {
            return shell.ring.turn(timeout);
        }
        // What is submitted belongs to the turn: a file that need not wait is written at once.
        shell.ring.turn(Some(Duration::ZERO))?;
        let begun = now();
        self.turns.take(begun - self.turned_at);
        if self.spins(begun) {
            self.spin(shell, begun);
        }
        let has_some = shell.ring.has_completions();
        shell.ring.turn(if has_some {
            Some(Duration::ZERO)
        } else {
            timeout
        })?;
        self.turned_at = now();
        self.waits.take(self.turned_at - begun);
        Ok(())
    }

    /// Whether a wait that begins now is to be spun through.
    fn spins(&self, now: Nanos) -> bool {
        now >= self.rests_until && self.waits.is_short() && self.turns.is_short()
    }

    fn spin(&mut self, shell: &mut Shell, begun: Nanos) {
        let mut last = begun;
        while !shell.ring.has_completions() && last - begun < self.nanos_max {
            // Where others want the core, they may be what is waited for.
            std::thread::yield_now();
            let back = now();
            if back - last > AWAY_NANOS_MAX {
                return self.wanted(last, back);
            }
            last = back;
        }
    }

    /// Somebody else has had the core for long.
    fn wanted(&mut self, since: Nanos, back: Nanos) {
        self.rests_until = back + (back - since).saturating_mul(REST_TIMES);
    }
}
