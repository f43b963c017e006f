//! What a replica tells of itself, from its state.

use crate::node::Node;
use crate::peer::{Peer, Relation, Stage};
use crate::progress::Goal;
use crate::role;
use crate::status::{ConnectionState, PeerStatus, Progress, ReplicationState, Role, Status};
use format::types::BLOCK_BYTES;

impl Node {
    /// Why the node does not serve clients, or that it does.
    pub fn serving(&self) -> Result<(), String> {
        let primary = self.configuration.primary;
        let reason = match &self.role {
            role::Role::Primary if self.leases.frozen_out => {
                "a member does not answer and could not be dropped".to_owned()
            }
            role::Role::Primary => return Ok(()),
            role::Role::Opening => "the replica is being opened".to_owned(),
            role::Role::Promoting(_) => "the replica is being promoted".to_owned(),
            role::Role::HandingOver(_) => "the volume is being handed over".to_owned(),
            role::Role::Stopping(_) | role::Role::Stopped => "the replica is stopping".to_owned(),
            role::Role::Waiting => {
                let member = self.other_members().first();
                let name = member.map_or_else(|| "a peer".to_owned(), |slot| self.name_of(slot));
                format!("waiting for {name} to confirm that this node may serve")
            }
            role::Role::Secondary => match primary {
                Some(primary) if primary != self.slot => {
                    format!("{} is the primary", self.name_of(primary))
                }
                _ if self.superblock.arbitrated && !self.has_arbiter() => {
                    "an arbiter decides on this volume, and this node's configuration names none"
                        .to_owned()
                }
                _ => "no node is the primary: promote one".to_owned(),
            },
        };
        Err(reason)
    }

    /// What it tells of itself.
    pub fn status(&self) -> Status {
        let role = match &self.role {
            role::Role::Primary | role::Role::HandingOver(_) => Role::Primary,
            role::Role::Waiting => self
                .other_members()
                .first()
                .map_or(Role::Secondary, Role::Waiting),
            role::Role::Stopping(_) | role::Role::Stopped => Role::Stopped,
            _ => Role::Secondary,
        };
        Status {
            slot: self.slot,
            role,
            size_bytes: self.superblock.size_bytes,
            configuration: self.configuration,
            disk_state: self.superblock.disk_state,
            suspect: self.superblock.suspect,
            forced: self.superblock.forced,
            frozen: self.leases.frozen_told,
            arbiter: self.has_arbiter().then_some(self.arbitration.standing),
            paused: self.leave.paused,
            resyncing: self.is_resyncing(),
            has_turn: self.leave.has_turn,
            spent: self.spent_slots(),
            peers: self
                .peers
                .iter()
                .flatten()
                .filter(|peer| self.others.contains(peer.slot))
                .map(|peer| self.peer_status(peer))
                .collect(),
            last_receipt: self.last_receipt,
        }
    }

    fn peer_status(&self, peer: &Peer) -> PeerStatus {
        let session = peer.session.as_deref();
        let connection = match session.map(|session| session.stage) {
            Some(Stage::Up) => ConnectionState::Connected,
            _ if peer.stand_alone => ConnectionState::StandAlone,
            _ => ConnectionState::Connecting,
        };
        let relation = peer.up().map_or(Relation::Idle, |session| session.relation);
        let replication = match relation {
            Relation::Idle => ReplicationState::Off,
            Relation::Mirror => ReplicationState::Established,
            Relation::Driver(Goal::Verify { .. }) => ReplicationState::VerifySource,
            Relation::Follower(Goal::Verify { .. }) => ReplicationState::VerifyTarget,
            Relation::Driver(Goal::Equalise { pull: true }) => ReplicationState::SyncTarget,
            Relation::Follower(Goal::Equalise { pull: true }) => ReplicationState::SyncSource,
            Relation::Driver(_) => ReplicationState::SyncSource,
            Relation::Follower(_) => ReplicationState::SyncTarget,
        };
        let progress = session
            .and_then(|session| session.walk.as_deref())
            .map(|walk| {
                let (bytes_total, bytes_done) = self.walk_progress(peer.slot, walk);
                let bytes_on_wire = walk.receipt.bytes_on_wire;
                Progress {
                    bytes_total,
                    bytes_done,
                    bytes_on_wire,
                    started_at: walk.started_at,
                }
            });
        PeerStatus {
            slot: peer.slot,
            connection,
            replication,
            disk_state: peer.disk_state,
            out_of_sync_bytes: self.marks_of(peer.slot).count() * BLOCK_BYTES,
            split_brain: peer.split_brain,
            progress,
        }
    }
}
