//! Arbitrary values for property tests.

use crate::bitmap_page::{BitmapPage, PAGE_CHUNKS};
use crate::frame::{
    ACKS_MAX, Acks, Digest, Fault, Frame, HISTORY_MAX, Identity, MARKS_CHUNKS_MAX,
    PAYLOAD_BYTES_MAX, Walk,
};
use crate::log_block::{
    LOG_CONTEXT, LOG_CYCLE_BLOCKS, LOG_SLOTS, LOG_UPDATES_MAX, LogBlock, NO_EXTENT,
};
use crate::superblock::{Replica, Superblock};
use crate::types::{
    BLOCK_BYTES, BootId, CHUNK_BYTES, Configuration, DiskState, Generation, Name, NodeId, NodeSet,
    REPLICAS_MAX, Slot, VOLUME_BYTES_MAX, VolumeId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

const BLOCKS_MAX: u64 = VOLUME_BYTES_MAX / BLOCK_BYTES;
const CHUNKS_MAX: u64 = VOLUME_BYTES_MAX / CHUNK_BYTES;
const DATA_BLOCKS_MAX: u64 = PAYLOAD_BYTES_MAX as u64 / BLOCK_BYTES;

pub(crate) fn any_slot() -> impl Strategy<Value = Slot> {
    select(Slot::all().collect::<Vec<_>>())
}

pub(crate) fn any_name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|text| Name::new(&text).expect("the pattern is a name's"))
}

pub(crate) fn any_generation() -> impl Strategy<Value = Generation> {
    any::<[u8; 16]>().prop_map(Generation)
}

pub(crate) fn any_configuration() -> impl Strategy<Value = Configuration> {
    (
        any::<u64>(),
        any_generation(),
        option::of(any_slot()),
        any::<u8>(),
    )
        .prop_map(|(epoch, generation, primary, bits)| Configuration {
            epoch,
            generation,
            primary,
            in_sync: NodeSet::from_bits(bits),
        })
}

pub(crate) fn any_history() -> impl Strategy<Value = Vec<Generation>> {
    vec(any_generation(), 0..=HISTORY_MAX)
}

pub(crate) fn any_disk_state() -> impl Strategy<Value = DiskState> {
    select(
        &[
            DiskState::UpToDate,
            DiskState::Outdated,
            DiskState::Inconsistent,
            DiskState::Failed,
            DiskState::Diskless,
        ][..],
    )
}

fn any_identity() -> impl Strategy<Value = Identity> {
    let ids = (
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        any_generation(),
    );
    let numbers = (0..=BLOCKS_MAX, any::<u64>(), any::<u64>(), any::<u64>());
    let past = (
        any_configuration(),
        any_history(),
        option::of((any::<u64>(), any_generation())),
        option::of(any_configuration()),
        any_disk_state(),
    );
    (ids, numbers, past, any::<[bool; 7]>()).prop_map(|(ids, numbers, past, flags)| Identity {
        volume: VolumeId(ids.0),
        size_bytes: numbers.0 * BLOCK_BYTES,
        node: NodeId(ids.1),
        boot: BootId(ids.2),
        incarnation: numbers.1,
        known_incarnation: numbers.2,
        configuration: past.0,
        data_generation: ids.3,
        history: past.1,
        history_complete: flags[0],
        pending_admission: past.2,
        proposal: past.3,
        disk_state: past.4,
        suspect: flags[1],
        crashed_primary: flags[2],
        discarded: flags[3],
        forced: flags[4],
        arbitrated: flags[6],
        lease_ms: u32::from(flags[6]) * 2000,
        marked_blocks: numbers.3,
        marks_valid: flags[5],
    })
}

/// Offset and length of whole blocks, at most so many.
fn any_span(blocks_max: u64) -> impl Strategy<Value = (u64, u64)> {
    (0..BLOCKS_MAX - blocks_max, 1..=blocks_max)
        .prop_map(|(first, blocks)| (first * BLOCK_BYTES, blocks * BLOCK_BYTES))
}

/// As [`any_span`], for one payload.
fn any_data() -> impl Strategy<Value = (u64, u32)> {
    any_span(DATA_BLOCKS_MAX)
        .prop_map(|(offset, length)| (offset, u32::try_from(length).expect("one payload")))
}

fn any_chunk() -> impl Strategy<Value = u32> {
    (0..CHUNKS_MAX).prop_map(|chunk| u32::try_from(chunk).expect("chunk numbers are 32 bits"))
}

