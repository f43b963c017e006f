//! Planted faults: lies told between a core and its shell, each of which a checker must find.

use crate::content::Content;
use crate::plan::MILLISECOND;
use crate::world::{Happening, World};
use format::frame::{Acks, Frame};
use format::superblock::Superblock;
use format::types::{DiskState, NodeSet, Slot, Span};
use replica::arbiter::Register;
use replica::command::Command;
use replica::event::{Buffer, Effect, Event, IoId, SessionId};
use std::collections::{BTreeMap, BTreeSet};

mod table;
pub use table::{PLANTS, Plant};

/// What is told falsely.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// A primary's log block is reported durable, and was not written.
    PrimaryLog,
    /// The same of another replica.
    SecondaryLog,
    /// A page is reported durable, and was not written.
    Page,
    /// A page is written without its marks.
    Marks,
    /// The superblock that calls a resync's target inconsistent is not written.
    Inconsistent,
    /// The superblock that drops a member is not written.
    Drop,
    /// The superblock that drops a member voids the log.
    DropVoidsLog,
    /// A flush is reported done, and was not begun.
    Flush,
    /// A member's answer to a flush comes before it has flushed.
    FlushDone,
    /// FUA is ignored.
    Fua,
    /// The ragged edges of a write are lost.
    Overlay,
    /// Another replica's write is reported done, and was not begun.
    Write,
    /// Another replica's zero is reported done, and was not begun.
    Zero,
    /// A member's acknowledgement comes before its write is done.
    EarlyAck,
    /// An old write is applied again, over a newer one.
    Replay,
    /// A replica tells a peer that it has no marks.
    NoMarks,
    /// A boot is not told from the one before.
    Reboot,
    /// Blocks that differ are said to be equal.
    Verdict,
    /// All hashes are the same.
    Hash,
    /// All writes are said to be durable everywhere.
    Stable,
    /// A peer's marks are lost on their way.
    MarksFrame,
    /// News of a configuration are lost on their way, and later frames do not tell of it.
    Configuration,
    /// A peer that hears nothing seems to answer.
    Pong,
    /// A write that a superseded primary has refused is acknowledged.
    Refusal,
    /// A promotion is forced and nobody asked for it.
    Force,
    /// A buffer is never handed back.
    Release,
    /// A read returns what was there before.
    Read,
    /// A link that is to be dialled again is not.
    Redial,
    /// The register takes proposals whatever they were built on.
    Swap,
    /// Who is no member is told that the register counts it as one.
    Member,
    /// A proposal is reported durable, and was not written.
    Proposal,
    /// All but one node have a clock that runs eight times too fast: their grace is shorter than the lease of the one.
    Grace,
    /// A new replica is taken for one that has been up to date, and misses what is marked for it: nothing, for those
    /// who start anew.
    Newborn,
    /// Nobody but the primary is told of a new replica.
    Untold,
    /// Nobody is told that a replica is to go.
    Kept,
}

/// Who tells lies, and what has to be remembered for them.
#[derive(Default, Debug)]
pub struct Saboteur {
    lie: Option<Lie>,
    /// Acknowledgements that have been given early: (host, sequence).
    given: BTreeSet<(usize, u64)>,
    /// Answers to flushes that have been given early: (host, token).
    flushed: BTreeSet<(usize, u64)>,
    /// The last write frame to each host.
    last_write: BTreeMap<usize, (Span, Content)>,
}

impl Saboteur {
    /// One who tells this lie whenever he can.
    pub fn telling(lie: Lie) -> Saboteur {
        Saboteur {
            lie: Some(lie),
            ..Saboteur::default()
        }
    }

    /// What the clocks of all but one host gain in a second beside what they may, in nanoseconds.
    pub(crate) fn haste(&self) -> i64 {
        match self.lie {
            Some(Lie::Grace) => 7_000_000_000,
            _ => 0,
        }
    }
}

impl World {
    /// What a node is told instead of an event, if anything.
    pub(crate) fn sabotage_event(&mut self, host: usize, event: Event) -> Option<Event> {
        let Some(lie) = self.saboteur.lie else {
            return Some(event);
        };
        match (lie, event) {
            (Lie::Hash, Event::Hashed { io, digests }) => {
                let digests = digests.iter().map(|_| [7; 16]).collect();
                Some(Event::Hashed { io, digests })
            }
            (Lie::Member, Event::ArbiterAnswered(Register::Holds(mut held))) => {
                let slot = self.hosts[host].slot;
                if !self.hosts[host].serves() {
                    held.in_sync = held.in_sync.with(slot);
                }
                Some(Event::ArbiterAnswered(Register::Holds(held)))
            }
            (
                Lie::Force,
                Event::Command {
                    id,
                    command: Command::Promote { .. },
                },
            ) => {
                let command = Command::Promote { force: true };
                self.hosts[host].forced = false;
                Some(Event::Command { id, command })
            }
            (Lie::Untold | Lie::Kept, Event::Command { id, command }) => {
                let command = self.sabotage_command(lie, host, command);
                Some(Event::Command { id, command })
            }
            (
                _,
                Event::Frame {
                    peer,
                    session,
                    frame,
                    epoch,
                    payload,
                },
            ) => {
                let frame = self.sabotage_frame(lie, host, (peer, session), frame, epoch)?;
                let epoch = match (lie, &self.hosts[host].node) {
                    (Lie::Configuration, Some(node)) => {
                        epoch.min(node.status().configuration.epoch)
                    }
                    _ => epoch,
                };
                Some(Event::Frame {
                    peer,
                    session,
                    frame,
                    epoch,
                    payload,
                })
            }
            (_, event) => Some(event),
        }
    }

