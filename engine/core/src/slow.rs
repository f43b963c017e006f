//! Members that answer, but too slowly.
//!
//! Every write waits for the slowest member. Where a budget is set, a member that has had a write or a flush for
//! longer is dropped by commit, as one that does not answer is, instead of stalling the application. It comes
//! back by resync.

use crate::event::Nanos;
use crate::node::Node;
use crate::notice::Notice;
use format::types::Slot;

impl Node {
    /// Since when the member has had the oldest of what it has not answered, in this session.
    fn waiting_since(&self, member: Slot) -> Option<Nanos> {
        let up_since = self.peer(member).up()?.up_since?;
        let awaited = self.by_sequence.iter().flatten().find(|id| {
            let legs = self.legs(**id);
            legs.is_some_and(|legs| legs.awaiting.contains(member))
        });
        let write = awaited.map(|id| self.operations.get(*id).since);
        let barrier = self.barrier.active.as_ref();
        let flush = barrier.filter(|active| active.pending.contains(member));
        let flush = flush.map(|active| active.since);
        let oldest = write.into_iter().chain(flush).min()?;
        Some(oldest.max(up_since))
    }

    /// The members that will be too slow, and when.
    fn slow_members(&self) -> impl Iterator<Item = (Slot, Nanos)> {
        let budget = self.settings.slow_peer.filter(|_| self.is_primary());
        let good = self.is_member() && self.disk_usable();
        let members = self.other_members().difference(self.doomed);
        budget.filter(|_| good).into_iter().flat_map(move |budget| {
            let members = members.iter();
            members.filter_map(move |member| Some((member, self.waiting_since(member)? + budget)))
        })
    }

    /// When to look at them.
    pub(crate) fn slow_deadline(&self) -> Option<Nanos> {
        self.slow_members().map(|(_, due)| due).min()
    }

    /// Drops the members that are too slow now.
    pub(crate) fn drop_slow_members(&mut self) {
        let now = self.now;
        let late: Vec<Slot> = self
            .slow_members()
            .filter(|(_, due)| now >= *due)
            .map(|(member, _)| member)
            .collect();
        for member in late {
            self.notice(Notice::SlowPeer { peer: member });
            self.slow = self.slow.with(member);
            self.disconnect(member, "it is too slow", true);
            self.drop_member(member);
        }
    }
}
