//! What is typed, carried out: the daemon is asked, and its answer printed.

mod events;
mod images;
mod nodes;
mod tables;
mod waiting;

use crate::api::{Action, CreateRequest, Outcome};
use crate::cli::{ArbiterCommand, Cli, Command, KeyCommand, Output, VolumeCommand};
use crate::client::Client;
use crate::config::ADMIN_PATH;
use crate::failure::{Context, Failure};
use crate::key::ClusterKey;
use crate::{agent, attach, demo, docker, generate, serve, witness};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Does what was typed.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    // The agent takes the socket from the configuration, unless another is named.
    let admin = (cli.admin != Path::new(ADMIN_PATH)).then(|| cli.admin.clone());
    let client = Client::new(cli.admin);
    match cli.command {
        Command::Demo => on_runtime(demo::run()),
        Command::Serve { config } => serve::run(&config),
        Command::Witness { config } => witness::run(&config),
        Command::Agent { config } => agent::run(admin, &config),
        Command::Docker { config } => docker::run(admin, &config),
        Command::Key(KeyCommand::New { file }) => {
            ClusterKey::create(&file)?;
            println!("{}: copy it to every node, mode 0600", file.display());
            Ok(())
        }
        Command::Node(command) => on_runtime(nodes::run(&client, command)),
        Command::Volume(VolumeCommand::Attach {
            name,
            config,
            device,
            foreground,
            child,
        }) => {
            let wanted = attach::Wanted {
                name,
                index: device,
                config,
                foreground,
                child,
            };
            attach::attach(admin, &wanted)
        }
        Command::Volume(VolumeCommand::Detach {
            name,
            config,
            force,
        }) => attach::detach(&config, &name, force),
        Command::Volume(command) => on_runtime(volume(&client, command)),
        Command::Arbiter(command) => on_runtime(arbiter(&client, command)),
        Command::Events {
            after,
            follow,
            output,
        } => on_runtime(events::show(&client, after, follow, output)),
        Command::Generate { folder } => generate::run(&folder),
    }
}

fn on_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context(|| "cannot start".to_owned())?
        .block_on(work)
}

async fn arbiter(client: &Client, command: ArbiterCommand) -> Result<(), Failure> {
    match command {
        ArbiterCommand::Status { output } => {
            let arbiter = client.arbiter().await?;
            if output.json {
                return json(&arbiter);
            }
            print!("{}", tables::arbiter(&arbiter));
        }
        ArbiterCommand::Set(command) => print(&client.set_arbiter(&command.request()).await?),
        ArbiterCommand::Reset { name, force } => {
            print(&client.act(&name, &Action::ResetArbiter { force }).await?);
        }
    }
    Ok(())
}

async fn volume(client: &Client, command: VolumeCommand) -> Result<(), Failure> {
    match command {
        VolumeCommand::Create {
            name,
            size,
            from,
            replicas,
            backing,
            thick,
        } => {
            let backing = backing.into_iter().collect();
            let request = CreateRequest {
                name,
                size_bytes: size.map_or(0, |size| size.0),
                replicas,
                backing,
                thick,
                labels: BTreeMap::new(),
            };
            if let Some(from) = from {
                return images::create_from(client, request, size, &from).await;
            }
            print(&client.create(&request).await?);
            Ok(())
        }
        VolumeCommand::Export {
            name,
            to,
            allow_one_copy,
        } => images::export(client, name.as_str(), to, allow_one_copy).await,
        VolumeCommand::Ls { output, quiet } => list(client, output, quiet).await,
        VolumeCommand::Status { name, output } => status(client, name.as_deref(), output).await,
        VolumeCommand::Wait {
            name,
            state,
            timeout,
        } => waiting::wait(client, &name, &state, timeout).await,
        VolumeCommand::Verify {
            name,
            repair,
            output,
        } => {
            let action = Action::Verify { repair };
            let verify = client.act(&name, &action);
            let outcome = waiting::with_progress(client, &name, verify).await?;
            if output.json {
                return json(&outcome);
            }
            print(&outcome);
            Ok(())
        }
        VolumeCommand::Attach { .. } | VolumeCommand::Detach { .. } => {
            unreachable!("these need no runtime that is begun for them")
        }
        VolumeCommand::Act(command) => {
            let (name, action) = command.action();
            print(&client.act(&name, &action).await?);
            Ok(())
        }
    }
}

async fn list(client: &Client, output: Output, quiet: bool) -> Result<(), Failure> {
    let volumes = client.volumes().await?;
    if quiet {
        volumes.iter().for_each(|volume| println!("{}", volume.id));
        Ok(())
    } else if output.json {
        json(&volumes)
    } else {
        println!("{}", tables::volumes(&volumes));
        Ok(())
    }
}

async fn status(client: &Client, name: Option<&str>, output: Output) -> Result<(), Failure> {
    let Some(name) = name else {
        let volumes = client.volumes().await?;
        if output.json {
            return json(&volumes);
        }
        volumes
            .iter()
            .for_each(|volume| print!("{}", tables::volume(volume)));
        return Ok(());
    };
    let volume = client.volume(name).await?;
    if output.json {
        return json(&volume);
    }
    print!("{}", tables::volume(&volume));
    Ok(())
}

fn print(outcome: &Outcome) {
    outcome.lines.iter().for_each(|line| println!("{line}"));
}

fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context(|| "cannot print".to_owned())?;
    println!("{text}");
    Ok(())
}
