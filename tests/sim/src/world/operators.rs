//! The operators: what they do at random, and what they do when something needs them.

use crate::failure::Checker;
use crate::plan::MILLISECOND;
use crate::world::{Happening, Phase, World};
use format::types::{DiskState, Slot};
use replica::command::{Answer, Command, Refusal};
use replica::event::{Event, Nanos};
use replica::status::{ConnectionState, Role, Status};
use std::collections::BTreeMap;

/// What the operators have under way.
#[derive(Default, Debug)]
pub struct Operators {
    next: u64,
    commands: BTreeMap<u64, (usize, Command)>,
    /// Since when nobody has served.
    unserved_since: Option<Nanos>,
    /// How long that is borne, this time.
    patience: Nanos,
    /// Whose side of a split brain is kept.
    kept: Option<Slot>,
}

impl Operators {
    /// The host's process has ended: nothing will be answered.
    pub fn forget(&mut self, host: usize) {
        self.commands.retain(|_, (of, _)| *of != host);
    }
}

fn kind(command: &Command) -> &'static str {
    match command {
        Command::Promote { force: false } => "promote",
        Command::Promote { force: true } => "promote by force",
        Command::Demote => "demote",
        Command::Swap => "swap",
        Command::Verify { repair: false } => "verify",
        Command::Verify { repair: true } => "verify and repair",
        Command::Resync { full: false, .. } => "resync",
        Command::Resync { full: true, .. } => "resync in full",
        Command::Discard { .. } => "discard",
        Command::Grow { .. } => "grow",
        Command::AddReplica { .. } => "add replica",
        Command::RemoveReplica { .. } => "remove replica",
        Command::Pause(true) => "pause",
        Command::Pause(false) => "go on",
        Command::Turn(true) => "its turn",
        Command::Turn(false) => "no more its turn",
        Command::Arbitrate(_) => "arbitrate",
        Command::Stop => "stop",
    }
}

impl World {
    /// Gives a node a command.
    pub(crate) fn command(&mut self, host: usize, command: Command) {
        if self.hosts[host].node.is_none() {
            return;
        }
        self.coverage.command(kind(&command));
        self.operators.next += 1;
        let id = self.operators.next;
        self.hosts[host].forced |= command == Command::Promote { force: true };
        self.operators.commands.insert(id, (host, command.clone()));
        self.step(host, Event::Command { id, command });
    }

    /// A planned stop, and a start some time later.
    pub(crate) fn stop(&mut self, host: usize) {
        self.command(host, Command::Stop);
    }

