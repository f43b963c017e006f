//! The connections that the kernel has been given.
//!
//! What has had no answer when one ends the kernel sends again itself, on the next. There is no order among what is under way:
//! whoever depends on one waits for the first to be answered.
//!
//! This process keeps their descriptors, so that it sees them end, and can end them: a kernel that is in the middle of
//! sending to a daemon that takes nothing would end a device only after that.

use super::kernel_device::{KernelDevice, NotGiven, TIMEOUT};
use super::netlink::Notices;
use super::outstanding::Operation;
use super::patience::Patience;
use super::reach::Reach;
use crate::daemon::blocking;
use crate::failure::{Context, Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;
use rustix::net::sockopt::{Timeout, socket_timeout};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often the connections are looked at although nothing was told of them.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
/// How long the kernel may take to see that a connection has ended, before which it takes no other for it.
const TAKE_TIME: Duration = Duration::from_secs(2);
/// How often the daemon is asked for another.
const RETRY_PERIOD: Duration = Duration::from_millis(50);
/// How often it is asked meanwhile.
const TAKE_PERIOD: Duration = Duration::from_millis(10);

/// A device's connections. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Given {
    device: KernelDevice,
    sockets: Vec<OwnedFd>,
    notices: Notices,
    patience: Patience,
    // The kernel may have others, of a process before this one.
    others: bool,
}

impl Given {
    /// Those that a device was made with.
    pub(super) fn first(device: KernelDevice, sockets: Vec<OwnedFd>) -> Result<Given, Failure> {
        Given::new(device, sockets, false)
    }

    /// Those of a device that was left by a process that was killed: nothing is known of them, nor how long the kernel was told
    /// to wait.
    pub(super) fn unknown(device: KernelDevice) -> Result<Given, Failure> {
        let doing = || format!("cannot take {} over", device.path.display());
        device.wait_for_answers(TIMEOUT).context(doing)?;
        Given::new(device, Vec::new(), true)
    }

    fn new(device: KernelDevice, sockets: Vec<OwnedFd>, others: bool) -> Result<Given, Failure> {
        let doing = || "cannot listen to what the kernel tells of nbd devices".to_owned();
        let notices = device.listen().context(doing)?;
        Ok(Given {
            device,
            sockets,
            notices,
            patience: Patience::new(Instant::now()),
            others,
        })
    }

    /// How many the device has.
    pub(super) fn number(&self) -> usize {
        self.device.connections().max(1)
    }

    /// Gives the kernel others for those that end while the daemon is there, until the device is gone.
    pub(super) async fn keep_up(&mut self, reach: &Reach) {
        loop {
            self.lost().await;
            if self.is_gone().await {
                return;
            }
            tracing::info!("{}: the kernel has lost a connection", reach.name);
            let timeout = self.patience.lost(Instant::now());
            self.wait_for_answers(timeout).await;
            while let Err(reason) = self.replace(reach).await {
                match reason {
                    NotGiven::Gone => return,
                    NotGiven::NotNow(reason) => tracing::info!("{}: {reason}", reach.name),
                }
                sleep(RETRY_PERIOD).await;
            }
        }
    }

    /// Waits until one has ended, or all with the device.
    async fn lost(&mut self) {
        loop {
            let told = tokio::select! {
                notice = self.notices.next() => {
                    notice.is_none_or(|notice| self.device.is_meant(&notice))
                }
                () = sleep(LOOK_PERIOD) => false,
            };
            if let Some(timeout) = self.patience.calmed(Instant::now()) {
                self.wait_for_answers(timeout).await;
            }
            if self.sockets.iter().any(has_ended) || (told && self.others) {
                return;
            }
        }
    }

    /// Replaces those that have ended. This process's own connection tells that nobody else has served the volume before
    /// the new ones were opened: it has lived on, and the node drops all its clients when it is no longer the primary.
    /// What it is asked for is not answered before the volume gets on, if it is frozen.
    async fn replace(&mut self, reach: &Reach) -> Result<(), NotGiven> {
        self.sockets.retain(|socket| !has_ended(socket));
        let missing = self.number().saturating_sub(self.sockets.len());
        let sockets = reach.sockets(missing).await;
        let sockets = sockets.map_err(|error| NotGiven::NotNow(error.to_string()))?;
        reach.answers(Operation::Flush).await;
        self.give(sockets).await
    }

