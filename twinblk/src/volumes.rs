//! The replicas of this node: which there are, which are open, and their way from a preparation to a
//! removal. Everything here may block on a disk: asynchronous callers go through
//! [`blocking`](crate::daemon::blocking).

use crate::failure::{Context, Failure};
use crate::happenings::Incident;
use crate::registry::{Member, Phase, Record, Registry};
use engine::volume::{Creation, Options, Volume, VolumeEvent, VolumeStatus};
use format::types::{Generation, Name, NodeSet, Slot, VolumeId};
use replica::command::{Answer, Command};
use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A replica answers within a turn of its loop; only one whose disk hangs takes longer.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How long a primary that nobody uses waits for the node that wants to be it.
const GIVING_WAY: Duration = Duration::from_secs(5);

/// Why a replica is closed whose data is being read.
const LENT: &str = "it is being exported";

/// Tells the daemon what an open replica says: called on the replica's thread, only to pass it on.
pub(crate) type Report = Arc<dyn Fn(&Arc<Hosted>, VolumeEvent) + Send + Sync>;

/// A replica of this node.
#[derive(Debug)]
pub(crate) struct Hosted {
    /// What is remembered of it.
    pub(crate) record: Record,
    // Shared by all that have been made of one opening: what is remembered may change meanwhile.
    state: Arc<Mutex<State>>,
    // It is being removed: no client is let in any more.
    sealed: Arc<AtomicBool>,
    // In this configuration it lets nobody in until then, so that another node can become the primary.
    gives_way: Arc<Mutex<Option<(u64, Instant)>>>,
    /// What clients felt during the last resync.
    pub(crate) application_p99_us: Arc<Mutex<Option<u64>>>,
}

#[derive(Clone, Debug)]
enum State {
    Open(Volume),
    Closed {
        reason: String,
        // The reason may pass by itself.
        again: bool,
    },
}

impl Hosted {
    /// The same replica, of which something else is remembered.
    fn amended(&self, record: Record) -> Hosted {
        Hosted {
            record,
            state: self.state.clone(),
            sealed: self.sealed.clone(),
            gives_way: self.gives_way.clone(),
            application_p99_us: self.application_p99_us.clone(),
        }
    }

    /// Whether the two are of one opening.
    fn is_same(&self, other: &Hosted) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// The replica, or why it is not open.
    pub(crate) fn volume(&self) -> Result<Volume, Failure> {
        match &*lock(&self.state) {
            State::Open(volume) => Ok(volume.clone()),
            State::Closed { reason, .. } => Err(Failure::failed(format!(
                "volume {} is stopped on this node: {reason}",
                self.record.name
            ))),
        }
    }

    /// Why it is not open, if it is not.
    pub(crate) fn closed(&self) -> Option<String> {
        match &*lock(&self.state) {
            State::Open(_) => None,
            State::Closed { reason, .. } => Some(reason.clone()),
        }
    }

    /// Notes that its reactor has ended by itself.
    pub(crate) fn failed(&self, reason: String) {
        *lock(&self.state) = State::Closed {
            reason,
            again: false,
        };
    }

    /// Lets no more clients in, or lets them in again.
    pub(crate) fn seal(&self, sealed: bool) {
        self.sealed.store(sealed, Ordering::SeqCst);
    }

    /// Whether no more clients are let in.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::SeqCst)
    }

    /// Lets no more clients in for a moment, as long as the configuration is this one; or lets them in again.
    pub(crate) fn give_way(&self, epoch: Option<u64>) {
        *lock(&self.gives_way) = epoch.map(|epoch| (epoch, Instant::now() + GIVING_WAY));
    }

    /// Whether no clients are let in, in this configuration, for a moment.
    pub(crate) fn gives_way(&self, epoch: u64) -> bool {
        let gives_way = *lock(&self.gives_way);
        gives_way.is_some_and(|(then, until)| then == epoch && Instant::now() < until)
    }

    /// Has the replica carry a command out.
    pub(crate) async fn command(&self, command: Command) -> Result<Answer, Failure> {
        let (sender, answer) = oneshot::channel();
        self.volume()?.command(command, move |result| {
            // Whoever asked may have gone.
            let _ = sender.send(result);
        });
        Ok(answer
            .await
            .context(|| "the replica has ended".to_owned())??)
    }

    /// Asks the replica for its status.
    pub(crate) async fn status(&self) -> Result<VolumeStatus, Failure> {
        let (sender, answer) = oneshot::channel();
        self.volume()?.status(move |status| {
            // Whoever asked may have gone.
            let _ = sender.send(status);
        });
        let name = &self.record.name;
        match timeout(STATUS_PATIENCE, answer).await {
            Ok(Ok(Some(status))) => Ok(status),
            Ok(_) => Err(Failure::failed(format!(
                "volume {name} has just been stopped"
            ))),
            Err(_) => Err(Failure::failed(format!("volume {name} does not answer"))),
        }
    }

    /// Stops the replica as planned: drained, flushed, marked clean. What is stopped stays so.
    pub(crate) fn stop(&self, reason: &str) -> Result<(), Failure> {
        let volume = self.volume().ok();
        let stopped = volume.map(|volume| {
            let answer = run(&volume, Command::Stop);
            volume.join();
            answer.map(|_| ())
        });
        *lock(&self.state) = State::Closed {
            reason: reason.to_owned(),
            again: false,
        };
        stopped.unwrap_or(Ok(()))
    }
}

