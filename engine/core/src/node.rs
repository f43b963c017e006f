//! One replica of one volume: its state and the dispatch of events. What happens on an event is in
//! the modules beside this one, each of which adds the methods of its subject.

use crate::activity_log::ActivityLog;
use crate::barrier::Barrier;
use crate::change::{Change, Persistence};
use crate::dirty::Dirty;
use crate::event::{Buffer, DiskError, Effect, Effects, Event, Nanos, Request, SessionId};
use crate::inflight::Inflight;
use crate::limits::CHECK_INTERVAL_NANOS;
use crate::notice::Notice;
use crate::operation::{IoTarget, OperationId, Operations, Work};
use crate::peer::Peer;
use crate::progress::Leave;
use crate::quorum::{Arbitration, Leases};
use crate::random::Random;
use crate::role::{Leaving, Role, Swapping};
use crate::sequence::Sequences;
use crate::settings::Settings;
use crate::status::Receipt;
use format::bitmap_page::BitmapPage;
use format::frame::{Frame, Identity};
use format::superblock::Superblock;
use format::types::{BootId, Configuration, DiskState, NodeSet, REPLICAS_MAX, Slot, Span};
use std::collections::VecDeque;

/// What the shell has found on disk.
#[derive(Debug)]
pub struct Opening {
    /// The newer valid copy.
    pub superblock: Superblock,
    /// The valid bitmap pages.
    pub pages: Vec<BitmapPage>,
    /// Pages that were damaged: all their blocks count as marked.
    pub damaged_pages: Vec<(Slot, u32)>,
    /// The extents in the activity log; `None` if it was damaged: the whole volume counts as hot.
    pub hot_extents: Option<Vec<u32>>,
    /// The machine's boot.
    pub boot: BootId,
    /// 128 bits from the system's random source.
    pub seed: u128,
    /// The clock.
    pub now: Nanos,
}

/// One replica of one volume.
#[derive(Debug)]
pub struct Node {
    pub(crate) settings: Settings,
    pub(crate) now: Nanos,
    /// The effects of the step under way.
    pub(crate) out: Effects,
    pub(crate) random: Random,
    /// Drawn at this start of the process.
    pub(crate) incarnation: u64,
    pub(crate) slot: Slot,
    /// All other replicas of the volume.
    pub(crate) others: NodeSet,
    /// What the superblock says, or will say once the write under way has ended.
    pub(crate) superblock: Superblock,
    /// The configuration that binds: committed, and durable here.
    pub(crate) configuration: Configuration,
    pub(crate) persistence: Persistence,
    pub(crate) role: Role,
    pub(crate) change: Change,
    /// Members to be dropped once the change under way has ended.
    pub(crate) doomed: NodeSet,
    /// Those of them that are to go although they answer.
    pub(crate) slow: NodeSet,
    /// Members of whom this reign has not heard yet in what they may differ.
    pub(crate) unmet: NodeSet,
    /// Resync targets whose leg writes wait for already.
    pub(crate) joining: NodeSet,
    pub(crate) operations: Operations,
    pub(crate) inflight: Inflight,
    pub(crate) log: ActivityLog,
    pub(crate) log_writing: Option<Nanos>,
    /// Blocks that each other replica misses.
    pub(crate) marks: [Option<Box<Dirty>>; REPLICAS_MAX],
    pub(crate) sequences: Sequences,
    /// The running writes by sequence number, from `first_sequence` on.
    pub(crate) by_sequence: VecDeque<Option<OperationId>>,
    pub(crate) first_sequence: u64,
    pub(crate) barrier: Barrier,
    pub(crate) peers: [Option<Peer>; REPLICAS_MAX],
    /// Operations that may go on.
    pub(crate) ready: Vec<OperationId>,
    /// Those of them that are being taken on.
    pub(crate) proceeding: Vec<OperationId>,
    /// The end of the turn has left a step to be taken.
    pub(crate) again: bool,
    /// Requests that wait for a peer, for a configuration, or for their blocks to be equal.
    pub(crate) blocked: Vec<OperationId>,
    /// Requests that have arrived while the volume is being handed over.
    pub(crate) postponed: VecDeque<Request>,
    pub(crate) leave: Leave,
    /// Checkpoints begun by this process.
    pub(crate) checkpoints: u64,
    pub(crate) opened_at: Nanos,
    pub(crate) arbitration: Arbitration,
    pub(crate) leases: Leases,
    /// A replica that is to be forgotten once it has left the in-sync set.
    pub(crate) leaving: Option<Leaving>,
    /// The command that a handover to this replica answers.
    pub(crate) swapping: Option<Swapping>,
    /// Commands that a verify answers when it ends.
    pub(crate) verifying: Option<crate::progress::Verifying>,
    pub(crate) last_receipt: Option<Receipt>,
    /// When to look again for I/O that hangs, and to try failed pages again.
    pub(crate) next_check: Nanos,
    /// A page of the bitmap could not be written since the last look.
    pub(crate) pages_failing: Option<DiskError>,
}

