//! The witness's configuration file.

use crate::config::{self, Address, SecuritySection};
use crate::failure::Failure;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What the file says, with the defaults filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WitnessConfig {
    /// Where nodes connect to.
    pub(super) listen: Address,
    /// Where the registers lie.
    pub(super) state_dir: PathBuf,
    /// The cluster key's file.
    pub(super) key_file: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    witness: WitnessSection,
    security: SecuritySection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WitnessSection {
    listen: Address,
    state_dir: PathBuf,
}

impl Default for WitnessSection {
    fn default() -> Self {
        WitnessSection {
            listen: Address::any(7789),
            state_dir: "/var/lib/twinblk-witness".into(),
        }
    }
}

impl WitnessConfig {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<WitnessConfig, Failure> {
        config::read(path, |file: File| {
            Ok(WitnessConfig {
                listen: file.witness.listen,
                state_dir: file.witness.state_dir,
                key_file: file.security.key_file,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::WitnessConfig;
    use std::path::Path;

    #[test]
    fn the_example_is_good() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/witness.toml");
        let config = WitnessConfig::read(&path).expect("it is good");
        assert_eq!(config.listen.as_str(), "10.0.0.3:7789");
        assert_eq!(config.state_dir, Path::new("/var/lib/twinblk-witness"));
    }

    #[test]
    fn complaints_name_file_line_and_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w.toml");
        for (text, line, words) in [
            ("[witness]\nlisten = \"h\"\n", 2, "write HOST:PORT"),
            ("[witness]\nstate = \"/x\"\n", 2, "unknown field `state`"),
            ("[node]\n", 1, "unknown field `node`"),
        ] {
            std::fs::write(&path, text).expect("it is written");
            let refused = WitnessConfig::read(&path).expect_err("it is wrong");
            let place = format!("w.toml:{line}: ");
            assert!(refused.message.contains(&place), "{refused}");
            assert!(refused.message.contains(words), "{refused}");
        }
    }
}
