//! What became of a hook: told by the agent, logged by the daemon.

use crate::duty::Transition;
use crate::event_log::Happening;
use crate::failure::Failure;
use format::types::Name;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name of a file, and the longest sentence, that is taken.
const TEXT_BYTES_MAX: usize = 255;

/// The body of `POST /v1/hooks`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookReport {
    /// The volume.
    pub(crate) volume: String,
    /// What the hook was run on.
    pub(crate) event: Transition,
    /// Its file's name.
    pub(crate) hook: String,
    /// How it ended.
    pub(crate) outcome: HookOutcome,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// How a hook ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HookOutcome {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It took too long and was ended, and all that it had started.
    TimedOut,
    /// It was not started: it may be anybody's.
    Refused(String),
    /// It could not be started.
    NotStarted(String),
    /// The agent itself ended meanwhile; it is not run again for the same transition.
    Interrupted,
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookOutcome::Exited(code) => write!(f, "ended with exit code {code}"),
            HookOutcome::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            HookOutcome::TimedOut => f.write_str("reached the time limit and was ended"),
            HookOutcome::Refused(reason) => write!(f, "was refused: {reason}"),
            HookOutcome::NotStarted(reason) => write!(f, "could not be started: {reason}"),
            HookOutcome::Interrupted => f.write_str("was cut short by the end of the agent"),
        }
    }
}

impl HookReport {
    /// The event to log. What an agent sends is not believed to be short or printable.
    pub(crate) fn happening(self) -> Result<Happening, Failure> {
        let volume = Name::new(&self.volume).ok_or_else(|| Failure::usage("it names no volume"))?;
        let (name, number) = match &self.outcome {
            HookOutcome::Exited(0) => ("hook-done", 600),
            HookOutcome::Refused(_) => ("hook-refused", 602),
            _ => ("hook-failed", 601),
        };
        let outcome = match &self.outcome {
            HookOutcome::Refused(reason) => HookOutcome::Refused(plain(reason)),
            HookOutcome::NotStarted(reason) => HookOutcome::NotStarted(plain(reason)),
            other => other.clone(),
        };
        let (event, hook, seconds) = (self.event, plain(&self.hook), self.seconds.max(0.0));
        Ok(Happening {
            volume: Some(volume.to_string()),
            name,
            number,
            text: format!("{event} hook {hook} {outcome} after {seconds:.2} s"),
        })
    }
}

/// Text without control characters, and not too long.
pub(crate) fn plain(text: &str) -> String {
    let mut plain: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .collect();
    plain.truncate(plain.floor_char_boundary(TEXT_BYTES_MAX));
    plain
}

#[cfg(test)]
mod tests;