impl Node {
    /// Takes one event and says what is to be done.
    pub fn step(&mut self, now: Nanos, event: Event, effects: &mut Effects) {
        self.now = self.now.max(now);
        std::mem::swap(&mut self.out, effects);
        self.dispatch(event);
        self.proceed_ready();
        self.operations.step_ended();
        self.check_invariants();
        std::mem::swap(&mut self.out, effects);
    }

    /// Operations whose turn has come go on, and those whose turn comes by that.
    fn proceed_ready(&mut self) {
        while !self.ready.is_empty() {
            std::mem::swap(&mut self.ready, &mut self.proceeding);
            for at in 0..self.proceeding.len() {
                self.proceed(self.proceeding[at]);
            }
            self.proceeding.clear();
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Request(request) => self.request(request),
            Event::ClientGone { client } => self.client_gone(client),
            Event::ReadDone { io, result } => self.read_done(io, result),
            Event::IoDone { io, result } => self.io_done(io, result),
            Event::Hashed { io, digests } => self.hashed(io, &digests),
            Event::PeerConnected { peer, session } => self.peer_connected(peer, session),
            Event::PeerLost { peer, session } => self.peer_lost(peer, session),
            Event::Frame {
                peer,
                session,
                frame,
                epoch,
                payload,
            } => {
                self.frame_received(peer, session, frame, epoch, payload);
            }
            Event::Command { id, command } => self.command(id, command),
            Event::ArbiterAnswered(register) => self.arbiter_answered(register),
            Event::Tick => self.tick(),
            Event::TurnEnded => self.turn_ended(),
        }
    }

    fn read_done(&mut self, io: crate::event::IoId, result: Result<Buffer, DiskError>) {
        let IoTarget::Operation { id, serial } = IoTarget::of(io) else {
            unreachable!("only operations read")
        };
        assert!(
            self.operations.owns(id, serial),
            "an operation outlives its I/O"
        );
        self.operations.get_mut(id).pending -= 1;
        match &self.operations.get(id).work {
            Work::Read(_) | Work::Write(_) => self.request_read(id, result),
            Work::Fetch { .. } => self.fetch_read(id, result),
            Work::Chunk(_) => self.chunk_read(id, result),
            Work::Compare(_) => self.compare_read(id, result),
            Work::Apply(_) => unreachable!("an applied write reads nothing"),
        }
    }

    fn io_done(&mut self, io: crate::event::IoId, result: Result<(), DiskError>) {
        match IoTarget::of(io) {
            IoTarget::Operation { id, serial } => {
                assert!(
                    self.operations.owns(id, serial),
                    "an operation outlives its I/O"
                );
                self.operations.get_mut(id).pending -= 1;
                match &self.operations.get(id).work {
                    Work::Write(_) => self.local_leg_done(id, result),
                    Work::Read(_) => self.repair_done(id, result),
                    Work::Apply(_) => self.apply_done(id, result),
                    _ => unreachable!("nothing else writes"),
                }
            }
            IoTarget::Superblock => self.superblock_written(result),
            IoTarget::Log => self.log_written(result),
            IoTarget::Page { slot, index } => self.page_written(slot, index, result),
            IoTarget::Barrier { token } => self.barrier_local_done(token, result),
            IoTarget::PeerFlush { peer } => self.peer_flush_done(peer, result),
            IoTarget::Checkpoint { peer, number } => {
                self.checkpoint_local_done(peer, number, result);
            }
            IoTarget::PeerCheckpoint { peer } => self.peer_checkpoint_done(peer, result),
            IoTarget::Promotion => self.promotion_flushed(result),
            IoTarget::Stop => self.stop_flushed(result),
        }
    }

