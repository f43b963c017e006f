//! A volume comes to the node that wants to use it, unless it is used where it is.

use crate::actions::{change_roles, connected, of_volume, refuse_if_open};
use crate::api::Outcome;
use crate::control::{Request, Response};
use crate::daemon::Daemon;
use crate::failure::{Failure, FailureKind};
use crate::volumes::Hosted;
use format::types::Slot;
use replica::command::Command;
use std::sync::Arc;

/// What was asked of this node by a program.
pub(crate) async fn act(daemon: &Arc<Daemon>, hosted: &Hosted) -> Result<Outcome, Failure> {
    let taken = take(daemon, hosted).await;
    taken.map_err(|failure| of_volume(hosted, &failure))?;
    let (name, own) = (&hosted.record.name, &daemon.config.name);
    Ok(Outcome::line(format!("{name}: {own} is the primary")))
}

/// Makes this node the primary. A primary that answers is asked to let nobody in first; whether one that does not is
/// gone is for the arbiter to say.
pub(crate) async fn take(daemon: &Arc<Daemon>, hosted: &Hosted) -> Result<(), Failure> {
    let status = hosted.status().await?;
    match status.replica.configuration.primary {
        Some(primary) if primary == hosted.record.slot => status
            .refusal
            .map_or(Ok(()), |why| Err(Failure::failed(why))),
        Some(primary) if connected(&status).contains(primary) => {
            // A node that is to be shut down takes over only what nobody serves.
            if daemon.maintenance.is_on() {
                let own = &daemon.config.name;
                return Err(Failure::failed(format!(
                    "{own} is in maintenance: `twinblk node activate {own}` ends that"
                )));
            }
            ask_to_give_way(daemon, hosted, primary).await?;
            change_roles(hosted, Command::Swap).await
        }
        _ => change_roles(hosted, Command::Promote { force: false }).await,
    }
}

async fn ask_to_give_way(
    daemon: &Arc<Daemon>,
    hosted: &Hosted,
    primary: Slot,
) -> Result<(), Failure> {
    let record = &hosted.record;
    let others = record.members.iter();
    let mut named = others.filter(|member| member.slot == primary);
    let name = named.next().map(|member| member.name.clone());
    let name = name.ok_or_else(|| Failure::failed("the primary is no replica of it"))?;
    let volume = record.volume;
    let asked = daemon.ask(&name, Request::GiveWay { volume }).await;
    asked.map(drop).map_err(|failure| match failure.kind {
        FailureKind::ProtectsData => Failure::protects_data(format!(
            "{name} is the primary and has it open: stop what uses it there first"
        )),
        _ => Failure::failed(format!(
            "{name} is the primary, and cannot say that nobody uses it: {failure}"
        )),
    })
}

/// What the primary does first: from here on it lets nobody in, if nobody is in; until it is the primary no more, or for
/// a moment.
pub(crate) async fn give_way(daemon: &Daemon, hosted: &Hosted) -> Result<Response, Failure> {
    let status = hosted.status().await?;
    hosted.give_way(Some(status.replica.configuration.epoch));
    // Who came in before that is seen now.
    let asked = hosted.status().await;
    let unused = asked.and_then(|status| refuse_if_open(daemon, hosted, status.io.clients));
    if unused.is_err() {
        hosted.give_way(None);
    }
    unused.map(|()| Response::Done)
}
