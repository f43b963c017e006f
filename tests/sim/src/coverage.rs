//! What the runs have exercised; a kind of anything that never happened is a hole in the test.

use format::frame::Frame;
use replica::command::{Answer, Refusal};
use replica::event::{Effect, Event, Kind, RequestError};
use replica::notice::Notice;
use std::collections::BTreeMap;

/// The rows of the reconcile table that say that all is well.
pub const NOTHING_TO_DO: &[&str] = &["in-sync"];

/// Groups of kinds that are known, all of which have to happen in a long run.
const EXPECTED: &[(&str, &[&str])] = &[
    ("event", EVENTS),
    ("effect", EFFECTS),
    ("frame", FRAMES),
    ("row", ROWS),
    ("notice", NOTICES),
    ("role", ROLES),
    ("connection", CONNECTIONS),
    ("replication", REPLICATIONS),
    ("disk", DISKS),
    ("fault", FAULTS),
    ("command", COMMANDS),
];

const EVENTS: &[&str] = &[
    "request read",
    "request write",
    "request zero",
    "request flush",
    "client gone",
    "read done",
    "io done",
    "hashed",
    "peer connected",
    "peer lost",
    "frame",
    "command",
    "arbiter answered",
    "tick",
    "turn ended",
];

const EFFECTS: &[&str] = &[
    "complete",
    "read local",
    "write local",
    "zero local",
    "flush local",
    "overlay",
    "hash",
    "release",
    "write superblock",
    "write log",
    "write page",
    "send",
    "disconnect",
    "ask arbiter",
    "drop clients",
    "notice",
    "answer",
];

const FRAMES: &[&str] = &[
    "identity",
    "marks",
    "marks end",
    "configuration",
    "configuration done",
    "admit prepare",
    "admit ready",
    "handover request",
    "handover refused",
    "write",
    "zero",
    "acks",
    "write failed",
    "flush",
    "flush done",
    "read",
    "read done",
    "ping",
    "pong",
    "chunk hashes",
    "chunk verdict",
    "chunk data",
    "chunk zero",
    "chunk written",
    "chunk equal",
    "checkpoint",
    "checkpoint done",
    "settled",
    "walk end",
    "disk",
    "planned stop",
    "error",
];

/// Rows that replicas of one volume can come to; the others are tried by the table's own tests.
const ROWS: &[&str] = &[
    "other-size",
    "lost",
    "no-disk",
    "discarded",
    "discarded-member",
    "discarded-waits",
    "split-brain",
    "behind-member",
    "behind",
    "inconsistent-member",
    "resume",
    "equalised-by-primary",
    "suspect",
    "equalise",
    "equalise-by-slot",
    "in-sync",
    "resynced-by-primary",
    "source-suspect",
    "no-member",
];

const NOTICES: &[&str] = &[
    "handshake",
    "disconnected",
    "configured",
    "promoted",
    "demoted",
    "waiting",
    "suspect",
    "frozen",
    "thawed",
    "arbiter",
    "failover-started",
    "serves-flushed",
    "slow-peer",
    "split-brain",
    "disk",
    "read-repaired",
    "resync-started",
    "resync-done",
    "verify-done",
];

const ROLES: &[&str] = &[
    "Secondary to Primary",
    "Primary to Secondary",
    "Secondary to Waiting",
    "Waiting to Primary",
    "Waiting to Secondary",
    "Primary to Stopped",
    "Secondary to Stopped",
];

const CONNECTIONS: &[&str] = &[
    "Connecting to Connected",
    "Connected to Connecting",
    "Connected to StandAlone",
    "StandAlone to Connecting",
];

const REPLICATIONS: &[&str] = &[
    "Off to Established",
    "Established to Off",
    "Off to SyncSource",
    "Off to SyncTarget",
    "SyncSource to Established",
    "SyncTarget to Established",
    "SyncSource to Off",
    "SyncTarget to Off",
    "Established to VerifySource",
    "VerifySource to Established",
    "VerifySource to Off",
];

