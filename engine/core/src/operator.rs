//! Operators' commands.

use crate::change::Then;
use crate::command::{Answer, Command, Refusal};
use crate::node::Node;
use crate::notice::Notice;
use crate::role::Role;
use format::types::{BLOCK_BYTES, DiskState, Generation, Slot, VOLUME_BYTES_MAX};

impl Node {
    pub(crate) fn command(&mut self, id: u64, command: Command) {
        if matches!(self.role, Role::Opening) && !matches!(command, Command::Stop) {
            return self.refuse_command(id, "the replica is being opened; try again");
        }
        if matches!(self.role, Role::Stopping(_) | Role::Stopped)
            && !matches!(command, Command::Stop)
        {
            return self.refuse_command(id, "the replica is stopping");
        }
        match command {
            Command::Promote { force } => self.promote(id, force),
            Command::Demote => self.demote(id),
            Command::Swap => self.swap(id),
            Command::Verify { repair } => self.start_verify(id, repair),
            Command::Resync { full, to } => self.resync(id, full, to),
            Command::Discard { slot } => self.discard(id, slot),
            Command::Grow { size_bytes } => self.grow(id, size_bytes),
            Command::AddReplica { slot, replica } => self.add_replica(id, slot, &replica),
            Command::RemoveReplica { slot } => self.remove_replica(id, slot),
            Command::Pause(paused) => {
                self.leave.paused = paused;
                self.answer(id, Ok(Answer::Done));
            }
            Command::Turn(has_turn) => {
                self.leave.has_turn = has_turn;
                self.answer(id, Ok(Answer::Done));
            }
            Command::Arbitrate(failover) => self.arbitrate(id, failover),
            Command::Stop => self.begin_stop(id),
        }
    }

    pub(crate) fn refuse_command(&mut self, id: u64, text: &str) {
        self.answer(id, Err(Refusal::NotNow(text.into())));
    }

    fn demote(&mut self, id: u64) {
        match self.role {
            Role::Primary => self.wish_handover(None, Some(id)),
            _ if self.configuration.primary == Some(self.slot) => {
                self.refuse_command(id, "the replica is not serving; try again");
            }
            _ => self.answer(id, Ok(Answer::Done)),
        }
    }

    fn swap(&mut self, id: u64) {
        match self.configuration.primary {
            Some(primary) if primary == self.slot => self.answer(id, Ok(Answer::Done)),
            Some(primary) if self.is_up(primary) => {
                self.ask_for_handover(primary, id);
            }
            Some(primary) => {
                let text = format!("{} is not connected: use promote", self.name_of(primary));
                self.refuse_command(id, &text);
            }
            None => self.refuse_command(id, "nobody is primary: use promote"),
        }
    }

    fn resync(&mut self, id: u64, full: bool, to: Option<Slot>) {
        let others: Vec<Slot> = self
            .others
            .iter()
            .filter(|slot| to.is_none_or(|to| to == *slot || to == self.slot))
            .collect();
        let failed = self.superblock.disk_state == DiskState::Failed;
        let serves = self.configuration.primary == Some(self.slot);
        // Where the disks of all have failed the primary's counts again: none is better. All have to say so, and that they
        // know of nothing later; and only one may, since two that did would differ.
        let no_better = |member| serves && self.agrees(member) && !self.may_be_good(member);
        let alone = self.is_member() && self.other_members().iter().all(no_better);
        if failed && self.is_admitting_any() {
            // Who is about to be a member has done what this disk has not.
            return self.refuse_command(id, "another replica is about to join; try again");
        }
        if failed && serves && !alone {
            let text = "this node is the primary although its disk has failed: swap to another first; \
                        where all disks have failed, all nodes have to be connected";
            return self.refuse_command(id, text);
        }
        if failed {
            // Of the writes that failed nobody knows what they have left.
            self.superblock.disk_state = match alone {
                true => DiskState::UpToDate,
                false => DiskState::Inconsistent,
            };
            self.notice(Notice::Disk {
                slot: self.slot,
                state: self.superblock.disk_state,
            });
        }
        if failed && alone {
            self.tell_what_is_given_up();
            self.clear_suspicion();
            if matches!(self.role, Role::Waiting) {
                // There is nobody else to wait for.
                self.resume();
            }
        }
        if full && !self.is_member() {
            // Nothing of our history counts: every block is compared.
            self.superblock.data_generation = Generation::NONE;
            self.superblock.history.clear();
            self.superblock.history_complete = false;
            self.superblock.disk_state = DiskState::Inconsistent;
        }
        for slot in others {
            if full && self.is_primary() && !self.configuration.in_sync.contains(slot) {
                self.peer_mut(slot).suspects_all = true;
                self.marks_mut(slot).set_all();
            }
            self.peer_mut(slot).stand_alone = false;
            let syncing = self
                .peer(slot)
                .up()
                .is_some_and(|session| session.walk.is_some());
            if full || failed || !syncing && !self.configuration.in_sync.contains(slot) {
                self.disconnect(slot, "a resync was asked for", true);
            }
        }
        if failed {
            // With the disk the others may have something to do with it again, whoever was named.
            self.renew_sessions();
        }
        self.persist(Then::Answer { answer: id });
    }

    fn discard(&mut self, id: u64, slot: Slot) {
        if slot != self.slot {
            if self.others.contains(slot) {
                self.peer_mut(slot).stand_alone = false;
            }
            return self.answer(id, Ok(Answer::Done));
        }
        let rivals = || self.peers.iter().flatten().filter(|peer| peer.split_brain);
        if rivals().next().is_none() {
            return self.refuse_command(id, "there is no split brain to resolve");
        }
        let complete = |state| matches!(state, Some(DiskState::UpToDate | DiskState::Outdated));
        if !rivals().any(|rival| complete(rival.disk_state)) {
            let text =
                "the other side has no complete copy: without this one nothing would be left";
            return self.answer(id, Err(Refusal::ProtectsData(text.into())));
        }
        self.supersede("its side of a split brain was given up");
        self.superblock.discarded = true;
        // Of the writes that failed nobody knows what they have left.
        self.superblock.disk_state = match self.disk_usable() {
            true => DiskState::Outdated,
            false => DiskState::Inconsistent,
        };
        self.persist(Then::Discarded { answer: id });
    }

    pub(crate) fn discarded(&mut self, answer: u64) {
        for peer in self.peers.iter_mut().flatten() {
            peer.stand_alone = false;
        }
        self.disconnect_all("its side of a split brain was given up", true);
        self.answer(answer, Ok(Answer::Done));
    }

    fn grow(&mut self, id: u64, size_bytes: u64) {
        let sound = size_bytes.is_multiple_of(BLOCK_BYTES) && size_bytes <= VOLUME_BYTES_MAX;
        if !sound || size_bytes < self.superblock.size_bytes {
            return self.refuse_command(id, "a volume grows, by whole blocks, up to 64 TiB");
        }
        self.superblock.size_bytes = size_bytes;
        for marks in self.marks.iter_mut().flatten() {
            marks.grow(size_bytes);
        }
        self.renew_sessions();
        self.restart_handshakes();
        self.persist(Then::Answer { answer: id });
    }

    pub(crate) fn answer_done(&mut self, id: u64) {
        self.answer(id, Ok(Answer::Done));
    }
}
