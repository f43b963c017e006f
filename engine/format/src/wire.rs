//! Pieces that several blocks and frames share, as they lie in bytes.
//!
//! Every number is little-endian and every struct has alignment one, so that it can be read where it
//! lies. What a struct does not use is zero, and is checked to be: a later version may give it a
//! meaning, and no flipped bit goes unseen.

#[cfg(test)]
mod tests;

use crate::damage::{Damage, ensure};
use crate::types::{Configuration, DiskState, Generation, Name, NodeSet, Slot};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Stands for "no slot".
pub(crate) const NO_SLOT: u8 = 0xff;

/// Whether every byte is zero. It looks at all of them, since a loop that never stops early is one
/// that the compiler makes wide.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

/// A configuration.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireConfiguration {
    pub(crate) epoch: U64,
    pub(crate) generation: [u8; 16],
    pub(crate) primary: u8,
    pub(crate) in_sync: u8,
    pub(crate) reserved: [u8; 6],
}

const _: () = assert!(size_of::<WireConfiguration>() == 32);

impl From<Configuration> for WireConfiguration {
    fn from(from: Configuration) -> Self {
        WireConfiguration {
            epoch: from.epoch.into(),
            generation: from.generation.0,
            primary: from.primary.map_or(NO_SLOT, Slot::number),
            in_sync: from.in_sync.bits(),
            reserved: [0; 6],
        }
    }
}

impl WireConfiguration {
    pub(crate) fn read(&self) -> Result<Configuration, Damage> {
        ensure(is_zero(&self.reserved), "a configuration's reserved bytes")?;
        Ok(Configuration {
            epoch: self.epoch.get(),
            generation: Generation(self.generation),
            primary: match self.primary {
                NO_SLOT => None,
                number => Some(slot(number)?),
            },
            in_sync: NodeSet::from_bits(self.in_sync),
        })
    }
}

/// A configuration where a flag elsewhere tells whether there is one; all zero if there is none.
pub(crate) fn optional_configuration(from: Option<Configuration>) -> WireConfiguration {
    from.map_or_else(WireConfiguration::new_zeroed, WireConfiguration::from)
}

/// The reverse of [`optional_configuration`].
pub(crate) fn read_optional_configuration(
    present: bool,
    wire: &WireConfiguration,
) -> Result<Option<Configuration>, Damage> {
    if present {
        return wire.read().map(Some);
    }
    ensure(
        is_zero(wire.as_bytes()),
        "a proposal that is flagged absent",
    )?;
    Ok(None)
}

/// A promised admission; all zero if a flag elsewhere tells that there is none.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireAdmission {
    pub(crate) epoch: U64,
    pub(crate) generation: [u8; 16],
}

const _: () = assert!(size_of::<WireAdmission>() == 24);

impl From<Option<(u64, Generation)>> for WireAdmission {
    fn from(from: Option<(u64, Generation)>) -> Self {
        let (epoch, generation) = from.unwrap_or((0, Generation::NONE));
        WireAdmission {
            epoch: epoch.into(),
            generation: generation.0,
        }
    }
}

impl WireAdmission {
    pub(crate) fn read(&self, present: bool) -> Result<Option<(u64, Generation)>, Damage> {
        if present {
            return Ok(Some((self.epoch.get(), Generation(self.generation))));
        }
        ensure(
            is_zero(self.as_bytes()),
            "an admission that is flagged absent",
        )?;
        Ok(None)
    }
}

/// A name; all zero where there is none.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireName {
    pub(crate) length: u8,
    pub(crate) text: [u8; Name::BYTES_MAX],
}

const _: () = assert!(size_of::<WireName>() == 64);

impl From<&Name> for WireName {
    fn from(from: &Name) -> Self {
        let bytes = from.as_str().as_bytes();
        let mut wire = WireName::new_zeroed();
        wire.length = u8::try_from(bytes.len()).expect("a name has at most 63 bytes");
        wire.text[..bytes.len()].copy_from_slice(bytes);
        wire
    }
}

impl WireName {
    pub(crate) fn read(&self) -> Result<Name, Damage> {
        const WHAT: Damage = Damage::new("a name that is none");
        let (text, rest) = self.text.split_at_checked(self.length.into()).ok_or(WHAT)?;
        ensure(is_zero(rest), WHAT.what)?;
        let text = std::str::from_utf8(text).map_err(|_| WHAT)?;
        Name::new(text).ok_or(WHAT)
    }
}

/// The slot with this number.
pub(crate) fn slot(number: u8) -> Result<Slot, Damage> {
    Slot::new(number).ok_or(Damage::new("a slot that cannot be"))
}

/// A disk state's number.
pub(crate) const fn disk_state_number(state: DiskState) -> u8 {
    match state {
        DiskState::UpToDate => 1,
        DiskState::Outdated => 2,
        DiskState::Inconsistent => 3,
        DiskState::Failed => 4,
        DiskState::Diskless => 5,
    }
}

/// The disk state with this number.
pub(crate) const fn disk_state(number: u8) -> Result<DiskState, Damage> {
    match number {
        1 => Ok(DiskState::UpToDate),
        2 => Ok(DiskState::Outdated),
        3 => Ok(DiskState::Inconsistent),
        4 => Ok(DiskState::Failed),
        5 => Ok(DiskState::Diskless),
        _ => Err(Damage::new("an unknown disk state")),
    }
}

/// Flags, gathered one by one.
pub(crate) fn flags(bits: &[(bool, u16)]) -> u16 {
    bits.iter()
        .filter(|(set, _)| *set)
        .fold(0, |all, (_, bit)| all | bit)
}

/// The longest reason that a message carries, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 512;

/// As much of a reason as a message carries: all of it, or its beginning up to a whole character.
pub(crate) fn bounded_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}
