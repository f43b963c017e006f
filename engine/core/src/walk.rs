//! A walk over chunks that this replica drives: to bring another up to date, to make two members equal,
//! or to verify.
//!
//! A block's mark is cleared in memory when both hold the same; on disk only after a checkpoint, when
//! both have flushed (R7). Until then it comes back if the session breaks.

use crate::change::{Cause, Change, Then};
use crate::command::Answer;
use crate::event::{DiskError, Effect, Payload};
use crate::limits::{CHECKPOINT_CHUNKS, DRAIN_BLOCKS};
use crate::node::Node;
use crate::notice::Notice;
use crate::operation::IoTarget;
use crate::peer::Relation;
use crate::progress::{Checkpoint, Goal, Verifying, Walk, WalkStage};
use crate::reconcile::{Scope, Verdict};
use crate::role::Role;
use crate::status::Receipt;
use format::frame::{Fault, Frame};
use format::types::{BLOCK_BYTES, CHUNK_BYTES, Configuration, NodeSet, Slot};

impl Node {
    /// Whether this replica drives a walk with the peer.
    pub(crate) fn is_driver_of(&self, peer: Slot) -> bool {
        let session = self.peer(peer).session.as_ref();
        session.is_some_and(|session| matches!(session.relation, Relation::Driver(_)))
    }

    pub(crate) fn walk_mut(&mut self, peer: Slot) -> Option<&mut Walk> {
        self.peer_mut(peer).session.as_mut()?.walk.as_deref_mut()
    }

    /// Whether this replica brings another up to date.
    pub(crate) fn is_resyncing(&self) -> bool {
        !self.trailing_targets().union(self.joining).is_empty()
    }

    /// Targets that get every write although nothing waits for them.
    pub(crate) fn trailing_targets(&self) -> NodeSet {
        let resyncing = |peer: &&crate::peer::Peer| {
            let walk = peer.up().and_then(|session| session.walk.as_ref());
            walk.is_some_and(|walk| walk.goal == Goal::Resync)
        };
        let targets: NodeSet = self
            .peers
            .iter()
            .flatten()
            .filter(resyncing)
            .map(|peer| peer.slot)
            .collect();
        targets
            .difference(self.joining)
            .difference(self.configuration.in_sync)
    }

    /// Begins the walk that the session's verdict asks for, if this node may drive one now.
    pub(crate) fn start_walk(&mut self, peer: Slot) {
        let Some(session) = self.peer(peer).up() else {
            return;
        };
        let Relation::Driver(mut goal) = session.relation else {
            return;
        };
        if goal == (Goal::Equalise { pull: true }) && !self.superblock.suspect {
            // Another member has made us good: it is this one that follows now.
            goal = Goal::Equalise { pull: false };
        }
        if session.walk.is_some() || !self.may_drive(peer, goal) {
            return;
        }
        let full_because = match session.verdict() {
            Some(Verdict::Resync {
                scope: Scope::Full(reason),
                ..
            }) => Some(reason),
            _ => None,
        };
        let blocks = self.marks_of(peer).count();
        let walk = Box::new(Walk::new(goal, blocks, self.now));
        if let Some(session) = self.peer_mut(peer).session.as_mut() {
            session.walk = Some(walk);
            session.relation = Relation::Driver(goal);
        }
        let bytes = blocks * BLOCK_BYTES;
        self.notice(Notice::ResyncStarted {
            peer,
            bytes,
            full_because,
        });
    }

    fn may_drive(&self, peer: Slot, goal: Goal) -> bool {
        if self.superblock.suspect && self.heard_suspect(peer) {
            // A member that is not suspect may come yet; only where all are, any will do.
            return self
                .other_members()
                .iter()
                .all(|member| self.heard_suspect(member));
        }
        if goal == (Goal::Equalise { pull: true }) && self.is_pulling() {
            // Two members may differ: one makes us good, and then we make the other equal.
            return false;
        }
        match (&self.role, goal) {
            (Role::Primary, _) => true,
            (Role::Waiting, Goal::Equalise { .. }) => true,
            (Role::Secondary, _) => {
                let others = self.other_members();
                self.configuration.primary.is_none() && self.up_among(others) == others
            }
            _ => false,
        }
    }

    fn is_pulling(&self) -> bool {
        let pulls = Goal::Equalise { pull: true };
        let sessions = self.peers.iter().flatten().filter_map(|peer| peer.up());
        let mut walks = sessions.filter_map(|session| session.walk.as_ref());
        walks.any(|walk| walk.goal == pulls)
    }

    /// Whether the peer is connected and has said that it is suspect.
    pub(crate) fn heard_suspect(&self, peer: Slot) -> bool {
        let session = self.peer(peer).up();
        let heard = session.and_then(|session| session.heard.as_ref());
        heard.is_some_and(|heard| heard.suspect)
    }