    /// What a node is told to do instead of a command: something that is done at once and changes nothing.
    fn sabotage_command(&self, lie: Lie, host: usize, command: Command) -> Command {
        match (lie, &command) {
            (Lie::Untold, Command::AddReplica { .. }) if !self.hosts[host].serves() => {
                Command::Pause(false)
            }
            (Lie::Kept, Command::RemoveReplica { .. }) => Command::Pause(false),
            _ => command,
        }
    }

    /// What arrives instead of a frame, if anything.
    fn sabotage_frame(
        &mut self,
        lie: Lie,
        host: usize,
        (peer, session): (Slot, SessionId),
        frame: Frame,
        epoch: u64,
    ) -> Option<Frame> {
        match (lie, frame) {
            (Lie::EarlyAck, frame @ Frame::Write { sequence, .. }) => {
                let mut acks = Acks::default();
                if acks.push(sequence) {
                    self.saboteur.given.insert((host, sequence));
                    self.forge(host, peer, session, &Frame::Acks(acks), epoch);
                }
                Some(frame)
            }
            (Lie::FlushDone, frame @ Frame::Flush { token, .. }) => {
                self.saboteur.flushed.insert((host, token));
                self.forge(
                    host,
                    peer,
                    session,
                    &Frame::FlushDone { token, fault: None },
                    epoch,
                );
                Some(frame)
            }
            (Lie::NoMarks, Frame::Identity(mut identity)) => {
                identity.marked_blocks = 0;
                identity.known_incarnation = 0;
                Some(Frame::Identity(identity))
            }
            (Lie::Verdict, Frame::ChunkVerdict { chunk, fault, .. }) => Some(Frame::ChunkVerdict {
                chunk,
                differing: 0,
                fault,
            }),
            (Lie::Stable, frame) => Some(stable(frame)),
            (Lie::MarksFrame, Frame::Marks { .. }) => None,
            (Lie::Configuration, Frame::Configuration(_)) => None,
            (_, frame) => Some(frame),
        }
    }

    /// What is done instead of an effect, if anything.
    pub(crate) fn sabotage_effect(&mut self, host: usize, mut effect: Effect) -> Option<Effect> {
        let Some(lie) = self.saboteur.lie else {
            return Some(effect);
        };
        if let Some(io) = self.skipped(lie, host, &effect) {
            self.pretend_done(host, io);
            return None;
        }
        let serves = self.hosts[host].serves();
        match (lie, &mut effect) {
            (Lie::Overlay, Effect::Overlay { .. }) | (Lie::Release, Effect::Release(_)) => {
                return None;
            }
            (Lie::Marks, Effect::WritePage { page, .. }) => page.masks.fill(0),
            (Lie::Fua, Effect::WriteLocal { fua, .. }) => *fua = false,
            (Lie::Newborn, Effect::WriteSuperblock { superblock, .. }) => {
                superblock.marks_valid = NodeSet::from_bits(u8::MAX);
            }
            (Lie::Redial, Effect::Disconnect { retry, .. }) => *retry = false,
            (Lie::Refusal, Effect::Complete { token, result })
                if result.is_err() && self.clients.is_write(*token) =>
            {
                *result = Ok(None);
            }
            (Lie::DropVoidsLog, Effect::WriteSuperblock { superblock, .. })
                if self.drops(host, superblock) =>
            {
                superblock.log_instance ^= 1;
            }
            (
                Lie::Replay,
                Effect::WriteLocal {
                    span,
                    buffer,
                    start,
                    ..
                },
            ) if !serves => {
                self.replay(host, *span, *buffer, *start);
            }
            (
                _,
                Effect::Send {
                    peer,
                    session,
                    frame,
                    epoch,
                    ..
                },
            ) => {
                let told = std::mem::replace(frame, Frame::WalkEnd);
                *frame = self.sabotage_sending(lie, host, (*peer, *session), told, *epoch)?;
            }
            _ => {}
        }
        Some(effect)
    }

