//! What goes wrong, when, and for how long.

use crate::plan::MILLISECOND;
use crate::world::{Happening, Phase, World};
use format::types::{BLOCK_BYTES, DiskState};
use replica::event::Nanos;

/// How often each fault strikes, in the order of [`Fault::ALL`].
const WEIGHTS: [u32; 22] = [
    10, 14, 10, 3, 3, 14, 8, 8, 3, 3, 3, 5, 2, 2, 1, 1, 2, 8, 5, 5, 3, 8,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Crash,
    CrashAmongEffects,
    PowerCut,
    Blackout,
    BlackoutInTurn,
    LinkBreaks,
    Partition,
    OneWay,
    SlowNetwork,
    SlowDisk,
    HungDisk,
    UnreadableBlock,
    ReadError,
    WriteError,
    FlushError,
    MetadataError,
    FullDisk,
    PlannedStop,
    ArbiterAway,
    ArbiterCutOff,
    ArbiterLosesAnswers,
    ProcessStopped,
}

impl Fault {
    const ALL: [Fault; 22] = [
        Fault::Crash,
        Fault::CrashAmongEffects,
        Fault::PowerCut,
        Fault::Blackout,
        Fault::BlackoutInTurn,
        Fault::LinkBreaks,
        Fault::Partition,
        Fault::OneWay,
        Fault::SlowNetwork,
        Fault::SlowDisk,
        Fault::HungDisk,
        Fault::UnreadableBlock,
        Fault::ReadError,
        Fault::WriteError,
        Fault::FlushError,
        Fault::MetadataError,
        Fault::FullDisk,
        Fault::PlannedStop,
        Fault::ArbiterAway,
        Fault::ArbiterCutOff,
        Fault::ArbiterLosesAnswers,
        Fault::ProcessStopped,
    ];

    fn name(self) -> &'static str {
        match self {
            Fault::Crash => "crash",
            Fault::CrashAmongEffects => "crash among effects",
            Fault::PowerCut => "power cut",
            Fault::Blackout => "power cut everywhere",
            Fault::BlackoutInTurn => "power cut everywhere in turn",
            Fault::LinkBreaks => "link breaks",
            Fault::Partition => "partition",
            Fault::OneWay => "one direction stalls",
            Fault::SlowNetwork => "slow network",
            Fault::SlowDisk => "slow disk",
            Fault::HungDisk => "hung disk",
            Fault::UnreadableBlock => "unreadable block",
            Fault::ReadError => "read error",
            Fault::WriteError => "write error",
            Fault::FlushError => "flush error",
            Fault::MetadataError => "metadata error",
            Fault::FullDisk => "full disk",
            Fault::PlannedStop => "planned stop",
            Fault::ArbiterAway => "arbiter away",
            Fault::ArbiterCutOff => "arbiter cut off",
            Fault::ArbiterLosesAnswers => "arbiter's answers lost",
            Fault::ProcessStopped => "process stopped and continued",
        }
    }
}

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Cure {
    /// A direction flows again.
    Flow {
        /// From this host.
        from: usize,
        /// To this one.
        to: usize,
    },
    /// Packets are as fast as before.
    Network,
    /// A disk is as it should be.
    Disk {
        /// Whose.
        host: usize,
    },
    /// The next host of a blackout loses its power.
    Dark {
        /// Which.
        host: usize,
    },
    /// Everybody reaches the arbiter again.
    Arbiter,
    /// Every host loses its power at once.
    Blackout,
}

impl World {
    /// Most runs lose all power at least once.
    pub(crate) fn plan_blackout(&mut self) {
        if self.fate.permille(800) {
            let at = self.fate.between(500, 6000) * MILLISECOND;
            self.schedule(at, Happening::Cure(Cure::Blackout));
        }
    }

    /// Something goes wrong, and something else will.
    pub(crate) fn strike(&mut self) {
        if self.phase != Phase::Turmoil {
            return;
        }
        let wanted = self.coverage.faults() >= self.plan.faults
            && self.clients.completed >= self.plan.operations;
        if wanted {
            return self.calm_down();
        }
        let next = self.now + self.fate.interval(self.plan.fault_interval);
        self.schedule(next, Happening::Fault);
        if self.fate.permille(300) {
            return self.command_at_random();
        }
        let fault = Fault::ALL[self.fate.weighted(&WEIGHTS)];
        let host = self.fate.index(self.hosts.len());
        self.trace
            .line(self.now, || format!("fault: {} ({host})", fault.name()));
        self.coverage.fault(fault.name());
        self.inflict(fault, host);
    }