    /// A command has been answered.
    pub(crate) fn operator_answered(
        &mut self,
        host: usize,
        id: u64,
        result: &Result<Answer, Refusal>,
    ) {
        let Some((of, command)) = self.operators.commands.remove(&id) else {
            return self.fail(Checker::Contract, || format!("{host} answers no command"));
        };
        if of != host {
            return self.fail(Checker::Contract, || format!("{host} answers for {of}"));
        }
        match command {
            Command::Stop if result.is_ok() => {
                self.stopped(host);
                self.start_later(host, 500 * MILLISECOND);
            }
            Command::Discard { .. } if result.is_err() => self.operators.kept = None,
            Command::Grow { .. } => self.grown(host, result.is_ok()),
            Command::AddReplica { .. } | Command::RemoveReplica { .. } => {
                self.membership_told(host, result);
            }
            Command::Promote { force: true } => {
                let forced = (host, Command::Promote { force: true });
                let another = self
                    .operators
                    .commands
                    .values()
                    .any(|under_way| *under_way == forced);
                self.hosts[host].forced &= another;
            }
            Command::Resync { .. } | Command::Discard { .. } if result.is_ok() => {
                for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
                    self.want_link(host, peer);
                }
            }
            _ => {}
        }
    }

    /// An operator does something for no reason that the nodes could know.
    pub(crate) fn command_at_random(&mut self) {
        let host = self.fate.index(self.hosts.len());
        let slots: Vec<Slot> = self.hosts.iter().map(|host| host.slot).collect();
        let to = self
            .fate
            .permille(500)
            .then(|| slots[self.fate.index(slots.len())]);
        let command = match self.fate.weighted(&[
            30,
            10,
            12,
            10,
            8,
            10,
            3,
            3,
            1,
            8,
            30 * u32::from(self.membership.may_change()),
        ]) {
            10 => return self.change_membership(),
            9 => {
                self.coverage.fault("operator");
                return self.grow();
            }
            0 => Command::Swap,
            1 => Command::Promote { force: false },
            2 => Command::Demote,
            3 => Command::Verify { repair: false },
            4 => Command::Verify { repair: true },
            5 => Command::Resync {
                full: self.fate.permille(400),
                to,
            },
            6 => Command::Pause(true),
            7 => Command::Pause(false),
            _ => Command::Promote { force: true },
        };
        self.trace
            .line(self.now, || format!("operator at {host}: {command:?}"));
        self.coverage.fault("operator");
        self.command(host, command);
    }

    /// The operators see to what only they can see to.
    pub(crate) fn operators_look(&mut self) {
        let wait = self.fate.between(50, 300) * MILLISECOND;
        self.schedule(self.now + wait, Happening::Operators);
        let statuses: Vec<Option<Status>> = self
            .hosts
            .iter()
            .map(|host| host.node.as_ref().map(|node| node.status()))
            .collect();
        for host in 0..self.hosts.len() {
            self.look_at_states(host);
        }
        self.see_to_halted(&statuses);
        self.see_to_failed_disks(&statuses);
        self.see_to_turns(&statuses);
        self.see_to_split_brain(&statuses);
        self.see_to_service(&statuses);
        self.see_to_membership(&statuses);
        if let Phase::Calm { until } = self.phase {
            self.see_to_calm(until, &statuses);
        }
    }

    /// A node that has halted by itself is started again.
    fn see_to_halted(&mut self, statuses: &[Option<Status>]) {
        for (host, status) in statuses.iter().enumerate() {
            let stopping =
                |(of, command): &(usize, Command)| *of == host && *command == Command::Stop;
            let asked = self.operators.commands.values().any(stopping);
            if status
                .as_ref()
                .is_some_and(|status| status.role == Role::Stopped)
                && !asked
            {
                self.trace
                    .line(self.now, || format!("operator at {host}: restart"));
                self.kill(host);
                self.start_later(host, 200 * MILLISECOND);
            }
        }
    }

    fn see_to_failed_disks(&mut self, statuses: &[Option<Status>]) {
        let calm = self.phase != Phase::Turmoil;
        for (host, status) in statuses.iter().enumerate() {
            let Some(status) = status else { continue };
            let failed = self.has_failed(host);
            let alone = status
                .peers
                .iter()
                .any(|peer| peer.connection == ConnectionState::StandAlone && !peer.split_brain);
            if (failed || alone) && (calm || self.fate.permille(150)) {
                self.hosts[host].ailment = Default::default();
                if status.role == Role::Primary {
                    self.hand_over(status);
                }
                self.trace
                    .line(self.now, || format!("operator at {host}: resync"));
                self.command(
                    host,
                    Command::Resync {
                        full: false,
                        to: None,
                    },
                );
            }
            if status.paused && (calm || self.fate.permille(200)) {
                self.command(host, Command::Pause(false));
            }
        }
    }

    /// Resyncs of other volumes, which are no part of this world, leave the turn to this one or take it.
    fn see_to_turns(&mut self, statuses: &[Option<Status>]) {
        if !self.plan.settings.takes_turns {
            return;
        }
        let calm = self.phase != Phase::Turmoil;
        for (host, status) in statuses.iter().enumerate() {
            let Some(status) = status.as_ref().filter(|status| status.resyncing) else {
                continue;
            };
            if !status.has_turn && (calm || self.fate.permille(300)) {
                self.command(host, Command::Turn(true));
            } else if status.has_turn && !calm && self.fate.permille(300) {
                self.command(host, Command::Turn(false));
            }
        }
    }

    /// A member takes the place of a primary whose disk has failed.
    fn hand_over(&mut self, primary: &Status) {
        let members = primary.configuration.in_sync.without(primary.slot);
        let member = self.hosts_of(members).next();
        if let Some(member) = member {
            self.trace
                .line(self.now, || format!("operator at {member}: swap"));
            self.command(member, Command::Swap);
        }
    }

    /// One side of a split brain is given up, on every node.
    fn see_to_split_brain(&mut self, statuses: &[Option<Status>]) {
        let calm = self.phase != Phase::Turmoil;
        let mut split = Vec::new();
        for status in statuses.iter().flatten() {
            let peers = status.peers.iter().filter(|peer| peer.split_brain);
            split.extend(peers.map(|peer| [status.slot, peer.slot]));
        }
        let sides = (!split.is_empty()).then(|| split[self.fate.index(split.len())]);
        let everyone = self.replicas().all(|host| statuses[host].is_some());
        let Some(sides) = sides.filter(|_| everyone) else {
            let healed = statuses
                .iter()
                .flatten()
                .any(|status| status.role == Role::Primary);
            self.operators.kept = self.operators.kept.filter(|_| !healed || !split.is_empty());
            return;
        };
        if !calm && !self.fate.permille(300) {
            return;
        }
        let kept = *self.operators.kept.get_or_insert(sides[self.fate.index(2)]);
        let slot = if sides[0] == kept { sides[1] } else { sides[0] };
        self.trace
            .line(self.now, || format!("operators discard {slot}"));
        for host in 0..self.hosts.len() {
            self.command(host, Command::Discard { slot });
        }
    }

    /// Somebody is to serve.
    fn see_to_service(&mut self, statuses: &[Option<Status>]) {
        let served = statuses
            .iter()
            .flatten()
            .any(|status| status.role == Role::Primary);
        if served {
            self.operators.unserved_since = None;
            return;
        }
        if self.operators.unserved_since.is_none() {
            let timeout = self.plan.settings.peer_timeout;
            self.operators.patience = self.fate.between(timeout / 4, timeout * 4);
        }
        let since = *self.operators.unserved_since.get_or_insert(self.now);
        if self.now < since + self.operators.patience {
            return;
        }
        self.operators.unserved_since = None;
        let up: Vec<&Status> = statuses.iter().flatten().collect();
        let calm = self.phase != Phase::Turmoil;
        let nobody = up
            .iter()
            .all(|status| status.configuration.primary.is_none());
        let Some(status) = self.candidate(&up) else {
            return;
        };
        let host = status.slot.index();
        // Once all is calm force is only for what force has brought about, or for a primary whose disk
        // has failed while the others have lost their power.
        let failed = up
            .iter()
            .any(|status| status.disk_state == DiskState::Failed);
        let forked = self.lineages.count() > 1 || failed;
        let force = if calm {
            forked && self.fate.permille(200)
        } else {
            self.fate.permille(350)
        };
        if calm && !nobody && !forked {
            return;
        }
        self.trace.line(self.now, || {
            format!("operator at {host}: promote, force {force}")
        });
        self.command(host, Command::Promote { force });
    }

    /// Whom a sensible operator would promote: who was chosen in a split brain, or else a member of the
    /// latest configuration that he sees.
    fn candidate<'a>(&mut self, up: &[&'a Status]) -> Option<&'a Status> {
        let kept = up
            .iter()
            .find(|status| self.operators.kept == Some(status.slot));
        if let Some(kept) = kept {
            return Some(kept);
        }
        let newest = up.iter().map(|status| status.configuration.epoch).max()?;
        let members: Vec<&&Status> = up
            .iter()
            .filter(|status| {
                status.configuration.epoch == newest
                    && status.configuration.in_sync.contains(status.slot)
            })
            .collect();
        if members.is_empty() {
            return None;
        }
        Some(members[self.fate.index(members.len())])
    }

    /// R10: whether all is well yet.
    fn see_to_calm(&mut self, until: Nanos, statuses: &[Option<Status>]) {
        if statuses
            .iter()
            .flatten()
            .any(|status| status.size_bytes < self.plan.size_bytes)
        {
            self.grow();
        }
        let well = self.is_well(statuses);
        if well == Ok(()) && (self.is_still() || self.now > until) {
            self.conclude();
        } else if self.now > until {
            let why = well.err().unwrap_or_default();
            self.fail(Checker::R10, || format!("60 s after the last fault: {why}"));
        }
    }

    fn is_well(&self, statuses: &[Option<Status>]) -> Result<(), String> {
        let primaries: Vec<&Status> = statuses
            .iter()
            .flatten()
            .filter(|status| status.role == Role::Primary)
            .collect();
        let [primary] = primaries[..] else {
            return Err(format!("{} nodes serve", primaries.len()));
        };
        if self.membership.is_changing() {
            return Err("a replica is to come or to go".into());
        }
        if primary.configuration.in_sync != self.membership.wanted {
            return Err(format!("the configuration is {:?}", primary.configuration));
        }
        if primary.size_bytes != self.plan.size_bytes {
            return Err(format!("the volume has {} bytes", primary.size_bytes));
        }
        if !self.clients_are_quiet() {
            let oldest = self.oldest_request() / MILLISECOND;
            return Err(format!("a request has waited for {oldest} ms"));
        }
        for peer in &primary.peers {
            let mirrored = peer.replication == replica::status::ReplicationState::Established;
            if peer.slot.index() < self.hosts.len() && (!mirrored || peer.out_of_sync_bytes > 0) {
                return Err(format!("the primary is not done with {peer:?}"));
            }
        }
        Ok(())
    }

    /// Nothing is on its way, as far as one can see: the disks are the same, and nobody holds a buffer.
    fn is_still(&self) -> bool {
        let same = self
            .copies()
            .all(|(first, host)| self.identical(first, host));
        same && self
            .replicas()
            .all(|host| self.hosts[host].arena.held() == 0)
    }

    /// All is well: the disks must be, too.
    fn conclude(&mut self) {
        for (one, host) in self.copies().collect::<Vec<_>>() {
            if !self.identical(one, host) {
                let differ = self.checks.differ.get(&(one, host));
                let first = differ.and_then(|blocks| blocks.first().copied());
                self.fail(Checker::R10, || {
                    format!("block {first:?} of {host} is not that of {one}")
                });
            }
        }
        let primary = (0..self.hosts.len()).find(|host| self.hosts[*host].serves());
        if let Some(primary) = primary {
            let lineage = self.lineage_of(primary);
            self.check_contents(lineage);
        }
        for host in self.replicas().collect::<Vec<_>>() {
            let held = self.hosts[host].arena.held();
            if held > 0 {
                self.fail(Checker::Buffers, || {
                    format!("{host} still holds {held} claims")
                });
            }
            self.check_everywhere(host);
        }
        self.phase = Phase::Over;
    }
}