    /// Takes a walk on: more chunks, a checkpoint, the end.
    pub(crate) fn walk_advance(&mut self, peer: Slot) {
        self.start_walk(peer);
        if self
            .peer(peer)
            .up()
            .is_none_or(|session| session.walk.is_none())
        {
            return;
        }
        self.walk_more_chunks(peer);
        self.walk_checkpoint(peer);
        self.walk_towards_end(peer);
    }

    fn walk_more_chunks(&mut self, peer: Slot) {
        let (now, p99_max) = (self.now, self.settings.application_p99_max);
        let leave = self.leave;
        let Some(walk) = self.walk_mut(peer) else {
            return;
        };
        if !leave.allows(walk.goal) {
            return;
        }
        let chunks_max = walk.pace.chunks(now, p99_max);
        loop {
            let Some(walk) = self
                .peer(peer)
                .up()
                .and_then(|session| session.walk.as_ref())
            else {
                return;
            };
            if walk.chunks.len() >= chunks_max || walk.failed {
                return;
            }
            let cursor = walk.cursor;
            let next = match walk.goal {
                Goal::Verify { .. } => {
                    Some(cursor).filter(|chunk| self.whole().chunks().contains(chunk))
                }
                _ => self.marks_of(peer).next_chunk(cursor),
            };
            let under_way = next.is_some_and(|chunk| walk.chunks.iter().any(|(c, _)| *c == chunk));
            let Some(chunk) = next else {
                let again = cursor > 0 && !matches!(walk.goal, Goal::Verify { .. });
                if !again || self.marks_of(peer).is_empty() || !walk.chunks.is_empty() {
                    return;
                }
                self.set_cursor(peer, 0);
                continue;
            };
            self.set_cursor(peer, chunk + 1);
            if !under_way {
                self.spawn_chunk(peer, chunk, None);
            }
        }
    }

    fn set_cursor(&mut self, peer: Slot, cursor: u32) {
        if let Some(walk) = self.walk_mut(peer) {
            walk.cursor = cursor;
        }
    }

    /// Begins a checkpoint when enough has come, or when nothing else is left.
    fn walk_checkpoint(&mut self, peer: Slot) {
        let unsettled = self.marks_of(peer).unsettled();
        let rest = self.marks_of(peer).is_empty();
        let number = self.checkpoints + 1;
        let Some(walk) = self.walk_mut(peer) else {
            return;
        };
        let done = walk.chunks.is_empty() && (rest || matches!(walk.goal, Goal::Verify { .. }));
        let due = unsettled >= CHECKPOINT_CHUNKS || (done && unsettled > 0);
        if walk.checkpoint.is_some() || !due {
            return;
        }
        // Never used twice, so that a late flush of a broken walk's checkpoint settles nothing.
        walk.checkpoint = Some(Checkpoint {
            number,
            local: true,
            remote: true,
        });
        self.checkpoints = number;
        self.marks_mut(peer).begin_checkpoint();
        self.out.push(Effect::FlushLocal {
            io: IoTarget::Checkpoint { peer, number }.id(),
        });
        self.send_walk(peer, Frame::Checkpoint { number }, None);
    }

    pub(crate) fn checkpoint_local_done(
        &mut self,
        peer: Slot,
        number: u64,
        result: Result<(), DiskError>,
    ) {
        if result.is_err() {
            self.fail_disk();
            return self.disconnect(peer, "our disk has failed", true);
        }
        let Some(walk) = self.walk_mut(peer) else {
            return;
        };
        // A walk that has begun since does not know the checkpoint.
        if let Some(checkpoint) = walk.checkpoint.as_mut() {
            checkpoint.local &= u64::from(IoTarget::checkpoint_number(checkpoint.number)) != number;
        }
        self.checkpoint_settle(peer);
    }

    pub(crate) fn checkpoint_remote_done(&mut self, peer: Slot, number: u64, fault: Option<Fault>) {
        if fault.is_some() {
            return self.disconnect(peer, "its disk failed", true);
        }
        let Some(walk) = self.walk_mut(peer) else {
            return;
        };
        if let Some(checkpoint) = walk.checkpoint.as_mut() {
            checkpoint.remote &= checkpoint.number != number;
        }
        self.checkpoint_settle(peer);
    }

    fn checkpoint_settle(&mut self, peer: Slot) {
        let Some(walk) = self.walk_mut(peer) else {
            return;
        };
        let settled = walk
            .checkpoint
            .take_if(|checkpoint| !checkpoint.local && !checkpoint.remote);
        let Some(Checkpoint { number, .. }) = settled else {
            return;
        };
        self.marks_mut(peer).settle();
        self.persistence.pages_wanted = true;
        self.send_walk(peer, Frame::Settled { number }, None);
    }

