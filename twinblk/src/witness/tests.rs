use super::{CONNECTIONS_MAX, Witness, WitnessConfig};
use crate::arbiter::protocol::{Answer, MESSAGE_BYTES_MAX, Question, purpose};
use crate::arbiter::testing::{configuration, has_one_winner_an_epoch, keeps_its_promises, volume};
use crate::arbiter::{Change, Register};
use crate::config::Address;
use crate::config::ArbiterSettings;
use crate::framing;
use crate::key::ClusterKey;
use crate::link::{Local, Purpose, greet};
use format::types::{Name, NodeId};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A witness in this process, in a folder of its own.
struct Host {
    folder: TempDir,
    address: SocketAddr,
    witness: Arc<Witness>,
    listening: JoinHandle<()>,
}

impl Host {
    async fn start() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        ClusterKey::create(&folder.path().join("key")).expect("a key");
        let (address, witness, listening) = listen(folder.path(), "127.0.0.1:0").await;
        Host {
            folder,
            address,
            witness,
            listening,
        }
    }

    /// The end of the process, and a new one on the same port.
    async fn restart(self) -> Host {
        let Host {
            folder,
            address,
            witness,
            listening,
        } = self;
        listening.abort();
        let ended = listening.await;
        assert!(ended.is_err(), "it was aborted");
        // Its connections end as well, and have it until then.
        let state = Arc::downgrade(&witness);
        drop(witness);
        while state.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (address, witness, listening) = listen(folder.path(), &address.to_string()).await;
        Host {
            folder,
            address,
            witness,
            listening,
        }
    }

    fn local(&self, key: &Path, lease: Duration) -> Local {
        Local {
            node: NodeId([1; 16]),
            name: Name::new("alpha").expect("it is a name"),
            key: ClusterKey::read(key).expect("a key"),
            lease,
        }
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    fn client(&self, addresses: &[String]) -> Arc<dyn Register> {
        let settings = ArbiterSettings::Witness {
            addresses: addresses.to_vec(),
        };
        let local = self.local(&self.key(), Duration::from_secs(4));
        crate::arbiter::open(&settings, &local).expect("it needs no files")
    }

    fn own_client(&self) -> Arc<dyn Register> {
        self.client(&[self.address.to_string()])
    }
}

async fn listen(folder: &Path, address: &str) -> (SocketAddr, Arc<Witness>, JoinHandle<()>) {
    let config = WitnessConfig {
        listen: Address::try_from(address.to_owned()).expect("an address"),
        state_dir: folder.join("state"),
        key_file: folder.join("key"),
    };
    let witness = Witness::open(&config).expect("it opens");
    let listener = TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("it has an address");
    let listening = tokio::spawn(witness.clone().listen(listener));
    (address, witness, listening)
}

#[tokio::test]
async fn a_witness_keeps_what_a_register_promises() {
    let host = Host::start().await;
    keeps_its_promises(&*host.own_client()).await;
}

#[tokio::test]
async fn two_proposers_never_both_win() {
    let host = Host::start().await;
    let (first, second) = (host.own_client(), host.own_client());
    has_one_winner_an_epoch(&*first, &*second, 1_000).await;
}