/// Has a replica carry a command out, and waits.
fn run(volume: &Volume, command: Command) -> Result<Answer, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    volume.command(command, move |answer| {
        // Nobody waits any more if the receiver is gone, and there is nobody to tell.
        let _ = sender.send(answer);
    });
    let answer = receiver
        .recv()
        .context(|| "the replica has ended".to_owned())?;
    Ok(answer?)
}

/// What a coordinator has every node prepare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// What will be remembered, of this node's replica.
    pub(crate) record: Record,
    /// The volume's size.
    pub(crate) size_bytes: u64,
    /// The first generation.
    pub(crate) generation: Generation,
    /// The first primary.
    pub(crate) primary: Slot,
    /// It joins a volume that is in use, in which these slots are of replicas that there were.
    pub(crate) joins: Option<NodeSet>,
}

/// All replicas of this node.
pub(crate) struct Volumes {
    /// The state folder.
    pub(crate) registry: Registry,
    options: Mutex<Options>,
    hosted: Mutex<BTreeMap<Name, Arc<Hosted>>>,
    // Held while the set of replicas changes on disk, so that two changes of one name never meet.
    changes: Mutex<()>,
    report: Report,
}

impl Volumes {
    /// Without any replica yet: see [`Volumes::open_all`].
    pub(crate) fn new(registry: Registry, options: Options, report: Report) -> Volumes {
        let (hosted, changes) = (Mutex::default(), Mutex::default());
        Volumes {
            registry,
            options: Mutex::new(options),
            hosted,
            changes,
            report,
        }
    }

    /// Has replicas that are opened from now on ask an arbiter.
    pub(crate) fn arbitrate(&self, failover: replica::Failover) {
        lock(&self.options).settings.failover = failover;
    }

    /// Opens what the state folder holds, and goes on with what a crash has cut short. A replica
    /// that cannot be opened does not keep the others from it.
    pub(crate) fn open_all(&self, own: &Name) -> Result<Vec<Incident>, Failure> {
        let _changes = lock(&self.changes);
        let mut incidents = Vec::new();
        for record in self.registry.records()? {
            match &record.phase {
                Phase::Removing { keep_data } => {
                    self.registry.remove(&record, *keep_data)?;
                    continue;
                }
                // What this node has decided is on its own disk; without a decision there is no volume.
                Phase::Prepared { coordinator }
                    if coordinator == own && self.registry.decision(record.volume)?.is_none() =>
                {
                    self.registry.remove(&record, false)?;
                    continue;
                }
                Phase::Prepared { .. } | Phase::Ready => {}
            }
            let name = record.name.clone();
            if let Some(reason) = self.host(record).closed() {
                incidents.push(Incident::ReplicaFailed(name, reason));
            }
        }
        Ok(incidents)
    }

    /// Takes a replica in, open if it is ready and can be.
    fn host(&self, record: Record) -> Arc<Hosted> {
        let waiting = "its creation has not been confirmed by the node that it was typed on";
        let hosted = Arc::new(Hosted {
            record,
            state: Arc::new(Mutex::new(State::Closed {
                reason: waiting.to_owned(),
                again: false,
            })),
            sealed: Arc::default(),
            gives_way: Arc::default(),
            application_p99_us: Arc::default(),
        });
        if hosted.record.phase == Phase::Ready {
            let (report, reporter) = (self.report.clone(), hosted.clone());
            let paths = self.registry.paths(&hosted.record);
            // Held meanwhile, so that a reactor which fails at once is found closed and not open.
            let mut state = lock(&hosted.state);
            let opened = Volume::open(&paths, lock(&self.options).clone(), move |event| {
                report(&reporter, event);
            });
            *state = match opened {
                Ok(volume) => State::Open(volume),
                Err(error) => State::Closed {
                    reason: error.to_string(),
                    again: !error.protects_data,
                },
            };
        }
        lock(&self.hosted).insert(hosted.record.name.clone(), hosted.clone());
        hosted
    }