    /// Tells the kernel how long to wait. Where it takes no such word it takes no connection either, and says why.
    async fn wait_for_answers(&self, timeout: Duration) {
        let device = self.device.clone();
        let asking = blocking(move || Ok(device.wait_for_answers(timeout)));
        if let Ok(Err(error)) = asking.await {
            tracing::debug!("the kernel waits no other time for answers: {error}");
        }
    }

    /// Whether somebody has ended the device.
    pub(super) async fn is_gone(&self) -> bool {
        let device = self.device.clone();
        blocking(move || Ok(device.lasts())).await == Ok(false)
    }

    /// Ends them all.
    pub(super) fn end(&self) {
        for socket in &self.sockets {
            // Those that have ended need it no more.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }

    /// Ends them, and gives the kernel others. Nobody else may have served the volume before those were opened.
    pub(super) async fn renew(&mut self, sockets: Vec<OwnedFd>) -> Result<(), NotGiven> {
        self.end();
        self.sockets.clear();
        self.patience = Patience::new(Instant::now());
        self.wait_for_answers(TIMEOUT).await;
        self.give(sockets).await
    }

    async fn give(&mut self, sockets: Vec<OwnedFd>) -> Result<(), NotGiven> {
        // Whoever stops waiting for this does not know which of them the kernel has taken.
        let others = std::mem::replace(&mut self.others, true);
        let mut waiting = sockets;
        let begun = Instant::now();
        loop {
            let device = self.device.clone();
            let asking = blocking(move || {
                let answer = device.give(&waiting);
                Ok((waiting, answer))
            });
            let asked = asking.await;
            let (asked, answer) = asked.map_err(|failure| NotGiven::NotNow(failure.message))?;
            let (taken, left): (Vec<_>, Vec<_>) = asked.into_iter().partition(is_taken);
            self.sockets.extend(taken);
            waiting = left;
            answer?;
            if waiting.is_empty() {
                // If these are all that it can have.
                self.others = others && self.sockets.len() < self.number();
                return Ok(());
            }
            if begun.elapsed() > TAKE_TIME {
                // Where the kernel has others, those still live.
                let reason = "the kernel does not see that connections have ended";
                return if others {
                    Ok(())
                } else {
                    Err(NotGiven::NotNow(reason.to_owned()))
                };
            }
            sleep(TAKE_PERIOD).await;
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the kernel has taken a connection for its own. Of those that it has no use for it says nothing, but what it
/// takes gets a time limit for sending, which nobody else sets here.
fn is_taken(socket: &OwnedFd) -> bool {
    matches!(socket_timeout(socket, Timeout::Send), Ok(Some(_)))
}

fn has_ended(socket: &OwnedFd) -> bool {
    // Its end is told although nothing is asked for.
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().intersects(ended)
}

#[cfg(test)]
mod tests {
    use super::{has_ended, is_taken};
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn a_connection_that_has_ended_is_told_from_one_with_data() {
        use std::io::Write;
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let same = ours.try_clone().expect("another descriptor");
        let ours = OwnedFd::from(ours);
        assert!(!has_ended(&ours));
        theirs.write_all(b"data").expect("it is sent");
        assert!(!has_ended(&ours));
        same.shutdown(Shutdown::Both).expect("it lives");
        assert!(has_ended(&ours));
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        drop(theirs);
        assert!(has_ended(&ours.into()));
    }

    #[test]
    fn a_connection_that_the_kernel_has_taken_has_a_time_limit() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let ours = OwnedFd::from(ours);
        assert!(!is_taken(&ours));
        let day = Duration::from_secs(86_400);
        set_socket_timeout(&ours, Timeout::Send, Some(day)).expect("it is set");
        assert!(is_taken(&ours));
    }
}
