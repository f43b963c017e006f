//! Which configurations are committed, which copies can be relied on, and R3.

use crate::failure::Checker;
use crate::world::World;
use format::superblock::Superblock;
use format::types::{Configuration, DiskState};

impl World {
    /// A superblock is about to be written: a generation that nobody knew is minted.
    pub(crate) fn configuration_begins(&mut self, host: usize, superblock: &Superblock) {
        self.check_held(host, superblock.configuration);
        let generation = superblock.configuration.generation;
        if self.lineages.of(generation).is_some() {
            return;
        }
        let lineage = self.lineage_of(host);
        let slot = self.hosts[host].slot;
        let promotes = superblock.configuration.primary == Some(slot);
        if promotes && std::mem::take(&mut self.hosts[host].forced) {
            self.fork(host, superblock.configuration, lineage);
        } else {
            self.lineages.extend(generation, lineage);
        }
    }

    /// An operator has forced a history of its own.
    pub(crate) fn fork(&mut self, host: usize, configuration: Configuration, lineage: usize) {
        self.coverage.fault("history forked by force");
        let id = self.lineages.fork(configuration.generation, lineage);
        self.trace
            .line(self.now, || format!("{host} begins history {id}"));
        let slot = self.hosts[host].slot;
        let knows = self.hosts[host].meta.superblock();
        let member = knows.configuration.in_sync.contains(slot)
            && knows.disk_state == DiskState::UpToDate
            && self.lineages.get(lineage).latest.in_sync.contains(slot);
        let forked = self.lineages.get_mut(id);
        if !member {
            // What an outdated copy holds is what there is now.
            let disk = &mut self.hosts[host].disk;
            disk.end_flush(u64::MAX);
            forked.oracle.rebase(disk.blocks());
        } else if !self.hosts[host].intact {
            forked.oracle.lose_unflushed();
        }
        forked.latest = configuration;
        self.hosts[host].intact = true;
    }

    /// What is on disk now may be a configuration that was not there before.
    pub(crate) fn superblock_found(&mut self, host: usize) {
        let superblock = self.hosts[host].meta.superblock();
        let configuration = superblock.configuration;
        let suspect = superblock.suspect;
        let Some(lineage) = self.lineages.of(configuration.generation) else {
            return;
        };
        let member = configuration.in_sync.contains(self.hosts[host].slot);
        if !suspect && member && self.hosts[host].node.is_some() && self.was_suspect(host) {
            self.hosts[host].intact = true;
        }
        self.checks
            .suspects
            .entry(host)
            .and_modify(|was| *was = suspect)
            .or_insert(suspect);
        if configuration.epoch > self.lineages.get(lineage).latest.epoch {
            self.committed(host, lineage, configuration);
        }
    }

    fn was_suspect(&self, host: usize) -> bool {
        self.checks.suspects.get(&host).copied().unwrap_or(false)
    }

    /// A configuration is committed. R3: who may have proposed it.
    pub(crate) fn committed(&mut self, host: usize, lineage: usize, next: Configuration) {
        let latest = self.lineages.get(lineage).latest;
        let slot = self.hosts[host].slot;
        let member = latest.in_sync.contains(slot);
        // With every member of its own, a new configuration leaves an old primary nobody to
        // acknowledge with.
        let whole = latest.in_sync.difference(next.in_sync).is_empty();
        let other_counts = latest.primary.is_some_and(|primary| {
            latest.in_sync.contains(primary) && !next.in_sync.contains(primary)
        });
        let free = self.register.held.is_some();
        let proposes = latest.primary == Some(slot)
            || member && (free || latest.primary.is_none() || whole && !other_counts);
        let new_primary = next
            .primary
            .filter(|primary| Some(*primary) != latest.primary);
        let stranger = new_primary.filter(|primary| !latest.in_sync.contains(*primary));
        if !proposes || stranger.is_some() {
            return self.fail(Checker::R3, || {
                format!("{host} makes {next:?} of {latest:?}")
            });
        }
        for gained in self
            .hosts_of(next.in_sync.difference(latest.in_sync))
            .collect::<Vec<_>>()
        {
            // What it has acknowledged since its promise it may have lost with its power.
            self.hosts[gained].intact =
                self.hosts[gained].dark_since <= self.hosts[gained].promised_at;
        }
        self.lineages.get_mut(lineage).latest = next;
        if self.is_lost(lineage) {
            self.reckon(lineage);
        }
    }

    /// A host has lost its power.
    pub(crate) fn power_lost(&mut self, host: usize) {
        self.checks.dark.insert(host);
        if self.checks.dark.len() == self.hosts.len() {
            self.checks.dark.clear();
            self.checks.blackouts += 1;
        }
        let slot = self.hosts[host].slot;
        let lost: Vec<usize> = (0..self.lineages.count())
            .filter(|lineage| self.lineages.get(*lineage).latest.in_sync.contains(slot))
            .filter(|lineage| self.is_lost(*lineage))
            .collect();
        lost.into_iter().for_each(|lineage| self.reckon(lineage));
    }

    /// Whether no member is left that has all that was acknowledged.
    fn is_lost(&self, lineage: usize) -> bool {
        let members = self.lineages.get(lineage).latest.in_sync;
        !self
            .hosts_of(members)
            .any(|member| self.hosts[member].intact)
    }

    /// What was not flushed may be gone.
    pub(crate) fn reckon(&mut self, lineage: usize) {
        self.trace.line(self.now, || {
            format!("history {lineage} has lost what was not flushed")
        });
        self.lineages.get_mut(lineage).oracle.lose_unflushed();
    }

    /// Whether a member that did the request still has what it did.
    pub(crate) fn is_kept(&self, host: usize, order: u64) -> bool {
        let members = self.hosts[host].meta.superblock().configuration.in_sync;
        self.hosts_of(members)
            .any(|member| self.hosts[member].dark_at < order)
    }
}