    /// Stops a replica as planned, so that its data can be read.
    pub(crate) fn lend(&self, hosted: &Arc<Hosted>) -> Result<(), Failure> {
        let _changes = lock(&self.changes);
        // Somebody may have been faster.
        hosted.volume()?;
        hosted.stop(LENT)
    }

    /// Opens a replica again that was lent, unless it has been removed meanwhile or the daemon stops.
    pub(crate) fn take_back(&self, lent: &Arc<Hosted>) -> Option<Arc<Hosted>> {
        let _changes = lock(&self.changes);
        let hosted = self.with_id(lent.record.volume)?;
        let is_lent = hosted.is_same(lent) && hosted.closed().as_deref() == Some(LENT);
        let opened = is_lent.then(|| self.host(hosted.record.clone()))?;
        opened.closed().is_none().then_some(opened)
    }

    /// Tries again to open what could not be opened for a reason that may pass, as the files of a
    /// killed predecessor do that the kernel has not let go of yet. Tells what is open now.
    pub(crate) fn reopen(&self) -> Vec<Arc<Hosted>> {
        let _changes = lock(&self.changes);
        let mut reopened = Vec::new();
        for hosted in self.all() {
            let again = matches!(*lock(&hosted.state), State::Closed { again: true, .. });
            if again {
                let hosted = self.host(hosted.record.clone());
                reopened.extend(hosted.closed().is_none().then_some(hosted));
            }
        }
        reopened
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Hosted>> {
        lock(&self.hosted).values().cloned().collect()
    }

    /// The replica of the volume of this name.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Hosted>, Failure> {
        let found = lock(&self.hosted)
            .values()
            .find(|hosted| hosted.record.name.as_str() == name)
            .cloned();
        found.ok_or_else(|| {
            Failure::not_found(format!(
                "there is no volume {name} on this node: `twinblk volume ls` shows those there are"
            ))
        })
    }

    /// The replica of the volume with this id.
    pub(crate) fn with_id(&self, volume: VolumeId) -> Option<Arc<Hosted>> {
        lock(&self.hosted)
            .values()
            .find(|hosted| hosted.record.volume == volume)
            .cloned()
    }

    /// What is remembered now of a replica that has said something.
    pub(crate) fn current(&self, said: &Arc<Hosted>) -> Arc<Hosted> {
        let now = self.with_id(said.record.volume);
        now.filter(|now| now.is_same(said))
            .unwrap_or_else(|| said.clone())
    }

    /// Remembers that the volume has these replicas; its own stays open meanwhile.
    pub(crate) fn amend(
        &self,
        volume: VolumeId,
        members: impl FnOnce(&mut Vec<Member>),
    ) -> Result<Arc<Hosted>, Failure> {
        let _changes = lock(&self.changes);
        let hosted = self.with_id(volume).ok_or_else(|| no_replica(volume))?;
        let mut record = hosted.record.clone();
        members(&mut record.members);
        if record == hosted.record {
            return Ok(hosted);
        }
        self.registry.put(&record)?;
        let amended = Arc::new(hosted.amended(record));
        lock(&self.hosted).insert(amended.record.name.clone(), amended.clone());
        Ok(amended)
    }

    /// Takes the space that a replica's metadata needs for one more replica of its volume.
    pub(crate) fn reserve_for(&self, volume: VolumeId, member: &Member) -> Result<(), Failure> {
        let _changes = lock(&self.changes);
        let hosted = self.with_id(volume).ok_or_else(|| no_replica(volume))?;
        let paths = self.registry.paths(&hosted.record);
        Ok(Volume::reserve_for(&paths, member.slot, &member.replica())?)
    }

    /// Makes a replica's files; only a commit makes it a replica.
    pub(crate) fn prepare(&self, plan: &Plan) -> Result<(), Failure> {
        let _changes = lock(&self.changes);
        let name = &plan.record.name;
        if lock(&self.hosted).contains_key(name) {
            return Err(Failure::failed(format!(
                "there is a volume {name} already: choose another name"
            )));
        }
        let paths = self.registry.paths(&plan.record);
        let in_use = |hosted: &Arc<Hosted>| self.registry.paths(&hosted.record).data == paths.data;
        if let Some(other) = self.all().iter().find(|hosted| in_use(hosted)) {
            return Err(Failure::protects_data(format!(
                "{} is the data of volume {}: name another with --backing",
                paths.data.display(),
                other.record.name
            )));
        }
        // From here on a data file is taken for ours, and goes if this is undone.
        if paths.data.exists() && !is_block_device(&paths.data) {
            return Err(Failure::protects_data(format!(
                "{} exists: move it away, or name another with --backing",
                paths.data.display()
            )));
        }
        self.registry.put(&plan.record)?;
        let creation = Creation {
            volume: plan.record.volume,
            name: name.clone(),
            size_bytes: plan.size_bytes,
            slot: plan.record.slot,
            replicas: plan.record.replicas(),
            generation: plan.generation,
            primary: plan.primary,
            thick: plan.record.thick,
        };
        let created = match plan.joins {
            None => Volume::create(&paths, &creation),
            Some(spent) => Volume::create_joining(&paths, &creation, spent),
        };
        if let Err(error) = created {
            self.registry.remove(&plan.record, false)?;
            return Err(error.into());
        }
        self.host(plan.record.clone());
        Ok(())
    }

