//! The readable trace: what happened, in order, as far as anybody wants to know.

use replica::event::{Effect, Event, Nanos};
use std::collections::VecDeque;

/// Lines that are remembered for a failure's end.
const REMEMBERED: usize = 4000;

/// Who wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reader {
    Nobody,
    Afterwards,
    Now,
}

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    reader: Reader,
    lines: VecDeque<String>,
}

impl Trace {
    /// No trace: the run is fast.
    pub fn off() -> Trace {
        Trace {
            reader: Reader::Nobody,
            lines: VecDeque::new(),
        }
    }

    /// The last lines are remembered.
    pub fn remembered() -> Trace {
        Trace {
            reader: Reader::Afterwards,
            lines: VecDeque::new(),
        }
    }

    /// Every line is printed.
    pub fn printed() -> Trace {
        Trace {
            reader: Reader::Now,
            lines: VecDeque::new(),
        }
    }

    /// One line, made only if somebody wants it.
    pub fn line(&mut self, now: Nanos, text: impl FnOnce() -> String) {
        if self.reader == Reader::Nobody {
            return;
        }
        let (millis, micros) = (now / 1_000_000, now / 1000 % 1000);
        let line = format!("{millis:6}.{micros:03} {}", text());
        if self.reader == Reader::Now {
            println!("{line}");
        }
        if self.lines.len() == REMEMBERED {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// An event is stepped.
    pub fn event(&mut self, now: Nanos, host: usize, event: &Event) {
        if !matches!(event, Event::TurnEnded | Event::Tick) {
            self.line(now, || {
                format!("{host} <- {}", shortened(format!("{event:?}")))
            });
        }
    }

    /// An effect is carried out.
    pub fn effect(&mut self, now: Nanos, host: usize, effect: &Effect) {
        if !matches!(effect, Effect::Release(_)) {
            self.line(now, || {
                format!("{host}    -> {}", shortened(format!("{effect:?}")))
            });
        }
    }

    /// The last lines, oldest first.
    pub fn tail(&self, count: usize) -> impl Iterator<Item = &str> {
        let skipped = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skipped).map(String::as_str)
    }
}

fn shortened(mut text: String) -> String {
    const LONGEST: usize = 420;
    if text.len() > LONGEST {
        let cut = (0..=LONGEST)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}
