//! Work that takes time: a progress bar on a terminal, plain lines elsewhere.

use crate::api::VolumeView;
use crate::client::Client;
use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the daemon is asked.
const PERIOD: Duration = Duration::from_millis(100);

/// Shows how far something is, on standard error.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    last_line: String,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(style);
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress {
            bar,
            last_line: String::new(),
        }
    }

    fn show(&mut self, volume: &VolumeView) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {}", volume.name, volume.state));
            if let Some(resync) = &volume.resync {
                bar.set_length(resync.bytes_total);
                bar.set_position(resync.bytes_done);
            }
            return;
        }
        // One line for each state or tenth of the way is enough for a log.
        let tenth = volume
            .resync
            .as_ref()
            .map(|resync| resync.bytes_done.saturating_mul(10) / resync.bytes_total.max(1) * 10);
        let line = match tenth {
            Some(percent) => format!("{}: {percent}% compared", volume.name),
            None => format!("{}: {}", volume.name, volume.state),
        };
        self.tell(line);
    }

    /// So many bytes of so many are done.
    pub(super) fn show_bytes(&mut self, what: &str, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        self.tell(format!(
            "{what} {}%",
            done.saturating_mul(10) / total.max(1) * 10
        ));
    }

    /// On no terminal each line is written once.
    fn tell(&mut self, line: String) {
        if line != self.last_line {
            eprintln!("{line}");
            self.last_line = line;
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `volume wait`.
pub(super) async fn wait(
    client: &Client,
    name: &str,
    states: &[String],
    patience: Option<Duration>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut progress = Progress::new();
    loop {
        let volume = client.volume(name).await?;
        let first_word = volume.state.split([' ', '%']).next().unwrap_or_default();
        let is = |state: &String| {
            volume.state.eq_ignore_ascii_case(state) || first_word.eq_ignore_ascii_case(state)
        };
        if states.iter().any(is) {
            progress.end();
            return Ok(());
        }
        if patience.is_some_and(|patience| begun.elapsed() >= patience) {
            progress.end();
            return Err(Failure::failed(format!(
                "volume {name} is {} and not {}: `twinblk volume status {name}` says more",
                volume.state,
                states.join(" or ")
            )));
        }
        progress.show(&volume);
        sleep(PERIOD).await;
    }
}

/// Waits for what works on a volume, and shows how far it is.
pub(super) async fn with_progress<T>(
    client: &Client,
    name: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut progress = Progress::new();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                progress.end();
                return done;
            }
            () = sleep(PERIOD) => {}
        }
        // That the daemon does not answer is for the work itself to say.
        if let Ok(volume) = client.volume(name).await
            && volume.resync.is_some()
        {
            progress.show(&volume);
        }
    }
}