    fn walk_towards_end(&mut self, peer: Slot) {
        let marks = self.marks_of(peer);
        let (left, unsettled) = (marks.count(), marks.unsettled());
        let whole = self.whole().chunks();
        let trails = self.is_trailing(peer);
        let Some(walk) = self.walk_mut(peer) else {
            return;
        };
        let idle = walk.chunks.is_empty() && walk.checkpoint.is_none() && unsettled == 0;
        if walk.failed && walk.chunks.is_empty() {
            return self.disconnect(peer, "blocks could not be read", true);
        }
        match (walk.goal, walk.stage) {
            (Goal::Verify { .. }, _) if idle && !whole.contains(&walk.cursor) => {
                self.verify_ended(peer);
            }
            (Goal::Equalise { .. }, _) if idle && left == 0 => self.equalised(peer),
            (Goal::Resync, WalkStage::Copying) if left <= DRAIN_BLOCKS => {
                walk.stage = WalkStage::Draining;
                self.joining = self.joining.with(peer);
                self.again = true;
            }
            (Goal::Resync, WalkStage::Draining) if idle && left == 0 && !trails => {
                self.ask_for_promise(peer);
            }
            _ => {}
        }
    }

    fn is_trailing(&self, peer: Slot) -> bool {
        self.by_sequence.iter().flatten().any(|id| {
            self.legs(*id)
                .is_some_and(|legs| legs.trailing.contains(peer))
        })
    }

    fn verify_ended(&mut self, peer: Slot) {
        let differing = self.walk_mut(peer).map_or(0, |walk| walk.differing);
        self.send_walk(peer, Frame::WalkEnd, None);
        self.end_walk(peer);
        self.notice(Notice::VerifyDone { peer, differing });
        let blocks = self.superblock.size_bytes / BLOCK_BYTES;
        self.verified(peer, blocks, differing);
    }

    fn verified(&mut self, peer: Slot, blocks: u64, differing: u64) {
        let Some(verifying) = self.verifying.as_mut() else {
            return;
        };
        verifying.peers = verifying.peers.without(peer);
        verifying.blocks += blocks;
        verifying.differing += differing;
        if verifying.peers.is_empty() {
            let Verifying {
                answer,
                blocks,
                differing,
                ..
            } = *verifying;
            self.verifying = None;
            self.answer(answer, Ok(Answer::Verified { blocks, differing }));
        }
    }

    /// The walk is over; its receipt is kept.
    fn end_walk(&mut self, peer: Slot) -> Option<Receipt> {
        let now = self.now;
        let session = self.peer_mut(peer).session.as_mut()?;
        let walk = session.walk.take()?;
        session.relation = Relation::Mirror;
        if let Some(heard) = session.heard.as_mut() {
            // What it may have lost it has been given.
            heard.suspect = false;
        }
        let mut receipt = walk.receipt;
        receipt.nanos = now.saturating_sub(walk.started_at);
        receipt.application_p99_nanos = walk.pace.latencies.p99();
        Some(receipt)
    }

    fn report(&mut self, peer: Slot, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        self.last_receipt = Some(receipt);
        self.notice(Notice::ResyncDone { peer, receipt });
    }

    /// Two members are equal: what was suspected of either is over.
    fn equalised(&mut self, peer: Slot) {
        self.send_walk(peer, Frame::WalkEnd, None);
        let receipt = self.end_walk(peer);
        self.report(peer, receipt);
        self.clear_suspicion();
        if matches!(self.role, Role::Waiting) && self.is_member() {
            self.resume();
        }
        self.renew_sessions();
        self.unblock();
    }

    pub(crate) fn clear_suspicion(&mut self) {
        let superblock = &mut self.superblock;
        let suspect = std::mem::take(&mut superblock.suspect);
        let crashed = std::mem::take(&mut superblock.crashed_primary);
        if suspect || crashed {
            self.persist(Then::Nothing);
        }
        if suspect {
            self.notice(Notice::Suspect(false));
            // Others have kept away from us, or are about to.
            self.renew_sessions();
            self.restart_handshakes();
        }
    }

    fn ask_for_promise(&mut self, peer: Slot) {
        let idle = matches!(self.change, Change::None) && self.doomed.is_empty();
        if !idle || !matches!(self.role, Role::Primary | Role::Secondary) {
            return;
        }
        if !self.arbiter_answers() {
            return self.consult();
        }
        let current = self.configuration;
        let in_sync = current.in_sync.with(peer);
        let next = Configuration {
            epoch: current.epoch + 1,
            in_sync,
            ..current
        };
        if let Some(walk) = self.walk_mut(peer) {
            walk.stage = WalkStage::Admitting;
        }
        self.change = Change::Admitting { peer, next };
        self.send_walk(peer, Frame::AdmitPrepare(next), None);
    }

