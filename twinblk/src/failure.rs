//! Why something that a person or a peer asked for was not done: one sentence and a kind.

use engine::volume::OpenError;
use replica::command::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// What a caller must tell apart; each has its own exit code and HTTP status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// It was asked for in a way that makes no sense, whatever the state (exit code 2).
    Usage,
    /// There is no such volume or node (exit code 1).
    NotFound,
    /// It could not be done (exit code 1).
    Failed,
    /// It was refused because doing it could lose or fork data (exit code 3).
    ProtectsData,
}

/// Why something was not done. Crosses the admin socket and the control link, so that the sentence
/// is the same wherever it is read; its sources are part of it by then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What sort.
    pub(crate) kind: FailureKind,
    /// One line: what is wrong and what to do.
    pub(crate) message: String,
}

impl Failure {
    /// It was asked for wrongly.
    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure {
            kind: FailureKind::Usage,
            message: message.to_string(),
        }
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Display) -> Failure {
        Failure {
            kind: FailureKind::NotFound,
            message: message.to_string(),
        }
    }

    /// It could not be done.
    pub(crate) fn failed(message: impl Display) -> Failure {
        Failure {
            kind: FailureKind::Failed,
            message: message.to_string(),
        }
    }

    /// It could lose or fork data.
    pub(crate) fn protects_data(message: impl Display) -> Failure {
        Failure {
            kind: FailureKind::ProtectsData,
            message: message.to_string(),
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            FailureKind::Failed | FailureKind::NotFound => 1,
            FailureKind::Usage => 2,
            FailureKind::ProtectsData => 3,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::ProtectsData(_) => Failure::protects_data(refusal),
            Refusal::NotNow(_) => Failure::failed(refusal),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        if error.protects_data {
            Failure::protects_data(error)
        } else {
            Failure::failed(error)
        }
    }
}

/// Says what was being done when an error came.
pub(crate) trait Context<T> {
    /// `doing` begins the sentence: "cannot read /etc/twinblk/cluster.key".
    fn context(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::failed(format!("{}: {error}", doing())))
    }
}
