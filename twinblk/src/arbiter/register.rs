//! The register: for each volume one whole configuration, changed only by comparing and swapping.

use crate::failure::Failure;
use format::types::{Configuration, VolumeId};
use replica::arbiter::Question;
use std::fmt;
use std::pin::Pin;

/// Something outside of the nodes that holds the latest configuration of volumes, durably, and answers with
/// what it really holds.
pub(crate) trait Register: Send + Sync + fmt::Debug {
    /// Makes a change where it may be made, and tells what the register holds then. After a failure the change may
    /// have been made or not, or may be made yet, unless something else is made before it. A failure that protects
    /// data says that the register answers, and holds what is no configuration.
    fn ask(&self, volume: VolumeId, change: Change) -> Asking<'_>;
}

/// A register's answer on its way: what it holds for the volume, if anything.
pub(crate) type Asking<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Configuration>, Failure>> + Send + 'a>>;

/// What is to change of a register. Making the same change twice is the same as making it once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Nothing.
    Read,
    /// Put this in the place of a configuration of the epoch before it.
    Propose(Configuration),
    /// Put this where there is nothing.
    Seed(Configuration),
    /// Put this in the place of whatever is there when the register is looked at: only an operator may say so.
    Replace(Configuration),
}

impl From<Question> for Change {
    fn from(question: Question) -> Change {
        match question {
            Question::Read => Change::Read,
            Question::Propose(next) => Change::Propose(next),
            Question::Seed(first) => Change::Seed(first),
        }
    }
}

impl Change {
    /// What the register is to hold in the place of what it holds; `None` if it stays as it is.
    pub(crate) fn decide(self, held: Option<Configuration>) -> Option<Configuration> {
        match self {
            Change::Read => None,
            Change::Propose(next) => {
                let follows = |held: Configuration| held.epoch.checked_add(1) == Some(next.epoch);
                held.is_some_and(follows).then_some(next)
            }
            Change::Seed(first) => held.is_none().then_some(first),
            Change::Replace(by) => (held != Some(by)).then_some(by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Change;
    use crate::arbiter::testing::configuration;

    #[test]
    fn only_what_follows_is_taken() {
        let (five, six, seven) = (
            configuration(5, 1),
            configuration(6, 2),
            configuration(7, 3),
        );
        assert_eq!(Change::Read.decide(Some(five)), None);
        assert_eq!(Change::Propose(six).decide(Some(five)), Some(six));
        for held in [None, Some(six), Some(seven), Some(configuration(6, 9))] {
            assert_eq!(Change::Propose(six).decide(held), None, "{held:?}");
        }
        assert_eq!(Change::Seed(five).decide(None), Some(five));
        assert_eq!(Change::Seed(five).decide(Some(six)), None);
        assert_eq!(Change::Replace(five).decide(Some(seven)), Some(five));
        assert_eq!(Change::Replace(five).decide(None), Some(five));
        assert_eq!(Change::Replace(five).decide(Some(five)), None);
    }

    #[test]
    fn epochs_do_not_wrap_around() {
        let last = configuration(u64::MAX, 1);
        assert_eq!(
            Change::Propose(configuration(0, 2)).decide(Some(last)),
            None
        );
        assert_eq!(Change::Propose(configuration(0, 2)).decide(None), None);
    }
}
