//! `twinblk events`.

use super::tables;
use crate::cli::Output;
use crate::client::{Client, Lines};
use crate::event_log::EventView;
use crate::failure::{Context, Failure};
use std::time::Duration;
use tokio::time::sleep;

/// How often a daemon that is away is tried again.
const PERIOD: Duration = Duration::from_millis(250);

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
        if !follow {
            return shown;
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

async fn show_lines(lines: &mut Lines<'_>, after: &mut u64, output: Output) -> Result<(), Failure> {
    while let Some(line) = lines.next().await? {
        let event: EventView =
            serde_json::from_str(&line).context(|| "the daemon tells no event".to_owned())?;
        *after = event.id;
        if output.json {
            println!("{line}");
        } else {
            println!("{}", tables::event(&event));
        }
    }
    Ok(())
}
