//! The ways to a broken promise that the model finds without a rule, gone with the real core, which has the rule: the
//! same steps in the same order, and nothing is broken.
//!
//! In the model a message that is lost is a step that is not taken, and time has no state. Here a step opens or shuts the
//! links that it speaks of and lets as much time pass as it needs; links stay as the last step has left them. What the
//! core does not do because of the rule cannot be made to happen, and the steps after it are taken all the same.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use model::{Arbiter, Protocol, RULES, Rule, Rules, Step, check};
use replica::command::Command;
use replica::event::Nanos;
use replica::{Failover, Lease};
use sim::plan::{MILLISECOND, Plan, STAGED_LEASE};
use sim::runner::{Report, run_world};
use sim::trace::Trace;
use sim::world::World;
use sim::world::planted::{Lie, Saboteur};
use sim::world::script::Cue;

/// Worlds in which each way is gone.
const SEEDS: u64 = 12;

/// Frames go there and back, and disks end their writes.
const MOMENT: Nanos = 12 * MILLISECOND;
/// A link is dialled, and hands are shaken.
const SESSION: Nanos = 80 * MILLISECOND;
/// What differs is brought over.
const RESYNC: Nanos = 250 * MILLISECOND;
/// The register is asked, answers, and what it says is made durable.
const QUESTION: Nanos = 150 * MILLISECOND;

/// Builds a script.
struct Stage {
    nodes: usize,
    cues: Vec<Cue>,
}

impl Stage {
    fn link(&mut self, from: model::Slot, to: model::Slot, open: bool) {
        let (from, to) = (host(from), host(to));
        self.cues.push(Cue::Link { from, to, open });
    }

    fn links(&mut self, one: model::Slot, other: model::Slot, open: bool) {
        self.link(one, other, open);
        self.link(other, one, open);
    }

    fn all_links(&mut self, of: model::Slot, open: impl Fn(model::Slot) -> bool) {
        let others = (0..self.nodes).filter_map(|host| u8::try_from(host).ok());
        for other in others.map(model::Slot).filter(|other| *other != of) {
            self.links(of, other, open(other));
        }
    }

    fn wait(&mut self, nanos: Nanos) {
        self.cues.push(Cue::Wait(nanos));
    }

    fn cue(&mut self, cue: Cue, nanos: Nanos) {
        self.cues.push(cue);
        self.wait(nanos);
    }

    /// What goes from one replica to another, and what clients ask for.
    fn take(&mut self, step: Step) {
        match step {
            Step::Write { .. } | Step::Flush { .. } | Step::Read { .. } | Step::Complete { .. } => {
                self.wait(MOMENT);
            }
            Step::Apply { primary, member } => {
                self.link(primary, member, true);
                self.link(member, primary, false);
                self.wait(MOMENT);
            }
            Step::Answer { primary, member } => {
                self.links(primary, member, true);
                self.wait(MOMENT);
            }
            Step::Handshake { primary, member }
            | Step::ConfirmedBy { primary, member }
            | Step::Learn {
                slot: primary,
                from: member,
            } => {
                self.links(primary, member, true);
                self.wait(SESSION);
            }
            Step::Resync { primary, target } => {
                self.links(primary, target, true);
                self.wait(RESYNC);
            }
            Step::Ping { primary, member } => {
                self.links(primary, member, true);
                self.wait(STAGED_LEASE / 4);
            }
            Step::Bytes { primary, member } => {
                self.link(member, primary, true);
                self.link(primary, member, false);
                self.wait(STAGED_LEASE / 4);
            }
            other => self.take_change(other),
        }
    }

    /// Leases that end, and what is proposed to the register.
    fn take_change(&mut self, step: Step) {
        let held = |slot: model::Slot| Cue::Proposals {
            host: host(slot),
            open: false,
        };
        match step {
            Step::LeaseEnds { primary, member } => {
                self.links(primary, member, false);
                self.wait(STAGED_LEASE);
            }
            Step::GraceEnds { member } => {
                self.all_links(member, |_| false);
                self.wait(lease().grace());
            }
            Step::ProposeDrop { primary, dropped } => {
                self.all_links(primary, |other| !dropped.contains(other));
                self.cue(held(primary), STAGED_LEASE);
            }
            Step::ProposePromotion { member, reached } => {
                self.all_links(member, |other| reached.contains(other));
                self.cue(held(member), STAGED_LEASE / 2);
            }
            Step::ProposeAdmission { primary, target } => {
                self.links(primary, target, true);
                self.cue(held(primary), RESYNC);
            }
            Step::ProposeLeave { primary } => self.cue(held(primary), MOMENT),
            Step::ProposeHandover { primary, to } => {
                self.cues.push(held(primary));
                let (host, command) = match to {
                    Some(to) => (host(to), Command::Swap),
                    None => (host(primary), Command::Demote),
                };
                self.cue(Cue::Command { host, command }, SESSION);
            }
            Step::RegisterTakes { proposer } | Step::LateRequest { proposer } => {
                let host = host(proposer);
                self.cue(Cue::Deliver { host }, MOMENT);
            }
            Step::HearRegister { slot } | Step::ConfirmedByRegister { primary: slot } => {
                let (host, open) = (host(slot), true);
                self.cue(Cue::Proposals { host, open }, QUESTION);
            }
            Step::HearOldEpoch { .. } => self.wait(QUESTION),
            other => self.take_fault(other),
        }
    }

