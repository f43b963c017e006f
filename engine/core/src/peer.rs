//! What this replica knows of another one, and the session with it.
//!
//! ```text
//!            connected               greeted            verdict           persisted
//! (none) -----------> Draining -----------> Greeting -----------> Settling -----------> Marking
//!                     old I/O of an         both identities       what the verdict      the other's
//!                     earlier session       are compared          asks for is made      marks arrive
//!                     is finished                                 durable               (driver only)
//!                                                                     |                     |
//!                                                                     +-------> Up <--------+
//! ```
//! Whatever goes wrong ends the session; the link is dialled again and all begins anew.

use crate::event::{Buffer, Nanos, SessionId};
use crate::lineage::Lineage;
use crate::progress::{Goal, Walk};
use crate::reconcile::{Outcome, Verdict};

use format::frame::{Acks, Frame, Identity};
use format::types::{Configuration, DiskState, Generation, Slot};
use std::collections::{BTreeSet, VecDeque};

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Local I/O of an earlier session has not ended.
    Draining,
    /// Our identity is sent.
    Greeting,
    /// The verdict is known; what it asks for is not durable yet, or old I/O is not finished.
    Settling,
    /// This replica drives, and the other's marks are coming in.
    Marking,
    /// Work goes on.
    Up,
}

/// What the verdict made of the pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Relation {
    /// Nothing to do with each other now.
    Idle,
    /// Both are members and equal.
    Mirror,
    /// This replica is to walk, or walks, over what differs.
    Driver(Goal),
    /// The other walks.
    Follower(Goal),
}

/// A frame that waits until something is durable.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) frame: Frame,
    pub(crate) epoch: u64,
    pub(crate) payload: Option<Buffer>,
}

/// One life of the link.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) stage: Stage,
    /// What we said; the verdict is over this. Were the configuration to change before it, the session would end.
    pub(crate) sent: Option<Box<Identity>>,
    pub(crate) heard: Option<Box<Identity>>,
    pub(crate) outcome: Option<Outcome>,
    /// The configuration that both hold to be the latest since the handshake.
    pub(crate) agreed: Option<Configuration>,
    pub(crate) relation: Relation,
    /// The peer has told marks of its own, and has to hear when they are void.
    pub(crate) peer_marks: bool,
    /// Frames wait for a configuration to become durable.
    pub(crate) holding: bool,
    pub(crate) held: VecDeque<Held>,
    /// When we sent the newest ping that the peer has answered.
    pub(crate) answered_at: Nanos,
    pub(crate) next_ping: Nanos,
    /// Since when work goes on.
    pub(crate) up_since: Option<Nanos>,
    pub(crate) acks: Acks,
    /// The lineage of the peer's data, kept up with the configurations that it sends.
    pub(crate) lineage: Lineage,
    pub(crate) walk: Option<Box<Walk>>,
    /// The token of the flush that the peer has asked for.
    pub(crate) flush: Option<u64>,
    /// The checkpoint that the peer has asked for.
    pub(crate) checkpoint: Option<u64>,
}

impl Session {
    /// A session that has just been connected.
    pub(crate) fn new(id: SessionId, now: Nanos) -> Session {
        Session {
            id,
            stage: Stage::Draining,
            sent: None,
            heard: None,
            outcome: None,
            agreed: None,
            relation: Relation::Idle,
            peer_marks: false,
            holding: false,
            held: VecDeque::new(),
            answered_at: now,
            next_ping: now,
            up_since: None,
            acks: Acks::default(),
            lineage: Lineage {
                generation: Generation::NONE,
                history: Vec::new(),
                complete: false,
            },
            walk: None,
            flush: None,
            checkpoint: None,
        }
    }

    /// Whether its handshake is under way, and over another configuration than this one.
    pub(crate) fn is_stale(&self, configuration: &Configuration) -> bool {
        match (self.stage, self.verdict()) {
            (Stage::Greeting, _) => {
                let sent = self.sent.as_ref();
                sent.is_some_and(|sent| sent.configuration != *configuration)
            }
            (Stage::Settling, Some(Verdict::InSync | Verdict::Resume)) => {
                self.agreed.as_ref() != Some(configuration)
            }
            _ => false,
        }
    }

    /// The handshake's verdict, once there is one.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.outcome.as_ref().map(|outcome| outcome.verdict)
    }
}

/// Another replica.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) slot: Slot,
    /// Its incarnation in the last session that came up.
    pub(crate) known_incarnation: u64,
    /// One of the two was the primary in that session: what was not acknowledged is known, and sent again.
    pub(crate) resumable: bool,
    pub(crate) disk_state: Option<DiskState>,
    /// Since when it has not answered.
    pub(crate) lost_at: Option<Nanos>,
    /// When we sent the newest ping that it has answered while both agreed on the configuration. What it has promised
    /// by that holds, whatever becomes of the session.
    pub(crate) leased_from: Option<Nanos>,
    /// The link waits for an operator.
    pub(crate) stand_alone: bool,
    pub(crate) split_brain: bool,
    pub(crate) session: Option<Box<Session>>,
    /// Chunks with marks that may be over-cautious: their blocks are compared before they are sent.
    pub(crate) suspected: BTreeSet<u32>,
    /// All marks may be: they stem from before this process.
    pub(crate) suspects_all: bool,
    /// Its writes, comparisons and flushes that the local disk has in hand, of any session.
    pub(crate) applying: u32,
}

impl Peer {
    /// A replica that has not been heard of yet.
    pub(crate) fn new(slot: Slot, now: Nanos) -> Peer {
        Peer {
            slot,
            known_incarnation: 0,
            resumable: false,
            disk_state: None,
            lost_at: Some(now),
            leased_from: None,
            stand_alone: false,
            split_brain: false,
            session: None,
            suspected: BTreeSet::new(),
            suspects_all: true,
            applying: 0,
        }
    }

    /// Whether the chunk's blocks have to be compared before they are sent.
    pub(crate) fn suspects(&self, chunk: u32) -> bool {
        self.suspects_all || self.suspected.contains(&chunk)
    }

    /// All marks have become void: those to come are certain.
    pub(crate) fn trust_marks(&mut self) {
        self.suspects_all = false;
        self.suspected.clear();
    }

    /// The session, if work goes on in it.
    pub(crate) fn up(&self) -> Option<&Session> {
        self.session
            .as_deref()
            .filter(|session| session.stage == Stage::Up)
    }

    /// Whether this is the session that is there now.
    pub(crate) fn is_in(&self, id: SessionId) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.id == id)
    }
}
