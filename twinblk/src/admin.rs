//! The admin API: HTTP and JSON on a unix socket.
//!
//! ```text
//! GET  /v1/nodes                          [NodeView]
//! POST /v1/nodes/NAME           NodeAction -> Drained
//! GET  /v1/volumes                        [VolumeView]
//! POST /v1/volumes            CreateRequest -> Outcome
//! GET  /v1/volumes/NAME                   VolumeView
//! POST /v1/volumes/NAME              Action -> Outcome
//! GET  /v1/volumes/NAME/export?allow_one_copy=BOOL    ExportView; then empty lines, while the connection lasts the export
//! GET  /v1/arbiter                        ArbiterView
//! POST /v1/arbiter           ArbiterRequest -> Outcome
//! GET  /v1/events?after=ID&follow=BOOL    EventView, one a line
//! GET  /v1/duties                         [DutyView], one list a line, whenever one has changed; else empty lines
//! POST /v1/hooks              HookReport -> null
//! ```
//!
//! What was not done is answered with a [`Failure`].

use crate::api::{
    Action, ArbiterRequest, ArbiterView, CreateRequest, Drained, NodeAction, NodeView, Outcome,
    VolumeView,
};
use crate::daemon::Daemon;
use crate::duty::DutyView;
use crate::failure::{Context, Failure, FailureKind};
use crate::hook_report::HookReport;
use crate::{actions, arbitrate};
use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::channel::{Channel, Sender};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Events that are read ahead of a slow reader.
const LINES_AHEAD: usize = 16;
/// Those who follow duties are told this often that the daemon lives: well within the shortest `[hooks] hold_s`.
const DUTIES_PERIOD: Duration = Duration::from_millis(250);
/// Those who export a volume are told this often that it still can be read.
const EXPORT_PERIOD: Duration = Duration::from_millis(500);
/// Who may use the admin socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.kind {
            FailureKind::Usage => StatusCode::BAD_REQUEST,
            FailureKind::NotFound => StatusCode::NOT_FOUND,
            FailureKind::Failed => StatusCode::CONFLICT,
            FailureKind::ProtectsData => StatusCode::PRECONDITION_FAILED,
        };
        (status, Json(self)).into_response()
    }
}

/// Begins to listen, in the place of a daemon that was killed.
pub(crate) async fn bind(path: &std::path::Path) -> Result<UnixListener, Failure> {
    let doing = || format!("cannot listen on {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).context(doing)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Failure::failed(format!(
                "{}: it exists and is no socket",
                doing()
            )));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(Failure::failed(format!(
                "{}: another process does",
                doing()
            )));
        }
        Ok(_) => std::fs::remove_file(path).context(doing)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).context(doing)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(SOCKET_MODE)).context(doing)?;
    Ok(listener)
}

/// Serves until `stop` turns true.
pub(crate) async fn serve(
    daemon: Arc<Daemon>,
    listener: UnixListener,
    mut stop: watch::Receiver<bool>,
) {
    let routes = Router::new()
        .route("/v1/nodes", get(nodes))
        .route("/v1/nodes/{name}", post(act_on_node))
        .route("/v1/volumes", get(volumes).post(create))
        .route("/v1/volumes/{name}", get(volume).post(act))
        .route("/v1/volumes/{name}/export", get(export))
        .route("/v1/arbiter", get(arbiter).post(set_arbiter))
        .route("/v1/events", get(events))
        .route("/v1/duties", get(duties))
        .route("/v1/hooks", post(hook))
        .with_state(daemon);
    let served = async { axum::serve(listener, routes).await };
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::error!("the admin socket has failed: {error}");
        },
        _ = stop.wait_for(|stopped| *stopped) => {}
    }
}

async fn nodes(State(daemon): State<Arc<Daemon>>) -> Json<Vec<NodeView>> {
    Json(actions::show_nodes(&daemon).await)
}

async fn act_on_node(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    action: Result<Json<NodeAction>, JsonRejection>,
) -> Result<Json<Drained>, Failure> {
    let Json(action) = action.map_err(|rejection| Failure::usage(rejection.body_text()))?;
    to_its_end(async move { actions::act_on_node(&daemon, &name, action).await })
        .await
        .map(Json)
}

async fn volumes(State(daemon): State<Arc<Daemon>>) -> Json<Vec<VolumeView>> {
    Json(daemon.show_all().await)
}

