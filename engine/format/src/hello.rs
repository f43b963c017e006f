//! How two nodes come to trust a link, before any [frame](crate::frame) or control message.
//!
//! ```text
//!   dialer                                 acceptor
//!     │ ── Opening (versions, nonce) ────────▶ │
//!     │ ◀──────── Opening (versions, nonce) ── │   both negotiate a version
//!     │ ── Proof ────────────────────────────▶ │   wrong: the acceptor hangs up, and has said nothing
//!     │ ◀──────────────────────────── Proof ── │   wrong: the dialer hangs up
//!     │ ── Hello (who, which link) ──────────▶ │
//!     │ ◀─────────── Welcome (who, whether) ── │
//! ```
//!
//! Each side proves that it holds the cluster key by a keyed hash over both openings, whose nonces
//! nobody can make come again; the role is part of it, so that no proof can be sent back to its maker.
//! The one who dials proves first: whoever merely scans learns a range of versions and no more.
//! Hello and Welcome carry a keyed hash too, so that nobody between the nodes can alter them.

mod bytes;
#[cfg(test)]
mod tests;

pub use bytes::{PREFIX_BYTES, Prefix, decode_prefix};

use crate::types::{Name, NodeId, Slot, VolumeId};

/// The versions of the protocol that this crate speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (1, crate::frame::PROTOCOL_VERSION);
/// The optional features that this crate knows: none yet.
pub const FEATURES: u64 = 0;

/// The first message, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The lowest and the highest version that the sender speaks.
    pub versions: (u16, u16),
    /// The optional features that the sender knows, one bit each.
    pub features: u64,
    /// Fresh from the system's random source.
    pub nonce: [u8; 32],
}

/// The second message, first the dialer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof {
    /// See [`proof`].
    pub mac: [u8; 32],
}

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Control messages between two nodes.
    Control,
    /// One volume's frames.
    Data {
        /// Which.
        volume: VolumeId,
        /// The sender's slot in it.
        slot: Slot,
    },
}

/// The dialer's third message: who it is and what it wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The dialer's id.
    pub node: NodeId,
    /// The dialer's name.
    pub name: Name,
    /// What the link is for.
    pub link: Link,
}

/// The acceptor's third message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The acceptor's id.
    pub node: NodeId,
    /// The acceptor's name.
    pub name: Name,
    /// Whether the link is what the hello asked for; if not, one sentence for a person, of which
    /// [`REASON_BYTES_MAX`](crate::frame::REASON_BYTES_MAX) bytes are sent.
    pub accepted: Result<(), Box<str>>,
}

/// Who proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The one who has connected.
    Dialer,
    /// The other one.
    Acceptor,
}

/// What two openings agree on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// The highest version that both speak.
    pub version: u16,
    /// The features that both know.
    pub features: u64,
}

/// Why two openings do not agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Disagreement {
    /// There is no version that both speak.
    #[error(
        "the peer speaks protocol versions {} to {}, this node {} to {}: bring both to a common one",
        theirs.0, theirs.1, mine.0, mine.1
    )]
    Versions {
        /// This side's.
        mine: (u16, u16),
        /// The other side's.
        theirs: (u16, u16),
    },
    /// The other side has sent this side's own nonce back.
    #[error("the peer has sent this node's own opening back")]
    Mirror,
}

/// What to speak on a link, from this side's opening and the other's.
pub fn negotiate(mine: &Opening, theirs: &Opening) -> Result<Agreement, Disagreement> {
    if mine.nonce == theirs.nonce {
        return Err(Disagreement::Mirror);
    }
    let lowest = mine.versions.0.max(theirs.versions.0);
    let highest = mine.versions.1.min(theirs.versions.1);
    if lowest > highest {
        return Err(Disagreement::Versions {
            mine: mine.versions,
            theirs: theirs.versions,
        });
    }
    Ok(Agreement {
        version: highest,
        features: mine.features & theirs.features,
    })
}

/// Shows that the one in this role holds the cluster key, on the link of these two openings.
pub fn proof(
    key: &[u8; 32],
    role: Role,
    dialer_opening: &Opening,
    acceptor_opening: &Opening,
) -> [u8; 32] {
    let label: &[u8; LABEL_BYTES] = match role {
        Role::Dialer => b"twinblk link proof of dialer    ",
        Role::Acceptor => b"twinblk link proof of acceptor  ",
    };
    transcript_mac(key, label, dialer_opening, acceptor_opening)
}

/// Compares two proofs in a time that does not tell where they differ.
#[must_use]
pub fn verify(expected: &[u8; 32], received: &[u8; 32]) -> bool {
    // The comparison of this type takes the same time wherever the two differ.
    blake3::Hash::from_bytes(*expected) == blake3::Hash::from_bytes(*received)
}

/// What seals the messages of one link once both have proven themselves.
#[derive(Clone)]
pub struct LinkKey([u8; 32]);

impl LinkKey {
    /// The key of the link of these two openings.
    pub fn new(key: &[u8; 32], dialer_opening: &Opening, acceptor_opening: &Opening) -> LinkKey {
        let label = b"twinblk link key of messages    ";
        LinkKey(transcript_mac(key, label, dialer_opening, acceptor_opening))
    }

    fn mac(&self, message: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, message).as_bytes()
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey")
    }
}

/// Labels are all of one length, so that what follows them begins at one place.
const LABEL_BYTES: usize = 32;

/// A keyed hash over the two openings, byte for byte as they were sent.
fn transcript_mac(
    key: &[u8; 32],
    label: &[u8; LABEL_BYTES],
    dialer_opening: &Opening,
    acceptor_opening: &Opening,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(label);
    hasher.update(&dialer_opening.encode());
    hasher.update(&acceptor_opening.encode());
    *hasher.finalize().as_bytes()
}
