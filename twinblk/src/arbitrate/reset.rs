//! `arbiter reset`: the way back after the loss of a register, or of its content.

use crate::api::Outcome;
use crate::arbiter::Change;
use crate::control::{Request, Response};
use crate::daemon::Daemon;
use crate::failure::{Failure, FailureKind};
use crate::happenings::Incident;
use crate::registry::Record;
use crate::volumes::Hosted;
use format::types::Configuration;
use std::sync::Arc;

/// Puts this node's own configuration in the place of whatever the register holds, unless something later is known
/// of; without `force` it only says what it would do.
pub(crate) async fn reset(
    daemon: &Arc<Daemon>,
    hosted: &Arc<Hosted>,
    force: bool,
) -> Result<Outcome, Failure> {
    let record = &hosted.record;
    let name = &record.name;
    let own = hosted.status().await?.replica.configuration;
    let held = daemon.arbitration.ask(record.volume, Change::Read).await;
    let held_words = match &held {
        Ok(Some(held)) if *held == own => {
            return Ok(Outcome::line(format!(
                "{name}: the arbiter holds this node's configuration already, {}",
                words(record, held)
            )));
        }
        Ok(Some(held)) if held.epoch > own.epoch => {
            return Err(Failure::protects_data(format!(
                "{name}: the arbiter holds a later configuration, {}, than this node, {}: connect {}, which knows \
                 it, or type this there",
                words(record, held),
                words(record, &own),
                members(record, held)
            )));
        }
        Ok(Some(held)) => words(record, held),
        Ok(None) => "nothing".to_owned(),
        Err(failure) if failure.kind == FailureKind::ProtectsData => {
            format!("what is no configuration ({failure})")
        }
        Err(failure) => return Err(failure.clone()),
    };
    let unheard = refuse_if_behind(daemon, record, own.epoch).await?;
    if !force {
        return Err(Failure::protects_data(format!(
            "{name}: the arbiter holds {held_words}; --force puts this node's configuration, {}, in its place{unheard}",
            words(record, &own)
        )));
    }
    let now = daemon
        .arbitration
        .ask(record.volume, Change::Replace(own))
        .await?;
    if now != Some(own) {
        return Err(Failure::failed(format!(
            "{name}: the arbiter has changed meanwhile: look at `twinblk arbiter status`, and type it again"
        )));
    }
    daemon.incident(Incident::ArbiterReset(name.clone(), own.epoch));
    Ok(Outcome::line(format!(
        "{name}: the arbiter held {held_words}, and holds this node's configuration now, {}",
        words(record, &own)
    )))
}

/// Refuses where a node that can be asked has a later configuration; tells whom it could not ask.
async fn refuse_if_behind(
    daemon: &Arc<Daemon>,
    record: &Record,
    epoch: u64,
) -> Result<String, Failure> {
    let mut unheard = Vec::new();
    for member in record.others() {
        let request = Request::Show {
            volume: record.volume,
        };
        match daemon.ask(&member.name, request).await {
            Ok(Response::View(view)) if view.epoch > epoch => {
                return Err(Failure::protects_data(format!(
                    "{} has a later configuration of {} (epoch {}) than this node (epoch {epoch}): type it there",
                    member.name, record.name, view.epoch
                )));
            }
            Ok(Response::View(view)) if view.role != "Stopped" => {}
            _ => unheard.push(member.name.to_string()),
        }
    }
    Ok(if unheard.is_empty() {
        String::new()
    } else {
        format!(
            "; {} cannot be asked: if it has gone on alone since, what it has acknowledged may be given up",
            unheard.join(" and ")
        )
    })
}

fn words(record: &Record, configuration: &Configuration) -> String {
    let primary = configuration
        .primary
        .map_or_else(|| "nobody".to_owned(), |slot| record.node_name(slot));
    format!(
        "number {} (primary {primary}, in sync {})",
        configuration.epoch,
        members(record, configuration)
    )
}

fn members(record: &Record, configuration: &Configuration) -> String {
    let names: Vec<String> = configuration
        .in_sync
        .iter()
        .map(|slot| record.node_name(slot))
        .collect();
    names.join(" and ")
}