fn any_run() -> impl Strategy<Value = u32> {
    (1..=32u32, 0..32u32)
        .prop_map(|(length, first)| (u32::MAX >> (32 - length)) << first.min(32 - length))
}

fn any_fault() -> impl Strategy<Value = Fault> {
    select(&[Fault::Disk, Fault::Full][..])
}

fn any_acks() -> impl Strategy<Value = Acks> {
    vec(any::<u64>(), 0..=ACKS_MAX).prop_map(|sequences| {
        let mut acks = Acks::default();
        for sequence in sequences {
            assert!(acks.push(sequence), "there are no more than fit");
        }
        acks
    })
}

fn any_hashes() -> impl Strategy<Value = Frame> {
    let walk = select(&[Walk::Push, Walk::Pull, Walk::Compare][..]);
    (any_chunk(), any::<u32>(), walk, any::<[Digest; 32]>()).prop_map(
        |(chunk, mask, walk, digests)| Frame::ChunkHashes {
            chunk,
            mask,
            walk,
            digests: digests[..mask.count_ones() as usize].into(),
        },
    )
}

fn any_session_frame() -> impl Strategy<Value = Frame> {
    let masks = vec(any::<u32>(), 0..=MARKS_CHUNKS_MAX);
    let pages = (0..CHUNKS_MAX - MARKS_CHUNKS_MAX as u64)
        .prop_map(|chunk| u32::try_from(chunk).expect("chunk numbers are 32 bits"));
    let reason = || ".{0,100}".prop_map(String::into_boxed_str);
    prop_oneof![
        any_identity().prop_map(|identity| Frame::Identity(Box::new(identity))),
        (pages, masks).prop_map(|(first_chunk, masks)| Frame::Marks {
            first_chunk,
            masks: masks.into(),
        }),
        Just(Frame::MarksEnd),
        any_configuration().prop_map(Frame::Configuration),
        any::<u64>().prop_map(|epoch| Frame::ConfigurationDone { epoch }),
        any_configuration().prop_map(Frame::AdmitPrepare),
        any::<u64>().prop_map(|epoch| Frame::AdmitReady { epoch }),
        Just(Frame::HandoverRequest),
        reason().prop_map(|reason| Frame::HandoverRefused { reason }),
        any_disk_state().prop_map(Frame::Disk),
        Just(Frame::PlannedStop),
        reason().prop_map(|reason| Frame::Error { reason }),
        any::<[u64; 2]>().prop_map(|[sent_at, stable_through]| Frame::Ping {
            sent_at,
            stable_through,
        }),
        any::<u64>().prop_map(|echo| Frame::Pong { echo }),
    ]
}

fn any_io_frame() -> impl Strategy<Value = Frame> {
    let zeroes = any_span(1 << 20);
    let numbers = any::<[u64; 2]>;
    prop_oneof![
        (numbers(), any_data(), any::<bool>()).prop_map(
            |([sequence, stable_through], (offset, length), fua)| Frame::Write {
                sequence,
                offset,
                length,
                fua,
                stable_through,
            }
        ),
        (numbers(), zeroes, any::<[bool; 2]>()).prop_map(
            |([sequence, stable_through], (offset, length), [unmap, fua])| Frame::Zero {
                sequence,
                offset,
                length,
                unmap,
                fua,
                stable_through,
            }
        ),
        any_acks().prop_map(Frame::Acks),
        (any::<u64>(), any_fault())
            .prop_map(|(sequence, fault)| Frame::WriteFailed { sequence, fault }),
        any::<[u64; 3]>().prop_map(|[token, covers, stable_through]| Frame::Flush {
            token,
            covers,
            stable_through,
        }),
        (any::<u64>(), option::of(any_fault()))
            .prop_map(|(token, fault)| Frame::FlushDone { token, fault }),
        (any::<u64>(), any_data()).prop_map(|(token, (offset, length))| Frame::Read {
            token,
            offset,
            length,
        }),
        (any::<u64>(), any_data(), option::of(any_fault())).prop_map(
            |(token, (_, length), fault)| Frame::ReadDone {
                token,
                length: if fault.is_none() { length } else { 0 },
                fault,
            }
        ),
    ]
}