    fn inflict(&mut self, fault: Fault, host: usize) {
        let peer = (host + 1 + self.fate.index(self.hosts.len() - 1)) % self.hosts.len();
        match fault {
            Fault::Crash => self.crash(host),
            Fault::CrashAmongEffects => {
                let effects = self.fate.between(1, 200);
                self.hosts[host].dies_after = Some(u32::try_from(effects).unwrap_or(1));
            }
            Fault::PowerCut => self.go_dark(host),
            Fault::Blackout => self.blackout(),
            Fault::BlackoutInTurn => self.blackout_in_turn(),
            Fault::LinkBreaks => self.break_link(host, peer),
            Fault::Partition => {
                self.stall(host, peer);
                self.stall(peer, host);
            }
            Fault::OneWay => self.stall(host, peer),
            Fault::SlowNetwork => {
                self.network.delay = self.plan.network_delay * self.fate.between(5, 60);
                let until = self.while_it_lasts();
                self.schedule(until, Happening::Cure(Cure::Network));
            }
            Fault::PlannedStop => self.stop(host),
            Fault::ArbiterAway => self.register.away_until = self.while_it_lasts(),
            Fault::ArbiterCutOff => {
                self.register.cut_off.insert(host);
                let until = self.while_it_lasts();
                self.schedule(until, Happening::Cure(Cure::Arbiter));
            }
            Fault::ArbiterLosesAnswers => {
                self.register.lost_permille = 500;
                let until = self.while_it_lasts();
                self.schedule(until, Happening::Cure(Cure::Arbiter));
            }
            Fault::ProcessStopped => {
                let until = self.while_it_lasts();
                self.stop_process(host, until);
            }
            _ => self.ail(fault, host),
        }
    }

    /// The host's disk misbehaves for a while.
    fn ail(&mut self, fault: Fault, host: usize) {
        let until = self.while_it_lasts();
        let hung_until = self.now + self.fate.between(100, 3000) * MILLISECOND;
        let errors = u32::try_from(self.fate.between(1, 3)).unwrap_or(1);
        let slowness = self.fate.between(5, 80);
        let blocks = self.plan.size_bytes / BLOCK_BYTES;
        let ailment = &mut self.hosts[host].ailment;
        match fault {
            Fault::SlowDisk => ailment.slowness = slowness,
            Fault::HungDisk => ailment.hung_until = hung_until,
            Fault::ReadError => ailment.read_errors = errors,
            Fault::WriteError => ailment.write_errors = errors,
            Fault::FlushError => ailment.flush_errors = 1,
            Fault::MetadataError => ailment.meta_errors = 1,
            Fault::FullDisk => ailment.full = true,
            _ => {
                for _ in 0..errors * 4 {
                    let number = self.clients.any_block(blocks, &mut self.fate);
                    self.hosts[host].disk.spoil(number);
                }
            }
        }
        if fault != Fault::UnreadableBlock {
            self.schedule(until, Happening::Cure(Cure::Disk { host }));
        }
    }

    /// A fault that lasts ends by then.
    fn while_it_lasts(&mut self) -> Nanos {
        let timeout = self.plan.settings.peer_timeout;
        self.now + self.fate.interval(timeout) + timeout / 8
    }

    fn crash(&mut self, host: usize) {
        self.kill(host);
        self.start_later(host, 600 * MILLISECOND);
    }

    fn go_dark(&mut self, host: usize) {
        self.lose_power(host);
        self.start_later(host, 900 * MILLISECOND);
    }

    fn blackout(&mut self) {
        for host in 0..self.hosts.len() {
            self.go_dark(host);
        }
    }

    fn blackout_in_turn(&mut self) {
        let mut at = self.now;
        let first = self.fate.index(self.hosts.len());
        for nth in 0..self.hosts.len() {
            let host = (first + nth) % self.hosts.len();
            self.schedule(at, Happening::Cure(Cure::Dark { host }));
            at += self.fate.interval(150 * MILLISECOND);
        }
    }

    fn stall(&mut self, from: usize, to: usize) {
        self.block(from, to, true);
        let until = self.while_it_lasts();
        self.schedule(until, Happening::Cure(Cure::Flow { from, to }));
    }

    /// A fault ends.
    pub(crate) fn cure(&mut self, cure: Cure) {
        match cure {
            Cure::Flow { from, to } => self.block(from, to, false),
            Cure::Network => self.network.delay = self.plan.network_delay,
            Cure::Disk { host } => self.hosts[host].ailment = Default::default(),
            Cure::Arbiter => self.mend_arbiter(),
            Cure::Dark { host } if self.phase == Phase::Turmoil => self.go_dark(host),
            Cure::Blackout if self.phase == Phase::Turmoil => {
                self.coverage.fault(Fault::Blackout.name());
                self.blackout();
            }
            Cure::Dark { .. } | Cure::Blackout => {}
        }
    }

    fn mend_arbiter(&mut self) {
        self.register.cut_off.clear();
        self.register.lost_permille = 0;
    }

    /// Faults stop: everything is mended, and every node runs.
    pub(crate) fn calm_down(&mut self) {
        self.trace.line(self.now, || "all faults stop".into());
        self.network.delay = self.plan.network_delay;
        self.mend_arbiter();
        self.register.away_until = 0;
        for from in 0..self.hosts.len() {
            for to in (0..self.hosts.len()).filter(|to| *to != from) {
                self.block(from, to, false);
            }
            self.hosts[from].ailment = Default::default();
            self.hosts[from].disk.mend();
            self.hosts[from].dies_after = None;
            self.hosts[from].stopped_until = 0;
            self.process_continues(from);
            self.schedule(self.now, Happening::Start { host: from });
        }
        let until = self.now + 60_000 * MILLISECOND;
        self.phase = Phase::Calm { until };
    }

    /// Whether the host's disk has failed for good, until an operator does something.
    pub(crate) fn has_failed(&self, host: usize) -> bool {
        let node = self.hosts[host].node.as_ref();
        node.is_some_and(|node| node.status().disk_state == DiskState::Failed)
    }
}