    /// Machines that fail, and operators.
    fn take_fault(&mut self, step: Step) {
        match step {
            Step::SuspectGoesOn { .. } => self.wait(4 * STAGED_LEASE),
            Step::DiskFails { slot } => self.cue(Cue::DiskFails { host: host(slot) }, MOMENT),
            Step::Crash { slot } => self.cue(Cue::Crash { host: host(slot) }, MOMENT),
            Step::PowerCut { slot, .. } => self.cue(Cue::PowerCut { host: host(slot) }, MOMENT),
            Step::Restart { slot } => self.cue(Cue::Start { host: host(slot) }, SESSION),
            Step::OperatorPromotes { member, reached } => {
                self.all_links(member, |other| reached.contains(other));
                let (host, command) = (host(member), Command::Promote { force: true });
                self.cue(Cue::Command { host, command }, SESSION);
            }
            other => unreachable!("{other} is no fault"),
        }
    }
}

fn host(slot: model::Slot) -> usize {
    usize::from(slot.0)
}

fn lease() -> Lease {
    Lease::new(STAGED_LEASE, Lease::grace_min(STAGED_LEASE)).expect("grace is long enough")
}

/// The shortest way to what is broken without the rule.
fn way(rule: &Rule) -> Vec<Step> {
    let mut rules = Rules::ALL;
    (rule.take_out)(&mut rules);
    let bounds = rule.bounds;
    let found = check(Protocol { rules, bounds }, Some(rule.breaks), 1).found;
    let broken = found.into_iter().find(|found| found.promise == rule.breaks);
    broken.expect("the model's own tests see to it").steps
}

/// Goes a way with the real core.
fn gone(rule: &Rule, way: &[Step], seed: u64, saboteur: Saboteur) -> Report {
    let nodes = usize::from(rule.bounds.replicas);
    let mut stage = Stage {
        nodes,
        cues: Vec::new(),
    };
    for host in 0..nodes {
        stage.cues.push(Cue::Proposals { host, open: false });
    }
    way.iter().for_each(|step| stage.take(*step));
    let failover = match rule.bounds.arbiter {
        Arbiter::Register => Failover::Automatic(lease()),
        Arbiter::Manual => Failover::Manual,
    };
    let plan = Plan::staged(nodes, failover);
    run_world(
        seed,
        World::scripted(plan, stage.cues, seed, saboteur, Trace::remembered()),
    )
}

#[test]
fn no_way_of_the_model_breaks_the_core() {
    for rule in RULES {
        let way = way(rule);
        for seed in 0..SEEDS {
            let report = gone(rule, &way, seed, Saboteur::default());
            assert!(
                report.result.is_ok(),
                "without {}, seed {seed}: {:?}\n{way:#?}\n{}",
                rule.name,
                report.result,
                report.tail.join("\n")
            );
        }
    }
}

/// Planted faults that come to the same as having no such rule.
const LIES: &[(&str, Lie)] = &[
    ("all_members_acknowledge", Lie::EarlyAck),
    ("drop_before_acknowledging", Lie::Drop),
    ("marks_before_drop", Lie::DropVoidsLog),
    ("superseded_stops", Lie::Refusal),
    ("answers_renew", Lie::Pong),
    ("proposal_durable", Lie::Proposal),
    ("log_before_data", Lie::PrimaryLog),
    ("union_of_marks", Lie::MarksFrame),
    ("suspect_waits", Lie::Reboot),
    ("admission_flushes", Lie::FlushDone),
];

/// The ways lead somewhere: where a lie takes the rule from the core, the core is broken on the same way.
#[test]
fn ways_break_a_core_without_the_rule() {
    for (name, lie) in LIES {
        let rule = RULES.iter().find(|rule| rule.name == *name).unwrap();
        let way = way(rule);
        let breaks = |seed| gone(rule, &way, seed, Saboteur::telling(*lie)).result.err();
        let found = (0..SEEDS).find_map(breaks);
        assert!(
            found.is_some(),
            "{name}: {lie:?} breaks nothing on\n{way:#?}"
        );
    }
}
