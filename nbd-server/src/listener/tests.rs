//! Real sockets, and real clients against volumes in memory.

mod clients;
mod memory;

use super::{Address, BindError, Listener};
use crate::codec::{OPTION_MAGIC, OptionHeader, option};
use crate::limits::{NEGOTIATION_DEADLINE, SHUTDOWN_GRACE};
use memory::Memory;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zerocopy::IntoBytes;

/// A server of volumes in memory on a unix socket.
struct Server {
    folder: TempDir,
    memory: Arc<Memory>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(negotiations_max: usize) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = Address::Unix(folder.path().join("nbd.sock"));
        let listener = Listener::bind(&address).await.expect("the path is free");
        let memory = Arc::new(Memory::new());
        let (stop, stopped) = watch::channel(false);
        let task =
            tokio::spawn(listener.serve_at_most(negotiations_max, Arc::clone(&memory), stopped));
        Server {
            folder,
            memory,
            stop,
            task,
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("nbd.sock")
    }

    /// Connects, reads the greeting and sets the flags of a modern client.
    async fn connect(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket())
            .await
            .expect("the server listens");
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        stream
            .write_all(&[0, 0, 0, 3])
            .await
            .expect("flags can be sent");
        stream
    }
}

fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("test options are short");
    let magic = OPTION_MAGIC.into();
    let header = OptionHeader {
        magic,
        option: option.into(),
        length: length.into(),
    };
    [header.as_bytes(), data].concat()
}

async fn bind(path: &Path) -> Result<Listener, BindError> {
    Listener::bind(&Address::Unix(path.to_owned())).await
}

#[test]
fn addresses_are_read_and_written() {
    for text in [
        "unix:/run/nbd.sock",
        "tcp:127.0.0.1:10809",
        "tcp:[::1]:0",
        "tcp:alpha:10809",
    ] {
        let address: Address = text.parse().expect("it is an address");
        assert_eq!(address.to_string(), text);
    }
    for text in [
        "",
        "unix:",
        "/run/nbd.sock",
        "tcp:alpha",
        "tcp::1",
        "tcp:alpha:x",
        "udp:a:1",
    ] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_goes_with_the_listener() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("nbd.sock");
    let listener = bind(&path).await.expect("the path is free");
    let mode = path
        .metadata()
        .expect("the socket is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dead_servers_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("nbd.sock");
    // A std listener leaves its file behind, as a killed server does.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("the path is free"));
    assert!(path.exists());
    let living = bind(&path).await.expect("nobody listens there");
    let refused = bind(&path).await;
    assert!(matches!(refused, Err(BindError::InUse(_))), "{refused:?}");
    assert!(path.exists());
    drop(living);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").expect("the folder is writable");
    let refused = bind(&path).await;
    assert!(
        matches!(refused, Err(BindError::NotASocket { .. })),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(&path).expect("it is still there"), b"data");
}

#[tokio::test]
async fn a_tcp_port_that_is_taken_is_refused() {
    let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".into()))
        .await
        .expect("any port");
    let port = listener.tcp_port().expect("it has one");
    let refused = Listener::bind(&Address::Tcp(format!("127.0.0.1:{port}"))).await;
    assert!(matches!(refused, Err(BindError::InUse(_))), "{refused:?}");
}

#[tokio::test]
async fn export_name_of_a_non_primary_is_answered_by_hanging_up() {
    let server = Server::start(8).await;
    let mut stream = server.connect().await;
    let bytes = option_bytes(option::EXPORT_NAME, b"away");
    stream.write_all(&bytes).await.expect("it can be sent");
    let mut reply = Vec::new();
    stream
        .read_to_end(&mut reply)
        .await
        .expect("an orderly end");
    assert!(reply.is_empty());
}

/// Time jumps forward whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn rule_13_who_does_not_choose_an_export_in_time_is_cut_off() {
    let server = Server::start(8).await;
    let began = Instant::now();
    let mut stream = server.connect().await;
    // Half an option, and all of a useless one now and then, gain no time.
    stream
        .write_all(&option_bytes(99, &[]))
        .await
        .expect("it can be sent");
    stream.write_all(b"IHAVE").await.expect("it can be sent");
    let mut reply = Vec::new();
    stream
        .read_to_end(&mut reply)
        .await
        .expect("an orderly end");
    assert!(!reply.is_empty());
    let waited = began.elapsed();
    assert!(
        waited >= NEGOTIATION_DEADLINE && waited < 2 * NEGOTIATION_DEADLINE,
        "{waited:?}"
    );
}

#[tokio::test]
async fn rule_13_clients_in_negotiation_are_bounded_and_the_next_waits_its_turn() {
    let server = Server::start(2).await;
    let first = server.connect().await;
    let _second = server.connect().await;
    let mut third = UnixStream::connect(server.socket())
        .await
        .expect("the kernel holds it");
    let mut greeting = [0; 18];
    let wait = std::time::Duration::from_millis(100);
    let early = tokio::time::timeout(wait, third.read_exact(&mut greeting)).await;
    assert!(early.is_err(), "it was greeted out of turn");
    drop(first);
    third
        .read_exact(&mut greeting)
        .await
        .expect("its turn has come");
}

#[tokio::test(start_paused = true)]
async fn rule_14_a_server_that_stops_says_so_and_then_hangs_up() {
    let server = Server::start(8).await;
    let mut stream = server.connect().await;
    server.stop.send(true).expect("the server runs");
    while server.socket().exists() {
        tokio::task::yield_now().await;
    }
    stream
        .write_all(&option_bytes(option::LIST, &[]))
        .await
        .expect("it still listens");
    let mut header = [0; 20];
    stream.read_exact(&mut header).await.expect("it answers");
    assert_eq!(
        header[12..16],
        crate::codec::option_reply::ERROR_SHUTDOWN.to_be_bytes()
    );
    let began = Instant::now();
    server.task.await.expect("it ends by itself");
    assert!(began.elapsed() <= 2 * SHUTDOWN_GRACE);
}