    fn hashed(&mut self, io: crate::event::IoId, digests: &[format::frame::Digest]) {
        let IoTarget::Operation { id, serial } = IoTarget::of(io) else {
            unreachable!("only operations hash")
        };
        assert!(
            self.operations.owns(id, serial),
            "an operation outlives its hash"
        );
        self.operations.get_mut(id).pending -= 1;
        match &self.operations.get(id).work {
            Work::Chunk(_) => self.chunk_hashed(id, digests),
            Work::Compare(_) => self.compare_hashed(id, digests),
            _ => unreachable!("only comparisons hash"),
        }
    }

    /// Takes an operation on whose turn has come, or whose obstacle may have gone.
    fn proceed(&mut self, id: OperationId) {
        let Some(operation) = self.operations.find(id) else {
            return;
        };
        // It may have lost its turn since it was listed, or been listed twice.
        let request = matches!(operation.work, Work::Read(_) | Work::Write(_));
        let stale = match operation.started {
            true => !request,
            false => operation.ordered && !self.inflight.is_free(id),
        };
        if stale {
            return;
        }
        match &operation.work {
            Work::Read(_) | Work::Write(_) => self.request_proceed(id),
            Work::Apply(_) => self.apply_proceed(id),
            Work::Fetch { .. } => self.fetch_proceed(id),
            Work::Chunk(_) => self.chunk_proceed(id),
            Work::Compare(_) => self.compare_proceed(id),
        }
    }

    /// What a turn has gathered leaves. A step that leaves another step to be taken asks for it.
    fn turn_ended(&mut self) {
        loop {
            self.again = false;
            self.send_acks();
            self.write_log();
            self.write_wanted_pages();
            self.greet_drained();
            self.settle_sessions();
            self.start_failover();
            self.lifecycle_advance();
            self.leaving_advance();
            self.start_change();
            self.ask_arbiter();
            self.start_barrier();
            for slot in self.others.iter() {
                self.walk_advance(slot);
            }
            self.proceed_ready();
            if !self.again {
                break;
            }
        }
        self.watch_lease();
    }

    /// When the node next wants an [`Event::Tick`].
    pub fn deadline(&self) -> Option<Nanos> {
        let peers = self
            .peers
            .iter()
            .flatten()
            .filter_map(|peer| self.peer_deadline(peer));
        peers
            .chain(self.barrier_deadline())
            .chain(self.io_deadline())
            .chain(self.stop_deadline())
            .chain(self.swapping_deadline())
            .chain(self.lease_deadline())
            .chain(self.slow_deadline())
            .chain(self.arbitration_deadline())
            .min()
    }

    fn tick(&mut self) {
        for slot in self.others.iter() {
            self.peer_tick(slot);
        }
        self.drop_slow_members();
        if self.now >= self.next_check {
            self.next_check = self.now + CHECK_INTERVAL_NANOS;
            self.check_hung_io();
            self.pages_failing = None;
        }
    }

    /// The invariants that can be checked in constant time; the simulator checks the rest.
    fn check_invariants(&self) {
        // Before the first epoch stands a replica whose metadata was lost: it knows of no member.
        assert!(
            !self.configuration.in_sync.is_empty() || self.configuration.epoch == 0,
            "no configuration is without a member"
        );
        assert!(
            !matches!(self.role, Role::Primary) || self.configuration.primary == Some(self.slot),
            "only the configuration's primary serves"
        );
        assert!(
            self.configuration
                .in_sync
                .intersection(self.joining)
                .is_empty(),
            "a replica joins once"
        );
    }

    pub(crate) fn peer(&self, slot: Slot) -> &Peer {
        self.peers[slot.index()]
            .as_ref()
            .expect("every other replica has a peer")
    }

    pub(crate) fn peer_mut(&mut self, slot: Slot) -> &mut Peer {
        self.peers[slot.index()]
            .as_mut()
            .expect("every other replica has a peer")
    }