    /// The operation that is reported done and not begun, if this is to be one.
    fn skipped(&self, lie: Lie, host: usize, effect: &Effect) -> Option<IoId> {
        let serves = self.hosts[host].serves();
        let now = self.hosts[host].meta.superblock();
        match (lie, effect) {
            (Lie::PrimaryLog, Effect::WriteLog { io, .. }) => Some(*io).filter(|_| serves),
            (Lie::SecondaryLog, Effect::WriteLog { io, .. })
            | (Lie::Write, Effect::WriteLocal { io, .. }) => Some(*io).filter(|_| !serves),
            (Lie::Page, Effect::WritePage { io, .. })
            | (Lie::Flush, Effect::FlushLocal { io })
            | (Lie::Zero, Effect::ZeroLocal { io, .. }) => Some(*io),
            (Lie::Drop, Effect::WriteSuperblock { io, superblock }) => {
                Some(*io).filter(|_| self.drops(host, superblock))
            }
            (Lie::Proposal, Effect::WriteSuperblock { io, superblock }) => {
                Some(*io).filter(|_| superblock.proposal.is_some() && now.proposal.is_none())
            }
            (Lie::Inconsistent, Effect::WriteSuperblock { io, superblock }) => {
                let spoils = now.disk_state != DiskState::Inconsistent
                    && superblock.disk_state == DiskState::Inconsistent;
                Some(*io).filter(|_| spoils)
            }
            _ => None,
        }
    }

    /// Whether a member is no longer one in this superblock.
    fn drops(&self, host: usize, superblock: &Superblock) -> bool {
        let members = self.hosts[host].meta.superblock().configuration.in_sync;
        !members
            .difference(superblock.configuration.in_sync)
            .is_empty()
    }

    /// What is sent instead of a frame, if anything.
    fn sabotage_sending(
        &mut self,
        lie: Lie,
        host: usize,
        (peer, session): (Slot, SessionId),
        frame: Frame,
        epoch: u64,
    ) -> Option<Frame> {
        match (lie, frame) {
            (Lie::EarlyAck, Frame::Acks(acks)) => {
                let mut left = Acks::default();
                for sequence in acks.as_slice() {
                    if !self.saboteur.given.remove(&(host, *sequence)) {
                        let _ = left.push(*sequence);
                    }
                }
                (!left.as_slice().is_empty()).then_some(Frame::Acks(left))
            }
            (Lie::FlushDone, Frame::FlushDone { token, fault }) => {
                let given = self.saboteur.flushed.remove(&(host, token));
                (!given).then_some(Frame::FlushDone { token, fault })
            }
            (
                Lie::Pong,
                Frame::Ping {
                    sent_at,
                    stable_through,
                },
            ) => {
                let frame = Frame::Pong { echo: sent_at };
                let event = Event::Frame {
                    peer,
                    session,
                    frame,
                    epoch,
                    payload: None,
                };
                let life = self.hosts[host].life;
                self.schedule(self.now + MILLISECOND, Happening::Lie { host, life, event });
                Some(Frame::Ping {
                    sent_at,
                    stable_through,
                })
            }
            (_, frame) => Some(frame),
        }
    }

    /// A frame that its sender has not sent.
    fn forge(&mut self, from: usize, to: Slot, session: SessionId, frame: &Frame, epoch: u64) {
        if let Some(id) = self.session(from, to.index(), session) {
            self.push_frame(id, from, frame, epoch, None);
        }
    }

    /// An overlapping older write reaches the disk once more, soon after this one begins.
    fn replay(&mut self, host: usize, span: Span, buffer: Buffer, start: u32) {
        let content = self.hosts[host].arena.get(buffer).cloned();
        let Ok(content) = content else { return };
        let from = crate::content::sectors(start.into());
        let length = crate::content::sectors(span.length);
        let new: Content = content[from..from + length].to_vec().into();
        let old = self.saboteur.last_write.insert(host, (span, new));
        if let Some((old_span, old)) = old.filter(|(old, _)| old.overlaps(span)) {
            let changed = self.hosts[host].disk.overwrite(old_span, &old);
            self.blocks_changed(host, &changed);
        }
    }

    /// What was there before is what a read returns, now and then.
    pub(crate) fn reads_stale(&mut self) -> bool {
        self.saboteur.lie == Some(Lie::Read) && self.chance.permille(20)
    }

    /// The register takes every proposal.
    pub(crate) fn swaps_always(&self) -> bool {
        self.saboteur.lie == Some(Lie::Swap)
    }

    /// A new replica is not told from one that has been up to date.
    pub(crate) fn trusts_newborns(&self) -> bool {
        self.saboteur.lie == Some(Lie::Newborn)
    }

    /// A boot is not told from the one before.
    pub(crate) fn hides_boots(&self) -> bool {
        self.saboteur.lie == Some(Lie::Reboot)
    }
}

/// A frame that calls all writes durable everywhere.
fn stable(mut frame: Frame) -> Frame {
    match &mut frame {
        Frame::Write { stable_through, .. }
        | Frame::Zero { stable_through, .. }
        | Frame::Flush { stable_through, .. }
        | Frame::Ping { stable_through, .. } => *stable_through = u64::MAX - 1,
        _ => {}
    }
    frame
}
