//! Who answered when: the answers of two primaries must never overlap in time.

use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// An instant, in nanoseconds since the machine started: CLOCK_BOOTTIME, as the leases are counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Now.
    pub fn now() -> Stamp {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).expect("a clock runs from zero on");
        let rest = u64::try_from(time.tv_nsec).expect("a clock runs from zero on");
        Stamp(seconds * 1_000_000_000 + rest)
    }

    /// How much later this is; nothing if it is earlier.
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A request that was answered without an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The node that answered.
    pub node: usize,
    /// When the request was sent.
    pub issued: Stamp,
    /// Then the answer had not arrived yet: the client found nothing in the socket.
    pub after: Stamp,
    /// Then it had arrived.
    pub by: Stamp,
    /// Whether it was to a write, a discard or a request to zero.
    pub change: bool,
}

/// One node's answers end and another's begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handover {
    /// The node that answered before.
    pub from: usize,
    /// The node that answered afterwards.
    pub to: usize,
    /// The end: no answer of the former arrived surely later.
    pub last: Stamp,
    /// The beginning: an answer of the latter had arrived.
    pub first: Stamp,
}

/// Two nodes that both answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overlap {
    /// An answer of a node that another had followed.
    pub late: Answer,
    /// The answer that was there before it.
    pub early: Answer,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overlap { late, early } = self;
        write!(
            f,
            "node {} answered, {:?} after the request, surely {:?} after node {} had",
            late.node,
            late.by.since(late.issued),
            late.after.since(early.by),
            early.node
        )
    }
}

/// The changes of primary that the answers tell of, where each node serves in one stretch. When an answer arrived is
/// known within bounds only; what is called an overlap is one, however late the client came to read.
pub fn handovers(answers: &[Answer]) -> Result<Vec<Handover>, Overlap> {
    let mut reigns: Vec<(Answer, Answer)> = Vec::new();
    for answer in answers {
        match reigns
            .iter_mut()
            .find(|(first, _)| first.node == answer.node)
        {
            Some((first, last)) => {
                if answer.by < first.by {
                    *first = *answer;
                }
                if answer.after > last.after {
                    *last = *answer;
                }
            }
            None => reigns.push((*answer, *answer)),
        }
    }
    reigns.sort_by_key(|(first, _)| first.by);
    let mut found = Vec::new();
    for pair in reigns.windows(2) {
        let ((_, late), (early, _)) = (pair[0], pair[1]);
        if late.after >= early.by {
            return Err(Overlap { late, early });
        }
        found.push(Handover {
            from: late.node,
            to: early.node,
            last: late.after,
            first: early.by,
        });
    }
    Ok(found)
}

/// The answers with the number of the reign that each belongs to instead of its node, for nodes that serve more than
/// once: the latest reign of its node that had begun. Beginnings are known to within `slack`; a node's reigns are
/// further apart, since somebody else's is between them.
///
/// # Panics
/// If a node answered that never reigned.
pub fn by_reign(answers: &[Answer], reigns: &[(usize, Stamp)], slack: Duration) -> Vec<Answer> {
    let slack = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX);
    let numbered = answers.iter().map(|answer| {
        let began = |(node, begin): &(usize, Stamp)| {
            *node == answer.node && begin.0.saturating_sub(slack) <= answer.by.0
        };
        let reign = reigns.iter().rposition(began);
        Answer {
            node: reign.unwrap_or_else(|| panic!("never a primary: {answer:?}")),
            ..*answer
        }
    });
    numbered.collect()
}

/// The middle one, and the greatest, of some times.
pub fn median_and_max(times: &[Duration]) -> (Duration, Duration) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    (at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}
