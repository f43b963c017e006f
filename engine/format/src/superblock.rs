//! The superblock: what a replica knows of itself, in two copies.

mod choice;
#[cfg(test)]
mod tests;

pub use choice::{SuperblockChoice, SuperblockRefusal, choose_superblock};

use crate::block::{self, BLOCK, Block, Head, RESERVED, VERSION};
use crate::damage::Damage;
use crate::frame::HISTORY_MAX;
use crate::types::{
    BLOCK_BYTES, BootId, Configuration, DiskState, Generation, Name, NodeId, NodeSet, REPLICAS_MAX,
    Slot, VOLUME_BYTES_MAX, VolumeId,
};
use crate::wire::{
    WireAdmission, WireConfiguration, WireName, disk_state, disk_state_number, flags, is_zero,
    optional_configuration, read_optional_configuration, slot,
};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One replica of the volume, as the superblock names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    /// Its node.
    pub node: NodeId,
    /// Its node's name.
    pub name: Name,
}

/// What a replica knows of itself. Both copies on disk are written, one durable before the other
/// is begun, before a change counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Counts the writes of the superblock; the copy with the higher number is the newer.
    pub sequence: u64,
    /// The volume.
    pub volume: VolumeId,
    /// Its name.
    pub name: Name,
    /// Its size in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// This replica's slot.
    pub slot: Slot,
    /// All replicas, by slot.
    pub replicas: [Option<Replica>; REPLICAS_MAX],
    /// The latest configuration that this replica knows of.
    pub configuration: Configuration,
    /// The generation that its data descends from.
    pub data_generation: Generation,
    /// The ancestors of `data_generation`, latest first, at most [`HISTORY_MAX`].
    pub history: Vec<Generation>,
    /// Whether `history` reaches back to the volume's creation.
    pub history_complete: bool,
    /// A configuration proposed to an arbiter and not seen decided.
    pub proposal: Option<Configuration>,
    /// An admission promised and not seen committed: (epoch, generation).
    pub pending_admission: Option<(u64, Generation)>,
    /// What its data is worth.
    pub disk_state: DiskState,
    /// The last stop was orderly: everything is flushed and the activity log is void.
    pub clean: bool,
    /// It may have lost acknowledged writes in a power cut.
    pub suspect: bool,
    /// It was primary when it last stopped, uncleanly.
    pub crashed_primary: bool,
    /// An operator gave its side of a split brain up.
    pub discarded: bool,
    /// Its generation was made by force and has not been healed.
    pub forced: bool,
    /// An arbiter decides on its configurations.
    pub arbitrated: bool,
    /// The machine's boot in which the replica was last open.
    pub boot: BootId,
    /// Blocks of the activity log that carry another instance are void.
    pub log_instance: u64,
    /// For each slot: bitmap pages written in an earlier epoch are void.
    pub mark_floor: [u64; REPLICAS_MAX],
    /// The slots for which this replica's marks cover all that differs.
    pub marks_valid: NodeSet,
}

/// Where a superblock's fields lie.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SuperblockBytes {
    head: Head,
    sequence: U64,
    volume: [u8; 16],
    size_bytes: U64,
    log_instance: U64,
    boot: [u8; 16],
    data_generation: [u8; 16],
    configuration: WireConfiguration,
    proposal: WireConfiguration,
    pending_admission: WireAdmission,
    flags: U16,
    slot: u8,
    disk_state: u8,
    marks_valid: u8,
    history_length: u8,
    reserved: [u8; 2],
    mark_floor: [U64; REPLICAS_MAX],
    name: WireName,
    replicas: [WireReplica; REPLICAS_MAX],
    history: [[u8; 16]; HISTORY_MAX],
    unused: [u8; 1600],
}

const _: () = assert!(size_of::<SuperblockBytes>() == BLOCK);
const _: () = assert!(HISTORY_MAX <= u8::MAX as usize);

/// A replica; all zero where there is none.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireReplica {
    node: [u8; 16],
    name: WireName,
}

const _: () = assert!(size_of::<WireReplica>() == 80);

/// `flags` of a superblock.
mod superblock_flags {
    pub(super) const HISTORY_COMPLETE: u16 = 1 << 0;
    pub(super) const PROPOSAL: u16 = 1 << 1;
    pub(super) const PENDING_ADMISSION: u16 = 1 << 2;
    pub(super) const SUSPECT: u16 = 1 << 3;
    pub(super) const CRASHED_PRIMARY: u16 = 1 << 4;
    pub(super) const DISCARDED: u16 = 1 << 5;
    pub(super) const FORCED: u16 = 1 << 6;
    pub(super) const CLEAN: u16 = 1 << 7;
    pub(super) const ARBITRATED: u16 = 1 << 8;
    /// All of them.
    pub(super) const ALL: u16 = (1 << 9) - 1;
}

impl Block for SuperblockBytes {
    const MAGIC: [u8; 8] = *b"twinblkS";

    fn invalid(&self) -> Option<&'static str> {
        if !is_zero(&self.reserved) || !is_zero(&self.unused) {
            return Some(RESERVED);
        }
        if self.flags.get() & !superblock_flags::ALL != 0 {
            return Some("it has unknown flags");
        }
        let Some((_, beyond)) = self.history.split_at_checked(self.history_length.into()) else {
            return Some("its history is longer than can be");
        };
        (!is_zero(beyond.as_flattened())).then_some("it has history beyond its history's length")
    }
}

