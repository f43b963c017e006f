//! The service manager is told when all is up, and from then on, where it wants to know, that the control plane goes on.

use crate::logging::tell_service_manager;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Signs of life in the time after which the service manager takes this process to hang: two may be late.
const PINGS_A_PERIOD: u32 = 3;

/// Says that all is up. To be called on the control plane's own runtime: the signs of life are a task beside the others,
/// so that they cease when one of those holds its thread.
pub(crate) fn ready() {
    tell_service_manager(&[NotifyState::Ready]);
    if let Some(every) = sd_notify::watchdog_enabled().and_then(pace) {
        tokio::spawn(ping(every, || {
            tell_service_manager(&[NotifyState::Watchdog]);
        }));
    }
}

/// How often a sign of life is due. A watchdog of no time at all is none.
fn pace(period: Duration) -> Option<Duration> {
    let every = period / PINGS_A_PERIOD;
    (!every.is_zero()).then_some(every)
}

async fn ping(every: Duration, mut tell: impl FnMut()) {
    let mut due = interval(every);
    // Signs that are late are not made up for.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        tell();
    }
}

#[cfg(test)]
mod tests {
    use super::{pace, ping};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;
    use tokio::time::sleep;

    const EVERY: Duration = Duration::from_millis(5);

    #[test]
    fn signs_of_life_cease_while_the_control_thread_hangs() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let pings = Arc::new(AtomicU32::new(0));
        let counted = pings.clone();
        runtime.block_on(async move {
            tokio::spawn(ping(EVERY, move || {
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            sleep(20 * EVERY).await;
            let before = pings.load(Ordering::Relaxed);
            assert!(before > 1, "{before} signs of life");
            // What hangs does not yield to the runtime.
            std::thread::sleep(20 * EVERY);
            assert_eq!(pings.load(Ordering::Relaxed), before);
            sleep(20 * EVERY).await;
            let after = pings.load(Ordering::Relaxed);
            assert!(after > before, "they go on with the thread");
            assert!(
                after < before + 25,
                "{after}: what was missed is made up for"
            );
        });
    }

    #[test]
    fn signs_are_sent_more_often_than_they_are_asked_for() {
        assert_eq!(pace(Duration::from_secs(60)), Some(Duration::from_secs(20)));
        assert_eq!(pace(Duration::ZERO), None);
    }
}
