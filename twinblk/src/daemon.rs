//! What the parts of the daemon share, and how they ask this node and others for something.

use crate::api::{NodeView, VolumeView};
use crate::arbitration::Arbitration;
use crate::config::Config;
use crate::control::{Request, Response};
use crate::duties::Duties;
use crate::event_log::EventLog;
use crate::failure::{Context, Failure};
use crate::happenings::{self, Incident};
use crate::key::ClusterKey;
use crate::link::Local;
use crate::links::Links;
use crate::maintenance::Maintenance;
use crate::nodes::Nodes;
use crate::view;
use crate::volumes::{Hosted, Report, Volumes};
use engine::volume::VolumeEvent;
use format::types::{Name, VolumeId};
use replica::arbiter::{Question, Register};
use replica::notice::Notice;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// What an open replica says, on its way to the daemon's thread.
pub(crate) type Reports = mpsc::UnboundedReceiver<(Arc<Hosted>, VolumeEvent)>;

/// The daemon.
pub(crate) struct Daemon {
    /// What the configuration file says.
    pub(crate) config: Config,
    /// What this node shows of itself to others.
    pub(crate) local: Local,
    /// The replicas of this node.
    pub(crate) volumes: Volumes,
    /// What has happened.
    pub(crate) events: EventLog,
    /// The control links to the other nodes.
    pub(crate) nodes: Nodes,
    /// The data links of all replicas.
    pub(crate) links: Links,
    /// The arbiter, if there is one.
    pub(crate) arbitration: Arbitration,
    /// Whether anything may be moved to this node.
    pub(crate) maintenance: Maintenance,
    /// What this node is to its volumes.
    pub(crate) duties: Duties,
    /// A resync has begun or ended.
    pub(crate) resyncs: Notify,
    creating: Mutex<BTreeSet<VolumeId>>,
    handler: Handler,
}

/// Does what a node asks for; the name is of the one that asks.
pub(crate) type Handler = fn(Arc<Daemon>, Name, Request) -> Answering;
/// An answer on its way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send>>;

impl Daemon {
    /// Locks and reads the state folder; opens no replica yet. `handler` does what this node asks itself.
    pub(crate) fn new(config: Config, handler: Handler) -> Result<(Arc<Daemon>, Reports), Failure> {
        let key = ClusterKey::read(&config.key_file)?;
        let registry = crate::registry::Registry::open(&config.state_dir)?;
        let node = registry.node();
        let events = EventLog::open(registry.folder(), config.name.as_str())?;
        let maintenance = Maintenance::open(registry.folder())?;
        let (sender, reports) = mpsc::unbounded_channel();
        let report: Report = Arc::new(move |hosted, event| {
            // The daemon outlives its replicas; at its very end nobody listens any more.
            let _ = sender.send((hosted.clone(), event));
        });
        let local = Local {
            node,
            name: config.name.clone(),
            key,
            lease: config.lease,
        };
        let arbitration = Arbitration::open(&config, &local, registry.folder())?;
        let mut options = config.options();
        if let Some(chosen) = arbitration.chosen() {
            options.settings.failover = chosen.mode.with(config.failover.times);
        }
        let daemon = Daemon {
            arbitration,
            local,
            handler,
            volumes: Volumes::new(registry, options, report),
            events,
            nodes: Nodes::new(&config.peers),
            links: Links::default(),
            maintenance,
            duties: Duties::new(),
            resyncs: Notify::new(),
            creating: Mutex::default(),
            config,
        };
        Ok((Arc::new(daemon), reports))
    }

