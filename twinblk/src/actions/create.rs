//! `volume create`: prepare everywhere, decide, tell everybody.

use crate::actions::{tell, until_arbitrated, until_settled};
use crate::api::{CreateRequest, Outcome};
use crate::control::Request;
use crate::daemon::{Daemon, blocking};
use crate::failure::Failure;
use crate::happenings::Incident;
use crate::hexadecimal;
use crate::registry::{Decision, Member, Phase, Record, Verdict};
use crate::units::Size;
use format::types::{
    BLOCK_BYTES, Generation, Name, NodeSet, REPLICAS_MAX, Slot, VOLUME_BYTES_MAX, VolumeId,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A few short notes are meant.
const LABEL_BYTES_MAX: usize = 8 << 10;

/// Creates a volume, here and on every other node that is to have a replica, or nowhere.
pub(crate) async fn create(
    daemon: &Arc<Daemon>,
    request: CreateRequest,
) -> Result<Outcome, Failure> {
    check_size(request.size_bytes)?;
    check_labels(&request.labels)?;
    let members = members(daemon, &request)?;
    let volume = VolumeId(hexadecimal::random()?);
    let generation = Generation(hexadecimal::random()?);
    let own = members
        .iter()
        .find(|member| member.name == daemon.config.name);
    let primary = own.unwrap_or(&members[0]).clone();
    daemon.creating(volume, true);
    let mut result = prepare(daemon, &request, volume, &members, generation, primary.slot).await;
    let decision = Decision {
        volume,
        name: request.name.clone(),
        verdict: Verdict::Created,
        unconfirmed: members.iter().map(|member| member.name.clone()).collect(),
        replicas: members.clone(),
    };
    if result.is_ok() {
        let (daemon, decision) = (daemon.clone(), decision.clone());
        result = blocking(move || daemon.volumes.registry.decide(&decision)).await;
    }
    if result.is_err() {
        for member in &members {
            // Who cannot be told asks when it is connected again, and hears the same.
            let _ = daemon.ask(&member.name, Request::Abort { volume }).await;
        }
    }
    daemon.creating(volume, false);
    result?;
    daemon.incident(Incident::Created(request.name.clone()));
    let mut outcome = Outcome::line(format!(
        "{}: {} on {}, the primary is {}",
        request.name,
        Size(request.size_bytes),
        members
            .iter()
            .map(|member| member.name.as_str())
            .collect::<Vec<_>>()
            .join(" and "),
        primary.name
    ));
    for member in &members {
        if let Err(failure) = tell(daemon, &member.name, &decision).await {
            outcome.lines.push(format!(
                "{}: it will hear of it later: {failure}",
                member.name
            ));
        }
    }
    // Whoever typed it may use it at once.
    if let Some(hosted) = daemon.volumes.with_id(volume) {
        outcome
            .lines
            .extend(until_settled(&hosted, NodeSet::EMPTY).await?);
        outcome.lines.extend(until_arbitrated(&hosted).await?);
    }
    Ok(outcome)
}

/// They are kept by every node and shown with every view.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Failure> {
    let bytes: usize = labels
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > LABEL_BYTES_MAX {
        return Err(Failure::usage(format!(
            "a volume's labels have {bytes} bytes: they can have {LABEL_BYTES_MAX}"
        )));
    }
    Ok(())
}

async fn prepare(
    daemon: &Arc<Daemon>,
    request: &CreateRequest,
    volume: VolumeId,
    members: &[Member],
    generation: Generation,
    primary: Slot,
) -> Result<(), Failure> {
    for member in members {
        let record = Record {
            volume,
            name: request.name.clone(),
            slot: member.slot,
            members: members.to_vec(),
            backing: request.backing.get(member.name.as_str()).cloned(),
            thick: request.thick,
            labels: request.labels.clone(),
            phase: Phase::Prepared {
                coordinator: daemon.config.name.clone(),
            },
        };
        let size_bytes = request.size_bytes;
        let prepare = Request::Prepare {
            record,
            size_bytes,
            generation,
            primary,
        };
        daemon.ask(&member.name, prepare).await?;
    }
    Ok(())
}

fn check_size(size_bytes: u64) -> Result<(), Failure> {
    if size_bytes == 0 || size_bytes > VOLUME_BYTES_MAX {
        let max = Size(VOLUME_BYTES_MAX);
        return Err(Failure::usage(format!(
            "a volume has from 4K to {max}: give another --size"
        )));
    }
    if !size_bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(Failure::usage(format!(
            "a volume's size is a multiple of {BLOCK_BYTES} bytes: give --size {}",
            size_bytes.next_multiple_of(BLOCK_BYTES)
        )));
    }
    Ok(())
}

/// Who is to have a replica, with slots in the order in which they were named.
fn members(daemon: &Daemon, request: &CreateRequest) -> Result<Vec<Member>, Failure> {
    let own = &daemon.config.name;
    let names: Vec<Name> = match (&request.replicas[..], &daemon.config.peers[..]) {
        ([], [peer]) => vec![own.clone(), peer.name.clone()],
        ([], []) => vec![own.clone()],
        ([], _) => {
            return Err(Failure::usage(
                "there are more than two nodes: give --replicas NODE,NODE".to_owned(),
            ));
        }
        (named, _) => named.to_vec(),
    };
    if let Some(stray) = request.backing.iter().find(|(node, path)| {
        !names.iter().any(|name| name.as_str() == *node) || !path.is_absolute()
    }) {
        let (node, path) = stray;
        return Err(Failure::usage(format!(
            "--backing {node}={} needs a node with a replica and a path that begins with /",
            path.display()
        )));
    }
    if names.len() > REPLICAS_MAX {
        return Err(Failure::usage(format!(
            "a volume has at most {REPLICAS_MAX} replicas"
        )));
    }
    let mut members: Vec<Member> = Vec::new();
    for (slot, name) in Slot::all().zip(names) {
        if members.iter().any(|member| member.name == name) {
            return Err(Failure::usage(format!("--replicas names {name} twice")));
        }
        let node = if name == *own {
            daemon.local.node
        } else {
            daemon.nodes.id(&name)?
        };
        members.push(Member { slot, name, node });
    }
    Ok(members)
}
