//! What is wrong with bytes from a disk or from a peer.

/// The bytes are not what they should be. It is small and copied freely: the caller, who knows the
/// file or the peer, adds the context.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Damage {
    /// What is wrong, as a clause for a person.
    pub what: &'static str,
}

impl Damage {
    /// The damage of this kind.
    pub const fn new(what: &'static str) -> Damage {
        Damage { what }
    }

    /// Turns the answer of an `invalid` into a result.
    pub(crate) fn check(invalid: Option<&'static str>) -> Result<(), Damage> {
        invalid.map_or(Ok(()), |what| Err(Damage { what }))
    }
}

/// Passes only where the condition holds.
pub(crate) fn ensure(holds: bool, what: &'static str) -> Result<(), Damage> {
    if holds { Ok(()) } else { Err(Damage { what }) }
}
