//! The values of the configuration file that are more than numbers and text.

use crate::units::Size;
use format::types::Name;
use serde::de::value::{SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A node's name.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Named(pub(super) Name);

impl TryFrom<String> for Named {
    type Error = String;

    fn try_from(text: String) -> Result<Named, String> {
        Name::new(&text)
            .map(Named)
            .ok_or_else(|| name_complaint(&text))
    }
}

/// What is wrong with a name.
pub(crate) fn name_complaint(text: &str) -> String {
    format!("`{text}` is no name: use up to 63 of a-z, 0-9, `.`, `_`, `-`, a letter or digit first")
}

/// A number of bytes with its unit.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Sized(pub(super) Size);

impl TryFrom<String> for Sized {
    type Error = String;

    fn try_from(text: String) -> Result<Sized, String> {
        text.parse().map(Sized)
    }
}

/// A host and a port; the host is looked up when it is used.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Address(String);

impl Address {
    /// This port of every interface.
    pub(crate) fn any(port: u16) -> Address {
        Address(format!("0.0.0.0:{port}"))
    }

    /// Its text, as it was typed.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Address, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(format!(
                "`{text}` is no address: write HOST:PORT, as in 10.0.0.2:7788"
            ));
        }
        Ok(Address(text))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where NBD clients connect to.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct NbdListen(pub(super) nbd_server::listener::Address);

impl TryFrom<String> for NbdListen {
    type Error = String;

    fn try_from(text: String) -> Result<NbdListen, String> {
        text.parse()
            .map(NbdListen)
            .map_err(|error: nbd_server::listener::AddressError| error.to_string())
    }
}

/// One value, or a list of them.
pub(super) fn one_or_more<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct OneOrMore<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMore<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(StrDeserializer::new(text)).map(|value| vec![value])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(sequence))
        }
    }

    deserializer.deserialize_any(OneOrMore(PhantomData))
}