    pub(crate) fn admission_promised(&mut self, peer: Slot, epoch: u64) {
        match self.change {
            Change::Admitting { peer: asked, next }
                if asked == peer && next.epoch == epoch && self.marks_of(peer).is_empty() =>
            {
                self.commit(next, Cause::Admit(peer));
            }
            // The promise of an admission that something else has overtaken: it is asked for again.
            _ => self.retry_admission(peer),
        }
    }

    fn retry_admission(&mut self, peer: Slot) {
        self.cancel_admission(peer);
        if let Some(walk) = self.walk_mut(peer)
            && walk.stage == WalkStage::Admitting
        {
            walk.stage = WalkStage::Draining;
        }
    }

    /// Whether any replica's admission is being committed.
    pub(crate) fn is_admitting_any(&self) -> bool {
        self.others.iter().any(|peer| self.is_admitting(peer))
    }

    /// Whether the replica's admission is being committed: it is a member as good as ever, link or not.
    pub(crate) fn is_admitting(&self, peer: Slot) -> bool {
        let admits = Cause::Admit(peer);
        self.change.open().is_some_and(|(_, cause)| cause == admits)
    }

    /// An admission that has not been committed is off.
    pub(crate) fn cancel_admission(&mut self, peer: Slot) {
        if matches!(self.change, Change::Admitting { peer: asked, .. } if asked == peer) {
            self.change = Change::None;
        }
    }

    pub(crate) fn admitted(&mut self, peer: Slot) {
        let receipt = self.end_walk(peer);
        self.report(peer, receipt);
        let all = self.replicas();
        if self.superblock.forced && self.configuration.in_sync == all {
            self.superblock.forced = false;
            self.persist(Then::Nothing);
        }
    }

    pub(crate) fn start_verify(&mut self, id: u64, repair: bool) {
        let members = self.up_among(self.other_members());
        let free = members.iter().all(|peer| {
            self.peer(peer)
                .up()
                .is_some_and(|session| session.relation == Relation::Mirror)
        });
        if !matches!(self.role, Role::Primary) {
            return self.refuse_command(id, "only the primary verifies: type it there");
        }
        if members.is_empty() || !free || self.verifying.is_some() {
            return self.refuse_command(id, "no other member is connected, equal and at rest");
        }
        let (goal, now) = (Goal::Verify { repair }, self.now);
        for peer in members.iter() {
            if let Some(session) = self.peer_mut(peer).session.as_mut() {
                session.relation = Relation::Driver(goal);
                session.walk = Some(Box::new(Walk::new(goal, 0, now)));
            }
        }
        self.verifying = Some(Verifying {
            answer: id,
            peers: members,
            blocks: 0,
            differing: 0,
        });
    }

    /// The session with a walk has broken.
    pub(crate) fn walk_broken(&mut self, peer: Slot, walk: &Walk) {
        let waits = self
            .verifying
            .as_ref()
            .is_some_and(|all| all.peers.contains(peer));
        if waits
            && matches!(walk.goal, Goal::Verify { .. })
            && let Some(verifying) = self.verifying.take()
        {
            let name = self.name_of(peer);
            let text = format!("the link to {name} broke during the verify");
            self.refuse_command(verifying.answer, &text);
        }
    }

    /// A client's request that arrived then has ended: walks go by what clients feel.
    pub(crate) fn request_ended(&mut self, arrived: crate::time::Nanos) {
        let took = self.now.saturating_sub(arrived);
        let sessions = self
            .peers
            .iter_mut()
            .flatten()
            .filter_map(|peer| peer.session.as_mut());
        for walk in sessions.filter_map(|session| session.walk.as_mut()) {
            walk.pace.request_took(took);
        }
    }

    /// Sends a frame of a walk, and counts its bytes if this replica drives.
    pub(crate) fn send_walk(&mut self, peer: Slot, frame: Frame, payload: Option<Payload>) {
        let bytes = frame.wire_bytes() + payload.map_or(0, |payload| u64::from(payload.length));
        if let Some(walk) = self.walk_mut(peer) {
            walk.receipt.bytes_on_wire += bytes;
        }
        self.send(peer, frame, payload);
    }

    /// Progress of a walk in bytes: (total, done).
    pub(crate) fn walk_progress(&self, peer: Slot, walk: &Walk) -> (u64, u64) {
        if let Goal::Verify { .. } = walk.goal {
            let total = self.superblock.size_bytes;
            return (total, (u64::from(walk.cursor) * CHUNK_BYTES).min(total));
        }
        let total = walk.blocks_at_start * BLOCK_BYTES;
        (
            total,
            total.saturating_sub(self.marks_of(peer).count() * BLOCK_BYTES),
        )
    }
}
