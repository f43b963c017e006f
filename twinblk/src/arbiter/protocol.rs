//! What is said on a link to a witness, behind the handshake (docs/FORMATS.md, "Witness link").

use super::entry::Entry;
use super::register::Change;
use crate::as_text;
use crate::link::Purpose;
use format::types::{Slot, VolumeId};
use serde::{Deserialize, Serialize};

/// The longest question or answer: two entries, or one sentence.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 2048;

/// What a link to a witness is for: the data link of a volume that only a witness has. So a node that is
/// taken for a witness refuses it, and so does a witness that is taken for a node.
pub(crate) fn purpose() -> Purpose {
    Purpose::Data {
        volume: VolumeId(*b"twinblk witness."),
        slot: Slot::all().next().expect("there is a first slot"),
    }
}

/// What a witness is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Question {
    /// What do you hold?
    Read {
        /// For which volume.
        #[serde(with = "as_text")]
        volume: VolumeId,
    },
    /// Put this in the place of the epoch before it.
    Propose {
        /// What.
        next: Entry,
    },
    /// Put this where there is nothing.
    Seed {
        /// What.
        first: Entry,
    },
    /// Put this in the place of exactly that: a question that comes late must not undo what came between.
    Replace {
        /// What was read.
        held: Option<Entry>,
        /// What is to be in its place.
        by: Entry,
    },
}

/// What a witness answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// This is held now.
    Holds {
        /// What.
        entry: Entry,
    },
    /// Nothing is held.
    Empty,
    /// It cannot say.
    Refused {
        /// Why, in one sentence.
        reason: String,
    },
}

impl Question {
    /// The volume, and the change; `Err` tells why there is none. A replacement is only one of what is
    /// held.
    pub(crate) fn change(self) -> Result<(VolumeId, Change, Option<Condition>), &'static str> {
        Ok(match self {
            Question::Read { volume } => (volume, Change::Read, None),
            Question::Propose { next } => (next.volume, Change::Propose(next.configuration), None),
            Question::Seed { first } => (first.volume, Change::Seed(first.configuration), None),
            Question::Replace { held, by } => {
                if held.is_some_and(|held| held.volume != by.volume) {
                    return Err("a volume's configuration cannot replace another volume's");
                }
                let held = held.map(|held| held.configuration);
                let change = Change::Replace(by.configuration);
                (by.volume, change, Some(Condition(held)))
            }
        })
    }
}

/// A change is made only where this is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Condition(pub(crate) Option<format::types::Configuration>);

#[cfg(test)]
mod tests {
    use super::{Answer, MESSAGE_BYTES_MAX, Question};
    use crate::arbiter::Entry;
    use crate::arbiter::testing::{configuration, volume};

    fn entry() -> Entry {
        Entry {
            volume: volume(1),
            configuration: configuration(1, 2),
        }
    }

    const GOLDEN: &str = concat!(
        r#"{"format":1,"volume":"01010101010101010101010101010101","epoch":1,"#,
        r#""generation":"02020202020202020202020202020202","primary":0,"in_sync":[0,1],"crc":"43dc7524"}"#
    );

    #[test]
    fn what_is_said_is_what_it_has_always_been() {
        let entry = entry();
        let said = [
            (
                serde_json::to_string(&Question::Read { volume: volume(1) }),
                r#"{"question":"read","volume":"01010101010101010101010101010101"}"#.to_owned(),
            ),
            (
                serde_json::to_string(&Question::Propose { next: entry }),
                format!(r#"{{"question":"propose","next":{GOLDEN}}}"#),
            ),
            (
                serde_json::to_string(&Question::Seed { first: entry }),
                format!(r#"{{"question":"seed","first":{GOLDEN}}}"#),
            ),
            (
                serde_json::to_string(&Question::Replace {
                    held: None,
                    by: entry,
                }),
                format!(r#"{{"question":"replace","held":null,"by":{GOLDEN}}}"#),
            ),
            (
                serde_json::to_string(&Answer::Holds { entry }),
                format!(r#"{{"answer":"holds","entry":{GOLDEN}}}"#),
            ),
            (
                serde_json::to_string(&Answer::Empty),
                r#"{"answer":"empty"}"#.to_owned(),
            ),
        ];
        for (said, golden) in said {
            assert_eq!(said.expect("it has a text"), golden);
        }
    }

    #[test]
    fn the_longest_question_fits_a_message() {
        let entry = entry();
        let longest = Question::Replace {
            held: Some(entry),
            by: entry,
        };
        let text = serde_json::to_vec(&longest).expect("it has a text");
        assert!(text.len() < MESSAGE_BYTES_MAX as usize, "{}", text.len());
    }

    #[test]
    fn a_damaged_entry_is_no_question() {
        let damaged = GOLDEN.replace("\"epoch\":1", "\"epoch\":2");
        let text = format!(r#"{{"question":"propose","next":{damaged}}}"#);
        assert!(serde_json::from_str::<Question>(&text).is_err());
    }
}
