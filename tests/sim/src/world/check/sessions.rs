//! The checkers of what peers say to each other: R5, R8, R9's union, and what a primary has been told.

use super::Checks;
use crate::content::blocks;
use crate::failure::Checker;
use crate::network::ConnectionId;
use crate::plan::MILLISECOND;
use crate::world::World;
use format::frame::{Frame, Walk};
use format::types::{Configuration, Slot, Span};
use replica::event::{Event, Kind, Nanos, Request, SessionId};
use replica::notice::Notice;
use std::collections::BTreeMap;

/// What is known of one end of a connection.
#[derive(Default, Debug)]
pub(crate) struct Known {
    /// When this end sent the newest ping that the other has truly answered, in the world's time.
    answered: Nanos,
    /// Since when this end has believed in a link whose pings nobody answers.
    silent_since: Option<Nanos>,
    /// This end has come to a verdict.
    agreed: bool,
    /// The chunks that this end has marked for the other, as it said.
    told: BTreeMap<u32, u32>,
    /// Everything is compared.
    full: bool,
    /// A walk that copies what differs is under way, and no resync.
    repairing: bool,
}

impl Checks {
    fn known(&mut self, id: ConnectionId, end: usize) -> &mut Known {
        self.sessions.entry((id, end)).or_default()
    }
}

impl World {
    fn connection(&self, host: usize, peer: Slot, session: SessionId) -> Option<ConnectionId> {
        let id = self.network.open_of(host, peer.index())?;
        (id.0 == session.0).then_some(id)
    }

    /// Looks at an event before the node does.
    pub(crate) fn check_before(&mut self, host: usize, event: &Event) {
        let (peer, session, frame) = match event {
            Event::Frame {
                peer,
                session,
                frame,
                ..
            } => (peer, session, frame),
            Event::Request(Request { kind, span, .. }) => {
                if matches!(kind, Kind::Write { .. } | Kind::Zero { .. }) {
                    self.told_to_write(host, *span);
                }
                return;
            }
            _ => return,
        };
        if self.connection(host, *peer, *session).is_none() {
            return;
        }
        match frame {
            Frame::Write { offset, length, .. } => {
                self.told_to_write(host, Span::new(*offset, u64::from(*length)));
            }
            Frame::Zero { offset, length, .. } => {
                self.told_to_write(host, Span::new(*offset, *length));
            }
            Frame::Configuration(configuration) => self.told_of(host, *configuration),
            Frame::Identity(identity) => self.told_of(host, identity.configuration),
            _ => {}
        }
    }

    /// A client, or a primary, has a node write.
    fn told_to_write(&mut self, host: usize, span: Span) {
        let written = self.checks.written.entry(host).or_default();
        written.push(blocks(span));
    }

    /// A node is told of a configuration.
    fn told_of(&mut self, host: usize, configuration: Configuration) {
        let this = &self.hosts[host];
        let mine = this.meta.superblock().configuration;
        let same = self.lineages.of(configuration.generation) == Some(self.lineage_of(host));
        let later = same && configuration.epoch > mine.epoch;
        if later
            && configuration
                .primary
                .is_some_and(|primary| primary != this.slot)
        {
            let this = &mut self.hosts[host];
            this.superseded_by = this.superseded_by.max(Some(configuration.epoch));
        }
    }

    /// Looks at a frame before it is sent.
    pub(crate) fn check_send(
        &mut self,
        host: usize,
        peer: Slot,
        session: SessionId,
        frame: &Frame,
    ) {
        let Some(id) = self.connection(host, peer, session) else {
            return;
        };
        let end = self.network.connections[&id].end_of(host);
        match frame {
            Frame::Write { offset, length, .. } => {
                self.check_logged(host, Span::new(*offset, u64::from(*length)));
            }
            Frame::Zero { offset, length, .. } => {
                self.check_logged(host, Span::new(*offset, *length));
            }
            Frame::AdmitReady { .. } => self.hosts[host].promised_at = self.now,
            Frame::Pong { echo } => {
                let sent_at = self.hosts[peer.index()].world_time(*echo);
                let known = self.checks.known(id, 1 - end);
                known.answered = known.answered.max(sent_at);
            }
            Frame::Marks { first_chunk, masks } => {
                let told = &mut self.checks.known(id, end).told;
                for (chunk, mask) in (*first_chunk..).zip(masks) {
                    *told.entry(chunk).or_default() |= mask;
                }
            }
            Frame::ChunkHashes { walk, .. } => {
                self.checks.known(id, end).repairing |= *walk == Walk::Compare;
            }
            Frame::ChunkData { chunk, mask } | Frame::ChunkZero { chunk, mask } => {
                self.check_union(id, end, host, peer.index(), *chunk, *mask);
            }
            _ => {}
        }
    }