    /// Asks a node, this one included.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        node: &Name,
        request: Request,
    ) -> Result<Response, Failure> {
        if *node == self.config.name {
            return (self.handler)(self.clone(), node.clone(), request).await;
        }
        let session = self.nodes.session(node)?;
        let asked = session.ask(request).await;
        asked.map_err(|failure| Failure {
            message: format!("{node}: {failure}"),
            ..failure
        })
    }

    /// Logs what the daemon has done or seen.
    pub(crate) fn incident(&self, incident: Incident) {
        self.events.push(incident.happening());
    }

    /// Marks a volume as one whose creation this node has not decided yet, or has.
    pub(crate) fn creating(&self, volume: VolumeId, undecided: bool) {
        let mut creating = lock(&self.creating);
        if undecided {
            creating.insert(volume)
        } else {
            creating.remove(&volume)
        };
    }

    /// Whether this node has yet to decide about the creation of a volume.
    pub(crate) fn is_creating(&self, volume: VolumeId) -> bool {
        lock(&self.creating).contains(&volume)
    }

    /// Shows a replica; that of one that does not answer says so.
    pub(crate) async fn show(&self, hosted: &Hosted) -> VolumeView {
        let mut view = match self.show_open(hosted).await {
            Ok(view) => view,
            Err(failure) => {
                let path = self.volumes.registry.paths(&hosted.record).data;
                let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
                let reason = hosted.closed().unwrap_or(failure.message);
                view::of_stopped(&hosted.record, size, reason)
            }
        };
        view.attached = self.is_attached(hosted);
        view.nbd = self.config.nbd.iter().map(ToString::to_string).collect();
        view
    }

    /// Whether a volume is a block device of this node. Its user is no client while this daemon starts again, and
    /// has it open all the same.
    pub(crate) fn is_attached(&self, hosted: &Hosted) -> bool {
        let link = self
            .config
            .attach
            .devices
            .join(hosted.record.name.to_string());
        link.symlink_metadata().is_ok()
    }

    /// Shows all replicas, by name. They are asked side by side: one whose disk hangs holds up no other.
    pub(crate) async fn show_all(self: &Arc<Self>) -> Vec<VolumeView> {
        let mut asked = JoinSet::new();
        for hosted in self.volumes.all() {
            let daemon = self.clone();
            asked.spawn(async move { daemon.show(&hosted).await });
        }
        let mut views = asked.join_all().await;
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    /// Shows a replica that is open and answers.
    pub(crate) async fn show_open(&self, hosted: &Hosted) -> Result<VolumeView, Failure> {
        let status = hosted.status().await?;
        let p99 = *lock(&hosted.application_p99_us);
        Ok(view::of_open(&hosted.record, &status, boot_nanos(), p99))
    }

    /// Shows every node.
    pub(crate) fn show_nodes(&self) -> Vec<NodeView> {
        let own = NodeView {
            name: self.config.name.to_string(),
            id: Some(self.local.node.to_string()),
            addresses: vec![self.config.listen.to_string()],
            state: "Self".to_owned(),
            reason: None,
            facts: None,
        };
        std::iter::once(own).chain(self.nodes.show()).collect()
    }

    /// Deals with what replicas say, until the last of them has ended.
    pub(crate) async fn listen_to_replicas(self: Arc<Self>, mut reports: Reports) {
        while let Some((hosted, event)) = reports.recv().await {
            let volume = hosted.record.volume;
            let hosted = self.volumes.current(&hosted);
            match event {
                VolumeEvent::Notice(notice) => self.noticed(&hosted, &notice),
                VolumeEvent::LinkLost {
                    peer,
                    session,
                    retry,
                } => {
                    self.links.lost(hosted.record.volume, peer, session, retry);
                }
                VolumeEvent::AskArbiter(question) => {
                    // Apart from each other: one volume's question must not wait for another's answer.
                    let daemon = self.clone();
                    tokio::spawn(async move { daemon.ask_arbiter(&hosted, question).await });
                }
                VolumeEvent::LinkWanted { peer } => self.links.wanted(hosted.record.volume, peer),
                VolumeEvent::Failed(reason) => {
                    hosted.failed(reason.clone());
                    self.links.forget(hosted.record.volume);
                    self.incident(Incident::ReplicaFailed(hosted.record.name.clone(), reason));
                }
            }
            self.duties.look(volume);
        }
    }

    /// Puts a replica's question to the arbiter, and brings it what the register holds.
    async fn ask_arbiter(&self, hosted: &Hosted, question: Question) {
        let name = &hosted.record.name;
        let asked = self.arbitration.ask(hosted.record.volume, question.into());
        let register = match asked.await {
            Ok(Some(held)) => Register::Holds(held),
            Ok(None) => Register::Empty,
            Err(failure) => {
                tracing::debug!("volume {name}: {failure}");
                self.arbitration.failed(failure);
                Register::Unreachable
            }
        };
        // One that has been closed meanwhile waits for no answer.
        if let Ok(volume) = hosted.volume() {
            volume.arbiter_answered(register);
        }
    }

    fn noticed(&self, hosted: &Arc<Hosted>, notice: &Notice) {
        self.events
            .push(happenings::of_notice(&hosted.record, notice));
        if let Notice::ResyncStarted { .. }
        | Notice::ResyncDone { .. }
        | Notice::Disconnected { .. } = notice
        {
            self.resyncs.notify_one();
        }
        if let Notice::ResyncDone { .. } = notice {
            let hosted = hosted.clone();
            // A disk that hangs must keep no other replica's event waiting.
            tokio::spawn(async move {
                // The latencies reach back about as long as most resyncs take.
                let status = hosted.status().await.ok();
                let io = status
                    .map(|status| status.io)
                    .filter(|io| io.reads + io.writes > 0);
                *lock(&hosted.application_p99_us) = io.map(|io| io.latency_us[1]);
            });
        }
    }
}

/// Does what may wait for a disk on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .context(|| "the work has been cut short".to_owned())?
}

/// The reactors' clock: nanoseconds since the boot, sleep included.
fn boot_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
