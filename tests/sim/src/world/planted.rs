//! Planted faults: lies told between a core and its shell, each of which a checker must find.

use crate::content::Content;
use crate::plan::MILLISECOND;
use crate::world::{Happening, World};
use format::frame::{Acks, Frame};
use format::superblock::Superblock;
use format::types::{DiskState, Slot, Span};
use replica::command::Command;
use replica::event::{Buffer, Effect, Event, IoId, SessionId, Token};
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
    /// News of a configuration are lost on their way.
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
    pub(crate) fn sabotage_effect(&mut self, host: usize, effect: Effect) -> Option<Effect> {
        let Some(lie) = self.saboteur.lie else {
            return Some(effect);
        };
        let serves = self.hosts[host].serves();
        match (lie, effect) {
            (Lie::PrimaryLog, Effect::WriteLog { io, .. }) if serves => self.pretend(host, io),
            (Lie::SecondaryLog, Effect::WriteLog { io, .. }) if !serves => self.pretend(host, io),
            (Lie::Page, Effect::WritePage { io, .. })
            | (Lie::Flush, Effect::FlushLocal { io })
            | (Lie::Zero, Effect::ZeroLocal { io, .. }) => self.pretend(host, io),
            (Lie::Write, Effect::WriteLocal { io, .. }) if !serves => self.pretend(host, io),
            (Lie::Overlay, Effect::Overlay { .. }) | (Lie::Release, Effect::Release(_)) => None,
            (Lie::Marks, Effect::WritePage { io, mut page }) => {
                page.masks.fill(0);
                Some(Effect::WritePage { io, page })
            }
            (
                Lie::Fua,
                Effect::WriteLocal {
                    io,
                    span,
                    buffer,
                    start,
                    ..
                },
            ) => Some(Effect::WriteLocal {
                io,
                span,
                buffer,
                start,
                fua: false,
            }),
            (
                Lie::Replay,
                Effect::WriteLocal {
                    io,
                    span,
                    buffer,
                    start,
                    fua,
                },
            ) if !serves => {
                self.replay(host, span, buffer, start);
                Some(Effect::WriteLocal {
                    io,
                    span,
                    buffer,
                    start,
                    fua,
                })
            }
            (Lie::Redial, Effect::Disconnect { peer, session, .. }) => Some(Effect::Disconnect {
                peer,
                session,
                retry: false,
            }),
            (
                Lie::Refusal,
                Effect::Complete {
                    token,
                    result: Err(_),
                },
            ) if self.wrote(token) => Some(Effect::Complete {
                token,
                result: Ok(None),
            }),
            (_, Effect::WriteSuperblock { io, superblock }) => {
                self.sabotage_superblock(lie, host, io, superblock)
            }
            (
                _,
                Effect::Send {
                    peer,
                    session,
                    frame,
                    epoch,
                    payload,
                },
            ) => {
                let frame = self.sabotage_sending(lie, host, (peer, session), frame, epoch)?;
                Some(Effect::Send {
                    peer,
                    session,
                    frame,
                    epoch,
                    payload,
                })
            }
            (_, effect) => Some(effect),
        }
    }

    fn sabotage_superblock(
        &mut self,
        lie: Lie,
        host: usize,
        io: IoId,
        mut superblock: Box<Superblock>,
    ) -> Option<Effect> {
        let now = self.hosts[host].meta.superblock();
        let members = now.configuration.in_sync;
        let drops = !members
            .difference(superblock.configuration.in_sync)
            .is_empty();
        let spoils = now.disk_state != DiskState::Inconsistent
            && superblock.disk_state == DiskState::Inconsistent;
        match lie {
            Lie::Drop if drops => return self.pretend(host, io),
            Lie::Inconsistent if spoils => return self.pretend(host, io),
            Lie::DropVoidsLog if drops => superblock.log_instance ^= 1,
            _ => {}
        }
        Some(Effect::WriteSuperblock { io, superblock })
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

    /// The operation will be reported done, and nothing is.
    fn pretend(&mut self, host: usize, io: IoId) -> Option<Effect> {
        self.pretend_done(host, io);
        None
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

    /// Whether the request was a write.
    fn wrote(&self, token: Token) -> bool {
        self.clients.is_write(token)
    }

    /// What was there before is what a read returns, now and then.
    pub(crate) fn reads_stale(&mut self) -> bool {
        self.saboteur.lie == Some(Lie::Read) && self.chance.permille(20)
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