    /// R9: a chunk that is copied lies within the union of the marks.
    fn check_union(
        &mut self,
        id: ConnectionId,
        end: usize,
        host: usize,
        peer: usize,
        chunk: u32,
        mask: u32,
    ) {
        let full = (0..2).any(|end| {
            let known = self.checks.known(id, end);
            known.full || known.repairing
        });
        if full {
            return;
        }
        let told = |end| {
            let known = self.checks.sessions.get(&(id, end));
            known
                .and_then(|known| known.told.get(&chunk))
                .copied()
                .unwrap_or(0)
        };
        let bare = mask & !(told(end) | told(1 - end));
        let numbers: Vec<u32> = blocks(Span::chunk(chunk))
            .enumerate()
            .filter(|(bit, _)| bare & 1 << bit != 0)
            .map(|(_, number)| number)
            .collect();
        self.check_copied(host, peer, &numbers);
    }

    /// R5: a node believes in a link only while its pings are answered.
    pub(crate) fn check_after_turn(&mut self, host: usize) {
        let settings = self.plan.settings;
        let patience = settings.peer_timeout + 3 * settings.ping_interval + 200 * MILLISECOND;
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            let Some(id) = self.network.open_of(host, peer) else {
                continue;
            };
            let connection = &self.network.connections[&id];
            let end = connection.end_of(host);
            let made_at = connection.made_at;
            let answered = self.checks.known(id, end).answered.max(made_at);
            if self.now <= answered + patience || !self.is_past_handshake(host, peer) {
                self.checks.known(id, end).silent_since = None;
                continue;
            }
            // A handshake that has just ended leaves the node a moment to notice.
            let now = self.now;
            let since = *self.checks.known(id, end).silent_since.get_or_insert(now);
            if now > since + settings.peer_timeout {
                let silent = (now - answered) / MILLISECOND;
                self.fail(Checker::R5, || {
                    format!("{host} keeps its link to {peer}, which last answered {silent} ms ago")
                });
            }
        }
    }

    /// Looks at a notice: R8, and what a walk is.
    pub(crate) fn check_notice(&mut self, host: usize, notice: &Notice) {
        match notice {
            Notice::Handshake { peer, row } => {
                if let Some(id) = self.network.open_of(host, peer.index()) {
                    let end = self.network.connections[&id].end_of(host);
                    self.checks.known(id, end).agreed = true;
                }
                self.check_row(host, *peer, row);
            }
            Notice::Promoted { .. } => self.checks.written.clear(),
            Notice::ServesFlushed => self.reckon(self.lineage_of(host)),
            Notice::ResyncStarted {
                peer, full_because, ..
            } => {
                if let Some(id) = self.network.open_of(host, peer.index()) {
                    let end = self.network.connections[&id].end_of(host);
                    self.checks.known(id, end).full |= full_because.is_some();
                }
            }
            _ => {}
        }
    }

    /// Whether the node has come to a verdict over the link that it believes in now.
    pub(super) fn has_agreed(&self, host: usize, other: usize) -> bool {
        self.network.open_of(host, other).is_some_and(|id| {
            let end = self.network.connections[&id].end_of(host);
            let known = self.checks.sessions.get(&(id, end));
            known.is_some_and(|known| known.agreed)
        })
    }

    /// R8: no verdict is "nothing to do" while a side has marks. One over a link that the other has left concerns nobody:
    /// what it had marked when it spoke is not known any more, and nothing will be written by way of this link.
    fn check_row(&mut self, host: usize, peer: Slot, row: &'static str) {
        let left =
            self.network.open_of(host, peer.index()) != self.network.open_of(peer.index(), host);
        if left || !crate::coverage::NOTHING_TO_DO.contains(&row) {
            return;
        }
        let slot = self.hosts[host].slot;
        let marked = |at: usize, other: Slot| {
            let node = self.hosts[at].node.as_ref();
            let peers = node.map(|node| node.status().peers).unwrap_or_default();
            peers
                .iter()
                .any(|peer| peer.slot == other && peer.out_of_sync_bytes > 0)
        };
        if marked(host, peer) || marked(peer.index(), slot) {
            self.fail(Checker::R8, || {
                format!(
                    "{host} and {} have nothing to do ({row}), but there are marks",
                    peer.index()
                )
            });
        }
    }
}
