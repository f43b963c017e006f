//! The world: virtual time, one queue of happenings, and the nodes that they happen to.

use self::check::Checks;
use self::clients::Clients;
use self::faults::Cure;
use self::growth::Growth;
use self::membership::Membership;
use self::operators::Operators;
use self::planted::Saboteur;
use self::register::Register;
use self::script::Cue;
use self::states::States;
use crate::coverage::Coverage;
use crate::failure::{Checker, Failure};
use crate::host::Host;
use crate::lineage::Lineages;
use crate::network::{ConnectionId, Network};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::trace::Trace;
use replica::arbiter::Question;
use replica::event::{Effects, Event, IoId, Nanos};
use std::collections::{BTreeMap, VecDeque};

mod birth;
pub mod check;
pub mod clients;
mod effects;
pub mod faults;
mod growth;
mod links;
mod lives;
mod membership;
pub mod operators;
pub mod planted;
mod register;
pub mod script;
pub mod states;
mod storage;

/// Something that will happen.
#[derive(Debug)]
pub enum Happening {
    /// An operation of a shell ends.
    Done {
        /// Whose.
        host: usize,
        /// In which life.
        life: u64,
        /// Which.
        io: IoId,
    },
    /// A shell has no more events at hand.
    TurnEnded {
        /// Whose.
        host: usize,
        /// In which life.
        life: u64,
    },
    /// The next packet of a stream arrives.
    Arrival {
        /// Where.
        connection: ConnectionId,
        /// From which end.
        end: usize,
    },
    /// Two nodes try to connect.
    Dial {
        /// Which, lower first.
        pair: (usize, usize),
    },
    /// A client acts.
    Client {
        /// Which.
        client: usize,
    },
    /// The clients of a node have been disconnected.
    ClientGone {
        /// Whose.
        host: usize,
        /// In which life.
        life: u64,
        /// Which.
        client: u32,
    },
    /// Something goes wrong.
    Fault,
    /// A fault ends.
    Cure(Cure),
    /// A question reaches the arbiter.
    Question {
        /// Whose.
        host: usize,
        /// In which life: who has died hears no answer.
        life: u64,
        /// Nobody waits for it any more.
        late: bool,
        /// What.
        question: Question,
    },
    /// The arbiter's answer, or the end of patience, reaches a node.
    Answer {
        /// Which.
        host: usize,
        /// In which life.
        life: u64,
        /// What.
        answer: replica::arbiter::Register,
    },
    /// A stopped process goes on.
    Continue {
        /// Whose.
        host: usize,
        /// In which life.
        life: u64,
    },
    /// The operators look at the nodes.
    Operators,
    /// A lie is told.
    Lie {
        /// To whom.
        host: usize,
        /// In which life.
        life: u64,
        /// What.
        event: Event,
    },
    /// The script goes on.
    Cue,
    /// A node starts.
    Start {
        /// Which.
        host: usize,
    },
}

/// What goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Clients work and things go wrong.
    Turmoil,
    /// Nothing goes wrong any more; all has to be well by then.
    Calm {
        /// When.
        until: Nanos,
    },
    /// All is well.
    Over,
}

/// The world.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Nanos,
    pub(crate) phase: Phase,
    queue: BTreeMap<(Nanos, u64), Happening>,
    tie: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) operators: Operators,
    pub(crate) growth: Growth,
    pub(crate) membership: Membership,
    pub(crate) lineages: Lineages,
    pub(crate) checks: Checks,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) register: Register,
    /// What is still to come, where a script takes the place of chance.
    script: VecDeque<Cue>,
    pub(crate) saboteur: Saboteur,
    pub(crate) states: States,
    /// Draws for latencies and outcomes.
    pub(crate) chance: Rng,
    /// Draws for faults and operators.
    pub(crate) fate: Rng,
    effects: Effects,
    failure: Option<Failure>,
}

