//! `twinblk arbiter`.

use super::Output;
use crate::api::ArbiterRequest;
use crate::config::Mode;
use crate::config::{ArbiterSettings, EtcdSettings, PREFIX};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `twinblk arbiter`.
#[derive(Debug, Subcommand)]
pub(crate) enum ArbiterCommand {
    /// Show the arbiter, whether it answers, and what it holds
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Give a pair that runs without one an arbiter, on all nodes or on none
    #[command(subcommand)]
    Set(SetCommand),
    /// Have the arbiter hold this node's configuration, after the loss of what it held
    Reset {
        name: String,
        /// Really: whoever has gone on alone, unheard of here, is left behind
        #[arg(long)]
        force: bool,
    },
}

/// `twinblk arbiter set`.
#[derive(Debug, Subcommand)]
pub(crate) enum SetCommand {
    /// A `twinblk witness`
    Witness {
        /// Its addresses, tried in turn
        #[arg(required = true, value_name = "HOST:PORT")]
        addresses: Vec<String>,
        #[command(flatten)]
        failover: FailoverArgs,
    },
    /// An etcd cluster; the files must exist on every node
    Etcd {
        /// URLs of its members, tried in turn
        #[arg(required = true, value_name = "URL")]
        endpoints: Vec<String>,
        /// What its keys begin with
        #[arg(long, default_value = PREFIX)]
        prefix: String,
        /// The authority that has signed etcd's certificate
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// This node's certificate
        #[arg(long, value_name = "FILE", requires = "key_file")]
        cert_file: Option<PathBuf>,
        /// Its private key
        #[arg(long, value_name = "FILE", requires = "cert_file")]
        key_file: Option<PathBuf>,
        /// The user
        #[arg(long, requires = "password_file")]
        user: Option<String>,
        /// The file with the user's password
        #[arg(long, value_name = "FILE", requires = "user")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        failover: FailoverArgs,
    },
}

/// What is done with an arbiter's help.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FailoverArgs {
    /// When a node takes a volume over whose primary is gone
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: Mode,
}

impl SetCommand {
    /// What to ask the daemon for.
    pub(crate) fn request(self) -> ArbiterRequest {
        match self {
            SetCommand::Witness {
                addresses,
                failover,
            } => ArbiterRequest {
                arbiter: ArbiterSettings::Witness { addresses },
                mode: failover.mode,
            },
            SetCommand::Etcd {
                endpoints,
                prefix,
                ca_file,
                cert_file,
                key_file,
                user,
                password_file,
                failover,
            } => ArbiterRequest {
                arbiter: ArbiterSettings::Etcd(EtcdSettings {
                    endpoints,
                    prefix,
                    ca_file,
                    cert_file,
                    key_file,
                    user,
                    password_file,
                }),
                mode: failover.mode,
            },
        }
    }
}
