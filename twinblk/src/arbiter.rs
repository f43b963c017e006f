//! Arbiters: registers outside of the nodes that say which configuration of a volume is the latest.

mod entry;
mod etcd;
pub(crate) mod protocol;
mod register;
#[cfg(test)]
pub(crate) mod testing;
mod witness;

pub(crate) use entry::{ENTRY_BYTES_MAX, Entry};
pub(crate) use register::{Change, Register};

use crate::config::ArbiterSettings;
use crate::failure::Failure;
use crate::link::Local;
use std::sync::Arc;
use std::time::Duration;

/// No answer takes longer than this, however long the lease.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// The register that the settings name. A question that has taken half the lease comes too late for most
/// of what it was asked for.
pub(crate) fn open(
    settings: &ArbiterSettings,
    local: &Local,
) -> Result<Arc<dyn Register>, Failure> {
    let patience = (local.lease / 2).min(PATIENCE_MAX);
    Ok(match settings {
        ArbiterSettings::Witness { addresses } => Arc::new(witness::Witness::new(
            local.clone(),
            addresses.clone(),
            patience,
        )),
        ArbiterSettings::Etcd(etcd) => Arc::new(etcd::Etcd::new(etcd, patience)?),
    })
}
