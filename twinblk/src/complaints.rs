//! Complaints about strangers at a port, which must not fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Strangers are complained of this often at most.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(10);

/// Complaints, few of which are worth more than many.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    /// The sentence, if it is time for one.
    pub(crate) fn worth_saying(&self, what: &str) -> Option<String> {
        self.worth_saying_at(what, Instant::now())
    }

    fn worth_saying_at(&self, what: &str, now: Instant) -> Option<String> {
        // What it guards is two numbers.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| now.duration_since(last) < COMPLAINT_PERIOD) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        let more = std::mem::take(unsaid);
        let others = if more > 0 {
            format!(" ({more} more like it before)")
        } else {
            String::new()
        };
        Some(format!("a connection was refused: {what}{others}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPLAINT_PERIOD, Complaints};
    use tokio::time::Instant;

    #[test]
    fn strangers_are_complained_of_now_and_then() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert!(complaints.worth_saying_at("x", start).is_some());
        for _ in 0..1000 {
            assert_eq!(complaints.worth_saying_at("x", start), None);
        }
        let text = complaints
            .worth_saying_at("x", start + COMPLAINT_PERIOD)
            .expect("it is time");
        assert!(text.contains("1000 more"), "{text}");
    }
}
