//! The arbiter of the world: a register that is away at times, cannot be reached by some, and answers late or not at
//! all. A question that nobody waits for any more may still arrive.

use crate::failure::Checker;
use crate::plan::MILLISECOND;
use crate::world::{Happening, Phase, World};
use format::types::Configuration;
use replica::arbiter::{Question, Register as Answer};
use replica::event::Nanos;
use std::collections::BTreeSet;

/// After this long nobody waits for an answer.
const PATIENCE: Nanos = 60 * MILLISECOND;

/// The register.
#[derive(Default, Debug)]
pub(crate) struct Register {
    /// What it holds.
    pub(crate) held: Option<Configuration>,
    /// It answers nobody before this.
    pub(crate) away_until: Nanos,
    /// Hosts that cannot reach it.
    pub(crate) cut_off: BTreeSet<usize>,
    /// How many in a thousand answers are lost.
    pub(crate) lost_permille: u64,
    /// Hosts whose proposals do not get through yet, by a script.
    pub(crate) held_back: BTreeSet<usize>,
    /// Those proposals.
    pub(crate) on_their_way: Vec<(usize, Configuration)>,
    /// The highest epoch that anything was answered under, and by whom.
    pub(crate) answered: Option<(u64, usize, usize)>,
}

impl World {
    /// A node asks the arbiter.
    pub(crate) fn ask_register(&mut self, host: usize, question: Question) {
        if let Question::Propose(next) = question {
            self.check_proposal(host, next);
        }
        let life = self.hosts[host].life;
        if let Question::Propose(next) = question
            && self.register.held_back.contains(&host)
        {
            self.register.on_their_way.push((host, next));
            let answer = Answer::Unreachable;
            let at = self.now + PATIENCE;
            return self.schedule(at, Happening::Answer { host, life, answer });
        }
        let reaches =
            self.now >= self.register.away_until && !self.register.cut_off.contains(&host);
        let loses = self.chance.permille(self.register.lost_permille);
        let delay = self.chance.interval(2 * MILLISECOND);
        // What cannot get through now may do so later, when its sender has given it up.
        let late = !reaches || loses;
        let arrives = reaches || self.chance.permille(500);
        let wait = match reaches {
            true => delay,
            false => delay + self.chance.below(20 * PATIENCE),
        };
        if arrives {
            let at = self.now + wait;
            self.schedule(
                at,
                Happening::Question {
                    host,
                    life,
                    late,
                    question,
                },
            );
        }
        if late {
            let answer = Answer::Unreachable;
            self.schedule(
                self.now + PATIENCE,
                Happening::Answer { host, life, answer },
            );
        }
    }

    /// A question reaches the register, which does as it is told and answers.
    pub(crate) fn question_arrives(
        &mut self,
        host: usize,
        life: u64,
        late: bool,
        question: Question,
    ) {
        let before = self.register.held;
        match question {
            Question::Propose(next) if before.is_some_and(|held| held.epoch + 1 == next.epoch) => {
                self.register_takes(host, next);
            }
            Question::Propose(next) if self.swaps_always() => self.register_takes(host, next),
            Question::Seed(first) if before.is_none() => self.register.held = Some(first),
            Question::Read | Question::Propose(_) | Question::Seed(_) => {}
        }
        if late {
            return;
        }
        let answer = self.register.held.map_or(Answer::Empty, Answer::Holds);
        let at = self.now + self.chance.interval(2 * MILLISECOND);
        self.schedule(at, Happening::Answer { host, life, answer });
    }

    /// R5a: a proposal is durable before it is sent. R2: so are the marks for those whom it drops, unless the register has gone
    /// on: what its answer would tell was lost with the proposer, who asks again.
    fn check_proposal(&mut self, host: usize, next: Configuration) {
        let superblock = self.hosts[host].meta.superblock();
        let (durable, now) = (superblock.proposal, superblock.configuration);
        if durable != Some(next) {
            return self.fail(Checker::R5a, || {
                format!("{host} proposes {next:?}, and {durable:?} is durable")
            });
        }
        let may_take = |held: Configuration| held.epoch < next.epoch;
        if self.register.held.is_none_or(may_take) {
            self.check_drop(host, now, next);
        }
    }

    /// The register moves on.
    fn register_takes(&mut self, host: usize, next: Configuration) {
        self.trace.line(self.now, || {
            format!("the register takes {next:?} of {host}")
        });
        let Some(before) = self.register.held.replace(next) else {
            return;
        };
        let lineage = self.lineages.of(before.generation).unwrap_or(0);
        if self.lineages.of(next.generation).is_none() {
            let slot = self.hosts[host].slot;
            let promotes = next.primary == Some(slot);
            if promotes && std::mem::take(&mut self.hosts[host].forced) {
                return self.fork(host, next, lineage);
            }
            self.lineages.extend(next.generation, lineage);
        }
        self.committed(host, lineage, next);
    }

    /// R5: once anything was answered under an epoch, nothing is by another primary under an earlier one.
    pub(crate) fn check_one_primary(&mut self, host: usize) {
        if self.register.held.is_none() {
            return;
        }
        let epoch = self.hosts[host].meta.superblock().configuration.epoch;
        // Who forces a history of his own has to see to it that nobody serves the other.
        let lineage = self.lineage_of(host);
        match self.register.answered {
            Some((latest, by, of)) if epoch < latest && by != host && of == lineage => self
                .fail(Checker::R5, || {
                    format!("{host} answers under epoch {epoch}, and {by} has under {latest}")
                }),
            Some((latest, ..)) if epoch <= latest => {}
            _ => self.register.answered = Some((epoch, host, lineage)),
        }
    }

    /// Nothing binds with an arbiter that it does not hold, or has held.
    pub(crate) fn check_held(&mut self, host: usize, next: Configuration) {
        let held = self.register.held;
        if held.is_some_and(|held| held.epoch < next.epoch) {
            self.fail(Checker::R5a, || {
                format!("{host} goes by {next:?}, and the register holds {held:?}")
            });
        }
    }

    /// A host's process stops, and goes on later as if nothing had happened.
    pub(crate) fn stop_process(&mut self, host: usize, until: Nanos) {
        if self.hosts[host].node.is_some() && self.phase == Phase::Turmoil {
            self.hosts[host].stopped_until = until;
            let life = self.hosts[host].life;
            self.schedule(until, Happening::Continue { host, life });
        }
    }

    /// What a stopped process has missed comes all at once.
    pub(crate) fn process_continues(&mut self, host: usize) {
        while self.now >= self.hosts[host].stopped_until {
            let Some(event) = self.hosts[host].waiting.pop_front() else {
                return;
            };
            self.step(host, event);
        }
    }
}
