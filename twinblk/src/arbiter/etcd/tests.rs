use crate::arbiter::testing::{configuration, has_one_winner_an_epoch, keeps_its_promises, volume};
use crate::arbiter::{Change, Entry, Register, open};
use crate::config::{ArbiterSettings, EtcdSettings, PREFIX};
use crate::failure::FailureKind;
use crate::key::ClusterKey;
use crate::link::Local;
use format::types::{Name, NodeId};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Debian's etcd, in a folder of its own. It is killed when this is dropped.
struct Server {
    folder: TempDir,
    port: u16,
    peers: u16,
    process: Child,
    certificates: Option<Certificates>,
}

impl Server {
    async fn start() -> Server {
        Server::start_with(None).await
    }

    /// With certificates, it wants to see one of whoever asks.
    async fn start_with(certificates: Option<Certificates>) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        // Nobody else listens on them for as long as it takes to start.
        let free = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (client, peer) = (free(), free());
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let (port, peers) = (port(&client), port(&peer));
        drop((client, peer));
        let process = launch(&folder, port, peers, certificates.as_ref());
        let server = Server {
            folder,
            port,
            peers,
            process,
            certificates,
        };
        server.until_it_answers().await;
        server
    }

    fn endpoint(&self) -> String {
        let scheme = scheme(self.certificates.as_ref());
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    fn settings(&self) -> EtcdSettings {
        let settings = settings(&[self.endpoint()]);
        match &self.certificates {
            None => settings,
            Some(certificates) => EtcdSettings {
                ca_file: Some(certificates.authority.clone()),
                cert_file: Some(certificates.client.clone()),
                key_file: Some(certificates.client_key.clone()),
                ..settings
            },
        }
    }

    async fn until_it_answers(&self) {
        let client = client_of(self.settings());
        let begin = Instant::now();
        while let Err(failure) = client.ask(volume(255), Change::Read).await {
            assert!(begin.elapsed() < Duration::from_secs(30), "{failure}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    async fn restart(&mut self) {
        let certificates = self.certificates.as_ref();
        self.process = launch(&self.folder, self.port, self.peers, certificates);
        self.until_it_answers().await;
    }

    /// Does something to it that a register does not do.
    async fn call(&self, path: &str, body: serde_json::Value) -> serde_json::Value {
        let endpoint = super::gateway::Endpoint::parse(&self.endpoint(), None);
        let connection = endpoint.expect("an endpoint").connect().await;
        let answer = connection.expect("it listens").call(path, &body).await;
        answer.unwrap_or_else(|failure| panic!("{path}: {failure}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn scheme(certificates: Option<&Certificates>) -> &'static str {
    certificates.map_or("http", |_| "https")
}

/// An authority, and what it has signed for etcd and for a node.
struct Certificates {
    folder: TempDir,
    authority: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
    client: PathBuf,
    client_key: PathBuf,
}

impl Certificates {
    fn new() -> Certificates {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("it is written");
            path
        };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let signed = |host: &str| {
            let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &issuer).expect("it is signed");
            (certificate.pem(), key.serialize_pem())
        };
        let (server, client) = (signed("127.0.0.1"), signed("alpha"));
        Certificates {
            authority: write("ca.pem", root.pem()),
            server: write("server.pem", server.0),
            server_key: write("server-key.pem", server.1),
            client: write("client.pem", client.0),
            client_key: write("client-key.pem", client.1),
            folder,
        }
    }
}

fn launch(folder: &TempDir, port: u16, peers: u16, certificates: Option<&Certificates>) -> Child {
    let (client, peer) = (
        format!("{}://127.0.0.1:{port}", scheme(certificates)),
        format!("http://127.0.0.1:{peers}"),
    );
    let log = std::fs::File::create(folder.path().join("log")).expect("a log");
    let mut command = Command::new("etcd");
    if let Some(certificates) = certificates {
        command
            .arg("--client-cert-auth")
            .arg("--trusted-ca-file")
            .arg(&certificates.authority)
            .arg("--cert-file")
            .arg(&certificates.server)
            .arg("--key-file")
            .arg(&certificates.server_key);
    }
    command
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be named twice"))
        .stderr(log)
        .spawn()
        .expect("etcd is installed: scripts/setup does it")
}

fn settings(endpoints: &[String]) -> EtcdSettings {
    EtcdSettings {
        endpoints: endpoints.to_vec(),
        prefix: PREFIX.to_owned(),
        ca_file: None,
        cert_file: None,
        key_file: None,
        user: None,
        password_file: None,
    }
}

fn client_of(settings: EtcdSettings) -> Arc<dyn Register> {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    ClusterKey::create(&key).expect("a key");
    let local = Local {
        node: NodeId([1; 16]),
        name: Name::new("alpha").expect("it is a name"),
        key: ClusterKey::read(&key).expect("a key"),
        lease: Duration::from_secs(4),
    };
    open(&ArbiterSettings::Etcd(settings), &local).expect("the settings are good")
}

fn client(endpoints: &[String]) -> Arc<dyn Register> {
    client_of(settings(endpoints))
}

#[tokio::test]
async fn etcd_keeps_what_a_register_promises() {
    let mut server = Server::start().await;
    let client = client(&[server.endpoint()]);
    keeps_its_promises(&*client).await;
    // It is one key, whose value a person can read.
    let key = serde_json::json!({"key": base64_of(&format!("{PREFIX}/{}", volume(1)))});
    let found = server.call("/v3/kv/range", key).await;
    let entry = Entry {
        volume: volume(1),
        configuration: configuration(1, 1),
    };
    let text = String::from_utf8(entry.encode().expect("it has a text")).expect("it is text");
    assert_eq!(found["kvs"][0]["value"], base64_of(&text), "{found}");
    server.kill();
    let gone = client.ask(volume(1), Change::Read).await;
    let gone = gone.expect_err("nobody is there");
    assert!(gone.message.contains("127.0.0.1"), "{gone}");
    server.restart().await;
    let held = client.ask(volume(1), Change::Read).await;
    assert_eq!(held, Ok(Some(configuration(1, 1))));
}

#[tokio::test]
async fn two_proposers_never_both_win() {
    let server = Server::start().await;
    let endpoints = [server.endpoint()];
    let (first, second) = (client(&endpoints), client(&endpoints));
    has_one_winner_an_epoch(&*first, &*second, 2_000).await;
}

#[tokio::test]
async fn garbage_under_the_key_is_neither_a_configuration_nor_nothing() {
    let server = Server::start().await;
    let client = client(&[server.endpoint()]);
    let one = configuration(1, 1);
    let entry = Entry {
        volume: volume(2),
        configuration: one,
    };
    let of_another = String::from_utf8(entry.encode().expect("it has a text"));
    for garbage in ["", "garbage", &of_another.expect("it is text")] {
        let key = base64_of(&format!("{PREFIX}/{}", volume(1)));
        let put = serde_json::json!({"key": key, "value": base64_of(garbage)});
        server.call("/v3/kv/put", put).await;
        for change in [Change::Read, Change::Seed(one), Change::Propose(one)] {
            let refused = client.ask(volume(1), change).await;
            let refused = refused.expect_err("it is garbage");
            assert!(refused.message.contains("no configuration"), "{refused}");
            assert_eq!(refused.kind, FailureKind::ProtectsData);
            assert_eq!(refused.message.lines().count(), 1, "{refused}");
        }
        let replaced = client.ask(volume(1), Change::Replace(one)).await;
        assert_eq!(replaced, Ok(Some(one)));
    }
}

#[tokio::test]
async fn endpoints_are_tried_in_turn() {
    let server = Server::start().await;
    // One that nobody listens on, one that does not answer, and one that speaks something else.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = |listener: &TcpListener| {
        let address = listener.local_addr().expect("it has an address");
        format!("http://{address}")
    };
    let endpoints = [endpoint(&closed), endpoint(&silent), server.endpoint()];
    drop(closed);
    let client = client(&endpoints);
    let begin = Instant::now();
    assert_eq!(client.ask(volume(1), Change::Read).await, Ok(None));
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    // The one that has answered is asked first from then on.
    let begin = Instant::now();
    assert_eq!(client.ask(volume(1), Change::Read).await, Ok(None));
    assert!(
        begin.elapsed() < Duration::from_millis(500),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_user_without_password_is_refused() {
    let server = Server::start().await;
    let password = "correct horse";
    for (path, body) in [
        (
            "user/add",
            serde_json::json!({"name": "root", "password": password}),
        ),
        ("role/add", serde_json::json!({"name": "root"})),
        (
            "user/grant",
            serde_json::json!({"user": "root", "role": "root"}),
        ),
        ("enable", serde_json::json!({})),
    ] {
        server.call(&format!("/v3/auth/{path}"), body).await;
    }
    let nobody = client(&[server.endpoint()]);
    let refused = nobody.ask(volume(1), Change::Read).await;
    let refused = refused.expect_err("it wants to know who asks");
    assert!(refused.message.contains("refuses"), "{refused}");
    let file = server.folder.path().join("password");
    std::fs::write(&file, format!("{password}\n")).expect("it is written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("the file is ours");
    let root = client_of(EtcdSettings {
        user: Some("root".to_owned()),
        password_file: Some(file),
        ..settings(&[server.endpoint()])
    });
    assert_eq!(root.ask(volume(1), Change::Read).await, Ok(None));
    let seeded = root.ask(volume(1), Change::Seed(configuration(1, 1))).await;
    assert_eq!(seeded, Ok(Some(configuration(1, 1))));
}

#[tokio::test]
async fn etcd_and_node_show_each_other_certificates() {
    let server = Server::start_with(Some(Certificates::new())).await;
    keeps_its_promises(&*client_of(server.settings())).await;
    // Another authority's etcd is not believed, and nobody without a certificate is let in.
    let stranger = Certificates::new();
    let wrong = EtcdSettings {
        ca_file: Some(stranger.authority.clone()),
        ..server.settings()
    };
    let refused = client_of(wrong).ask(volume(1), Change::Read).await;
    let refused = refused.expect_err("it is not of this authority");
    assert!(refused.message.contains("TLS"), "{refused}");
    let nobody = EtcdSettings {
        cert_file: None,
        key_file: None,
        ..server.settings()
    };
    assert!(
        client_of(nobody)
            .ask(volume(1), Change::Read)
            .await
            .is_err()
    );
    // Files that do not fit are refused before anything is asked.
    let missing = EtcdSettings {
        ca_file: Some(stranger.folder.path().join("none.pem")),
        ..server.settings()
    };
    assert!(super::Etcd::new(&missing, Duration::from_secs(1)).is_err());
    let mixed = EtcdSettings {
        key_file: Some(stranger.client_key.clone()),
        ..server.settings()
    };
    assert!(super::Etcd::new(&mixed, Duration::from_secs(1)).is_err());
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
