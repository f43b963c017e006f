//! How a node's process starts, dies, and loses its power.

use super::{Happening, World};
use crate::arena::Arena;
use crate::disk::Loss;
use crate::failure::Checker;
use crate::host::{Ailment, Down};
use format::types::BootId;
use replica::event::Nanos;
use replica::{Node, Opening};

impl World {
    /// A node starts, if it is down.
    pub(crate) fn start(&mut self, host: usize) {
        if self.hosts[host].node.is_some() || !self.has_replica(host) {
            return;
        }
        let recovered = match self.hosts[host].meta.recover() {
            Ok(recovered) => recovered,
            Err(error) => return self.fail(Checker::Contract, || error.into()),
        };
        if self.hosts[host].down == Some(Down::Dark) {
            self.hosts[host].boot = BootId(self.chance.wide().to_le_bytes());
            // A clock that counts from the boot on begins anew.
            let shows = self.chance.below(1 << 30);
            let (now, this) = (self.now, &mut self.hosts[host]);
            this.clock_ahead = 0;
            this.clock_ahead = shows.wrapping_sub(this.clock(now));
        }
        let known = recovered.superblock.boot;
        let boot = if self.hides_boots() && !known.is_none() {
            known
        } else {
            self.hosts[host].boot
        };
        let opening = Opening {
            superblock: recovered.superblock,
            pages: recovered.pages,
            damaged_pages: recovered.damaged_pages,
            hot_extents: recovered.hot_extents,
            boot,
            seed: self.chance.wide(),
            now: self.hosts[host].clock(self.now),
        };
        self.trace.line(self.now, || {
            let superblock = &opening.superblock;
            format!(
                "{host} starts: {:?} {:?} clean {} suspect {} generation {:?}",
                superblock.configuration,
                superblock.disk_state,
                superblock.clean,
                superblock.suspect,
                superblock.data_generation
            )
        });
        self.hosts[host].life += 1;
        self.hosts[host].down = None;
        self.hosts[host].arena = Arena::default();
        self.hosts[host].superseded_by = None;
        self.check_recovered(host);
        let mut effects = Vec::new();
        let node = Node::open(opening, self.plan.settings, &mut effects);
        self.hosts[host].node = Some(Box::new(node));
        self.carry_out_all(host, &mut effects);
        self.look_at_deadline(host);
        self.schedule_turn(host);
        self.dial_all(host);
    }

    /// The node's process dies.
    pub(crate) fn kill(&mut self, host: usize) {
        if self.hosts[host].node.is_none() {
            return;
        }
        self.trace.line(self.now, || format!("{host} dies"));
        self.end_process(host, Down::Crashed, true);
        let changed = self.hosts[host].disk.crash(&mut self.chance);
        self.blocks_changed(host, &changed);
        self.superblock_found(host);
    }

    /// The machine loses its power.
    pub(crate) fn lose_power(&mut self, host: usize) {
        if self.hosts[host].down == Some(Down::Dark) {
            return;
        }
        self.trace
            .line(self.now, || format!("{host} loses its power"));
        self.hosts[host].dark_at = self.clients.order();
        self.hosts[host].dark_since = self.now;
        // Although nothing may be lost, nobody can tell after an unclean stop.
        let clean = self.hosts[host].meta.superblock().clean;
        self.hosts[host].intact &= clean;
        let intact = self.hosts[host].intact;
        self.trace
            .line(self.now, || format!("{host} is intact: {intact}"));
        self.end_process(host, Down::Dark, false);
        let loss = [Loss::All, Loss::Any, Loss::Torn][self.chance.index(3)];
        let changed = self.hosts[host].disk.lose_power(loss, &mut self.chance);
        self.blocks_changed(host, &changed);
        self.superblock_found(host);
        self.power_lost(host);
    }

    /// The node has stopped as an operator wanted.
    pub(crate) fn stopped(&mut self, host: usize) {
        let held = self.hosts[host].arena.held();
        if held > 0 {
            self.fail(Checker::Buffers, || {
                format!("{host} has stopped with {held} claims")
            });
        }
        self.end_process(host, Down::Stopped, true);
        let changed = self.hosts[host].disk.crash(&mut self.chance);
        self.blocks_changed(host, &changed);
        self.superblock_found(host);
    }

    fn end_process(&mut self, host: usize, why: Down, told: bool) {
        self.hosts[host].node = None;
        self.hosts[host].down = Some(why);
        self.hosts[host].tick = None;
        self.hosts[host].turn_scheduled = false;
        self.hosts[host].dies_after = None;
        self.hosts[host].forced = false;
        self.hosts[host].operations.clear();
        self.hosts[host].stopped_until = 0;
        self.hosts[host].waiting.clear();
        self.hosts[host].ailment = Ailment::default();
        let mut chance = self.chance.fork();
        self.hosts[host].meta.crash(&mut chance);
        self.sever(host, told);
        self.forget_clients(host);
        self.operators.forget(host);
        self.growth.forget();
        self.membership.forget();
    }

    /// The node is to start again after a while.
    pub(crate) fn start_later(&mut self, host: usize, mean: Nanos) {
        let at = self.now + self.fate.interval(mean);
        self.schedule(at, Happening::Start { host });
    }
}
