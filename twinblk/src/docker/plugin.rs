//! What Docker asks for, done: by the daemon, which has the volumes, and by this machine, which mounts them.

use super::machine::Machine;
use super::mounting::{Mounting, Subject};
use super::options::{Options, Replicas, Settings};
use super::protocol::Volume;
use crate::api::{Action, CreateRequest, VolumeView};
use crate::client::Client;
use crate::daemon::blocking;
use crate::failure::{Failure, FailureKind};
use format::types::Name;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};

/// How long a mount waits for what passes by itself: a primary's grace, the first handshake after a start, the end of a
/// resync. Docker waits for two minutes.
const COMING: Duration = Duration::from_secs(40);
/// How long it waits for a primary that is not connected to come forward, where taking over is refused.
const ABSENT: Duration = Duration::from_secs(10);
/// How long another node may take to have closed what was unmounted there a moment ago.
const CLOSING: Duration = Duration::from_secs(2);
/// How often is tried again what another has to do first.
const RETRY_PERIOD: Duration = Duration::from_millis(250);
/// How often what could not be taken away is tried again.
const SETTLING_PERIOD: Duration = Duration::from_secs(1);

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The plugin.
pub(super) struct Plugin<M> {
    client: Client,
    mounting: Arc<Mounting<M>>,
    // One thing at a time is done with a volume.
    locks: Mutex<HashMap<Name, Lock>>,
}

impl<M: Machine> Plugin<M> {
    pub(super) fn new(client: Client, mounting: Mounting<M>) -> Plugin<M> {
        Plugin {
            client,
            mounting: Arc::new(mounting),
            locks: Mutex::default(),
        }
    }

    async fn lock(&self, name: &Name) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for are of no use any more.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(name.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    async fn with_mounting<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Mounting<M>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mounting = self.mounting.clone();
        blocking(move || work(&mounting)).await
    }