const DISKS: &[&str] = &[
    "UpToDate to Outdated",
    "UpToDate to Inconsistent",
    "Outdated to Inconsistent",
    "Inconsistent to UpToDate",
    "UpToDate to Failed",
    "Failed to Inconsistent",
];

const FAULTS: &[&str] = &[
    "crash",
    "crash among effects",
    "power cut",
    "power cut everywhere",
    "power cut everywhere in turn",
    "link breaks",
    "partition",
    "one direction stalls",
    "slow network",
    "slow disk",
    "hung disk",
    "unreadable block",
    "read error",
    "write error",
    "flush error",
    "metadata error",
    "full disk",
    "client vanishes",
    "planned stop",
    "arbiter away",
    "arbiter cut off",
    "arbiter's answers lost",
    "process stopped and continued",
    "operator",
    "membership",
    "history forked by force",
];

const COMMANDS: &[&str] = &[
    "promote",
    "promote by force",
    "demote",
    "swap",
    "verify",
    "verify and repair",
    "resync",
    "resync in full",
    "discard",
    "pause",
    "go on",
    "its turn",
    "no more its turn",
    "grow",
    "add replica",
    "remove replica",
    "stop",
];

/// Counts by group and kind.
#[derive(Clone, Default, Debug)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, &'static str), u64>,
    transitions: BTreeMap<(&'static str, String), u64>,
    faults: u64,
}

impl Coverage {
    fn count(&mut self, group: &'static str, kind: &'static str) {
        *self.counts.entry((group, kind)).or_default() += 1;
    }

    /// An event is stepped.
    pub fn event(&mut self, event: &Event) {
        if let Event::Frame { frame, .. } = event {
            self.count("frame", frame_name(frame));
        }
        self.count("event", event_name(event));
    }

    /// An effect is carried out.
    pub fn effect(&mut self, effect: &Effect) {
        self.count("effect", effect_name(effect));
    }

    /// A notice is given.
    pub fn notice(&mut self, notice: &Notice) {
        self.count("notice", notice.name());
        if let Notice::Handshake { row, .. } = notice {
            self.count("row", row);
        }
    }

    /// A command is answered.
    pub fn answer(&mut self, result: &Result<Answer, Refusal>) {
        let name = match result {
            Ok(Answer::Done) => "done",
            Ok(Answer::Verified { .. }) => "verified",
            Err(Refusal::ProtectsData(_)) => "refused to protect data",
            Err(Refusal::NotNow(_)) => "refused for now",
        };
        self.count("answer", name);
    }

    /// A request has failed.
    pub fn request_error(&mut self, error: RequestError) {
        let name = match error {
            RequestError::Io => "error",
            RequestError::NoSpace => "no space",
            RequestError::OutOfRange => "out of range",
            RequestError::NotPrimary => "not primary",
            RequestError::Stopping => "stopping",
        };
        self.count("request error", name);
    }

    /// A fault strikes.
    pub fn fault(&mut self, kind: &'static str) {
        self.faults += 1;
        self.count("fault", kind);
    }

    /// An operator gives a command.
    pub fn command(&mut self, kind: &'static str) {
        self.count("command", kind);
    }

    /// A state changes.
    pub fn transition(&mut self, group: &'static str, from: &str, to: &str) {
        *self
            .transitions
            .entry((group, format!("{from} to {to}")))
            .or_default() += 1;
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Coverage) {
        for (kind, count) in &other.counts {
            *self.counts.entry(*kind).or_default() += count;
        }
        for (kind, count) in &other.transitions {
            *self.transitions.entry(kind.clone()).or_default() += count;
        }
        self.faults += other.faults;
    }

    /// What never happened, of all that can.
    pub fn missing(&self) -> Vec<String> {
        let groups = EXPECTED
            .iter()
            .flat_map(|(group, kinds)| kinds.iter().map(move |k| (group, k)));
        let absent = groups.filter(|(group, kind)| self.of(group, kind) == 0);
        absent
            .map(|(group, kind)| format!("{group}: {kind}"))
            .collect()
    }

