//! When to spin for completions rather than to sleep.
//!
//! Waking a core that sleeps costs more than most waits last when one request at a time is under
//! way. So a reactor spins, but only while waits have been short of late: an idle one sleeps.

use crate::shell::{Shell, now};
use replica::event::Nanos;
use std::io;
use std::time::Duration;

/// How much one wait counts in the average, as a power of two.
const WEIGHT: u32 = 3;

/// Decides between spinning and sleeping.
pub(crate) struct Spin {
    nanos_max: Nanos,
    /// The running average of waits; those longer than a few spins all count alike.
    average: Nanos,
}

impl Spin {
    /// Spins this long at most; never on one core, where nothing can happen meanwhile.
    pub(crate) fn new(nanos_max: Nanos) -> Spin {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Spin {
            nanos_max: if cores > 1 { nanos_max } else { 0 },
            average: nanos_max.saturating_mul(4),
        }
    }

    /// Waits for a completion, a wake-up or the timeout.
    pub(crate) fn wait(&mut self, shell: &mut Shell, timeout: Option<Duration>) -> io::Result<()> {
        if self.nanos_max == 0 || timeout == Some(Duration::ZERO) {
            return shell.ring.turn(timeout);
        }
        let begun = now();
        if self.average < self.nanos_max {
            shell.ring.turn(Some(Duration::ZERO))?;
            while !shell.ring.has_completions() && now() - begun < self.nanos_max {
                // Where others want the core, they are what is waited for.
                std::thread::yield_now();
            }
        }
        let has_some = shell.ring.has_completions();
        shell.ring.turn(if has_some {
            Some(Duration::ZERO)
        } else {
            timeout
        })?;
        let waited = (now() - begun).min(4 * self.nanos_max);
        self.average = self.average - (self.average >> WEIGHT) + (waited >> WEIGHT);
        Ok(())
    }
}
