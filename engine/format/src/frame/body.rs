//! The bodies of frames, as they lie in the stream. Kinds that carry the same share one.

use super::Fault;
use crate::damage::Damage;
use crate::wire::{WireAdmission, WireConfiguration};
use bytes::BytesMut;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
            #[repr(C)]
            pub(super) struct $name {
                $(pub(super) $field: $type,)*
            }

            const _: () = assert!(size_of::<$name>() == $size);

            impl $name {
                /// Appends a body of these fields.
                pub(super) fn put(out: &mut BytesMut, $($field: impl Into<$type>),*) {
                    let body = $name { $($field: $field.into()),* };
                    out.extend_from_slice(body.as_bytes());
                }
            }
        )*
    };
}

bodies! {
    /// Followed by the masks: 4 bytes each.
    MarksBody: 8 {
        first_chunk: U32,
        reserved: [u8; 4],
    }

    ConfigurationBody: 32 {
        configuration: WireConfiguration,
    }

    /// An epoch, the number of a checkpoint, or what a ping said.
    NumberBody: 8 {
        number: U64,
    }

    DiskBody: 8 {
        disk_state: u8,
        reserved: [u8; 7],
    }

    PingBody: 16 {
        sent_at: U64,
        stable_through: U64,
    }

    /// The length is the header's `payload_length`.
    WriteBody: 24 {
        sequence: U64,
        offset: U64,
        stable_through: U64,
    }

    ZeroBody: 32 {
        sequence: U64,
        offset: U64,
        length: U64,
        stable_through: U64,
    }

    /// How something numbered ended. The length of what was read is the header's `payload_length`.
    OutcomeBody: 16 {
        number: U64,
        fault: u8,
        reserved: [u8; 7],
    }

    FlushBody: 24 {
        token: U64,
        covers: U64,
        stable_through: U64,
    }

    ReadBody: 24 {
        token: U64,
        offset: U64,
        length: U32,
        reserved: [u8; 4],
    }

    /// Followed by the digests: 16 bytes each.
    HashesBody: 16 {
        chunk: U32,
        mask: U32,
        walk: u8,
        reserved: [u8; 7],
    }

    ChunkBody: 8 {
        chunk: U32,
        mask: U32,
    }

    ChunkOutcomeBody: 16 {
        chunk: U32,
        mask: U32,
        fault: u8,
        reserved: [u8; 7],
    }
}

/// Followed by the history: 16 bytes a generation, latest first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct IdentityBody {
    pub(super) volume: [u8; 16],
    pub(super) size_bytes: U64,
    pub(super) node: [u8; 16],
    pub(super) boot: [u8; 16],
    pub(super) incarnation: U64,
    pub(super) known_incarnation: U64,
    pub(super) configuration: WireConfiguration,
    pub(super) data_generation: [u8; 16],
    pub(super) proposal: WireConfiguration,
    pub(super) pending_admission: WireAdmission,
    pub(super) marked_blocks: U64,
    pub(super) flags: U16,
    pub(super) disk_state: u8,
    pub(super) lease_ms: U32,
    pub(super) reserved: [u8; 1],
}

const _: () = assert!(size_of::<IdentityBody>() == 192);

/// `flags` of an identity.
pub(super) mod identity_flags {
    pub(in crate::frame) const HISTORY_COMPLETE: u16 = 1 << 0;
    pub(in crate::frame) const PROPOSAL: u16 = 1 << 1;
    pub(in crate::frame) const PENDING_ADMISSION: u16 = 1 << 2;
    pub(in crate::frame) const SUSPECT: u16 = 1 << 3;
    pub(in crate::frame) const CRASHED_PRIMARY: u16 = 1 << 4;
    pub(in crate::frame) const DISCARDED: u16 = 1 << 5;
    pub(in crate::frame) const FORCED: u16 = 1 << 6;
    pub(in crate::frame) const MARKS_VALID: u16 = 1 << 7;
    pub(in crate::frame) const ARBITRATED: u16 = 1 << 8;
    /// All of them.
    pub(in crate::frame) const ALL: u16 = (1 << 9) - 1;
}

/// A fault's number; 0 is none.
pub(super) const fn fault_number(fault: Option<Fault>) -> u8 {
    match fault {
        None => 0,
        Some(Fault::Disk) => 1,
        Some(Fault::Full) => 2,
    }
}

/// The fault with this number.
pub(super) const fn fault(number: u8) -> Result<Option<Fault>, Damage> {
    match number {
        0 => Ok(None),
        1 => Ok(Some(Fault::Disk)),
        2 => Ok(Some(Fault::Full)),
        _ => Err(Damage::new("an unknown fault")),
    }
}