    fn of(&self, group: &str, kind: &str) -> u64 {
        let counted = self
            .counts
            .iter()
            .filter(|((g, k), _)| *g == group && *k == kind);
        let moved = self
            .transitions
            .iter()
            .filter(|((g, k), _)| *g == group && *k == kind);
        counted
            .map(|(_, count)| count)
            .chain(moved.map(|(_, count)| count))
            .sum()
    }

    /// All counts, a line each.
    pub fn lines(&self) -> Vec<String> {
        let counts = self
            .counts
            .iter()
            .map(|((g, k), n)| format!("{g:12} {k:32} {n}"));
        let moves = self
            .transitions
            .iter()
            .map(|((g, k), n)| format!("{g:12} {k:32} {n}"));
        counts.chain(moves).collect()
    }
}

fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Request(request) => match request.kind {
            Kind::Read => "request read",
            Kind::Write { .. } => "request write",
            Kind::Zero { .. } => "request zero",
            Kind::Flush => "request flush",
        },
        Event::ClientGone { .. } => "client gone",
        Event::ReadDone { .. } => "read done",
        Event::IoDone { .. } => "io done",
        Event::Hashed { .. } => "hashed",
        Event::PeerConnected { .. } => "peer connected",
        Event::PeerLost { .. } => "peer lost",
        Event::Frame { .. } => "frame",
        Event::Command { .. } => "command",
        Event::ArbiterAnswered(_) => "arbiter answered",
        Event::Tick => "tick",
        Event::TurnEnded => "turn ended",
    }
}

fn effect_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Complete { .. } => "complete",
        Effect::ReadLocal { .. } => "read local",
        Effect::WriteLocal { .. } => "write local",
        Effect::ZeroLocal { .. } => "zero local",
        Effect::FlushLocal { .. } => "flush local",
        Effect::Overlay { .. } => "overlay",
        Effect::Hash { .. } => "hash",
        Effect::Release(_) => "release",
        Effect::WriteSuperblock { .. } => "write superblock",
        Effect::WriteLog { .. } => "write log",
        Effect::WritePage { .. } => "write page",
        Effect::Send { .. } => "send",
        Effect::Disconnect { .. } => "disconnect",
        Effect::AskArbiter(_) => "ask arbiter",
        Effect::DropClients => "drop clients",
        Effect::Notice(_) => "notice",
        Effect::Answer { .. } => "answer",
    }
}

/// A frame's kind.
pub fn frame_name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Identity(_) => "identity",
        Frame::Marks { .. } => "marks",
        Frame::MarksEnd => "marks end",
        Frame::Configuration(_) => "configuration",
        Frame::ConfigurationDone { .. } => "configuration done",
        Frame::AdmitPrepare(_) => "admit prepare",
        Frame::AdmitReady { .. } => "admit ready",
        Frame::HandoverRequest => "handover request",
        Frame::HandoverRefused { .. } => "handover refused",
        Frame::Write { .. } => "write",
        Frame::Zero { .. } => "zero",
        Frame::Acks(_) => "acks",
        Frame::WriteFailed { .. } => "write failed",
        Frame::Flush { .. } => "flush",
        Frame::FlushDone { .. } => "flush done",
        Frame::Read { .. } => "read",
        Frame::ReadDone { .. } => "read done",
        Frame::Ping { .. } => "ping",
        Frame::Pong { .. } => "pong",
        Frame::ChunkHashes { .. } => "chunk hashes",
        Frame::ChunkVerdict { .. } => "chunk verdict",
        Frame::ChunkData { .. } => "chunk data",
        Frame::ChunkZero { .. } => "chunk zero",
        Frame::ChunkWritten { .. } => "chunk written",
        Frame::ChunkEqual { .. } => "chunk equal",
        Frame::Checkpoint { .. } => "checkpoint",
        Frame::CheckpointDone { .. } => "checkpoint done",
        Frame::Settled { .. } => "settled",
        Frame::WalkEnd => "walk end",
        Frame::Disk(_) => "disk",
        Frame::PlannedStop => "planned stop",
        Frame::Error { .. } => "error",
    }
}