    /// Comes back to what another life of it has left.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<(), Failure> {
        for name in self.with_mounting(Mounting::begin).await? {
            self.settle_later(name);
        }
        Ok(())
    }

    /// Somebody still uses what was to be taken away: a container that ends, or another mount namespace.
    fn settle_later(self: &Arc<Self>, name: Name) {
        let plugin = self.clone();
        tokio::spawn(async move {
            let mut said = String::new();
            loop {
                sleep(SETTLING_PERIOD).await;
                let _lock = plugin.lock(&name).await;
                let settled = name.clone();
                match plugin
                    .with_mounting(move |mounting| mounting.settle(&settled))
                    .await
                {
                    Ok(()) => return,
                    Err(failure) if failure.message != said => {
                        tracing::warn!("volume {name}: {failure}");
                        said = failure.message;
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// `VolumeDriver.Create`.
    pub(super) async fn create(
        &self,
        name: Name,
        typed: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let options = Options::read(typed)?;
        let _lock = self.lock(&name).await;
        match in_time(self.client.volume(name.as_str())).await {
            Ok(view) => {
                let nodes: Vec<&str> = view.replicas.iter().map(|one| one.node.as_str()).collect();
                if let Some(difference) = options.difference(view.size_bytes, &nodes, &view.labels)
                {
                    return Err(Failure::failed(format!(
                        "there is a volume {name} already, and {difference}: leave the option out to have the volume \
                         as it is, or choose another name"
                    )));
                }
                self.with_mounting(move |mounting| mounting.forget(&name, &view.id, false))
                    .await
            }
            Err(failure) if failure.kind == FailureKind::NotFound => {
                self.create_new(&name, &options).await
            }
            Err(failure) => Err(failure),
        }
    }

    async fn create_new(&self, name: &Name, options: &Options) -> Result<(), Failure> {
        let size_bytes = options.size_bytes.ok_or_else(|| {
            Failure::usage(format!(
                "there is no volume {name} yet, and a new one needs a size: docker volume create -d twinblk -o \
                 size=10G {name}"
            ))
        })?;
        let request = CreateRequest {
            name: name.clone(),
            size_bytes,
            replicas: self.replicas(options.replicas.as_ref()).await?,
            backing: BTreeMap::new(),
            thick: options.thick,
            labels: options.labels(),
        };
        let outcome = self
            .client
            .create(&request)
            .await
            .map_err(|failure| in_docker_s_words(&failure))?;
        outcome
            .lines
            .iter()
            .for_each(|line| tracing::info!("{line}"));
        Ok(())
    }

    /// The nodes that get a copy. This one is among them, since it is not listed here otherwise.
    async fn replicas(&self, wanted: Option<&Replicas>) -> Result<Vec<Name>, Failure> {
        let Some(wanted) = wanted else {
            return Ok(Vec::new());
        };
        let nodes = in_time(self.client.nodes()).await?;
        let in_state = |state: &str| {
            let nodes = nodes.iter().filter(move |node| node.state == state);
            nodes
                .filter_map(|node| Name::new(&node.name))
                .collect::<Vec<_>>()
        };
        let own = in_state("Self");
        match wanted {
            Replicas::Named(names) => match own.iter().find(|own| !names.contains(own)) {
                Some(own) => Err(Failure::usage(format!(
                    "option replicas: {own}, this node, must be among them, or Docker cannot use the volume here"
                ))),
                None => Ok(names.clone()),
            },
            Replicas::Count(count) => {
                let mut chosen = own;
                chosen.extend(in_state("Connected"));
                if chosen.len() < *count {
                    return Err(Failure::failed(format!(
                        "option replicas: {count} nodes are asked for, and {} can be reached: `twinblk node ls`",
                        chosen.len()
                    )));
                }
                chosen.truncate(*count);
                Ok(chosen)
            }
        }
    }

    /// A volume that Docker knows on this node.
    async fn known(&self, name: &Name) -> Result<VolumeView, Failure> {
        let view = in_time(self.client.volume(name.as_str())).await?;
        let (of, id) = (name.clone(), view.id.clone());
        let note = self
            .with_mounting(move |mounting| mounting.note(&of, &id))
            .await?;
        match note.forgotten {
            false => Ok(view),
            true => Err(Failure::not_found(format!(
                "volume {name} was removed here from Docker and kept: `docker volume create -d twinblk {name}` brings it \
                 back"
            ))),
        }
    }

    /// `VolumeDriver.Remove`.
    pub(super) async fn remove(self: &Arc<Self>, name: Name) -> Result<(), Failure> {
        let _lock = self.lock(&name).await;
        let view = match in_time(self.client.volume(name.as_str())).await {
            Ok(view) => view,
            Err(failure) if failure.kind == FailureKind::NotFound => {
                return self
                    .with_mounting(move |mounting| {
                        mounting.refuse_if_mounted(&name)?;
                        mounting.removed(&name)
                    })
                    .await;
            }
            Err(failure) => return Err(failure),
        };
        let mounted = name.clone();
        self.with_mounting(move |mounting| mounting.refuse_if_mounted(&mounted))
            .await?;
        if !Settings::of(&view.labels)?.deletes {
            return self
                .with_mounting(move |mounting| mounting.forget(&name, &view.id, true))
                .await;
        }
        let removed = self
            .client
            .act(name.as_str(), &Action::Remove { keep_data: false });
        let outcome = removed.await?;
        outcome
            .lines
            .iter()
            .for_each(|line| tracing::info!("{line}"));
        self.with_mounting(move |mounting| mounting.removed(&name))
            .await
    }

    /// `VolumeDriver.Mount`.
    pub(super) async fn mount(
        self: &Arc<Self>,
        name: Name,
        who: String,
    ) -> Result<PathBuf, Failure> {
        let _lock = self.lock(&name).await;
        let view = self.known(&name).await?;
        let subject = Subject {
            name: name.clone(),
            id: view.id.clone(),
            settings: Settings::of(&view.labels)?,
        };
        let of = name.clone();
        let mounted = self
            .with_mounting(move |mounting| mounting.path(&of))
            .await?;
        if mounted.is_none() {
            self.bring_here(&name).await?;
        }
        let done = self
            .with_mounting(move |mounting| mounting.mount(&subject, &who))
            .await;
        if done.is_err() {
            // Whatever could not be taken away at once.
            self.settle_later(name);
        }
        done
    }

    /// Makes this node the primary, if it is not, and nobody uses the volume where it is.
    async fn bring_here(&self, name: &Name) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let Err(failure) = self.take(name).await else {
                return Ok(());
            };
            let view = in_time(self.client.volume(name.as_str())).await?;
            let patience = patience(&view, failure.kind);
            if begun.elapsed() >= patience {
                return Err(named(&view, failure));
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    async fn take(&self, name: &Name) -> Result<(), Failure> {
        in_time(self.client.act(name.as_str(), &Action::Take)).await?;
        let view = in_time(self.client.volume(name.as_str())).await?;
        match view.frozen {
            // Whatever is read from it would wait, and Docker not for that long.
            true => Err(Failure::failed(format!(
                "volume {name} is frozen: neither its other nodes nor the arbiter answer; bring one of them back"
            ))),
            false => Ok(()),
        }
    }

    /// `VolumeDriver.Unmount`.
    pub(super) async fn unmount(self: &Arc<Self>, name: Name, who: String) -> Result<(), Failure> {
        let _lock = self.lock(&name).await;
        let of = name.clone();
        let done = self
            .with_mounting(move |mounting| mounting.unmount(&of, &who))
            .await;
        if done.is_err() {
            self.settle_later(name);
        }
        done
    }

    /// `VolumeDriver.Path`.
    pub(super) async fn path(&self, name: Name) -> Result<String, Failure> {
        self.known(&name).await?;
        self.mountpoint(name).await
    }

    async fn mountpoint(&self, name: Name) -> Result<String, Failure> {
        let path = self
            .with_mounting(move |mounting| mounting.path(&name))
            .await?;
        Ok(path.map_or_else(String::new, text))
    }

    /// `VolumeDriver.Get`.
    pub(super) async fn get(&self, name: Name) -> Result<Volume, Failure> {
        let view = self.known(&name).await?;
        let (of, id) = (name.clone(), view.id.clone());
        let mounts = self
            .with_mounting(move |mounting| mounting.count(&of, &id))
            .await?;
        let out_of_sync = view.replicas.iter().map(|one| one.out_of_sync_bytes).max();
        let seconds_left = view.resync.as_ref().and_then(|resync| resync.seconds_left);
        let replicas = view
            .replicas
            .iter()
            .map(|one| format!("{} {}", one.node, one.disk_state));
        let fs = Settings::of(&view.labels)?.fs.map(|fs| fs.to_string());
        let status = BTreeMap::from([
            ("state", json!(view.state)),
            ("reason", json!(view.reason)),
            ("role", json!(view.role)),
            ("primary", json!(view.primary)),
            ("size_bytes", json!(view.size_bytes)),
            ("replicas", json!(replicas.collect::<Vec<_>>())),
            ("out_of_sync_bytes", json!(out_of_sync.unwrap_or_default())),
            ("resync_seconds_left", json!(seconds_left)),
            ("fs", json!(fs)),
            ("mounts", json!(mounts)),
        ]);
        Ok(Volume {
            name: name.to_string(),
            mountpoint: self.mountpoint(name).await?,
            status,
        })
    }

    /// `VolumeDriver.List`.
    pub(super) async fn list(&self) -> Result<Vec<Volume>, Failure> {
        let views = in_time(self.client.volumes()).await?;
        self.with_mounting(move |mounting| {
            let mut volumes = Vec::new();
            for view in views {
                let Some(name) = Name::new(&view.name) else {
                    continue;
                };
                if mounting.note(&name, &view.id)?.forgotten {
                    continue;
                }
                let path = mounting.path(&name)?;
                volumes.push(Volume {
                    name: view.name,
                    mountpoint: path.map_or_else(String::new, text),
                    status: BTreeMap::new(),
                });
            }
            Ok(volumes)
        })
        .await
    }
}

/// Docker is not to wait for a daemon that hangs.
async fn in_time<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let hangs = |_| Failure::failed("the daemon does not answer: see what `twinblk serve` says");
    timeout(COMING, asked).await.map_err(hangs)?
}

/// How long it may still take until a volume can be brought here.
fn patience(view: &VolumeView, kind: FailureKind) -> Duration {
    let primary = view.primary.as_deref();
    let connected = view
        .replicas
        .iter()
        .any(|one| Some(one.node.as_str()) == primary && one.connection_state == "Connected");
    match kind {
        _ if view.role == "Stopped" || view.state == "SplitBrain" => Duration::ZERO,
        FailureKind::Failed => COMING,
        FailureKind::ProtectsData if connected || primary.is_none() => CLOSING,
        FailureKind::ProtectsData => ABSENT,
        FailureKind::Usage | FailureKind::NotFound => Duration::ZERO,
    }
}

/// Why a volume is not brought here, and where it is.
fn named(view: &VolumeView, failure: Failure) -> Failure {
    let own = view.replicas.first().map(|one| one.node.as_str());
    let primary = view
        .primary
        .as_deref()
        .filter(|primary| Some(*primary) != own);
    match primary.filter(|primary| !failure.message.contains(primary)) {
        Some(primary) => Failure {
            message: format!("{failure}; its primary is {primary}"),
            ..failure
        },
        None => failure,
    }
}

/// The daemon names options as its own command line has them.
fn in_docker_s_words(failure: &Failure) -> Failure {
    Failure {
        message: failure
            .message
            .replace("--replicas NODE,NODE", "-o replicas=NODE,NODE, or a number"),
        kind: failure.kind,
    }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}
