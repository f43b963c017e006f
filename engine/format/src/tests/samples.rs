//! Known values for tests: one of every kind of frame, every block and every message, with every
//! field different from its neighbours, so that none can be swapped unseen.

use crate::bitmap_page::{BitmapPage, PAGE_CHUNKS};
use crate::frame::{Acks, Digest, Fault, Frame, Identity, Walk};
use crate::hello::{Hello, Link, LinkKey, Opening, Proof, Role, Welcome, proof};
use crate::log_block::{LOG_CONTEXT, LogBlock, NO_EXTENT};
use crate::superblock::{Replica, Superblock};
use crate::types::{
    BootId, Configuration, DiskState, Generation, Name, NodeId, NodeSet, Slot, VolumeId,
};

/// Sixteen bytes that count up.
pub(crate) fn id(first: u8) -> [u8; 16] {
    std::array::from_fn(|at| first.wrapping_add(u8::try_from(at).expect("sixteen")))
}

/// A name that is one.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("the test names it well")
}

/// A slot that is one.
pub(crate) fn slot(number: u8) -> Slot {
    Slot::new(number).expect("the test numbers it well")
}

/// A configuration with a primary.
pub(crate) fn configuration(epoch: u64) -> Configuration {
    Configuration {
        epoch,
        generation: Generation(id(0xc0)),
        primary: Some(slot(1)),
        in_sync: NodeSet::from_bits(0b0000_0110),
    }
}

/// A configuration without one.
pub(crate) fn configuration_without_primary(epoch: u64) -> Configuration {
    Configuration {
        primary: None,
        ..configuration(epoch)
    }
}

fn acks() -> Acks {
    let mut acks = Acks::default();
    for sequence in [0x0102_0304_0506_0708, 3, 2] {
        assert!(acks.push(sequence), "there is room for three");
    }
    acks
}

fn digest(first: u8) -> Digest {
    id(first)
}

/// An identity with everything in it.
pub(crate) fn identity() -> Identity {
    Identity {
        volume: VolumeId(id(0x10)),
        size_bytes: 20 << 30,
        node: NodeId(id(0x30)),
        boot: BootId(id(0x50)),
        incarnation: 0x1122_3344_5566_7788,
        known_incarnation: 0x99aa_bbcc_ddee_ff00,
        configuration: configuration(7),
        data_generation: Generation(id(0x70)),
        history: vec![Generation(id(0x80)), Generation(id(0x90))],
        history_complete: true,
        pending_admission: Some((9, Generation(id(0xa0)))),
        proposal: Some(configuration_without_primary(8)),
        disk_state: DiskState::Outdated,
        suspect: true,
        crashed_primary: false,
        discarded: true,
        forced: false,
        arbitrated: true,
        lease_ms: 2000,
        marked_blocks: 0x0a0b,
        marks_valid: true,
    }
}

/// A superblock with everything in it.
pub(crate) fn superblock() -> Superblock {
    let mut replicas = [const { None }; 8];
    for (number, name_of) in [(1, "alpha"), (2, "beta"), (5, "gamma")] {
        replicas[usize::from(number)] = Some(Replica {
            node: NodeId(id(0x10 * number)),
            name: name(name_of),
        });
    }
    Superblock {
        sequence: 0x0102_0304_0506_0708,
        volume: VolumeId(id(0x60)),
        name: name("pgdata-1.main_2"),
        size_bytes: 20 << 30,
        slot: slot(2),
        replicas,
        configuration: configuration(7),
        data_generation: Generation(id(0x70)),
        history: vec![Generation(id(0x80)), Generation(id(0x90))],
        history_complete: true,
        proposal: Some(configuration_without_primary(8)),
        pending_admission: Some((9, Generation(id(0xa0)))),
        disk_state: DiskState::Inconsistent,
        clean: true,
        suspect: false,
        crashed_primary: true,
        discarded: false,
        forced: true,
        arbitrated: true,
        boot: BootId(id(0xb0)),
        log_instance: 0x1112_1314_1516_1718,
        mark_floor: [0, 1, 2, 3, 4, 5, 6, 0xf1f2_f3f4_f5f6_f7f8],
        marks_valid: NodeSet::from_bits(0b0010_0010),
    }
}

/// A block that repeats the third window.
pub(crate) fn log_block() -> LogBlock {
    let mut context = vec![NO_EXTENT; LOG_CONTEXT];
    context[0] = 0x0001_0203;
    context[5] = 0x0002_0304;
    LogBlock {
        instance: 0x1112_1314_1516_1718,
        sequence: 10,
        updates: vec![(1024, 0x0001_0203), (7, 0x0003_0405)],
        context,
    }
}

/// A page with few marks.
pub(crate) fn bitmap_page() -> BitmapPage {
    let mut masks = Box::new([0; PAGE_CHUNKS]);
    masks[0] = 0x8000_0001;
    masks[1] = 0x0102_0304;
    masks[PAGE_CHUNKS - 1] = u32::MAX;
    BitmapPage {
        slot: slot(3),
        index: 0x0102,
        epoch: 0x2122_2324_2526_2728,
        masks,
    }
}

/// One frame of every kind, with a short name.
pub(crate) fn frames() -> Vec<(&'static str, Frame)> {
    let mut frames = session_frames();
    frames.extend(io_frames());
    frames.extend(walk_frames());
    frames
}

