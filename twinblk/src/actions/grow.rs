//! `volume grow`: every replica's data file first, then every replica's size.

use crate::api::Outcome;
use crate::control::{Order, Request};
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::registry::Member;
use crate::units::Size;
use crate::volumes::Hosted;
use format::types::{BLOCK_BYTES, VOLUME_BYTES_MAX};
use replica::status::ConnectionState;
use std::sync::Arc;

/// Grows a volume, or leaves it as it is.
pub(crate) async fn grow(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    size_bytes: u64,
) -> Result<Outcome, Failure> {
    let volume = hosted.record.volume;
    let status = hosted.status().await?.replica;
    check(hosted, status.size_bytes, size_bytes)?;
    for peer in &status.peers {
        if peer.connection != ConnectionState::Connected {
            return Err(Failure::failed(format!(
                "{} is not connected: every replica must be when a volume grows",
                hosted.record.node_name(peer.slot)
            )));
        }
    }
    for member in &hosted.record.members {
        // Where this fails, the volume keeps its size, and what was extended is undone at the next start.
        daemon
            .ask(&member.name, Request::Extend { volume, size_bytes })
            .await?;
    }
    // The primary comes last: as soon as it has grown, its clients write where the others must be able to.
    let mut members: Vec<&Member> = hosted.record.members.iter().collect();
    members.sort_by_key(|member| status.configuration.primary == Some(member.slot));
    for member in members {
        let order = Order::Grow { size_bytes };
        daemon
            .ask(&member.name, Request::Order { volume, order })
            .await?;
    }
    let name = &hosted.record.name;
    daemon.incident(Incident::Grown(name.clone(), size_bytes));
    Ok(Outcome::line(format!("{name}: {}", Size(size_bytes))))
}

fn check(hosted: &Hosted, has: u64, size_bytes: u64) -> Result<(), Failure> {
    let name = &hosted.record.name;
    if size_bytes < has {
        return Err(Failure::protects_data(format!(
            "volume {name} has {} and cannot shrink: create a smaller one and copy",
            Size(has)
        )));
    }
    if size_bytes > VOLUME_BYTES_MAX || !size_bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(Failure::usage(format!(
            "a volume has a multiple of {BLOCK_BYTES} bytes, at most {}",
            Size(VOLUME_BYTES_MAX)
        )));
    }
    Ok(())
}
