//! HTTP for those who only look: health for load balancers, metrics for Prometheus.
//!
//! ```text
//! GET /health/NAME    200 where this node serves the volume; 503 and one line why where it does not; 404
//! GET /metrics        Prometheus's text
//! ```
//!
//! It changes nothing, and whoever asks too much or too slowly holds up only others who look.

use crate::daemon::Daemon;
use crate::{duty, metrics};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long one may take for its one request.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Within this much of it the request must have come.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// The longest head of a request.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// How long the listener rests when the process is out of descriptors, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What Prometheus wants its text called.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Looker {
    daemon: Arc<Daemon>,
    // One collection at a time, whoever asks: each wakes every replica.
    collecting: Mutex<()>,
}

/// Answers for as long as the daemon runs.
pub(crate) async fn serve(daemon: Arc<Daemon>, listener: TcpListener) {
    let looker = Arc::new(Looker {
        daemon,
        collecting: Mutex::default(),
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let looker = looker.clone();
                tokio::spawn(async move {
                    // Whoever is cut off or goes away may ask again.
                    let _ = timeout(CONNECTION_TIME_MAX, converse(looker, stream)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept an HTTP connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(looker: Arc<Looker>, stream: TcpStream) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let looker = looker.clone();
        async move { Ok::<_, Infallible>(looker.answer(&request).await) }
    });
    // A connection that is kept would hold its place while nothing is asked.
    http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME_MAX)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Looker {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return line(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here");
        }
        let path = request.uri().path();
        if path == "/metrics" {
            return self.metrics().await;
        }
        match path.strip_prefix("/health/") {
            Some(name) => self.health(name).await,
            None => line(
                StatusCode::NOT_FOUND,
                "there are /health/VOLUME and /metrics",
            ),
        }
    }

    async fn health(&self, name: &str) -> Response<Full<Bytes>> {
        let hosted = match self.daemon.volumes.named(name) {
            Ok(hosted) => hosted,
            Err(failure) => return line(StatusCode::NOT_FOUND, &failure.message),
        };
        match duty::serving(&self.daemon.show(&hosted).await) {
            Ok(()) => line(StatusCode::OK, "this node is the primary"),
            Err(reason) => line(StatusCode::SERVICE_UNAVAILABLE, &reason),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let _alone = self.collecting.lock().await;
        let volumes = self.daemon.show_all().await;
        match metrics::text(&self.daemon.show_nodes(), &volumes) {
            Ok(text) => Response::builder()
                .header(header::CONTENT_TYPE, METRICS_TYPE)
                .body(Full::from(text))
                .unwrap_or_default(),
            Err(error) => line(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

fn line(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