fn session_frames() -> Vec<(&'static str, Frame)> {
    vec![
        ("identity", Frame::Identity(Box::new(identity()))),
        (
            "marks",
            Frame::Marks {
                first_chunk: 1008,
                masks: Box::new([0x8000_0001, 0, 0xffff_ffff]),
            },
        ),
        ("marks-end", Frame::MarksEnd),
        ("configuration", Frame::Configuration(configuration(3))),
        (
            "configuration-done",
            Frame::ConfigurationDone { epoch: 0x0304 },
        ),
        (
            "admit-prepare",
            Frame::AdmitPrepare(configuration_without_primary(4)),
        ),
        ("admit-ready", Frame::AdmitReady { epoch: 0x0405 }),
        ("handover-request", Frame::HandoverRequest),
        (
            "handover-refused",
            Frame::HandoverRefused {
                reason: "a resync is under way".into(),
            },
        ),
        ("disk", Frame::Disk(DiskState::Failed)),
        ("planned-stop", Frame::PlannedStop),
        (
            "error",
            Frame::Error {
                reason: "the volume's größe differs".into(),
            },
        ),
        (
            "ping",
            Frame::Ping {
                sent_at: 0x0102_0304_0506_0708,
                stable_through: 0x1112,
            },
        ),
        ("pong", Frame::Pong { echo: 0x2122 }),
    ]
}

fn io_frames() -> Vec<(&'static str, Frame)> {
    vec![
        (
            "write",
            Frame::Write {
                sequence: 0x0102_0304_0506_0708,
                offset: 0x1_2345_6000,
                length: 8192,
                fua: true,
                stable_through: 0x2122_2324_2526_2728,
            },
        ),
        (
            "zero",
            Frame::Zero {
                sequence: 0x0102,
                offset: 0x1_2345_6000,
                length: 16 << 20,
                unmap: true,
                fua: false,
                stable_through: 0x2122,
            },
        ),
        ("acks", Frame::Acks(acks())),
        (
            "write-failed",
            Frame::WriteFailed {
                sequence: 0x3132,
                fault: Fault::Full,
            },
        ),
        (
            "flush",
            Frame::Flush {
                token: 0x4142,
                covers: 0x5152,
                stable_through: 0x6162,
            },
        ),
        (
            "flush-done",
            Frame::FlushDone {
                token: 0x4142,
                fault: Some(Fault::Disk),
            },
        ),
        (
            "read",
            Frame::Read {
                token: 0x7172,
                offset: 0x2_0000_0000,
                length: 128 << 10,
            },
        ),
        (
            "read-done",
            Frame::ReadDone {
                token: 0x7172,
                length: 4096,
                fault: None,
            },
        ),
    ]
}

fn walk_frames() -> Vec<(&'static str, Frame)> {
    let chunk = 0x0102_0304;
    vec![
        (
            "chunk-hashes",
            Frame::ChunkHashes {
                chunk,
                mask: 0b1010,
                walk: Walk::Pull,
                digests: Box::new([digest(0x20), digest(0x40)]),
            },
        ),
        (
            "chunk-verdict",
            Frame::ChunkVerdict {
                chunk,
                differing: 0b1000,
                fault: None,
            },
        ),
        ("chunk-data", Frame::ChunkData { chunk, mask: 0b110 }),
        (
            "chunk-zero",
            Frame::ChunkZero {
                chunk,
                mask: 0b1110,
            },
        ),
        (
            "chunk-written",
            Frame::ChunkWritten {
                chunk,
                mask: 0b110,
                fault: Some(Fault::Full),
            },
        ),
        (
            "chunk-equal",
            Frame::ChunkEqual {
                chunk,
                mask: 0x8000_0001,
            },
        ),
        ("checkpoint", Frame::Checkpoint { number: 0x0506 }),
        (
            "checkpoint-done",
            Frame::CheckpointDone {
                number: 0x0506,
                fault: Some(Fault::Disk),
            },
        ),
        ("settled", Frame::Settled { number: 0x0506 }),
        ("walk-end", Frame::WalkEnd),
    ]
}

/// The key of the handshakes in tests.
pub(crate) fn cluster_key() -> [u8; 32] {
    std::array::from_fn(|at| u8::try_from(at).expect("thirty-two") ^ 0x5a)
}

/// The openings of dialer and acceptor.
pub(crate) fn openings() -> (Opening, Opening) {
    let dialer = Opening {
        versions: (1, 3),
        features: 0x0102_0304_0506_0708,
        nonce: [0xd1; 32],
    };
    let acceptor = Opening {
        versions: (2, 4),
        features: 0x0f,
        nonce: [0xac; 32],
    };
    (dialer, acceptor)
}

/// The key of the link of the [`openings`].
pub(crate) fn link_key() -> LinkKey {
    let (dialer, acceptor) = openings();
    LinkKey::new(&cluster_key(), &dialer, &acceptor)
}

/// One of each message of the handshake, with a short name.
pub(crate) fn hello_messages() -> Vec<(&'static str, Vec<u8>)> {
    let (dialer, acceptor) = openings();
    let mac = proof(&cluster_key(), Role::Dialer, &dialer, &acceptor);
    let hello = |link| {
        Hello {
            node: NodeId(id(0x30)),
            name: name("alpha"),
            link,
        }
        .encode(&link_key())
    };
    let data = Link::Data {
        volume: VolumeId(id(0x60)),
        slot: slot(3),
    };
    let welcome = |accepted| {
        Welcome {
            node: NodeId(id(0x40)),
            name: name("beta"),
            accepted,
        }
        .encode(&link_key())
    };
    vec![
        ("opening", dialer.encode()),
        ("proof", Proof { mac }.encode()),
        ("hello-control", hello(Link::Control)),
        ("hello-data", hello(data)),
        ("welcome-accepted", welcome(Ok(()))),
        ("welcome-refused", welcome(Err("no such volume".into()))),
    ]
}