    pub(crate) fn marks_of(&self, slot: Slot) -> &Dirty {
        self.marks[slot.index()]
            .as_deref()
            .expect("every other replica has marks")
    }

    pub(crate) fn marks_mut(&mut self, slot: Slot) -> &mut Dirty {
        self.marks[slot.index()]
            .as_deref_mut()
            .expect("every other replica has marks")
    }

    /// Whether work goes on with the peer.
    pub(crate) fn is_up(&self, slot: Slot) -> bool {
        self.peers[slot.index()]
            .as_ref()
            .is_some_and(|peer| peer.up().is_some())
    }

    /// Whether the peer can do requests: work goes on with it, and its disk has not failed.
    pub(crate) fn is_at_work(&self, slot: Slot) -> bool {
        let peer = self.peers[slot.index()].as_ref();
        let peer = peer.filter(|peer| peer.up().is_some());
        peer.is_some_and(|peer| peer.disk_state != Some(DiskState::Failed))
    }

    /// The members of the configuration but for this replica.
    pub(crate) fn other_members(&self) -> NodeSet {
        self.configuration.in_sync.without(self.slot)
    }

    /// Whether this replica is a member of the configuration.
    pub(crate) fn is_member(&self) -> bool {
        self.configuration.in_sync.contains(self.slot)
    }

    /// Whether the local disk can be used.
    pub(crate) fn disk_usable(&self) -> bool {
        !matches!(
            self.superblock.disk_state,
            DiskState::Failed | DiskState::Diskless
        )
    }

    /// The whole volume.
    pub(crate) fn whole(&self) -> Span {
        Span::new(0, self.superblock.size_bytes)
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.out.push(Effect::Notice(notice));
    }

    pub(crate) fn release(&mut self, buffer: Option<Buffer>) {
        self.out.extend(buffer.map(Effect::Release));
    }

    /// Sends a frame in the peer's present session, if there is one.
    pub(crate) fn send(
        &mut self,
        peer: Slot,
        frame: Frame,
        payload: Option<crate::event::Payload>,
    ) {
        let Some(session) = self.session_id(peer) else {
            return;
        };
        let epoch = self.configuration.epoch;
        self.out.push(Effect::Send {
            peer,
            session,
            frame,
            epoch,
            payload,
        });
    }

    pub(crate) fn session_id(&self, peer: Slot) -> Option<SessionId> {
        self.peers[peer.index()]
            .as_ref()?
            .session
            .as_ref()
            .map(|session| session.id)
    }

    /// What this replica tells the peer of itself.
    pub(crate) fn identity_for(&self, peer: Slot) -> Identity {
        let superblock = &self.superblock;
        let marks = self.marks_of(peer);
        let Peer {
            known_incarnation,
            resumable,
            ..
        } = *self.peer(peer);
        // Between two who were not each other's primary nothing but this tells where their tails differ.
        let unstable: u64 = match resumable {
            true => 0,
            false => self
                .log
                .unstable()
                .map(|(_, mask)| u64::from(mask.count_ones()))
                .sum(),
        };
        Identity {
            volume: superblock.volume,
            size_bytes: superblock.size_bytes,
            node: superblock.replicas[self.slot.index()]
                .as_ref()
                .map(|replica| replica.node)
                .unwrap_or_default(),
            boot: superblock.boot,
            incarnation: self.incarnation,
            known_incarnation: if resumable { known_incarnation } else { 0 },
            configuration: superblock.configuration,
            data_generation: superblock.data_generation,
            history: superblock.history.clone(),
            history_complete: superblock.history_complete,
            pending_admission: superblock.pending_admission,
            proposal: superblock.proposal,
            disk_state: superblock.disk_state,
            suspect: superblock.suspect,
            crashed_primary: superblock.crashed_primary,
            discarded: superblock.discarded,
            forced: superblock.forced,
            arbitrated: superblock.arbitrated,
            lease_ms: self.lease_ms(),
            marked_blocks: marks.count() + marks.unsettled() as u64 + unstable,
            marks_valid: superblock.marks_valid.contains(peer),
        }
    }
}

#[cfg(test)]
mod tests;
