//! Replicas that come and go while the volume is used.
//!
//! Which replicas a volume has decides nothing by itself: who may serve and whose copy a write needs is said by
//! configurations, and a configuration names nobody but those who were admitted. So two replicas that know
//! different sets of replicas never count the same configuration differently; one that is told of a
//! configuration over a replica which it does not know takes it from nobody, neither a peer nor the register
//! (`knows_all_of`), and waits until it is told of that replica as well. What is left to argue:
//!
//! - **A new replica counts as nothing.** Its own superblock says that its metadata is lost: it is Inconsistent, has
//!   no generation and no member's part, and only a resync in full followed by an admission makes it
//!   a member. Until then nobody's marks for it are valid (`marks_valid`), whoever comes to serve.
//! - **A replica is forgotten only once no configuration that may bind lists it**: neither the one that is in force
//!   here, nor what is on its way to the disk, nor an open proposal. The primary first drops it by an ordinary
//!   commit, with all that R2 asks for, and forgets it in the step in which it sees that commit; what it does not
//!   know it cannot admit again. The others are told after it, and refuse while they have not heard of the
//!   drop. So whoever still knows it, and serves because the primary died in between, may admit it again,
//!   and then the others are out until the removal has been finished: protection waits, nothing is lost.
//! - **A place is not used again.** The slot's floor of marks stays above zero for good; a proposal, a register or a
//!   superblock that lists the slot can therefore mean nobody else.

use crate::change::Then;
use crate::command::Refusal;
use crate::dirty::Dirty;
use crate::node::Node;
use crate::peer::Peer;
use crate::role::{Leaving, Role};
use format::superblock::Replica;
use format::types::{NodeSet, Slot};

impl Node {
    /// The volume has another replica. Telling it again does no harm.
    pub(crate) fn add_replica(&mut self, id: u64, slot: Slot, replica: &Replica) {
        let place = &self.superblock.replicas[slot.index()];
        if place.as_ref() == Some(replica) {
            return self.persist(Then::Answer { answer: id });
        }
        if let Some(holder) = place {
            let text = format!("{slot} is the place of {}", holder.name);
            return self.answer(id, Err(Refusal::ProtectsData(text)));
        }
        if self.superblock.mark_floor[slot.index()] > 0 {
            let text = format!("{slot} was another replica's and is not used again");
            return self.answer(id, Err(Refusal::ProtectsData(text)));
        }
        let mut others = self.superblock.replicas.iter().flatten();
        if others.any(|other| other.node == replica.node || other.name == replica.name) {
            let text = format!("{} has a replica already", replica.name);
            return self.answer(id, Err(Refusal::ProtectsData(text)));
        }
        self.superblock.replicas[slot.index()] = Some(replica.clone());
        // Nothing is known of its blocks, whoever comes to bring it up to date.
        self.superblock.marks_valid = self.superblock.marks_valid.without(slot);
        let dirty = Dirty::new(slot, self.superblock.size_bytes);
        self.marks[slot.index()] = Some(Box::new(dirty));
        self.peers[slot.index()] = Some(Peer::new(slot, self.now));
        self.others = self.others.with(slot);
        self.persist(Then::Answer { answer: id });
    }

    /// The volume has this replica no more. The primary drops it first, if it is a member. Telling it again does no
    /// harm.
    pub(crate) fn remove_replica(&mut self, id: u64, slot: Slot) {
        if slot == self.slot {
            let text = "a replica does not forget itself: the others do";
            return self.refuse_command(id, text);
        }
        if !self.others.contains(slot) {
            return self.persist(Then::Answer { answer: id });
        }
        let name = self.name_of(slot);
        if self.configuration.primary == Some(slot) {
            let text = format!("{name} is the primary: swap to another replica first");
            return self.answer(id, Err(Refusal::ProtectsData(text)));
        }
        if !self.counts(slot) {
            return self.forget_replica(id, slot);
        }
        if !matches!(self.role, Role::Primary) {
            let text = format!("{name} is in sync, for all that this replica knows; try again");
            return self.refuse_command(id, &text);
        }
        if self.leaving.is_some() {
            return self.refuse_command(id, "another replica is about to leave; try again");
        }
        if !self.is_member() || !self.disk_usable() || self.superblock.suspect {
            let text = format!("{name} has the best copy: without it writes would be lost");
            return self.answer(id, Err(Refusal::ProtectsData(text)));
        }
        self.leaving = Some(Leaving { slot, answer: id });
    }

    /// Whether a configuration that binds, or may come to bind, lists the replica.
    fn counts(&self, slot: Slot) -> bool {
        let open = self.change.open().map(|(next, _)| next);
        let all = [self.configuration, self.superblock.configuration];
        let mut all = all.into_iter().chain(self.superblock.proposal).chain(open);
        all.any(|one| one.in_sync.contains(slot) || one.primary == Some(slot))
    }

    /// A replica that is to be forgotten is dropped first.
    pub(crate) fn leaving_advance(&mut self) {
        let Some(Leaving { slot, answer }) = self.leaving else {
            return;
        };
        if !matches!(self.role, Role::Primary) || !self.is_member() || !self.disk_usable() {
            self.leaving = None;
            return self.refuse_command(answer, "the situation has changed; try again");
        }
        if !self.counts(slot) {
            self.leaving = None;
            return self.forget_replica(answer, slot);
        }
        if self.change.open().is_some() || self.doomed.contains(slot) {
            return;
        }
        // A member that cannot be dropped yet is not sent away either: its link would be missed.
        match self.arbiter_answers() {
            true => self.drop_member(slot),
            false => self.consult(),
        }
    }

    /// What was begun for it comes to its end, and finds its peer and its marks there until the process ends.
    fn forget_replica(&mut self, id: u64, slot: Slot) {
        self.disconnect(slot, "the volume has this replica no more", false);
        self.others = self.others.without(slot);
        self.joining = self.joining.without(slot);
        self.unmet = self.unmet.without(slot);
        let peer = self.peer_mut(slot);
        peer.split_brain = false;
        peer.leased_from = None;
        self.marks_mut(slot).clear_all();
        let superblock = &mut self.superblock;
        let floor = &mut superblock.mark_floor[slot.index()];
        *floor = superblock.configuration.epoch.max(*floor) + 1;
        superblock.marks_valid = superblock.marks_valid.without(slot);
        superblock.replicas[slot.index()] = None;
        self.persist(Then::Answer { answer: id });
    }

    /// The slots of replicas that there were, which no other replica gets.
    pub(crate) fn spent_slots(&self) -> NodeSet {
        let superblock = &self.superblock;
        let spent = |slot: &Slot| {
            superblock.replicas[slot.index()].is_none() && superblock.mark_floor[slot.index()] > 0
        };
        Slot::all().filter(spent).collect()
    }

    /// All replicas of the volume.
    pub(crate) fn replicas(&self) -> NodeSet {
        self.others.with(self.slot)
    }
}
