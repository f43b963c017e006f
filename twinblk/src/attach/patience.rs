//! How long the kernel's driver waits for an answer before it sends again what it has sent.
//!
//! The daemon does what it has taken, although the connection ends meanwhile, and what is sent again comes behind that. So what takes
//! a disk longer than the kernel waits would be sent again for ever: zeroes for a large range, say, on a disk that has
//! to write them. Each time the kernel is told to wait for twice as long, so that the daemon catches up with what it was sent.

use super::kernel_device::TIMEOUT;
use std::time::{Duration, Instant};

/// No longer than this, for it is also the pause that the daemon's restart means for what is under way.
const TIMEOUT_MAX: Duration = Duration::from_secs(640);
/// After so many times as long without a loss it waits no longer than at first.
const CALM_TIMES: u32 = 4;

/// What the kernel is told.
#[derive(Debug)]
pub(super) struct Patience {
    timeout: Duration,
    since: Instant,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Patience {
        Patience {
            timeout: TIMEOUT,
            since: now,
        }
    }

    /// It has given up a connection to a daemon that is there; how long it is to wait on the next one.
    pub(super) fn lost(&mut self, now: Instant) -> Duration {
        self.timeout = (self.timeout * 2).min(TIMEOUT_MAX);
        self.since = now;
        self.timeout
    }

    /// How long it is to wait from now on, if that is another time than before.
    pub(super) fn calmed(&mut self, now: Instant) -> Option<Duration> {
        let calm = now.duration_since(self.since) >= CALM_TIMES * self.timeout;
        (calm && self.timeout > TIMEOUT).then(|| {
            self.timeout = TIMEOUT;
            TIMEOUT
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CALM_TIMES, Patience, TIMEOUT, TIMEOUT_MAX};
    use std::time::{Duration, Instant};

    /// A disk takes so long for a request; each time that it is sent it comes behind what was sent before.
    fn is_answered(takes: Duration) -> bool {
        let begun = Instant::now();
        let (mut now, mut busy_until) = (begun, begun);
        let (mut patience, mut waits) = (Patience::new(begun), TIMEOUT);
        for _ in 0..20 {
            busy_until = busy_until.max(now) + takes;
            now += waits;
            if busy_until <= now {
                return true;
            }
            waits = patience.lost(now);
        }
        false
    }

    #[test]
    fn what_takes_long_is_answered_in_the_end() {
        for seconds in [1, 9, 11, 25, 100, 300] {
            assert!(is_answered(Duration::from_secs(seconds)), "{seconds} s");
        }
    }

    #[test]
    fn it_waits_no_longer_than_at_first_once_it_is_calm() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        let day = Duration::from_secs(86_400);
        assert_eq!(patience.calmed(begun + day), None, "nothing has changed");
        let waits = patience.lost(begun);
        assert_eq!(waits, 2 * TIMEOUT);
        let calm = begun + CALM_TIMES * waits;
        assert_eq!(patience.calmed(calm - Duration::from_millis(1)), None);
        assert_eq!(patience.calmed(calm), Some(TIMEOUT));
        assert_eq!(patience.calmed(calm + day), None);
        (0..100).for_each(|_| assert!(patience.lost(begun) <= TIMEOUT_MAX));
    }
}
