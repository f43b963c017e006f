//! `twinblk node`.

use super::{json, tables};
use crate::api::{Drained, Moved, NodeAction};
use crate::cli::{NodeCommand, Output};
use crate::client::Client;
use crate::failure::Failure;

/// Does it.
pub(super) async fn run(client: &Client, command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::Ls { output, quiet } => list(client, output, quiet).await,
        NodeCommand::Drain { node, output } => {
            let drained = client.act_on_node(&node, NodeAction::Drain).await?;
            tell(&node, &drained, output)
        }
        NodeCommand::Activate { node } => {
            client.act_on_node(&node, NodeAction::Activate).await?;
            println!("{node} may serve again: `twinblk volume swap NAME` moves a volume to it");
            Ok(())
        }
        NodeCommand::Replace { node, with, output } => {
            let action = NodeAction::Replace { with };
            let replaced = client.act_on_node(&node, action).await?;
            tell_replaced(&node, &replaced, output)
        }
    }
}

async fn list(client: &Client, output: Output, quiet: bool) -> Result<(), Failure> {
    let nodes = client.nodes().await?;
    if quiet {
        nodes
            .iter()
            .filter_map(|node| node.id.as_ref())
            .for_each(|id| println!("{id}"));
        Ok(())
    } else if output.json {
        json(&nodes)
    } else {
        println!("{}", tables::nodes(&nodes));
        Ok(())
    }
}

/// Says what was moved and what was not; a node that serves still is a failure.
fn tell(node: &str, drained: &Drained, output: Output) -> Result<(), Failure> {
    let Drained { moved, stayed } = drained;
    if output.json {
        json(drained)?;
    } else {
        for one in moved {
            println!(
                "{}: moved to {} in {:.2} s",
                one.volume, one.to, one.seconds
            );
        }
        for one in stayed {
            println!("{}: not moved: {}", one.volume, one.reason);
        }
        println!("{node} is in maintenance: `twinblk node activate {node}` ends that");
    }
    if stayed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} of {} volumes could not be moved: {node} still serves them; type it again once they can",
        stayed.len(),
        stayed.len() + moved.len()
    )))
}

fn tell_replaced(node: &str, replaced: &Drained, output: Output) -> Result<(), Failure> {
    let Drained { moved, stayed } = replaced;
    if output.json {
        json(replaced)?;
    } else {
        for one in moved {
            let Moved {
                volume,
                to,
                seconds,
            } = one;
            println!(
                "{volume}: {to} has a replica in the place of {node}'s, in sync after {seconds:.2} s"
            );
        }
        for one in stayed {
            println!("{}: not replaced: {}", one.volume, one.reason);
        }
        if moved.is_empty() && stayed.is_empty() {
            println!("{node} has no replica of any volume");
        }
    }
    if stayed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{node} could not be replaced everywhere: {} volumes are left",
        stayed.len()
    )))
}