async fn volume(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Result<Json<VolumeView>, Failure> {
    let hosted = daemon.volumes.named(&name)?;
    Ok(Json(daemon.show(&hosted).await))
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    request: Result<Json<CreateRequest>, JsonRejection>,
) -> Result<Json<Outcome>, Failure> {
    let Json(request) = request.map_err(|rejection| Failure::usage(rejection.body_text()))?;
    to_its_end(async move { actions::create(&daemon, request).await })
        .await
        .map(Json)
}

async fn act(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    action: Result<Json<Action>, JsonRejection>,
) -> Result<Json<Outcome>, Failure> {
    let Json(action) = action.map_err(|rejection| Failure::usage(rejection.body_text()))?;
    let hosted = daemon.volumes.named(&name)?;
    to_its_end(async move { actions::act(&daemon, &hosted, action, false).await })
        .await
        .map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    #[serde(default)]
    allow_one_copy: bool,
}

/// The replica can be read until whoever asked has gone.
async fn export(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Failure> {
    let hosted = daemon.volumes.named(&name)?;
    let (mut sender, body) = Channel::<Bytes>::new(LINES_AHEAD);
    to_its_end(async move {
        let view = actions::begin_export(&daemon, &hosted, query.allow_one_copy).await?;
        tokio::spawn(async move {
            let mut next = line(&view);
            while let Some(line) = next.take()
                && sender.send_data(line).await.is_ok()
            {
                sleep(EXPORT_PERIOD).await;
                next = Some(Bytes::from_static(b"\n"));
            }
            if let Err(failure) = actions::end_export(&daemon, &hosted).await {
                tracing::error!("volume {name} stays closed after its export: {failure}");
            }
        });
        Ok(())
    })
    .await?;
    Ok(lines(body))
}

async fn arbiter(State(daemon): State<Arc<Daemon>>) -> Json<ArbiterView> {
    Json(arbitrate::show(&daemon).await)
}

async fn set_arbiter(
    State(daemon): State<Arc<Daemon>>,
    request: Result<Json<ArbiterRequest>, JsonRejection>,
) -> Result<Json<Outcome>, Failure> {
    let Json(request) = request.map_err(|rejection| Failure::usage(rejection.body_text()))?;
    to_its_end(async move { arbitrate::set(&daemon, request).await })
        .await
        .map(Json)
}

/// What has begun is not cut short because the one who typed it has gone.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(work)
        .await
        .context(|| "the work has been cut short".to_owned())?
}

async fn hook(
    State(daemon): State<Arc<Daemon>>,
    report: Result<Json<HookReport>, JsonRejection>,
) -> Result<Json<()>, Failure> {
    let Json(report) = report.map_err(|rejection| Failure::usage(rejection.body_text()))?;
    daemon.events.push(report.happening()?);
    Ok(Json(()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    follow: bool,
}

async fn events(State(daemon): State<Arc<Daemon>>, Query(query): Query<EventsQuery>) -> Response {
    let (sender, body) = Channel::<Bytes>::new(LINES_AHEAD);
    tokio::spawn(send_events(daemon, query, sender));
    lines(body)
}

/// JSON documents, one a line, as they come.
fn lines(body: Channel<Bytes>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::new(body)).into_response()
}

/// A document as a line.
fn line(value: &impl Serialize) -> Option<Bytes> {
    let mut line = serde_json::to_vec(value).ok()?;
    line.push(b'\n');
    Some(line.into())
}

async fn duties(State(daemon): State<Arc<Daemon>>) -> Response {
    let (mut sender, body) = Channel::<Bytes>::new(LINES_AHEAD);
    tokio::spawn(async move {
        let mut duties = daemon.duties.follow();
        loop {
            let all: Vec<DutyView> = duties.borrow_and_update().values().cloned().collect();
            let Some(line) = line(&all) else { return };
            if sender.send_data(line).await.is_err() {
                return;
            }
            // The daemon has them for as long as it lives, and while nothing changes says that it does.
            while timeout(DUTIES_PERIOD, duties.changed()).await.is_err() {
                if sender.send_data(Bytes::from_static(b"\n")).await.is_err() {
                    return;
                }
            }
        }
    });
    lines(body)
}

/// Sends events, and where asked to waits for more until the reader has gone.
async fn send_events(daemon: Arc<Daemon>, query: EventsQuery, mut to: Sender<Bytes>) {
    let mut newest = daemon.events.follow();
    let mut after = query.after;
    loop {
        newest.mark_unchanged();
        for event in daemon.events.after(after) {
            after = event.id;
            let Some(line) = line(&event) else { return };
            if to.send_data(line).await.is_err() {
                return;
            }
        }
        if !query.follow || newest.changed().await.is_err() {
            return;
        }
    }
}