#[tokio::test]
async fn many_volumes_ask_at_once_over_few_connections() {
    let host = Host::start().await;
    let client = host.own_client();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..64 {
        let client = client.clone();
        asking.spawn(async move {
            let seed = Change::Seed(configuration(1, number));
            let held = client.ask(volume(number), seed).await;
            assert_eq!(held, Ok(Some(configuration(1, number))));
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.expect("it does not fail");
    }
    assert_eq!(host.witness.state.count(), 64);
    let taken = CONNECTIONS_MAX - host.witness.connections.available_permits();
    assert!((1..=4).contains(&taken), "{taken} connections");
}

#[tokio::test]
async fn another_key_is_refused() {
    let host = Host::start().await;
    let other = host.folder.path().join("other");
    ClusterKey::create(&other).expect("a key");
    let local = host.local(&other, Duration::from_secs(4));
    let settings = ArbiterSettings::Witness {
        addresses: vec![host.address.to_string()],
    };
    let client = crate::arbiter::open(&settings, &local).expect("it needs no files");
    let refused = client.ask(volume(1), Change::Read).await;
    let refused = refused.expect_err("it has another key");
    assert!(refused.message.contains("cluster key"), "{refused}");
    let right = host.own_client().ask(volume(1), Change::Read).await;
    assert_eq!(right, Ok(None), "strangers do no harm");
}

#[tokio::test]
async fn a_witness_is_no_node() {
    let host = Host::start().await;
    let local = host.local(&host.key(), Duration::from_secs(4));
    let greeted = greet(&local, &host.address.to_string(), Purpose::Control).await;
    let (_, welcome) = greeted.expect("it has the key");
    let refused = welcome.accepted.expect_err("it is a witness");
    assert!(refused.contains("[arbiter]"), "{refused}");
}

#[tokio::test]
async fn a_witness_that_is_back_is_found_again() {
    let host = Host::start().await;
    let client = host.own_client();
    let one = configuration(1, 1);
    let seeded = client.ask(volume(1), Change::Seed(one)).await;
    assert_eq!(seeded, Ok(Some(one)));
    let host = host.restart().await;
    // The connection that was left idle is dead, which is not the witness's fault.
    assert_eq!(client.ask(volume(1), Change::Read).await, Ok(Some(one)));
    assert_eq!(host.witness.state.count(), 1);
}

#[tokio::test]
async fn silence_ends_a_question_in_time() {
    let host = Host::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("it has an address").to_string();
    let settings = ArbiterSettings::Witness {
        addresses: vec![address.clone()],
    };
    let local = host.local(&host.key(), Duration::from_millis(600));
    let client = crate::arbiter::open(&settings, &local).expect("it needs no files");
    let begin = Instant::now();
    assert!(client.ask(volume(1), Change::Read).await.is_err());
    let took = begin.elapsed();
    assert!(
        took < Duration::from_millis(600),
        "{took:?} of a lease of 600 ms"
    );
    // A second address is asked within the same time.
    let client = host.client(&[address, host.address.to_string()]);
    assert_eq!(client.ask(volume(1), Change::Read).await, Ok(None));
}

/// Passes bytes on, but those of connections from before the last loss of power: nobody answers on them, nor
/// ends them.
async fn pass_on(listener: TcpListener, to: SocketAddr, losses: Arc<AtomicUsize>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let losses = losses.clone();
        tokio::spawn(async move {
            let since = losses.load(Ordering::SeqCst);
            let mut far = TcpStream::connect(to).await.expect("it listens");
            let (mut from_near, mut from_far) = (vec![0; 4096], vec![0; 4096]);
            loop {
                let read = tokio::select! {
                    read = near.read(&mut from_near) => (read.unwrap_or(0), true),
                    read = far.read(&mut from_far) => (read.unwrap_or(0), false),
                };
                if losses.load(Ordering::SeqCst) != since {
                    return std::future::pending().await;
                }
                let written = match read {
                    (0, _) => return,
                    (length, true) => far.write_all(&from_near[..length]).await,
                    (length, false) => near.write_all(&from_far[..length]).await,
                };
                written.expect("both are open");
            }
        });
    }
}

#[tokio::test]
async fn one_silent_question_is_enough_to_connect_anew() {
    let host = Host::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener
        .local_addr()
        .expect("it has an address")
        .to_string();
    let losses = Arc::new(AtomicUsize::new(0));
    tokio::spawn(pass_on(listener, host.address, losses.clone()));
    let settings = ArbiterSettings::Witness {
        addresses: vec![address],
    };
    let local = host.local(&host.key(), Duration::from_millis(600));
    let client = crate::arbiter::open(&settings, &local).expect("it needs no files");
    // Several at once, so that several connections are left idle.
    let ask = |number| client.ask(volume(number), Change::Read);
    let asked = tokio::join!(ask(1), ask(2), ask(3), ask(4));
    assert_eq!(asked, (Ok(None), Ok(None), Ok(None), Ok(None)));
    losses.fetch_add(1, Ordering::SeqCst);
    assert!(ask(1).await.is_err(), "it is silent");
    assert_eq!(ask(1).await, Ok(None));
}

#[tokio::test]
async fn garbage_ends_a_connection_and_nothing_else() {
    let host = Host::start().await;
    let local = host.local(&host.key(), Duration::from_secs(4));
    let too_long = (MESSAGE_BYTES_MAX + 1).to_le_bytes();
    for garbage in [&too_long[..], &[2, 0, 0, 0, b'{', b'}'], &[0xff; 64]] {
        let greeted = greet(&local, &host.address.to_string(), purpose()).await;
        let (mut stream, welcome) = greeted.expect("it has the key");
        assert_eq!(welcome.accepted, Ok(()));
        stream.write_all(garbage).await.expect("it is open");
        let answer: Result<Answer, _> = framing::receive(&mut stream, MESSAGE_BYTES_MAX).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    let mut stranger = TcpStream::connect(host.address).await.expect("it listens");
    stranger.write_all(&[0; 256]).await.expect("it is open");
    assert_eq!(
        host.own_client().ask(volume(1), Change::Read).await,
        Ok(None)
    );
}

#[tokio::test]
async fn connections_are_bounded() {
    let host = Host::start().await;
    let local = host.local(&host.key(), Duration::from_secs(4));
    let address = host.address.to_string();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let (stream, welcome) = greet(&local, &address, purpose())
            .await
            .expect("it has the key");
        assert_eq!(welcome.accepted, Ok(()));
        open.push(stream);
    }
    let (_, welcome) = greet(&local, &address, purpose())
        .await
        .expect("it has the key");
    let refused = welcome.accepted.expect_err("there are too many");
    assert!(refused.contains("too many"), "{refused}");
    let last = open.last_mut().expect("there are some");
    let question = Question::Read { volume: volume(1) };
    framing::send(last, &question, MESSAGE_BYTES_MAX)
        .await
        .expect("it is open");
    let answer: Result<Answer, _> = framing::receive(last, MESSAGE_BYTES_MAX).await;
    assert_eq!(answer, Ok(Answer::Empty), "those that are in are served");
    drop(open);
    while host.witness.connections.available_permits() < CONNECTIONS_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let again = greet(&local, &address, purpose())
        .await
        .expect("it has the key");
    assert_eq!(again.1.accepted, Ok(()));
}
