//! The command line: what can be typed.

mod arbiter;

pub(crate) use arbiter::ArbiterCommand;

use crate::api::Action;
use crate::config::{CONFIG_PATH, KEY_PATH, name_complaint};
use crate::failure::Failure;
use crate::units::Size;
use clap::{Args, Parser, Subcommand};
use format::types::Name;
use std::path::PathBuf;
use std::time::Duration;

/// Keeps volumes identical on two machines and serves them over NBD.
#[derive(Debug, Parser)]
#[command(name = "twinblk", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// The admin socket of the daemon to talk to
    #[arg(long, global = true, env = "TWINBLK_ADMIN", value_name = "SOCKET",
          default_value = crate::config::ADMIN_PATH)]
    pub(crate) admin: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole story on this machine: mirror, lose a node, fail over, fail back
    Demo,
    /// Run the daemon
    Serve {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
    /// Run the tie-breaker, on a third machine
    Witness {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
    /// Work with the cluster key
    #[command(subcommand)]
    Key(KeyCommand),
    /// Run hooks when this node begins or ceases to serve a volume; as root
    Agent {
        /// The configuration file, which also names the daemon's admin socket
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
    /// Give Docker volumes that follow their containers to another machine; as root
    Docker {
        /// The configuration file, which also names the daemon's admin socket
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
    /// Work with nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Work with volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Work with the arbiter, which decides who serves when nodes do not hear each other
    #[command(subcommand)]
    Arbiter(ArbiterCommand),
    /// Show what has happened on this node
    Events {
        /// Only those after the event with this id
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: u64,
        /// Go on with what happens from now on, also over restarts of the daemon
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Write man pages and completions for shells; for whoever makes a package
    #[command(hide = true)]
    Generate {
        /// Where; they are put into folders of their own below it
        folder: PathBuf,
    },
}

/// `twinblk key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new cluster key; a file that exists is not overwritten
    New {
        /// Where
        #[arg(default_value = KEY_PATH)]
        file: PathBuf,
    },
}

/// `twinblk node`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List this node and those it knows
    Ls {
        #[command(flatten)]
        output: Output,
        /// Print ids only
        #[arg(long, conflicts_with = "json")]
        quiet: bool,
    },
    /// Move what a node serves to others, and nothing to it until it is activated
    Drain {
        node: String,
        #[command(flatten)]
        output: Output,
    },
    /// Let a node serve again that was drained
    Activate { node: String },
    /// Give another node the replicas that a node has, dead or alive, while they are used
    Replace {
        node: String,
        /// The node that gets them
        #[arg(long, value_name = "NODE")]
        with: String,
        #[command(flatten)]
        output: Output,
    },
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `twinblk volume`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Create a volume; this node becomes its primary
    Create {
        #[arg(value_parser = name)]
        name: Name,
        /// Its size, as in 10G; by default the image's
        #[arg(long, required_unless_present = "from")]
        size: Option<Size>,
        /// Fill it with this raw image or block device
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The nodes that keep a copy; by default both of two
        #[arg(long, value_name = "NODE,NODE", value_delimiter = ',', value_parser = name)]
        replicas: Vec<Name>,
        /// A data file or block device of a node, in the place of one in its state folder; repeatable
        #[arg(long, value_name = "NODE=PATH", value_parser = backing)]
        backing: Vec<(String, PathBuf)>,
        /// Take all its space on every node at once, so that no disk is full later
        #[arg(long)]
        thick: bool,
    },
    /// Write an image of a volume while it is used, as it is at this moment; on a node that keeps a copy and does not serve it
    Export {
        #[arg(value_parser = name)]
        name: Name,
        /// A new file, a block device, or - for standard output
        to: PathBuf,
        /// Although only one other copy is kept up to date meanwhile
        #[arg(long)]
        allow_one_copy: bool,
    },
    /// List the volumes of this node
    Ls {
        #[command(flatten)]
        output: Output,
        /// Print ids only
        #[arg(long, conflicts_with = "json")]
        quiet: bool,
    },
    /// Show one volume, or all, in full
    Status {
        name: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Wait until a volume is in a state, or in one of several
    Wait {
        name: String,
        /// The state's first word: Protected, Resync, Alone, Frozen, SplitBrain, Stopped, Waiting
        #[arg(
            long,
            value_name = "STATE,STATE",
            value_delimiter = ',',
            default_value = "Protected"
        )]
        state: Vec<String>,
        /// Give up after this long, as in 60s
        #[arg(long, value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Compare the replicas, block by block
    Verify {
        name: String,
        /// Copy the primary's blocks over those that differ
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Make a volume a block device of this machine, /dev/twinblk/NAME, and bring it here if nobody uses it; as root
    Attach {
        #[arg(value_parser = name)]
        name: Name,
        /// The configuration file, which also names the daemon's sockets
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
        /// Which device of the kernel's nbd driver; any that is not used, if this is left out
        #[arg(long, value_name = "/dev/nbdN", value_parser = nbd_device)]
        device: Option<u32>,
        /// Stay, and serve the device until nobody has it open any more
        #[arg(long)]
        foreground: bool,
        /// Stay, and tell whoever has started this
        #[arg(long, hide = true, conflicts_with = "foreground")]
        child: bool,
    },
    /// Give the block device back
    Detach {
        #[arg(value_parser = name)]
        name: Name,
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
        /// Although it is in use: it is unmounted, and what is under way fails
        #[arg(long)]
        force: bool,
    },
    #[command(flatten)]
    Act(ActCommand),
}

/// What is told to a volume that exists, and answered in words.
#[derive(Debug, Subcommand)]
pub(crate) enum ActCommand {
    /// Make this node the primary
    Promote {
        name: String,
        /// Although the primary cannot be asked: it must be known to be dead
        #[arg(long)]
        force: bool,
    },
    /// Have no primary
    Demote { name: String },
    /// Have primary and secondary change places
    Swap { name: String },
    /// Bring replicas up to date again
    Resync {
        name: String,
        /// Compare everything, not only what is marked
        #[arg(long)]
        full: bool,
        /// Only the replica on this node
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
    /// Hold resyncs back
    Pause { name: String },
    /// Let resyncs go on
    Resume { name: String },
    /// Heal a split brain by giving one side up
    Resolve {
        name: String,
        /// The node whose changes since the split are given up
        #[arg(long, value_name = "NODE")]
        discard: String,
        /// Only say what each choice loses
        #[arg(long)]
        dry_run: bool,
    },
    /// Make new metadata for a data file of this node that has lost its own
    Adopt {
        name: String,
        /// No other node has a good copy: the volume begins anew with this file
        #[arg(long)]
        only_copy: bool,
    },
    /// Make a volume larger
    Grow {
        name: String,
        /// The new size, as in 20G
        #[arg(long)]
        size: Size,
    },
    /// Give a volume another copy, or take one from it, while it is used
    #[command(subcommand)]
    Replica(ReplicaCommand),
    /// Remove a volume on all its nodes
    Rm {
        name: String,
        /// Leave the data files where they are
        #[arg(long)]
        keep_data: bool,
    },
}

/// `twinblk volume replica`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReplicaCommand {
    /// Have a node keep a copy, too; it is brought up to date while clients go on
    Add {
        name: String,
        node: String,
        /// A data file or block device there, in the place of one in its state folder
        #[arg(long, value_name = "PATH")]
        backing: Option<PathBuf>,
    },
    /// Have nodes keep a copy no longer; their files are removed
    Rm {
        name: String,
        /// Those that are named together need not answer
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Leave the data file where it is
        #[arg(long)]
        keep_data: bool,
    },
}

impl ActCommand {
    /// The volume, and what to do to it.
    pub(crate) fn action(self) -> (String, Action) {
        match self {
            ActCommand::Promote { name, force } => (name, Action::Promote { force }),
            ActCommand::Demote { name } => (name, Action::Demote),
            ActCommand::Swap { name } => (name, Action::Swap),
            ActCommand::Resync { name, full, to } => (name, Action::Resync { full, to }),
            ActCommand::Pause { name } => (name, Action::Pause),
            ActCommand::Resume { name } => (name, Action::Resume),
            ActCommand::Resolve {
                name,
                discard,
                dry_run,
            } => (name, Action::Resolve { discard, dry_run }),
            ActCommand::Adopt { name, only_copy } => (name, Action::Adopt { only_copy }),
            ActCommand::Grow { name, size } => (name, Action::Grow { size_bytes: size.0 }),
            ActCommand::Replica(ReplicaCommand::Add {
                name,
                node,
                backing,
            }) => (name, Action::AddReplica { node, backing }),
            ActCommand::Replica(ReplicaCommand::Rm {
                name,
                nodes,
                keep_data,
            }) => (name, Action::RemoveReplicas { nodes, keep_data }),
            ActCommand::Rm { name, keep_data } => (name, Action::Remove { keep_data }),
        }
    }
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).ok_or_else(|| Failure::usage(name_complaint(text)))
}

fn nbd_device(text: &str) -> Result<u32, Failure> {
    let number = text.strip_prefix("/dev/nbd").map(str::parse);
    match number {
        Some(Ok(number)) => Ok(number),
        _ => Err(Failure::usage(format!("`{text}` is not /dev/nbdN"))),
    }
}

fn backing(text: &str) -> Result<(String, PathBuf), Failure> {
    match text.split_once('=') {
        Some((node, path)) if !node.is_empty() && path.starts_with('/') => {
            Ok((node.to_owned(), path.into()))
        }
        _ => Err(Failure::usage(format!("`{text}` is not NODE=/PATH"))),
    }
}

#[cfg(test)]
mod tests;
