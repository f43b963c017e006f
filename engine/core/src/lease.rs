//! Leases (R5): for how long members have bound themselves, and what a primary does without.
//!
//! A primary serves, reads included, only while every member has answered a ping that was sent less than a lease
//! ago; bytes merely received prove nothing, since cables fail in one direction. A member that has received a
//! ping from the primary proposes itself no earlier than a grace later. Where a lease has ended what is
//! done is not told: the answers are withheld until it is certain that nobody else serves (frozen), or
//! that somebody does.

use crate::change::Change;
use crate::event::{Buffer, Effect, Nanos, RequestError, Token};
use crate::node::Node;
use crate::notice::Notice;
use crate::peer::Relation;
use crate::role::Role;
use format::types::{NodeSet, Slot};

impl Node {
    /// Until when this node may tell clients anything: when the first of the leases that it needs ends. In
    /// manual mode, and alone, it needs none.
    pub fn lease_until(&self) -> Nanos {
        let Some(lease) = self.settings.failover.lease() else {
            return Nanos::MAX;
        };
        let members = self.binding_members().without(self.slot);
        let ends = members.iter().map(|member| {
            let answered = self.peer(member).leased_from;
            answered.map_or(0, |sent_at| sent_at + lease.lease())
        });
        ends.min().unwrap_or(Nanos::MAX)
    }

    /// The lease as peers hear of it.
    pub(crate) fn lease_ms(&self) -> u32 {
        let lease = self.settings.failover.lease();
        let ms = lease.map_or(0, |lease| lease.lease().div_ceil(1_000_000));
        u32::try_from(ms).unwrap_or(u32::MAX)
    }

    /// The members of the configuration, and of the one that is proposed.
    fn binding_members(&self) -> NodeSet {
        let proposed = self.change.open().map(|(next, _)| next.in_sync);
        self.configuration
            .in_sync
            .union(proposed.unwrap_or(NodeSet::EMPTY))
    }

    /// Whether clients may be told what has been done.
    pub(crate) fn holds_lease(&self) -> bool {
        self.settings.failover.lease().is_none() || self.now < self.lease_until()
    }

    /// A peer has answered a ping that was sent in this session.
    pub(crate) fn ping_answered(&mut self, peer: Slot, sent_at: Nanos) {
        let state = self.peer_mut(peer);
        let Some(session) = state.session.as_mut() else {
            return;
        };
        session.answered_at = session.answered_at.max(sent_at);
        // One that was sent before both had agreed on the configuration says nothing about it; and one with whom
        // nothing goes on may count its grace against another lease.
        let bound = session.agreed.is_some() && session.relation != Relation::Idle;
        let since = session.up_since.filter(|_| bound);
        if since.is_some_and(|since| sent_at >= since) {
            state.leased_from = state.leased_from.max(Some(sent_at));
        }
        self.give_up_full_disk(peer);
        self.thaw();
    }

    /// Answers a ping, unless something of ours is open that would make another than the peer the primary.
    pub(crate) fn ping_received(&mut self, peer: Slot) -> bool {
        let promoting =
            matches!(&self.role, Role::Promoting(promotion) if promotion.commits.is_some());
        let dropped = match self.change {
            Change::Noting { next, .. } | Change::Proposing { next, .. } => {
                !(next.in_sync.contains(peer) && next.primary == self.configuration.primary)
            }
            _ => false,
        };
        if promoting || dropped {
            return false;
        }
        if self.configuration.primary == Some(peer) {
            self.leases.quiet_since = self.now;
        }
        true
    }

    /// When this member may propose itself. Who is later in the set gives those before it a start.
    pub(crate) fn grace_until(&self) -> Nanos {
        let grace = self
            .settings
            .failover
            .lease()
            .map_or(0, |lease| lease.grace());
        let before = self
            .configuration
            .in_sync
            .iter()
            .take_while(|slot| *slot != self.slot);
        let before = before
            .filter(|slot| Some(*slot) != self.configuration.primary)
            .count() as u64;
        let start = before * self.settings.ping_interval;
        self.leases.quiet_since + grace + start
    }

    /// Tells a client; what was done without a lease is told once there is one again.
    pub(crate) fn complete(&mut self, token: Token, result: Result<Option<Buffer>, RequestError>) {
        match result {
            Ok(buffer) if !self.holds_lease() => self.leases.withheld.push_back((token, buffer)),
            result => {
                // What was done before is told before.
                self.thaw();
                self.out.push(Effect::Complete { token, result });
            }
        }
    }

    /// Tells clients what was withheld, if there is a lease again.
    pub(crate) fn thaw(&mut self) {
        if self.leases.withheld.is_empty() || !self.is_primary() || !self.holds_lease() {
            return;
        }
        for (token, buffer) in std::mem::take(&mut self.leases.withheld) {
            self.out.push(Effect::Complete {
                token,
                result: Ok(buffer),
            });
        }
    }

    /// What was withheld will not be told: another may serve.
    pub(crate) fn fail_withheld(&mut self, error: RequestError) {
        for (token, buffer) in std::mem::take(&mut self.leases.withheld) {
            self.release(buffer);
            self.complete(token, Err(error));
        }
    }

    /// Nobody waits for what was withheld for a client that has gone.
    pub(crate) fn forget_withheld(&mut self, client: u32) {
        let withheld = std::mem::take(&mut self.leases.withheld);
        for (token, buffer) in withheld {
            if token.client == client {
                self.release(buffer);
            } else {
                self.leases.withheld.push_back((token, buffer));
            }
        }
    }

    /// Sees whether the node freezes or thaws.
    pub(crate) fn watch_lease(&mut self) {
        let frozen =
            matches!(self.role, Role::Primary | Role::HandingOver(_)) && !self.holds_lease();
        if !frozen {
            self.leases.frozen_since = None;
            self.leases.frozen_out = false;
            if std::mem::take(&mut self.leases.frozen_told) {
                self.notice(Notice::Thawed);
            }
            return self.thaw();
        }
        let since = *self.leases.frozen_since.get_or_insert(self.now);
        if self.now >= since + self.frozen_soon()
            && !std::mem::replace(&mut self.leases.frozen_told, true)
        {
            self.notice(Notice::Frozen);
        }
        let out = self
            .settings
            .freeze_max
            .is_some_and(|max| self.now >= since + max);
        if out && !std::mem::replace(&mut self.leases.frozen_out, true) {
            self.fail_withheld(RequestError::Io);
            self.out.push(Effect::DropClients);
        }
    }

    /// A freeze that ends within this time is not worth telling: every takeover begins with one.
    fn frozen_soon(&self) -> Nanos {
        2 * self.settings.ping_interval
    }

    /// When to look at the leases again.
    pub(crate) fn lease_deadline(&self) -> Option<Nanos> {
        if !matches!(self.role, Role::Primary | Role::HandingOver(_)) {
            return None;
        }
        let Some(since) = self.leases.frozen_since else {
            return Some(self.lease_until()).filter(|until| *until != Nanos::MAX);
        };
        let told = Some(since + self.frozen_soon()).filter(|_| !self.leases.frozen_told);
        let out = self.settings.freeze_max.map(|max| since + max);
        let out = out.filter(|_| !self.leases.frozen_out);
        told.into_iter().chain(out).min()
    }
}
