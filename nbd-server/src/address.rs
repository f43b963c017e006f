//! Where the server listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the server listens, as it is written in the configuration: `unix:/run/twinblk/nbd.sock` or
/// `tcp:127.0.0.1:10809`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A unix socket's path.
    Unix(PathBuf),
    /// A host, name or number, and a port.
    Tcp(String),
}

/// The text is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is no address: write \"unix:/path\" or \"tcp:host:port\"")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let wrong = || AddressError(text.to_owned());
        match text.split_once(':').ok_or_else(wrong)? {
            ("unix", path) if !path.is_empty() => Ok(Address::Unix(path.into())),
            ("tcp", host_and_port) => {
                let (host, port) = host_and_port.rsplit_once(':').ok_or_else(wrong)?;
                let is_port = port.parse::<u16>().is_ok();
                if host.is_empty() || !is_port {
                    Err(wrong())
                } else {
                    Ok(Address::Tcp(host_and_port.into()))
                }
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(host_and_port) => write!(f, "tcp:{host_and_port}"),
        }
    }
}
