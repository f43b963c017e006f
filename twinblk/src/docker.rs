//! `twinblk docker`: volumes for Docker, by its protocol for volume plugins.
//!
//! ```text
//!   dockerd --- unix socket ---> protocol --> plugin --- admin socket ---> daemon: which volumes there are, and where
//!                                               |
//!                                            mounting --> machine: devices, file systems, mounts
//! ```
//!
//! It is root's, and a client of the daemon like any other. Devices are served by processes of their own (`attach`), and
//! mounts are the kernel's: both outlive it.

mod machine;
mod mounting;
mod notes;
mod options;
mod plugin;
mod protocol;

use crate::admin;
use crate::attach::Devices;
use crate::client::Client;
use crate::config::Config;
use crate::failure::{Context, Failure, FailureKind};
use crate::logging::{self, tell_service_manager};
use crate::state_folder;
use crate::watchdog;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use axum::serve::IncomingStream;
use machine::Linux;
use mounting::Mounting;
use notes::Notes;
use protocol::{Answer, Creating, Named, read, response};
use serde_json::json;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{RwLock, oneshot};
use tokio::time::timeout;

/// How long what has begun may still take when the plugin is told to stop. What takes longer is taken up by the next.
const LAST_WORK: Duration = Duration::from_secs(45);

/// How long one that was killed may be in the way.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LOCK_PERIOD: Duration = Duration::from_millis(20);

type Plugin = plugin::Plugin<Linux>;

/// What requests are answered by.
#[derive(Clone)]
struct Desk {
    plugin: Arc<Plugin>,
    // Held by whatever is being done.
    work: Arc<RwLock<()>>,
}

/// The connection of whoever asks.
#[derive(Clone)]
struct Caller(Option<Arc<OwnedFd>>);

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Caller {
        let own = stream.io().as_fd().try_clone_to_owned();
        Caller(own.ok().map(Arc::new))
    }
}

impl Caller {
    /// Whatever is answered does not arrive.
    fn hang_up(&self) {
        if let Some(connection) = &self.0 {
            // An error means that it has gone already.
            let _ = rustix::net::shutdown(connection, rustix::net::Shutdown::Both);
        }
    }
}

/// Serves Docker until it is told to stop. `admin` is the daemon's socket, where the configuration's is not meant.
pub(crate) fn run(admin: Option<PathBuf>, config: &Path) -> Result<(), Failure> {
    logging::begin();
    let passed = passed_listener()?;
    let settings = Config::read(config)?;
    let devices = Devices::new(admin.clone(), config)?;
    let client = Client::new(admin.unwrap_or_else(|| settings.admin.clone()));
    let docker = settings.docker;
    let notes = Notes::open(&docker.state_dir)?;
    let _alone = alone(&docker.state_dir)?;
    let run_dir = &docker.run_dir;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir);
    made.context(|| format!("cannot make {}", run_dir.display()))?;
    // As mounts are listed.
    let run_dir = run_dir
        .canonicalize()
        .context(|| format!("cannot find {}", run_dir.display()))?;
    let mounting = Mounting::new(Linux(devices), notes, run_dir);
    let plugin = Arc::new(Plugin::new(client, mounting));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context(|| "cannot start".to_owned())?;
    let served = runtime.block_on(serve(plugin, passed, &docker.socket));
    // What still waits for a disk is the kernel's.
    runtime.shutdown_background();
    served
}

/// Keeps a second plugin away. A program that one was just starting when it was killed holds the lock for a moment more.
fn alone(folder: &Path) -> Result<File, Failure> {
    let begun = Instant::now();
    loop {
        match state_folder::lock(folder) {
            Err(failure) if failure.kind == FailureKind::ProtectsData => {
                if begun.elapsed() > LOCK_TIME {
                    return Err(failure);
                }
            }
            locked => return locked,
        }
        std::thread::sleep(LOCK_PERIOD);
    }
}

/// The socket that the service manager listens on for us.
fn passed_listener() -> Result<Option<std::os::unix::net::UnixListener>, Failure> {
    let doing = || "cannot listen on the socket that was passed".to_owned();
    let listener = listenfd::ListenFd::from_env()
        .take_unix_listener(0)
        .context(doing)?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true).context(doing)?;
    }
    Ok(listener)
}

