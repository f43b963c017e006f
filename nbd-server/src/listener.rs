//! Accepts clients, sees them through their negotiation, and hands them over.

pub use crate::address::{Address, AddressError};
use crate::exports::{Client, Exports, Opened};
use crate::limits::{
    ACCEPT_PAUSE, BACKLOG, NEGOTIATION_DEADLINE, NEGOTIATIONS_MAX, SHUTDOWN_GRACE,
};
use crate::negotiation::{Decision, Negotiation};
use crate::session::NbdSession;
use bytes::BytesMut;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

/// Who may connect to the unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// Received at once: far more than a negotiation's usual step.
const RECEIVE_BYTES: usize = 4096;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else does.
    #[error("another process listens on {0}: stop it, or give this one another `nbd` address")]
    InUse(Address),
    /// The path is taken.
    #[error("{path} exists and is no socket: move it away, or choose another `nbd` address")]
    NotASocket {
        /// By this.
        path: PathBuf,
    },
    /// The system will not have it.
    #[error("cannot listen on {address}: {source}")]
    System {
        /// There.
        address: Address,
        /// For this reason.
        source: io::Error,
    },
}

/// A socket on which clients come in.
#[derive(Debug)]
pub struct Listener {
    socket: ListeningSocket,
}

#[derive(Debug)]
enum ListeningSocket {
    // The file goes before the socket is closed: a successor must never find its own file removed.
    Unix {
        _file: SocketFile,
        socket: UnixListener,
    },
    Tcp(TcpListener),
}

/// The file of a unix socket that listens.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            debug!(path = %self.0.display(), %error, "the socket's file was gone already");
        }
    }
}

impl Listener {
    /// Begins to listen.
    pub async fn bind(address: &Address) -> Result<Listener, BindError> {
        let system = |source| BindError::System {
            address: address.clone(),
            source,
        };
        let socket = match address {
            Address::Unix(path) => {
                make_room(path, address).await?;
                let socket = listen_unix(path).map_err(system)?;
                ListeningSocket::Unix {
                    _file: SocketFile(path.clone()),
                    socket,
                }
            }
            Address::Tcp(host_and_port) => match TcpListener::bind(host_and_port).await {
                Ok(socket) => ListeningSocket::Tcp(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(BindError::InUse(address.clone()));
                }
                Err(error) => return Err(system(error)),
            },
        };
        info!(%address, "listening for NBD clients");
        Ok(Listener { socket })
    }

    /// The TCP port, which the system has chosen if it was given as 0.
    pub fn tcp_port(&self) -> Option<u16> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => socket.local_addr().ok().map(|address| address.port()),
            ListeningSocket::Unix { .. } => None,
        }
    }

    /// Serves clients until `stop` turns true or its sender goes; then those that have not chosen an
    /// export are answered "shutting down" for a moment. Clients that were handed over are no longer its
    /// concern.
    pub async fn serve(self, exports: Arc<impl Exports>, stop: watch::Receiver<bool>) {
        self.serve_at_most(NEGOTIATIONS_MAX, exports, stop).await;
    }

    async fn serve_at_most(
        self,
        negotiations_max: usize,
        exports: Arc<impl Exports>,
        stop: watch::Receiver<bool>,
    ) {
        let mut stopped = stop.clone();
        let mut negotiations = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                _ = negotiations.join_next(), if !negotiations.is_empty() => continue,
                accepted = self.accept(), if negotiations.len() < negotiations_max => accepted,
            };
            let (exports, stop) = (Arc::clone(&exports), stop.clone());
            match accepted {
                Ok(Accepted::Unix(stream)) => {
                    negotiations.spawn(serve_client(stream, exports, stop))
                }
                Ok(Accepted::Tcp(stream)) => {
                    negotiations.spawn(serve_client(stream, exports, stop))
                }
                Err(error) => {
                    warn!(%error, "cannot accept an NBD client");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
        }
        drop(self);
        let all = async { while negotiations.join_next().await.is_some() {} };
        if timeout(2 * SHUTDOWN_GRACE, all).await.is_err() {
            debug!("NBD clients that still waited for their export are cut off");
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            ListeningSocket::Unix { socket, .. } => socket
                .accept()
                .await
                .map(|(stream, _)| Accepted::Unix(stream)),
            ListeningSocket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                // Replies are sent in batches already: waiting for more only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "the client has gone again");
                }
                Ok(Accepted::Tcp(stream))
            }
        }
    }
}

enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Removes the file that a killed server has left behind.
async fn make_room(path: &Path, address: &Address) -> Result<(), BindError> {
    let system = |source| BindError::System {
        address: address.clone(),
        source,
    };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(BindError::InUse(address.clone())),
        // It lives, and more clients wait for it than the kernel holds.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse(address.clone()))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(system)
        }
        Err(error) => Err(system(error)),
    }
}