impl Superblock {
    /// What is wrong with the superblock, if anything: none is written or read that is.
    pub fn invalid(&self) -> Option<&'static str> {
        let size = self.size_bytes;
        if !size.is_multiple_of(BLOCK_BYTES) || size > VOLUME_BYTES_MAX {
            return Some("its volume has an impossible size");
        }
        if self.history.len() > HISTORY_MAX {
            return Some("its history is longer than can be");
        }
        let own = &self.replicas[self.slot.index()];
        own.is_none().then_some("its own slot has no replica")
    }

    /// Its bytes on the disk.
    ///
    /// # Panics
    ///
    /// If it is [invalid](Superblock::invalid): it could not be read again.
    pub fn encode(&self) -> Box<[u8; BLOCK]> {
        assert_eq!(self.invalid(), None, "{self:?}");
        let mut history = [[0; 16]; HISTORY_MAX];
        for (place, generation) in history.iter_mut().zip(&self.history) {
            *place = generation.0;
        }
        block::seal(&SuperblockBytes {
            head: Head::new_zeroed(),
            sequence: self.sequence.into(),
            volume: self.volume.0,
            size_bytes: self.size_bytes.into(),
            log_instance: self.log_instance.into(),
            boot: self.boot.0,
            data_generation: self.data_generation.0,
            configuration: self.configuration.into(),
            proposal: optional_configuration(self.proposal),
            pending_admission: self.pending_admission.into(),
            flags: self.flags().into(),
            slot: self.slot.number(),
            disk_state: disk_state_number(self.disk_state),
            marks_valid: self.marks_valid.bits(),
            history_length: u8::try_from(self.history.len()).expect("it is valid"),
            reserved: [0; 2],
            mark_floor: self.mark_floor.map(U64::new),
            name: (&self.name).into(),
            replicas: self.replicas.each_ref().map(WireReplica::of),
            history,
            unused: [0; 1600],
        })
    }

    /// The superblock of these bytes, in any version that this crate knows.
    pub fn decode(bytes: &[u8]) -> Result<Superblock, Damage> {
        match block::version(bytes, SuperblockBytes::MAGIC)? {
            VERSION => block::open::<SuperblockBytes>(bytes)?.read(),
            _ => Err(block::NEWER),
        }
    }

    fn flags(&self) -> u16 {
        use superblock_flags as flag;
        flags(&[
            (self.history_complete, flag::HISTORY_COMPLETE),
            (self.proposal.is_some(), flag::PROPOSAL),
            (self.pending_admission.is_some(), flag::PENDING_ADMISSION),
            (self.suspect, flag::SUSPECT),
            (self.crashed_primary, flag::CRASHED_PRIMARY),
            (self.discarded, flag::DISCARDED),
            (self.forced, flag::FORCED),
            (self.clean, flag::CLEAN),
            (self.arbitrated, flag::ARBITRATED),
        ])
    }
}

impl SuperblockBytes {
    fn read(&self) -> Result<Superblock, Damage> {
        use superblock_flags as flag;
        let has = |flag: u16| self.flags.get() & flag != 0;
        let mut replicas = [const { None }; REPLICAS_MAX];
        for (replica, wire) in replicas.iter_mut().zip(&self.replicas) {
            *replica = wire.read()?;
        }
        let history = &self.history[..usize::from(self.history_length)];
        let superblock = Superblock {
            sequence: self.sequence.get(),
            volume: VolumeId(self.volume),
            name: self.name.read()?,
            size_bytes: self.size_bytes.get(),
            slot: slot(self.slot)?,
            replicas,
            configuration: self.configuration.read()?,
            data_generation: Generation(self.data_generation),
            history: history.iter().copied().map(Generation).collect(),
            history_complete: has(flag::HISTORY_COMPLETE),
            proposal: read_optional_configuration(has(flag::PROPOSAL), &self.proposal)?,
            pending_admission: self.pending_admission.read(has(flag::PENDING_ADMISSION))?,
            disk_state: disk_state(self.disk_state)?,
            clean: has(flag::CLEAN),
            suspect: has(flag::SUSPECT),
            crashed_primary: has(flag::CRASHED_PRIMARY),
            discarded: has(flag::DISCARDED),
            forced: has(flag::FORCED),
            arbitrated: has(flag::ARBITRATED),
            boot: BootId(self.boot),
            log_instance: self.log_instance.get(),
            mark_floor: self.mark_floor.map(U64::get),
            marks_valid: NodeSet::from_bits(self.marks_valid),
        };
        Damage::check(superblock.invalid())?;
        Ok(superblock)
    }
}

impl WireReplica {
    fn of(replica: &Option<Replica>) -> WireReplica {
        replica
            .as_ref()
            .map_or_else(WireReplica::new_zeroed, |replica| WireReplica {
                node: replica.node.0,
                name: (&replica.name).into(),
            })
    }

    fn read(&self) -> Result<Option<Replica>, Damage> {
        if is_zero(self.as_bytes()) {
            return Ok(None);
        }
        Ok(Some(Replica {
            node: NodeId(self.node),
            name: self.name.read()?,
        }))
    }
}
