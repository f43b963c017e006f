//! A world in which nothing goes wrong by chance: a script says who hears whom, who fails, and when. So the ways that
//! the model of the protocol finds (`tests/model`) are gone with the real core.

use crate::plan::MILLISECOND;
use crate::world::{Happening, World};
use replica::arbiter::Question;
use replica::command::Command;
use replica::event::Nanos;

/// How long the world has, before the first cue, to get under way.
pub(crate) const PRELUDE: Nanos = 300 * MILLISECOND;

/// One line of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cue {
    /// What one host sends reaches another, or waits.
    Link {
        /// Who sends.
        from: usize,
        /// To whom.
        to: usize,
        /// Whether it gets through.
        open: bool,
    },
    /// What a host proposes to the register reaches it at once, or not before it is delivered.
    Proposals {
        /// Whose.
        host: usize,
        /// Whether they get through.
        open: bool,
    },
    /// What a host has proposed reaches the register. Nobody hears the answer.
    Deliver {
        /// Whose.
        host: usize,
    },
    /// A process dies.
    Crash {
        /// Whose.
        host: usize,
    },
    /// A host loses its power.
    PowerCut {
        /// Which.
        host: usize,
    },
    /// A process starts, if it is down.
    Start {
        /// Whose.
        host: usize,
    },
    /// The next write to a disk gives an error.
    DiskFails {
        /// Whose.
        host: usize,
    },
    /// An operator gives a command.
    Command {
        /// To whom.
        host: usize,
        /// Which.
        command: Command,
    },
    /// Time passes.
    Wait(Nanos),
}

impl World {
    /// The next cues, up to one that takes time; after the last of them all is mended.
    pub(crate) fn cue(&mut self) {
        while let Some(cue) = self.script.pop_front() {
            self.trace.line(self.now, || format!("script: {cue:?}"));
            if let Cue::Wait(nanos) = cue {
                return self.schedule(self.now + nanos, Happening::Cue);
            }
            self.act(cue);
        }
        for host in 0..self.hosts.len() {
            self.act(Cue::Proposals { host, open: true });
            self.act(Cue::Deliver { host });
        }
        self.calm_down();
        self.schedule(self.now, Happening::Operators);
    }

    fn act(&mut self, cue: Cue) {
        match cue {
            Cue::Link { from, to, open } => {
                self.block(from, to, !open);
                if open {
                    self.want_link(from, to);
                }
            }
            Cue::Proposals { host, open: true } => {
                self.register.held_back.remove(&host);
            }
            Cue::Proposals { host, open: false } => {
                self.register.held_back.insert(host);
            }
            Cue::Deliver { host } => {
                let life = self.hosts[host].life;
                let all = std::mem::take(&mut self.register.on_their_way);
                let (theirs, others): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(|(of, _)| *of == host);
                self.register.on_their_way = others;
                for (_, next) in theirs {
                    self.question_arrives(host, life, true, Question::Propose(next));
                }
            }
            Cue::Crash { host } => self.kill(host),
            Cue::PowerCut { host } => self.lose_power(host),
            Cue::Start { host } => self.start(host),
            Cue::DiskFails { host } => self.hosts[host].ailment.write_errors = 1,
            Cue::Command { host, command } => self.command(host, command),
            Cue::Wait(_) => {}
        }
    }
}