/// Listens on a path; nobody can connect before its mode is set.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(BACKLOG)
}

/// A stream that can be handed over to who does not use this runtime.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Its socket, made to block: the ring waits by itself, and would be told to come again.
    fn into_blocking(self) -> io::Result<OwnedFd>;
}

impl Stream for UnixStream {
    fn into_blocking(self) -> io::Result<OwnedFd> {
        let stream = self.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream.into())
    }
}

impl Stream for TcpStream {
    fn into_blocking(self) -> io::Result<OwnedFd> {
        let stream = self.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream.into())
    }
}

async fn serve_client(
    stream: impl Stream,
    exports: Arc<impl Exports>,
    stop: watch::Receiver<bool>,
) {
    let mut connection = Connection {
        stream,
        input: BytesMut::new(),
        out: Vec::new(),
        deadline: Instant::now() + NEGOTIATION_DEADLINE,
        stop,
        stopping: false,
    };
    match connection.negotiate(&*exports).await {
        Ok((opened, session)) => {
            let received = connection.input.into();
            match connection.stream.into_blocking() {
                Ok(socket) => {
                    let session = Box::new(session);
                    (opened.attach)(Client {
                        socket,
                        received,
                        session,
                    });
                }
                Err(error) => warn!(%error, "cannot hand an NBD client over"),
            }
        }
        Err(Ended::Closed(reason)) => debug!(reason, "an NBD client has not chosen an export"),
        Err(Ended::Broken(error)) => debug!(%error, "an NBD client was lost in negotiation"),
    }
}

/// Why a client has no session.
enum Ended {
    /// The negotiation has ended it.
    Closed(&'static str),
    /// The connection broke.
    Broken(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Broken(error)
    }
}

const TOO_LATE: Ended = Ended::Closed("the client has taken too long");

/// A client in negotiation.
struct Connection<S> {
    stream: S,
    input: BytesMut,
    out: Vec<u8>,
    deadline: Instant,
    stop: watch::Receiver<bool>,
    stopping: bool,
}

impl<S: Stream> Connection<S> {
    async fn negotiate(&mut self, exports: &impl Exports) -> Result<(Opened, NbdSession), Ended> {
        let mut negotiation = Negotiation::new(&mut self.out);
        loop {
            // Before each step, so that a client that does not listen piles up no replies.
            self.send().await?;
            match negotiation.advance(&mut self.input, &mut self.out) {
                Decision::More => {
                    self.send().await?;
                    self.receive(&mut negotiation).await?;
                }
                Decision::List => negotiation.listed(&exports.list(), &mut self.out),
                Decision::Describe(question) => {
                    let answer = timeout_at(self.deadline, exports.info(question.export())).await;
                    let answer = answer.map_err(|_| TOO_LATE)?;
                    negotiation.described(question, answer, &mut self.out);
                }
                Decision::Open(question) => {
                    let began = Instant::now();
                    let answer = exports.open(question.export()).await;
                    self.deadline += began.elapsed();
                    if let Err(refusal) = &answer {
                        info!(export = question.export(), %refusal, "an NBD client is refused");
                    }
                    let info = answer
                        .as_ref()
                        .map(|opened| opened.info)
                        .map_err(Clone::clone);
                    let session = negotiation.opened(question, info, &mut self.out);
                    if let (Ok(opened), Some(session)) = (answer, session) {
                        self.send().await?;
                        return Ok((opened, session));
                    }
                }
                Decision::Close(reason) => {
                    self.send().await?;
                    return Err(Ended::Closed(reason));
                }
            }
        }
    }

    /// Sends what has gathered.
    async fn send(&mut self) -> Result<(), Ended> {
        let sent = timeout_at(self.deadline, self.stream.write_all(&self.out)).await;
        self.out.clear();
        Ok(sent.map_err(|_| TOO_LATE)??)
    }

    /// Receives something.
    async fn receive(&mut self, negotiation: &mut Negotiation) -> Result<(), Ended> {
        self.input.reserve(RECEIVE_BYTES);
        loop {
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stopped| *stopped), if !self.stopping => {
                    self.stopping = true;
                    negotiation.shut_down();
                    self.deadline = self.deadline.min(Instant::now() + SHUTDOWN_GRACE);
                }
                received = timeout_at(self.deadline, self.stream.read_buf(&mut self.input)) => {
                    return match received.map_err(|_| TOO_LATE)?? {
                        0 => Err(Ended::Closed("the client has hung up")),
                        _ => Ok(()),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
