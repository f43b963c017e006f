//! etcd's JSON gateway: HTTP requests whose keys and values are base64, and whose numbers are texts.

use crate::config::EtcdSettings;
use crate::failure::{Context, Failure};
use crate::key;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// The longest answer that is read: one entry and what etcd says of itself take a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// gRPC's number for "you have not said who you are", by which etcd refuses a token that has expired.
const UNAUTHENTICATED: u32 = 16;
/// The port of an endpoint that names none.
const PORT: u16 = 2379;

/// Where a member of the cluster is asked.
pub(super) struct Endpoint {
    text: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    /// The endpoint of a URL.
    pub(super) fn parse(text: &str, tls: Option<&TlsConnector>) -> Result<Endpoint, Failure> {
        let wrong = |why: &str| Failure::failed(format!("`{text}` is no endpoint: {why}"));
        let uri: hyper::Uri = text
            .parse()
            .map_err(|_| wrong("write http://HOST:2379 or https://HOST:2379"))?;
        let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
        if uri.path() != "/" && !uri.path().is_empty() {
            return Err(wrong("leave the path away"));
        }
        let tls = match (uri.scheme_str(), tls) {
            (Some("http"), _) => None,
            (Some("https"), Some(connector)) => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name =
                    name.map_err(|_| wrong("its host has no name that a certificate could have"))?;
                Some((connector.clone(), name))
            }
            (Some("https"), None) => return Err(wrong("https needs ca_file")),
            _ => return Err(wrong("it begins with neither http:// nor https://")),
        };
        Ok(Endpoint {
            text: text.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(PORT),
            tls,
        })
    }

    /// Connects to it.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let doing = || "cannot connect".to_owned();
        let address = format!("{}:{}", self.host, self.port);
        let stream = TcpStream::connect(&address).await.context(doing)?;
        stream.set_nodelay(true).context(doing)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), stream).await;
                Box::new(secured.context(|| "cannot agree on TLS".to_owned())?)
            }
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .context(doing)?;
        // It ends with the sender, or with etcd; the latter is seen at the next request.
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            host: address,
            token: None,
            denied: false,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who is to be believed to be whom. It has no way to be printed.
pub(super) struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Those that the settings name, with the password from its file.
    pub(super) fn read(settings: &EtcdSettings) -> Result<Option<Credentials>, Failure> {
        let (Some(user), Some(file)) = (&settings.user, &settings.password_file) else {
            return Ok(None);
        };
        Ok(Some(Credentials {
            user: user.clone(),
            password: key::read_secret(file)?,
        }))
    }
}

/// A connection to one member.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: Option<String>,
    denied: bool,
}

/// What a key holds.
pub(super) struct Found {
    /// Its value.
    pub(super) value: Vec<u8>,
    /// The revision of its last change.
    pub(super) revision: i64,
}

#[derive(Serialize)]
struct Range<'a> {
    key: &'a str,
}

#[derive(Deserialize)]
struct RangeAnswer {
    // What is empty or zero is left out.
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    mod_revision: String,
    #[serde(default)]
    value: String,
}

#[derive(Serialize)]
struct Transaction<'a> {
    compare: [Compare<'a>; 1],
    success: [Operation<'a>; 1],
}

#[derive(Serialize)]
struct Compare<'a> {
    key: &'a str,
    target: &'static str,
    result: &'static str,
    mod_revision: String,
}

#[derive(Serialize)]
struct Operation<'a> {
    request_put: Put<'a>,
}

#[derive(Serialize)]
struct Put<'a> {
    key: &'a str,
    value: String,
}

#[derive(Deserialize)]
struct TransactionAnswer {
    #[serde(default)]
    succeeded: bool,
}

#[derive(Serialize)]
struct Authenticate<'a> {
    name: &'a str,
    password: &'a str,
}

#[derive(Deserialize)]
struct AuthenticateAnswer {
    token: String,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: u32,
}

impl Connection {
    /// What the key holds now: a linearizable read.
    pub(super) async fn read(&mut self, key: &str) -> Result<Option<Found>, Failure> {
        let key = STANDARD.encode(key);
        let answer: RangeAnswer = self.call("/v3/kv/range", &Range { key: &key }).await?;
        let Some(found) = answer.kvs.into_iter().next() else {
            return Ok(None);
        };
        let foreign = || "it gives an answer that is not etcd's".to_owned();
        Ok(Some(Found {
            value: STANDARD.decode(found.value).context(foreign)?,
            revision: found.mod_revision.parse().context(foreign)?,
        }))
    }

    /// Gives the key a value if its last change still is the one of this revision; 0 stands for a key that there is
    /// not. Tells whether it has.
    pub(super) async fn swap(
        &mut self,
        key: &str,
        revision: i64,
        value: &[u8],
    ) -> Result<bool, Failure> {
        let key = STANDARD.encode(key);
        let transaction = Transaction {
            compare: [Compare {
                key: &key,
                target: "MOD",
                result: "EQUAL",
                mod_revision: revision.to_string(),
            }],
            success: [Operation {
                request_put: Put {
                    key: &key,
                    value: STANDARD.encode(value),
                },
            }],
        };
        let answer: TransactionAnswer = self.call("/v3/kv/txn", &transaction).await?;
        Ok(answer.succeeded)
    }

    /// A token for whoever has these.
    pub(super) async fn authenticate(
        &mut self,
        credentials: &Credentials,
    ) -> Result<String, Failure> {
        self.token = None;
        let request = Authenticate {
            name: &credentials.user,
            password: &credentials.password,
        };
        let answer: AuthenticateAnswer = self.call("/v3/auth/authenticate", &request).await?;
        Ok(answer.token)
    }

    /// Shows this token from now on.
    pub(super) fn use_token(&mut self, token: String) {
        self.token = Some(token);
    }

    /// Whether the last request was refused because of its token.
    pub(super) fn is_denied(&self) -> bool {
        self.denied && self.token.is_some()
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let doing = || "no answer".to_owned();
        self.denied = false;
        let text = serde_json::to_vec(body).context(doing)?;
        let mut request = hyper::Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Full::new(Bytes::from(text))).context(doing)?;
        self.sender.ready().await.context(doing)?;
        let response = self.sender.send_request(request).await.context(doing)?;
        let status = response.status();
        let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Failure::failed(format!("{}: {error}", doing())))?;
        let text = collected.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&text)
                .context(|| "it gives an answer that is not etcd's".to_owned());
        }
        let error = serde_json::from_slice::<ErrorAnswer>(&text).ok();
        self.denied = error
            .as_ref()
            .is_some_and(|error| error.code == UNAUTHENTICATED);
        let reason = error.map_or_else(String::new, |error| error.error);
        Err(Failure::failed(format!("it refuses: {status} {reason}")))
    }
}
