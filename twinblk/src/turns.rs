//! Whose resync is next: after a node's return all its volumes want to be brought up to date, and all at once they would
//! take turns on every disk, and all be done last.
//!
//! Each node sees to the resyncs that its own replicas drive. One that has its turn keeps it until it has ended.

use crate::config::Resync;
use crate::daemon::Daemon;
use format::types::Name;
use replica::command::Command;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What replicas do not tell is seen this often: one that was closed keeps nobody waiting for longer.
const PERIOD: Duration = Duration::from_secs(5);

/// What a replica wants, and has.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    name: Name,
    resyncs: bool,
    has_turn: bool,
}

/// Has resyncs take turns until the daemon is told to stop.
pub(crate) async fn take_turns(daemon: Arc<Daemon>, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let busy = look(&daemon).await;
        tokio::select! {
            () = daemon.resyncs.notified() => {}
            () = sleep(PERIOD), if busy => {}
        }
    }
}

/// Looks at all replicas, and tells those whose turn it has come to be, or is no more. Whether any resyncs.
async fn look(daemon: &Daemon) -> bool {
    let mut asked = JoinSet::new();
    for hosted in daemon.volumes.all() {
        asked.spawn(async move {
            // One that does not answer copies nothing.
            let replica = hosted.status().await.ok()?.replica;
            let seen = Seen {
                name: hosted.record.name.clone(),
                resyncs: replica.resyncing && !replica.paused,
                has_turn: replica.has_turn,
            };
            Some((hosted, seen))
        });
    }
    let (all, seen): (Vec<_>, Vec<_>) = asked.join_all().await.into_iter().flatten().unzip();
    let next = next(&daemon.config.resync, &seen);
    for (hosted, seen) in all.iter().zip(&seen) {
        let turn = next.contains(&seen.name);
        if turn != seen.has_turn
            && let Err(failure) = hosted.command(Command::Turn(turn)).await
        {
            // It has been closed meanwhile, and wants nothing.
            tracing::debug!("volume {}: {failure}", seen.name);
        }
    }
    seen.iter().any(|seen| seen.resyncs)
}

/// Whose turn it is. Those who have it keep it while they need it.
fn next(settings: &Resync, seen: &[Seen]) -> BTreeSet<Name> {
    let rank = |name: &Name| {
        let place = settings.first.iter().position(|first| first == name);
        place.unwrap_or(settings.first.len())
    };
    let mut wanting: Vec<&Seen> = seen.iter().filter(|seen| seen.resyncs).collect();
    wanting.sort_by_key(|seen| (!seen.has_turn, rank(&seen.name), &seen.name));
    let chosen = wanting.iter().take(settings.at_once);
    chosen.map(|seen| seen.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Seen, next};
    use crate::config::Resync;
    use format::types::Name;

    fn name(name: &str) -> Name {
        Name::new(name).expect("a name")
    }

    /// Whose turn it is among a to d, who all want to be resynced but these, while those have it.
    fn turn_of(idle: &str, with_turn: &str) -> String {
        let settings = Resync {
            at_once: 2,
            first: vec![name("d"), name("not-here"), name("b")],
        };
        let seen = "abcd".chars().map(|called| Seen {
            name: name(&called.to_string()),
            resyncs: !idle.contains(called),
            has_turn: with_turn.contains(called),
        });
        let seen: Vec<Seen> = seen.collect();
        next(&settings, &seen).iter().map(Name::as_str).collect()
    }

    #[test]
    fn those_that_were_named_go_first_and_the_others_by_their_names() {
        assert_eq!(turn_of("", ""), "bd");
        assert_eq!(turn_of("d", ""), "ab");
        assert_eq!(turn_of("bd", ""), "ac");
        assert_eq!(turn_of("abcd", ""), "");
    }

    #[test]
    fn a_turn_is_kept_until_it_is_needed_no_more() {
        assert_eq!(turn_of("", "ac"), "ac");
        assert_eq!(turn_of("a", "ac"), "cd");
        assert_eq!(turn_of("ac", "ac"), "bd");
    }
}
