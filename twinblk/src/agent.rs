//! `twinblk agent`: runs hooks when this node begins or ceases to serve a volume, and when its protection changes.
//!
//! It is a client of the admin socket, so that the daemon needs no privileges. What it goes by is not each event but what
//! the node's duty is: whoever was away for a while learns how things stand, and runs what that is different from.

mod hook;
mod notes;
mod output;
mod reporter;
mod worker;

use crate::client::Client;
use crate::config::Config;
use crate::duty::{Duty, DutyView};
use crate::failure::{Context, Failure};
use crate::{logging, watchdog};
use format::types::Name;
use notes::{Note, Notes};
use reporter::{Reporter, deliver};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use worker::{Setup, Wanted, Worker};

/// How often a daemon that does not answer is tried again.
const RETRY_PERIOD: Duration = Duration::from_millis(250);
/// How long reports are still delivered when the agent stops.
const LAST_REPORTS: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop. `admin` is the daemon's socket, where the configuration's is not meant.
pub(crate) fn run(admin: Option<PathBuf>, config: &Path) -> Result<(), Failure> {
    logging::begin();
    let config = Config::read(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context(|| "cannot start".to_owned())?;
    runtime.block_on(follow(
        admin.unwrap_or_else(|| config.admin.clone()),
        config,
    ))
}

async fn follow(admin: PathBuf, config: Config) -> Result<(), Failure> {
    let doing = || "cannot listen to signals".to_owned();
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    let client = Client::new(admin);
    let notes = Notes::open(&config.hooks.state_dir)?;
    let (reporter, reports) = Reporter::new();
    let (stop, stopping) = watch::channel(false);
    let delivering = tokio::spawn(deliver(client.clone(), reports));
    let nbd = config.nbd.first().map(ToString::to_string);
    let mut agent = Agent::new(Setup {
        hooks: config.hooks,
        node: config.name.to_string(),
        nbd: nbd.unwrap_or_default(),
        devices: config.attach.devices,
        client,
        notes,
        reporter,
        stopping,
    })?;
    tracing::info!("hooks are in {}", agent.setup.hooks.directory.display());
    watchdog::ready();
    tokio::select! {
        () = agent.go_on() => {}
        _ = either(&mut terminate, &mut interrupt) => {}
    }
    // A hook that runs is waited for: it has its own time limit.
    stop.send_replace(true);
    tokio::select! {
        () = agent.end() => {}
        _ = either(&mut terminate, &mut interrupt) => {
            return Err(Failure::failed("told twice to stop: hooks that ran were ended"));
        }
    }
    // What the daemon has not taken by then is in the log.
    let _ = timeout(LAST_REPORTS, delivering).await;
    Ok(())
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// What the agent knows.
struct Agent {
    setup: Arc<Setup>,
    volumes: BTreeMap<String, Volume>,
    workers: JoinSet<()>,
    heard_at: Instant,
    // The daemon has been away for so long that nothing is served.
    daemon_gone: bool,
}

/// A volume, and what its worker was told last.
struct Volume {
    queue: mpsc::UnboundedSender<Wanted>,
    told: Option<Wanted>,
}

impl Volume {
    fn tell(&mut self, wanted: Wanted) {
        if self.told.as_ref() != Some(&wanted) {
            // A worker that has ended has been told all there was.
            let _ = self.queue.send(wanted.clone());
            self.told = Some(wanted);
        }
    }
}

impl Agent {
    fn new(setup: Setup) -> Result<Agent, Failure> {
        let noted = setup.notes.read()?;
        let mut agent = Agent {
            setup: Arc::new(setup),
            volumes: BTreeMap::new(),
            workers: JoinSet::new(),
            heard_at: Instant::now(),
            daemon_gone: false,
        };
        for (id, note) in noted {
            agent.begin(id, note);
        }
        Ok(agent)
    }

    fn begin(&mut self, id: String, note: Note) -> &mut Volume {
        let (queue, wanted) = mpsc::unbounded_channel();
        let worker = Worker {
            id: id.clone(),
            note,
            setup: self.setup.clone(),
        };
        self.workers.spawn(worker.work(wanted));
        let volume = Volume { queue, told: None };
        self.volumes.entry(id).insert_entry(volume).into_mut()
    }

    /// Follows the daemon, through all its restarts.
    async fn go_on(&mut self) {
        let mut last_why = None;
        loop {
            let (client, hold) = (self.setup.client.clone(), self.setup.hooks.hold);
            let before = self.heard_at;
            let ended = client
                .duties(hold, |duties| self.hear(duties.as_deref()))
                .await;
            let why = ended.err().map(|failure| failure.message);
            // Once for each reason, and again when it has been there meanwhile.
            if why != last_why || self.heard_at != before {
                let why = why.as_deref().unwrap_or_default();
                tracing::warn!("the daemon is away: {why}");
            }
            last_why = why;
            if self.heard_at.elapsed() >= hold && !self.daemon_gone {
                tracing::warn!("no daemon answers for {hold:?}: it serves nothing");
                self.daemon_gone = true;
                for volume in self.volumes.values_mut() {
                    volume.tell(Wanted::DaemonGone);
                }
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// The daemon lives, and may have told its duties.
    fn hear(&mut self, duties: Option<&[DutyView]>) {
        self.heard_at = Instant::now();
        let Some(duties) = duties else { return };
        self.daemon_gone = false;
        let mut there = BTreeSet::new();
        for view in duties {
            if !notes::is_id(&view.volume_id) || Name::new(&view.volume).is_none() {
                continue;
            }
            there.insert(view.volume_id.clone());
            // What the daemon does not know yet is left as it is.
            let Some(duty) = view.duty else { continue };
            if !self.volumes.contains_key(&view.volume_id) {
                let note = Note {
                    volume: view.volume.clone(),
                    duty: Duty::Idle,
                    begun: None,
                };
                self.begin(view.volume_id.clone(), note);
            }
            if let Some(volume) = self.volumes.get_mut(&view.volume_id) {
                volume.tell(Wanted::Duty(duty));
            }
        }
        self.volumes.retain(|id, volume| {
            let stays = there.contains(id);
            if !stays {
                volume.tell(Wanted::Removed);
            }
            stays
        });
    }

    /// Waits for the hooks that are running.
    async fn end(self) {
        let Agent { workers, .. } = self;
        workers.join_all().await;
    }
}