async fn serve(
    plugin: Arc<Plugin>,
    passed: Option<std::os::unix::net::UnixListener>,
    socket: &Path,
) -> Result<(), Failure> {
    let doing = || "cannot listen to signals".to_owned();
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    plugin.begin().await?;
    let own = passed.is_none();
    let listener = match passed {
        Some(listener) => {
            UnixListener::from_std(listener).context(|| "cannot listen".to_owned())?
        }
        None => admin::bind(socket).await?,
    };
    let work = Arc::new(RwLock::new(()));
    let desk = Desk {
        plugin,
        work: work.clone(),
    };
    let routes = routes(desk).into_make_service_with_connect_info::<Caller>();
    tracing::info!("Docker is served on {}", socket.display());
    watchdog::ready();
    tokio::select! {
        served = async { axum::serve(listener, routes).await } => {
            served.context(|| format!("{} has failed", socket.display()))?;
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tell_service_manager(&[sd_notify::NotifyState::Stopping]);
    if timeout(LAST_WORK, work.write()).await.is_err() {
        tracing::warn!("what takes longer than {LAST_WORK:?} is left to the next start");
    }
    if own {
        // Docker waits for long for somebody to listen on one that is there.
        let _ = std::fs::remove_file(socket);
    }
    Ok(())
}

/// Every handler takes the body, also where it says nothing: who is answered earlier may not have sent it yet.
fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/Plugin.Activate", post(activate))
        .route("/VolumeDriver.Capabilities", post(capabilities))
        .route("/VolumeDriver.Create", post(create))
        .route("/VolumeDriver.Remove", post(remove))
        .route("/VolumeDriver.Mount", post(mount))
        .route("/VolumeDriver.Unmount", post(unmount))
        .route("/VolumeDriver.Path", post(path))
        .route("/VolumeDriver.Get", post(get))
        .route("/VolumeDriver.List", post(list))
        .method_not_allowed_fallback(only_post)
        .fallback(unknown)
        .with_state(desk)
}

async fn only_post(_: Bytes) -> Response {
    let failure = Failure::usage("volume plugins are asked by POST");
    response(Err(failure), StatusCode::METHOD_NOT_ALLOWED)
}

async fn unknown(_: Bytes) -> Response {
    let failure =
        Failure::usage("this is a volume plugin: it has Plugin.Activate and VolumeDriver.*");
    response(Err(failure), StatusCode::NOT_FOUND)
}

async fn activate(_: Bytes) -> Response {
    response(
        Ok(json!({ "Implements": ["VolumeDriver"] })),
        StatusCode::OK,
    )
}

/// Nodes list the volumes that they have a replica of, without those that were removed from Docker there: not the same.
async fn capabilities(_: Bytes) -> Response {
    response(
        Ok(json!({ "Capabilities": { "Scope": "local" } })),
        StatusCode::OK,
    )
}

impl Desk {
    /// Does it to its end, also when whoever has asked has gone, and answers.
    async fn answer(self, work: impl Future<Output = Answer> + Send + 'static) -> Response {
        let (tell, told) = oneshot::channel();
        self.spawn(async move {
            // Who has gone asks again.
            let _ = tell.send(work.await);
        });
        reply(told).await
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let busy = self.work.clone();
        tokio::spawn(async move {
            let _busy = busy.read().await;
            work.await;
        });
    }
}

async fn reply(told: oneshot::Receiver<Answer>) -> Response {
    let cut_short = || Err(Failure::failed("the plugin was cut short: see its log"));
    let answer = told.await.unwrap_or_else(|_| cut_short());
    if let Err(failure) = &answer {
        tracing::info!("refused: {failure}");
    }
    response(answer, StatusCode::OK)
}

/// What cannot be read is answered at once.
macro_rules! understood {
    ($read:expr) => {
        match $read {
            Ok(read) => read,
            Err(failure) => return response(Err(failure), StatusCode::BAD_REQUEST),
        }
    };
}

fn named(body: &Bytes) -> Result<format::types::Name, Failure> {
    read::<Named>(body)?.name()
}

fn mounting_of(body: &Bytes) -> Result<(format::types::Name, String), Failure> {
    let asked = read::<protocol::Mounting>(body)?;
    Ok((asked.name()?, asked.id()?))
}

async fn create(State(desk): State<Desk>, body: Bytes) -> Response {
    let asked: Creating = understood!(read(&body));
    let name = understood!(asked.name());
    let plugin = desk.plugin.clone();
    desk.answer(async move {
        plugin.create(name, &asked.options()).await?;
        Ok(json!({ "Err": "" }))
    })
    .await
}

async fn remove(State(desk): State<Desk>, body: Bytes) -> Response {
    let name = understood!(named(&body));
    let plugin = desk.plugin.clone();
    desk.answer(async move {
        plugin.remove(name).await?;
        Ok(json!({ "Err": "" }))
    })
    .await
}

/// Where whoever has asked has gone meanwhile, nobody would ever unmount it.
async fn mount(State(desk): State<Desk>, body: Bytes) -> Response {
    let (name, who) = understood!(mounting_of(&body));
    let plugin = desk.plugin.clone();
    let (tell, told) = oneshot::channel();
    desk.spawn(async move {
        let mounted = plugin.mount(name.clone(), who.clone()).await;
        let answer = mounted.map(|path| json!({ "Mountpoint": path, "Err": "" }));
        if let Err(Ok(_)) = tell.send(answer) {
            tracing::warn!("volume {name}: nobody waits for the mount any more");
            if let Err(failure) = plugin.unmount(name, who).await {
                tracing::warn!("{failure}");
            }
        }
    });
    reply(told).await
}

async fn unmount(State(desk): State<Desk>, body: Bytes) -> Response {
    let (name, who) = understood!(mounting_of(&body));
    let plugin = desk.plugin.clone();
    desk.answer(async move {
        plugin.unmount(name, who).await?;
        Ok(json!({ "Err": "" }))
    })
    .await
}

async fn path(State(desk): State<Desk>, body: Bytes) -> Response {
    let name = understood!(named(&body));
    let plugin = desk.plugin.clone();
    desk.answer(async move {
        let path = plugin.path(name).await?;
        Ok(json!({ "Mountpoint": path, "Err": "" }))
    })
    .await
}

/// Docker takes whatever it is answered without a volume for "there is none", and then makes an empty one of that name with
/// its own driver. So where nobody knows whether there is one it gets no answer: it asks again for a while, without the body
/// that it has sent already, and then gives up.
async fn get(
    State(desk): State<Desk>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Bytes,
) -> Response {
    if body.is_empty() {
        caller.hang_up();
    }
    let name = understood!(named(&body));
    let plugin = desk.plugin.clone();
    desk.answer(async move {
        let got = plugin.get(name).await;
        if let Err(failure) = &got
            && failure.kind != FailureKind::NotFound
        {
            caller.hang_up();
        }
        Ok(json!({ "Volume": got?, "Err": "" }))
    })
    .await
}

async fn list(State(desk): State<Desk>, _: Bytes) -> Response {
    let plugin = desk.plugin.clone();
    desk.answer(async move {
        let volumes = plugin.list().await?;
        Ok(json!({ "Volumes": volumes, "Err": "" }))
    })
    .await
}
