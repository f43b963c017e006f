//! Keeps the data links up: one for each volume and peer, dialled by both sides, handed to the replica as
//! soon as they are authenticated.

use crate::backoff::Backoff;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::link::{Link, Purpose, dial, kept};
use crate::links::{DataLink, State};
use crate::registry::Member;
use crate::volumes::Hosted;
use format::hello::Hello;
use format::types::{Slot, VolumeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The node whose connections give way waits this long for the other's before it dials, so that two
/// rarely meet.
const COURTESY: Duration = Duration::from_millis(100);

/// Keeps the links of an open replica up until it is forgotten.
pub(crate) fn keep(daemon: &Arc<Daemon>, hosted: &Arc<Hosted>) {
    for member in hosted.record.others() {
        keep_one(daemon, hosted, member);
    }
}

/// Keeps the link to one of the other replicas up.
pub(crate) fn keep_one(daemon: &Arc<Daemon>, hosted: &Arc<Hosted>, member: &Member) {
    let link = daemon.links.want(hosted.record.volume, member);
    tokio::spawn(keep_linked(
        daemon.clone(),
        hosted.clone(),
        member.clone(),
        link,
    ));
}

async fn keep_linked(
    daemon: Arc<Daemon>,
    hosted: Arc<Hosted>,
    member: Member,
    link: Arc<DataLink>,
) {
    // Who cannot be reached is dialled less and less often, and apart from that a link that ends as soon as it is up.
    let (mut dialling, mut ending) = (Backoff::default(), Backoff::default());
    let mut polite = daemon.local.node > member.node;
    loop {
        match link.state() {
            State::Forgotten => return,
            State::StandAlone => {
                link.changed().await;
                (dialling, ending) = (Backoff::default(), Backoff::default());
            }
            State::Up { since, .. } => {
                link.changed().await;
                if matches!(link.state(), State::Up { .. }) {
                    continue;
                }
                // It worked, and most that have ended on purpose: where roles change one follows on another at once.
                dialling = Backoff::default();
                polite = daemon.local.node > member.node;
                ending.lasted(since.elapsed());
                tokio::select! {
                    () = ending.rest() => {}
                    () = link.changed() => {}
                }
            }
            State::Wanted if polite => {
                // Whether the other has dialled meanwhile is seen in the state.
                let _ = timeout(COURTESY, link.changed()).await;
                polite = false;
            }
            State::Wanted => {
                dial_once(&daemon, &hosted, &member, &link).await;
                tokio::select! {
                    () = dialling.rest() => {}
                    () = link.changed() => {}
                }
            }
        }
    }
}

async fn dial_once(daemon: &Daemon, hosted: &Hosted, member: &Member, link: &DataLink) {
    let Some(peer) = daemon.config.peer(&member.name) else {
        let (volume, node) = (&hosted.record.name, &member.name);
        tracing::warn!("volume {volume} has a replica on {node}: add a [[peer]] {node}");
        return;
    };
    let purpose = Purpose::Data {
        volume: hosted.record.volume,
        slot: hosted.record.slot,
    };
    match dial(&daemon.local, peer, purpose).await {
        Ok(established) => attach(daemon, hosted, member.slot, link, established),
        Err(failure) => {
            tracing::debug!(volume = %hosted.record.name, "data link to {}: {failure}", member.name);
        }
    }
}

/// Whether, and to which replica, a link that a peer has dialled would be handed.
pub(crate) fn admits(
    daemon: &Daemon,
    volume: VolumeId,
    slot: Slot,
    peer: &Hello,
) -> Result<Arc<Hosted>, Failure> {
    let unknown = || Failure::not_found(format!("there is no volume {volume} here"));
    let hosted = daemon.volumes.with_id(volume).ok_or_else(unknown)?;
    let matches = |member: &Member| member.slot == slot && member.node == peer.node;
    if !hosted.record.others().any(matches) {
        return Err(Failure::failed(format!(
            "volume {} has no replica on {} ({}) in {slot}",
            hosted.record.name, peer.name, peer.node
        )));
    }
    hosted.volume()?;
    let link = daemon.links.find(volume, slot).ok_or_else(unknown)?;
    let standing = link
        .state()
        .standing()
        .ok_or_else(|| Failure::failed("this replica stands alone until an operator has acted"))?;
    if kept(daemon.local.node, peer.node, false, standing) {
        Ok(hosted)
    } else {
        Err(Failure::failed("there is a link already"))
    }
}

/// Hands a link that a peer has dialled, and that was admitted, to the replica.
pub(crate) fn attach_accepted(daemon: &Daemon, hosted: &Hosted, peer: Slot, established: Link) {
    if let Some(link) = daemon.links.find(hosted.record.volume, peer) {
        attach(daemon, hosted, peer, &link, established);
    }
}

fn attach(daemon: &Daemon, hosted: &Hosted, peer: Slot, link: &DataLink, established: Link) {
    // Who sees the replicas meet expects the nodes to.
    daemon.nodes.kick(&established.name);
    link.put_up(daemon.local.node, established, |socket| {
        let volume = hosted.volume().ok()?;
        Some(volume.attach_peer(peer, socket, Vec::new()))
    });
}
