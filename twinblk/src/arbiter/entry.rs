//! What a register holds for a volume, as one line of JSON (docs/FORMATS.md, "Register entry").

use crate::as_text;
use crate::failure::{Context, Failure};
use format::types::{Configuration, Generation, NodeSet, Slot, VolumeId};
use serde::{Deserialize, Serialize};

/// The longest text of an entry, with room for what a later version adds; the longest there is now has less than half.
pub(crate) const ENTRY_BYTES_MAX: usize = 512;
/// The version of the format.
const FORMAT: u32 = 1;

/// The configuration of a volume, as a register holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub(crate) struct Entry {
    /// The volume.
    pub(crate) volume: VolumeId,
    /// Its configuration.
    pub(crate) configuration: Configuration,
}

/// The JSON of an entry, in the order of its fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    #[serde(with = "as_text")]
    volume: VolumeId,
    epoch: u64,
    #[serde(with = "as_text")]
    generation: Generation,
    primary: Option<u8>,
    in_sync: Vec<u8>,
    // Of all that stands before it. Kept out of the text while it is computed.
    #[serde(skip_serializing_if = "String::is_empty")]
    crc: String,
}

impl Entry {
    /// Its text.
    pub(crate) fn encode(self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(&self).context(|| "cannot put a configuration into JSON".to_owned())
    }

    /// The entry of a text. There is one text for each entry, and no other is taken for one.
    pub(crate) fn decode(text: &[u8]) -> Result<Entry, Failure> {
        if text.len() > ENTRY_BYTES_MAX {
            return Err(Failure::failed(format!(
                "{} bytes are too long for a configuration",
                text.len()
            )));
        }
        let entry: Entry =
            serde_json::from_slice(text).context(|| "it is no configuration".to_owned())?;
        if entry.encode()? != text {
            return Err(Failure::failed("it is a configuration in a foreign hand"));
        }
        Ok(entry)
    }

    /// The configuration of an entry that must be of this volume.
    pub(crate) fn of(self, volume: VolumeId) -> Result<Configuration, Failure> {
        if self.volume == volume {
            Ok(self.configuration)
        } else {
            Err(Failure::failed(format!(
                "it is the configuration of volume {}",
                self.volume
            )))
        }
    }
}

impl From<Entry> for Document {
    fn from(entry: Entry) -> Document {
        let Entry {
            volume,
            configuration,
        } = entry;
        let mut document = Document {
            format: FORMAT,
            volume,
            epoch: configuration.epoch,
            generation: configuration.generation,
            primary: configuration.primary.map(Slot::number),
            in_sync: configuration.in_sync.iter().map(Slot::number).collect(),
            crc: String::new(),
        };
        document.crc = document.checksum();
        document
    }
}

impl Document {
    fn checksum(&self) -> String {
        let uncovered = Document {
            crc: String::new(),
            ..self.clone()
        };
        // A struct of numbers and texts always has a JSON; of none there would be the checksum of nothing.
        let text = serde_json::to_vec(&uncovered).unwrap_or_default();
        format!("{:08x}", crc32fast::hash(&text))
    }
}

impl TryFrom<Document> for Entry {
    type Error = String;

    fn try_from(document: Document) -> Result<Entry, String> {
        if document.format != FORMAT {
            return Err(format!(
                "format {} is not known here, only {FORMAT}",
                document.format
            ));
        }
        if document.checksum() != document.crc {
            return Err("its checksum is wrong".to_owned());
        }
        let slot = |number| Slot::new(number).ok_or_else(|| format!("there is no slot {number}"));
        let in_sync: NodeSet = document
            .in_sync
            .iter()
            .map(|number| slot(*number))
            .collect::<Result<_, _>>()?;
        if in_sync.is_empty() {
            return Err("no replica is in sync".to_owned());
        }
        Ok(Entry {
            volume: document.volume,
            configuration: Configuration {
                epoch: document.epoch,
                generation: document.generation,
                primary: document.primary.map(slot).transpose()?,
                in_sync,
            },
        })
    }
}

#[cfg(test)]
mod tests;
