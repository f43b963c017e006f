//! How long to wait before something is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from attempt to attempt, with a part left to chance, so that two nodes that fail
/// together do not meet again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::up_to(LONGEST)
    }
}

impl Backoff {
    /// One whose pauses grow up to this.
    pub(crate) fn up_to(longest: Duration) -> Backoff {
        Backoff {
            next: FIRST,
            longest,
        }
    }

    /// What was tried went well, and has lasted so long: that much is taken off the next pause.
    pub(crate) fn lasted(&mut self, time: Duration) {
        self.next = self.next.saturating_sub(time).max(FIRST);
    }

    /// Waits.
    pub(crate) async fn rest(&mut self) {
        let pause = self.pause();
        tokio::time::sleep(pause).await;
    }

    /// The next pause: from half of the whole to the whole.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        // Without randomness the whole is still a pause.
        let chance = crate::hexadecimal::random::<1>().map_or(u8::MAX, |[byte]| byte);
        whole / 2 + whole / 2 * u32::from(chance) / u32::from(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST};
    use std::time::Duration;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut whole = FIRST;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(
                whole / 2 <= pause && pause <= whole,
                "{pause:?} of {whole:?}"
            );
            whole = (whole * 2).min(LONGEST);
        }
        assert_eq!(whole, LONGEST);
    }

    #[test]
    fn what_lasts_shortens_the_next_pause() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.pause();
        }
        backoff.lasted(LONGEST / 4);
        let pause = backoff.pause();
        assert!(
            pause <= LONGEST * 3 / 4 && pause >= LONGEST * 3 / 8,
            "{pause:?}"
        );
        backoff.lasted(LONGEST);
        assert!(backoff.pause() <= FIRST);
        // What ends at once again and again is tried less and less often.
        let mut pauses = Duration::ZERO;
        for _ in 0..20 {
            backoff.lasted(Duration::from_millis(1));
            pauses = backoff.pause();
        }
        assert!(pauses >= LONGEST / 2, "{pauses:?}");
    }
}
