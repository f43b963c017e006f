//! `volume resolve`: an operator gives one side of a split brain up, knowing what that loses.

use crate::actions::{slot_of, unexpected};
use crate::api::{Outcome, VolumeView};
use crate::control::{Order, Request, Response};
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::units::Size;
use crate::volumes::Hosted;
use std::sync::Arc;

/// Says what each choice would lose, and does nothing.
pub(crate) async fn foretell(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    discard: &str,
) -> Result<Outcome, Failure> {
    slot_of(hosted, discard)?;
    let mut lines = Vec::new();
    let mut split = false;
    for member in &hosted.record.members {
        let node = &member.name;
        let chosen = if node.as_str() == discard {
            " (the choice at hand)"
        } else {
            ""
        };
        match show(daemon, hosted, &member.name).await {
            Ok(view) => {
                split |= view.state == "SplitBrain";
                lines.push(format!("--discard {node}{chosen} {}", loss(&view)));
            }
            Err(failure) => {
                lines.push(format!(
                    "--discard {node}{chosen}: what it loses is unknown: {failure}"
                ));
            }
        }
    }
    if !split {
        return Err(no_split(hosted));
    }
    Ok(Outcome {
        lines,
        blocks: None,
        differing: None,
    })
}

/// What is lost with this replica: what it has marked as different from the others.
fn loss(view: &VolumeView) -> String {
    let marked = view
        .replicas
        .iter()
        .map(|replica| replica.out_of_sync_bytes)
        .max()
        .unwrap_or(0);
    let clients = view.io.as_ref().map_or(0, |io| io.clients);
    let open = if clients > 0 {
        format!("; {clients} clients have it open")
    } else {
        String::new()
    };
    format!(
        "gives up what it wrote on its own: at most {} in {} blocks, epoch {}{open}",
        Size(marked),
        marked / format::types::BLOCK_BYTES,
        view.epoch
    )
}

/// Gives one side up and has all connect again.
pub(crate) async fn resolve(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    discard: &str,
) -> Result<Outcome, Failure> {
    let slot = slot_of(hosted, discard)?;
    let mut split = false;
    for member in &hosted.record.members {
        let view = show(daemon, hosted, &member.name).await;
        match view {
            Ok(view) => split |= view.state == "SplitBrain",
            // Only the side that is given up has to be there.
            Err(failure) if member.slot == slot => return Err(failure),
            Err(_) => {}
        }
    }
    if !split {
        return Err(no_split(hosted));
    }
    let mut members: Vec<_> = hosted.record.members.iter().collect();
    members.sort_by_key(|member| member.slot != slot);
    let mut lines = vec![format!(
        "{}: what {discard} wrote is given up",
        hosted.record.name
    )];
    for member in members {
        let order = Order::Discard { slot };
        let request = Request::Order {
            volume: hosted.record.volume,
            order,
        };
        match daemon.ask(&member.name, request).await {
            Ok(_) => {}
            Err(failure) if member.slot == slot => return Err(failure),
            Err(failure) => lines.push(format!("{failure}: type the same there")),
        }
    }
    Ok(Outcome {
        lines,
        blocks: None,
        differing: None,
    })
}

async fn show(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    node: &format::types::Name,
) -> Result<VolumeView, Failure> {
    match daemon
        .ask(
            node,
            Request::Show {
                volume: hosted.record.volume,
            },
        )
        .await?
    {
        Response::View(view) => Ok(*view),
        other => Err(unexpected(node, &other)),
    }
}

fn no_split(hosted: &Hosted) -> Failure {
    Failure::failed(format!(
        "volume {} has no split brain: nothing to resolve",
        hosted.record.name
    ))
}
