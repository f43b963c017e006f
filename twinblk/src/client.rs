//! The asking end of the admin API.

use crate::api::{
    Action, ArbiterRequest, ArbiterView, CreateRequest, Drained, ExportView, NodeAction, NodeView,
    Outcome, VolumeView,
};
use crate::duty::DutyView;
use crate::failure::{Context, Failure};
use crate::hook_report::HookReport;
use format::types::Name;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A daemon, by its admin socket.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon that listens there.
    pub(crate) fn new(socket: PathBuf) -> Client {
        Client { socket }
    }

    /// Every node.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeView>, Failure> {
        self.call(Method::GET, "/v1/nodes", None::<&()>).await
    }

    /// Does something to a node.
    pub(crate) async fn act_on_node(
        &self,
        name: &str,
        action: NodeAction,
    ) -> Result<Drained, Failure> {
        let name = checked_name(name)?;
        self.call(Method::POST, &format!("/v1/nodes/{name}"), Some(&action))
            .await
    }

    /// Every volume.
    pub(crate) async fn volumes(&self) -> Result<Vec<VolumeView>, Failure> {
        self.call(Method::GET, "/v1/volumes", None::<&()>).await
    }

    /// One volume.
    pub(crate) async fn volume(&self, name: &str) -> Result<VolumeView, Failure> {
        self.call(Method::GET, &volume_path(name)?, None::<&()>)
            .await
    }

    /// Creates a volume.
    pub(crate) async fn create(&self, request: &CreateRequest) -> Result<Outcome, Failure> {
        self.call(Method::POST, "/v1/volumes", Some(request)).await
    }

    /// Does something to a volume.
    pub(crate) async fn act(&self, name: &str, action: &Action) -> Result<Outcome, Failure> {
        self.call(Method::POST, &volume_path(name)?, Some(action))
            .await
    }

    /// Has a replica of the daemon's node closed, so that it can be read for as long as the lines are held; and what can be
    /// read.
    pub(crate) async fn export(
        &self,
        name: &str,
        allow_one_copy: bool,
    ) -> Result<(ExportView, Lines<'_>), Failure> {
        let path = volume_path(name)?;
        let mut lines = self
            .lines(&format!("{path}/export?allow_one_copy={allow_one_copy}"))
            .await?;
        let first = lines.next().await?;
        let first = first.ok_or_else(|| Failure::failed(self.broken()))?;
        let view = serde_json::from_str(&first).context(|| self.broken())?;
        Ok((view, lines))
    }

    /// The arbiter.
    pub(crate) async fn arbiter(&self) -> Result<ArbiterView, Failure> {
        self.call(Method::GET, "/v1/arbiter", None::<&()>).await
    }

    /// Sets the arbiter.
    pub(crate) async fn set_arbiter(&self, request: &ArbiterRequest) -> Result<Outcome, Failure> {
        self.call(Method::POST, "/v1/arbiter", Some(request)).await
    }

    /// The events after this one, each a line that is an [`EventView`](crate::event_log::EventView); with `follow` it
    /// does not end with the last.
    pub(crate) async fn events(&self, after: u64, follow: bool) -> Result<Lines<'_>, Failure> {
        self.lines(&format!("/v1/events?after={after}&follow={follow}"))
            .await
    }

    /// Shows the node's duties to `hear`, now and whenever they have changed, and in between that the daemon lives; until
    /// it has been silent for so long, or has gone.
    pub(crate) async fn duties(
        &self,
        silence_max: Duration,
        mut hear: impl FnMut(Option<Vec<DutyView>>),
    ) -> Result<(), Failure> {
        let silent = || Failure::failed(format!("{}, for {silence_max:?}", self.broken()));
        let opening = timeout(silence_max, self.lines("/v1/duties"));
        let mut lines = opening.await.map_err(|_| silent())??;
        loop {
            let next = timeout(silence_max, lines.next()).await;
            let Some(line) = next.map_err(|_| silent())?? else {
                return Err(Failure::failed(self.broken()));
            };
            if line.is_empty() {
                hear(None);
            } else {
                hear(Some(serde_json::from_str(&line).context(|| self.broken())?));
            }
        }
    }

    /// Tells what became of a hook.
    pub(crate) async fn report_hook(&self, report: &HookReport) -> Result<(), Failure> {
        self.call(Method::POST, "/v1/hooks", Some(report)).await
    }

    async fn lines(&self, path: &str) -> Result<Lines<'_>, Failure> {
        let response = self.send(Method::GET, path, None::<&()>).await?;
        Ok(Lines {
            client: self,
            body: response.into_body(),
            text: Vec::new(),
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let response = self.send(method, path, body).await?;
        let collected = response
            .into_body()
            .collect()
            .await
            .context(|| self.broken())?;
        serde_json::from_slice(&collected.to_bytes()).context(|| self.broken())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, Failure> {
        let shown = self.socket.display();
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Failure::failed(format!(
                "no daemon answers on {shown} ({error}): start `twinblk serve`, or name its socket with \
                 --admin"
            ))
        })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.context(|| self.broken())?;
        // It ends with the response or with the daemon; either is seen below.
        tokio::spawn(connection);
        let text = body
            .map(serde_json::to_vec)
            .transpose()
            .context(|| self.broken())?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "twinblk")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(text.unwrap_or_default())))
            .context(|| self.broken())?;
        let response = sender
            .send_request(request)
            .await
            .context(|| self.broken())?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let collected = response
            .into_body()
            .collect()
            .await
            .context(|| self.broken())?
            .to_bytes();
        Err(serde_json::from_slice(&collected).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&collected);
            Failure::failed(format!("{}: {status} {text}", self.broken()))
        }))
    }

    fn broken(&self) -> String {
        format!("the daemon on {} gave no answer", self.socket.display())
    }
}

/// Documents that come one a line.
pub(crate) struct Lines<'a> {
    client: &'a Client,
    body: Incoming,
    text: Vec<u8>,
}

impl Lines<'_> {
    /// The next; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.context(|| self.client.broken())?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            self.text.extend_from_slice(data);
        }
    }
}

/// A name that is none must not become another path.
fn volume_path(name: &str) -> Result<String, Failure> {
    Ok(format!("/v1/volumes/{}", checked_name(name)?))
}

fn checked_name(name: &str) -> Result<Name, Failure> {
    Name::new(name).ok_or_else(|| Failure::usage(crate::config::name_complaint(name)))
}