    /// Makes a prepared replica a replica. May be called again.
    pub(crate) fn commit(&self, volume: VolumeId) -> Result<(), Failure> {
        let _changes = lock(&self.changes);
        let Some(hosted) = self.with_id(volume) else {
            return Err(Failure::not_found(format!(
                "volume {volume} has not been prepared here"
            )));
        };
        if let Phase::Prepared { .. } = hosted.record.phase {
            let ready = Record {
                phase: Phase::Ready,
                ..hosted.record.clone()
            };
            self.registry.put(&ready)?;
            self.host(ready);
        }
        Ok(())
    }

    /// Lets a prepared replica vanish. May be called again; one that is ready stays.
    pub(crate) fn abort(&self, volume: VolumeId) -> Result<(), Failure> {
        let _changes = lock(&self.changes);
        let Some(hosted) = self.with_id(volume) else {
            return Ok(());
        };
        if let Phase::Prepared { .. } = hosted.record.phase {
            // A block device was there before, and is left as it is.
            self.registry.remove(&hosted.record, false)?;
            lock(&self.hosted).remove(&hosted.record.name);
        }
        Ok(())
    }

    /// Stops a replica and removes it. May be called again.
    pub(crate) fn remove(
        &self,
        volume: VolumeId,
        keep_data: bool,
    ) -> Result<Option<Incident>, Failure> {
        let _changes = lock(&self.changes);
        let Some(hosted) = self.with_id(volume) else {
            return Ok(None);
        };
        let stopped = hosted.stop("it is being removed");
        if let Err(failure) = stopped {
            tracing::warn!(
                "volume {}: stopping it for its removal: {failure}",
                hosted.record.name
            );
        }
        self.registry.remove(&hosted.record, keep_data)?;
        lock(&self.hosted).remove(&hosted.record.name);
        Ok(Some(Incident::Removed(hosted.record.name.clone())))
    }

    /// Extends a replica's files, so that the volume can grow. If it does not, the next start undoes
    /// it.
    pub(crate) fn extend(&self, volume: VolumeId, size_bytes: u64) -> Result<(), Failure> {
        let _changes = lock(&self.changes);
        let hosted = self.with_id(volume).ok_or_else(|| no_replica(volume))?;
        Ok(Volume::extend(
            &self.registry.paths(&hosted.record),
            size_bytes,
        )?)
    }

    /// Makes new metadata for a replica's data file, and opens the replica.
    pub(crate) fn adopt(&self, volume: VolumeId, only_copy: bool) -> Result<Arc<Hosted>, Failure> {
        let _changes = lock(&self.changes);
        let hosted = self.with_id(volume).ok_or_else(|| no_replica(volume))?;
        if hosted.closed().is_none() {
            return Err(Failure::failed(format!(
                "volume {} is open, its metadata is there: nothing to adopt",
                hosted.record.name
            )));
        }
        let paths = self.registry.paths(&hosted.record);
        let doing = || format!("cannot read {}", paths.data.display());
        let mut file = std::fs::File::open(&paths.data).context(doing)?;
        let creation = Creation {
            volume,
            name: hosted.record.name.clone(),
            // Of a device, only its end tells its size.
            size_bytes: file.seek(SeekFrom::End(0)).context(doing)?,
            slot: hosted.record.slot,
            replicas: hosted.record.replicas(),
            generation: Generation(crate::hexadecimal::random()?),
            primary: hosted.record.slot,
            thick: false,
        };
        drop(file);
        Volume::adopt(
            &paths,
            &creation,
            only_copy || hosted.record.members.len() == 1,
        )?;
        Ok(self.host(hosted.record.clone()))
    }

    /// Stops all replicas, side by side: each waits for its own disk and peers.
    pub(crate) fn stop_all(&self) {
        // Held to the end, so that nothing is opened any more.
        let _changes = lock(&self.changes);
        let all = self.all();
        std::thread::scope(|scope| {
            for hosted in &all {
                scope.spawn(move || {
                    if let Err(failure) = hosted.stop("the daemon stops") {
                        tracing::warn!("volume {}: {failure}", hosted.record.name);
                    }
                });
            }
        });
    }
}

fn no_replica(volume: VolumeId) -> Failure {
    Failure::not_found(format!("there is no replica of volume {volume} here"))
}

fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half changed by a panic: every change is one assignment or insertion.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
