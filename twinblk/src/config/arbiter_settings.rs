//! Which arbiter there is: from the configuration file, or from `twinblk arbiter set`.

use super::values::Address;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where etcd's keys lie by default.
pub(crate) const PREFIX: &str = "/twinblk/volumes";
/// The most addresses or endpoints: each gets its share of the time that a question may take.
const ADDRESSES_MAX: usize = 8;

/// An arbiter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ArbiterSettings {
    /// A `twinblk witness`.
    Witness {
        /// Its addresses, tried in turn.
        addresses: Vec<String>,
    },
    /// An etcd cluster.
    Etcd(EtcdSettings),
}

/// An etcd cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EtcdSettings {
    /// Its members' URLs, tried in turn.
    pub(crate) endpoints: Vec<String>,
    /// What its keys begin with.
    pub(crate) prefix: String,
    /// The authority that has signed etcd's certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// This node's certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cert_file: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) key_file: Option<PathBuf>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) user: Option<String>,
    /// The file with the user's password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) password_file: Option<PathBuf>,
}

impl ArbiterSettings {
    /// What is wrong with them and what to do, if anything is.
    pub(crate) fn invalid(&self) -> Option<String> {
        match self {
            ArbiterSettings::Witness { addresses } => match addresses.len() {
                0 => Some("the witness has no address: write address = \"HOST:7789\"".to_owned()),
                1..=ADDRESSES_MAX => addresses
                    .iter()
                    .find_map(|address| Address::try_from(address.clone()).err()),
                _ => Some(format!("a witness has at most {ADDRESSES_MAX} addresses")),
            },
            ArbiterSettings::Etcd(etcd) => etcd.invalid(),
        }
    }

    /// Its kind, as it is typed.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            ArbiterSettings::Witness { .. } => "witness",
            ArbiterSettings::Etcd(_) => "etcd",
        }
    }

    /// Where it is asked.
    pub(crate) fn addresses(&self) -> &[String] {
        match self {
            ArbiterSettings::Witness { addresses } => addresses,
            ArbiterSettings::Etcd(etcd) => &etcd.endpoints,
        }
    }
}

impl EtcdSettings {
    fn invalid(&self) -> Option<String> {
        let secure = |endpoint: &String| endpoint.starts_with("https://");
        let plain = |endpoint: &String| endpoint.starts_with("http://");
        let strange = self
            .endpoints
            .iter()
            .find(|one| !secure(one) && !plain(one));
        if let Some(endpoint) = strange {
            return Some(format!(
                "`{endpoint}` is no endpoint: write http://HOST:2379 or https://HOST:2379"
            ));
        }
        let text = if self.endpoints.is_empty() {
            "etcd has no endpoint: write endpoints = [\"http://HOST:2379\"]"
        } else if self.endpoints.len() > ADDRESSES_MAX {
            "etcd has at most 8 endpoints here: name some of its members"
        } else if !self.prefix.starts_with('/') || self.prefix.len() > 256 {
            "prefix begins with / and has at most 256 characters, as in \"/twinblk/volumes\""
        } else if self.endpoints.iter().any(secure) && self.ca_file.is_none() {
            "https needs ca_file, the authority that has signed etcd's certificate"
        } else if !self.files_are_absolute() {
            "write the paths of files from / on"
        } else if self.cert_file.is_some() != self.key_file.is_some() {
            "cert_file and key_file belong together: write both or neither"
        } else if self.user.is_some() != self.password_file.is_some() {
            "user and password_file belong together: write both or neither"
        } else {
            return None;
        };
        Some(text.to_owned())
    }

    /// The daemon may run anywhere.
    fn files_are_absolute(&self) -> bool {
        [
            &self.ca_file,
            &self.cert_file,
            &self.key_file,
            &self.password_file,
        ]
        .into_iter()
        .flatten()
        .all(|file| file.is_absolute())
    }
}

#[cfg(test)]
mod tests {
    use super::{ArbiterSettings, EtcdSettings, PREFIX};

    fn etcd(change: impl FnOnce(&mut EtcdSettings)) -> Option<String> {
        let mut settings = EtcdSettings {
            endpoints: vec!["http://h:2379".to_owned()],
            prefix: PREFIX.to_owned(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            user: None,
            password_file: None,
        };
        change(&mut settings);
        ArbiterSettings::Etcd(settings).invalid()
    }

    fn witness(addresses: &[&str]) -> Option<String> {
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        ArbiterSettings::Witness { addresses }.invalid()
    }

    #[test]
    fn good_settings_are_taken() {
        assert_eq!(etcd(|_| {}), None);
        let secure = etcd(|settings| {
            settings.endpoints = vec!["https://[fe80::1]:2379".to_owned()];
            settings.ca_file = Some("/etc/ca.pem".into());
        });
        assert_eq!(secure, None);
        assert_eq!(witness(&["h:7789", "[fe80::1]:7789"]), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_remedy() {
        let refused = [
            (witness(&[]), "HOST:7789"),
            (witness(&["h"]), "HOST:PORT"),
            (witness(&["h:1"; 9]), "at most 8"),
            (etcd(|settings| settings.endpoints.clear()), "endpoints"),
            (
                etcd(|settings| settings.endpoints = vec!["h:2379".to_owned()]),
                "http://",
            ),
            (
                etcd(|settings| settings.endpoints = vec!["https://h".to_owned()]),
                "ca_file",
            ),
            (
                etcd(|settings| settings.prefix = "x".to_owned()),
                "begins with /",
            ),
            (
                etcd(|settings| settings.ca_file = Some("ca.pem".into())),
                "from / on",
            ),
            (
                etcd(|settings| settings.cert_file = Some("/c.pem".into())),
                "belong together",
            ),
            (
                etcd(|settings| settings.user = Some("root".to_owned())),
                "belong together",
            ),
        ];
        for (refused, words) in refused {
            let refused = refused.expect(words);
            assert!(refused.contains(words), "{refused}");
        }
    }
}