fn any_walk_frame() -> impl Strategy<Value = Frame> {
    let fault = || option::of(any_fault());
    prop_oneof![
        any_hashes(),
        (any_chunk(), any::<u32>(), fault()).prop_map(|(chunk, differing, fault)| {
            Frame::ChunkVerdict {
                chunk,
                differing,
                fault,
            }
        }),
        (any_chunk(), any_run()).prop_map(|(chunk, mask)| Frame::ChunkData { chunk, mask }),
        (any_chunk(), any_run()).prop_map(|(chunk, mask)| Frame::ChunkZero { chunk, mask }),
        (any_chunk(), any_run(), fault()).prop_map(|(chunk, mask, fault)| Frame::ChunkWritten {
            chunk,
            mask,
            fault
        }),
        (any_chunk(), any::<u32>()).prop_map(|(chunk, mask)| Frame::ChunkEqual { chunk, mask }),
        any::<u64>().prop_map(|number| Frame::Checkpoint { number }),
        (any::<u64>(), fault()).prop_map(|(number, fault)| Frame::CheckpointDone { number, fault }),
        any::<u64>().prop_map(|number| Frame::Settled { number }),
        Just(Frame::WalkEnd),
    ]
}

/// A frame of any kind.
pub(crate) fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![any_session_frame(), any_io_frame(), any_walk_frame()]
}

fn any_replica() -> impl Strategy<Value = Replica> {
    (any::<[u8; 16]>(), any_name()).prop_map(|(node, name)| Replica {
        node: NodeId(node),
        name,
    })
}

pub(crate) fn any_superblock() -> impl Strategy<Value = Superblock> {
    let numbers = (any::<u64>(), 0..=BLOCKS_MAX, any::<u64>());
    let ids = (any::<[u8; 16]>(), any_generation(), any::<[u8; 16]>());
    let replicas = (
        any_name(),
        any_slot(),
        any_replica(),
        any::<[bool; REPLICAS_MAX]>(),
    );
    let past = (
        any_configuration(),
        any_history(),
        option::of(any_configuration()),
        option::of((any::<u64>(), any_generation())),
        any_disk_state(),
    );
    let marks = (any::<[u64; REPLICAS_MAX]>(), any::<u8>());
    (numbers, ids, replicas, past, marks, any::<[bool; 7]>()).prop_map(
        |(numbers, ids, (name, slot, replica, present), past, marks, flags)| Superblock {
            sequence: numbers.0,
            volume: VolumeId(ids.0),
            name,
            size_bytes: numbers.1 * BLOCK_BYTES,
            slot,
            replicas: std::array::from_fn(|at| {
                (present[at] || at == slot.index()).then(|| replica.clone())
            }),
            configuration: past.0,
            data_generation: ids.1,
            history: past.1,
            history_complete: flags[0],
            proposal: past.2,
            pending_admission: past.3,
            disk_state: past.4,
            clean: flags[1],
            suspect: flags[2],
            crashed_primary: flags[3],
            discarded: flags[4],
            forced: flags[5],
            arbitrated: flags[6],
            boot: BootId(ids.2),
            log_instance: numbers.2,
            mark_floor: marks.0,
            marks_valid: NodeSet::from_bits(marks.1),
        },
    )
}

/// Updates of the table; a place may come more than once.
pub(crate) fn any_updates() -> impl Strategy<Value = Vec<(u16, u32)>> {
    let places = u16::try_from(LOG_SLOTS).expect("places are 16 bits");
    vec((0..places, 0..1u32 << 26), 0..=LOG_UPDATES_MAX)
}

pub(crate) fn any_log_block() -> impl Strategy<Value = LogBlock> {
    let entry = prop_oneof![Just(NO_EXTENT), 0..1u32 << 26];
    let context = vec(entry, LOG_CONTEXT);
    (any::<[u64; 2]>(), any_updates(), context).prop_map(
        |([instance, sequence], updates, mut context)| {
            let cycle = LOG_CYCLE_BLOCKS as u64;
            let window = usize::try_from(sequence % cycle).expect("few") * LOG_CONTEXT;
            for (place, extent) in &updates {
                let place = usize::from(*place).wrapping_sub(window);
                if let Some(entry) = context.get_mut(place) {
                    *entry = *extent;
                }
            }
            LogBlock {
                instance,
                sequence,
                updates,
                context,
            }
        },
    )
}

pub(crate) fn any_bitmap_page() -> impl Strategy<Value = BitmapPage> {
    let pages = u32::try_from(CHUNKS_MAX.div_ceil(PAGE_CHUNKS as u64)).expect("32 bits");
    let masks = vec(any::<u32>(), PAGE_CHUNKS);
    (any_slot(), 0..pages, any::<u64>(), masks).prop_map(|(slot, index, epoch, masks)| BitmapPage {
        slot,
        index,
        epoch,
        masks: Box::new(masks.try_into().expect("as many as asked for")),
    })
}