impl World {
    /// Runs until all is well, or a checker complains.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.begin();
        while self.phase != Phase::Over {
            self.happen();
            if let Some(failure) = self.failure.take() {
                self.trace.line(self.now, || format!("FAILED {failure}"));
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Lets the next thing happen.
    fn happen(&mut self) {
        let woken = self
            .hosts
            .iter()
            .enumerate()
            .filter_map(|(at, host)| Some((host.tick?, at)));
        let woken = woken.min();
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (woken, next) {
            (Some((at, host)), next) if next.is_none_or(|next| at < next) => {
                self.now = self.now.max(at);
                self.hosts[host].tick = None;
                self.step(host, Event::Tick);
            }
            (_, Some(_)) => {
                let Some(((at, _), happening)) = self.queue.pop_first() else {
                    return;
                };
                self.now = self.now.max(at);
                self.handle(happening);
            }
            _ => self.fail(Checker::Contract, || {
                "nothing will ever happen again".into()
            }),
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Done { host, life, io } if self.lives(host, life) => self.io_ends(host, io),
            Happening::TurnEnded { host, life } if self.lives(host, life) => {
                self.hosts[host].turn_scheduled = false;
                self.step(host, Event::TurnEnded);
                self.check_after_turn(host);
            }
            Happening::ClientGone { host, life, client } if self.lives(host, life) => {
                self.step(host, Event::ClientGone { client });
            }
            Happening::Lie { host, life, event } if self.lives(host, life) => {
                self.step(host, event);
            }
            Happening::Answer { host, life, answer } if self.lives(host, life) => {
                self.step(host, Event::ArbiterAnswered(answer));
            }
            Happening::Continue { host, life } if self.lives(host, life) => {
                self.process_continues(host);
            }
            Happening::Question {
                host,
                life,
                late,
                question,
            } => self.question_arrives(host, life, late, question),
            Happening::Answer { .. }
            | Happening::Continue { .. }
            | Happening::Done { .. }
            | Happening::TurnEnded { .. }
            | Happening::ClientGone { .. }
            | Happening::Lie { .. } => {}
            Happening::Arrival { connection, end } => self.arrive(connection, end),
            Happening::Dial { pair } => self.dial(pair),
            Happening::Client { client } => self.client_acts(client),
            Happening::Fault => self.strike(),
            Happening::Cure(cure) => self.cure(cure),
            Happening::Operators => self.operators_look(),
            Happening::Cue => self.cue(),
            Happening::Start { host } => self.start(host),
        }
    }

    /// Whether the host's process is still the one that it was.
    pub(crate) fn lives(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].node.is_some()
    }

    /// Puts a happening into the queue.
    pub(crate) fn schedule(&mut self, at: Nanos, happening: Happening) {
        self.tie += 1;
        self.queue.insert((at.max(self.now), self.tie), happening);
    }

    /// Steps a node, and carries out what it wants.
    pub(crate) fn step(&mut self, host: usize, event: Event) {
        if self.hosts[host].stopped_until > self.now {
            self.hosts[host].waiting.push_back(event);
            return;
        }
        let Some(event) = self.sabotage_event(host, event) else {
            return;
        };
        self.coverage.event(&event);
        self.trace.event(self.now, host, &event);
        let turn_over = matches!(event, Event::TurnEnded);
        self.check_before(host, &event);
        let clock = self.hosts[host].clock(self.now);
        let mut effects = std::mem::take(&mut self.effects);
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        node.step(clock, event, &mut effects);
        self.carry_out_all(host, &mut effects);
        self.effects = effects;
        self.look_at_deadline(host);
        if !turn_over {
            self.schedule_turn(host);
        }
    }

    /// Carries the effects of a step out, unless the process dies among them.
    fn carry_out_all(&mut self, host: usize, effects: &mut Effects) {
        let life = self.hosts[host].life;
        for effect in effects.drain(..) {
            if !self.lives(host, life) {
                continue;
            }
            if self.is_fatal(host) {
                self.kill(host);
                continue;
            }
            if let Some(effect) = self.sabotage_effect(host, effect) {
                self.carry_out(host, effect);
            }
        }
    }

    /// Whether the process dies before its next effect.
    fn is_fatal(&mut self, host: usize) -> bool {
        let Some(left) = &mut self.hosts[host].dies_after else {
            return false;
        };
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn look_at_deadline(&mut self, host: usize) {
        let now = self.now;
        let host = &mut self.hosts[host];
        let deadline = host.node.as_ref().and_then(|node| node.deadline());
        // A deadline in the past must not stop the world.
        host.tick = deadline.map(|clock| {
            let ahead = clock.saturating_sub(host.clock(now));
            now + host.lasts(ahead).max(1000)
        });
    }

    /// The shell's turn ends a little after the first event of it.
    fn schedule_turn(&mut self, host: usize) {
        if self.hosts[host].turn_scheduled || self.hosts[host].node.is_none() {
            return;
        }
        self.hosts[host].turn_scheduled = true;
        let at = self.now + self.chance.below(self.plan.turn);
        let life = self.hosts[host].life;
        self.schedule(at, Happening::TurnEnded { host, life });
    }

    /// A promise is broken; the first is what counts.
    pub(crate) fn fail(&mut self, checker: Checker, message: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(Failure {
                checker,
                message: message(),
            });
        }
    }

    /// The history that a node's data belongs to.
    pub(crate) fn lineage_of(&self, host: usize) -> usize {
        let generation = self.hosts[host].meta.superblock().data_generation;
        self.lineages.of(generation).unwrap_or(0)
    }

    /// Whether the disks of two hosts hold the same everywhere.
    pub(crate) fn identical(&self, left: usize, right: usize) -> bool {
        let [left, right] = [&self.hosts[left].disk, &self.hosts[right].disk];
        left.blocks().eq(right.blocks())
    }

    /// What a run came to.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            operations: self.clients.completed,
            faults: self.coverage.faults(),
            blackouts: self.checks.blackouts,
            nanos: self.now,
        }
    }

    /// The counts of a run.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// What happened, as far as it is remembered.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }
}

/// What a run came to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outcome {
    /// Client operations that were answered.
    pub operations: u64,
    /// Faults.
    pub faults: u64,
    /// Times at which every node lost its power.
    pub blackouts: u64,
    /// The world's time at the end.
    pub nanos: Nanos,
}
