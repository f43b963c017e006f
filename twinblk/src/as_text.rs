//! Serde for the vocabulary of `format`, which knows no serde: ids and names as checked texts. For
//! `#[serde(with = "as_text")]`.

use crate::hexadecimal;
use format::types::{Generation, Name, NodeId, VolumeId};
use serde::{Deserialize, Deserializer, Serializer};

/// A type that has a checked form as text.
pub(crate) trait TextForm: Sized {
    /// What is said to be missing where the text is none.
    const EXPECTED: &'static str;

    /// Its text.
    fn show(&self) -> String;

    /// The value of a text.
    fn parse(text: &str) -> Option<Self>;
}

impl TextForm for Name {
    const EXPECTED: &'static str = "a name";

    fn show(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Name> {
        Name::new(text)
    }
}

macro_rules! text_form_of_id {
    ($($kind:ident: $expected:literal),*) => {$(
        impl TextForm for $kind {
            const EXPECTED: &'static str = $expected;

            fn show(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Option<$kind> {
                hexadecimal::decode(text).map($kind)
            }
        }
    )*};
}

text_form_of_id!(NodeId: "a node id", VolumeId: "a volume id", Generation: "a generation");

/// Writes it.
pub(crate) fn serialize<T: TextForm, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&value.show())
}

/// Reads and checks it.
pub(crate) fn deserialize<'de, T: TextForm, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    T::parse(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not {}", T::EXPECTED)))
}

/// The same for lists of them.
pub(crate) mod list {
    use super::TextForm;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes them.
    pub(crate) fn serialize<T: TextForm, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(TextForm::show))
    }

    /// Reads and checks them.
    pub(crate) fn deserialize<'de, T: TextForm, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let parse = |text: &String| {
            T::parse(text)
                .ok_or_else(|| D::Error::custom(format!("`{text}` is not {}", T::EXPECTED)))
        };
        Vec::<String>::deserialize(from)?
            .iter()
            .map(parse)
            .collect()
    }
}

/// A slot is a number.
pub(crate) mod slot {
    use format::types::Slot;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it.
    pub(crate) fn serialize<S: Serializer>(slot: &Slot, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(slot.index() as u64)
    }

    /// Reads and checks it.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Slot, D::Error> {
        Slot::new(u8::deserialize(from)?).ok_or_else(|| D::Error::custom("there is no such slot"))
    }
}
