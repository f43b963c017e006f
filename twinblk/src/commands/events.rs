//! `twinblk events`.

use super::tables;
use crate::cli::Output;
use crate::client::{Client, Lines};
use crate::event_log::EventView;
use crate::failure::{Context, Failure};
use std::io::Write;
use std::time::Duration;
use tokio::time::sleep;

/// How often a daemon that is away is tried again.
const PERIOD: Duration = Duration::from_millis(250);

/// What has ended a stream of events.
enum Ended {
    /// The daemon.
    Daemon,
    /// Whoever reads what is printed.
    Reader,
}

/// Prints events. Whoever follows sees each once, also where the daemon is restarted meanwhile.
pub(super) async fn show(
    client: &Client,
    mut after: u64,
    follow: bool,
    output: Output,
) -> Result<(), Failure> {
    let mut lines = client.events(after, follow).await?;
    loop {
        let shown = show_lines(&mut lines, &mut after, output).await;
        match shown {
            Ok(Ended::Reader) => return Ok(()),
            Ok(Ended::Daemon) if !follow => return Ok(()),
            Err(failure) if !follow => return Err(failure),
            Ok(Ended::Daemon) | Err(_) => {}
        }
        eprintln!("twinblk: the daemon has gone; waiting for it");
        lines = loop {
            sleep(PERIOD).await;
            if let Ok(lines) = client.events(after, follow).await {
                break lines;
            }
        };
    }
}

async fn show_lines(
    lines: &mut Lines<'_>,
    after: &mut u64,
    output: Output,
) -> Result<Ended, Failure> {
    while let Some(line) = lines.next().await? {
        let event: EventView =
            serde_json::from_str(&line).context(|| "the daemon tells no event".to_owned())?;
        *after = event.id;
        let line = if output.json {
            line
        } else {
            tables::event(&event)
        };
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return Ok(Ended::Reader);
        }
    }
    Ok(Ended::Daemon)
}
