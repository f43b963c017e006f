//! The servers that are compared, each with a volume of its own in the folder under measurement.
//!
//! All have their file open without the page cache where they can, since a mirror's promise is about
//! what a disk holds; nbdkit cannot, so compare its figures with a flush.

use e2e::cluster::Cluster;
use e2e::program::{self, Running};
use e2e::wait_for;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A kind of server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// twinblk, mirrored to a second daemon over loopback TCP.
    TwinblkMirrored,
    /// QEMU's quorum driver over a local file and a second daemon over loopback TCP.
    QuorumPair,
    /// The same with an earlier build of twinblk: what a change is worth.
    TwinblkBefore,
    /// twinblk with one replica.
    TwinblkSingle,
    /// qemu-nbd.
    QemuNbd,
    /// nbdkit's file plugin, through the page cache.
    Nbdkit,
    /// No server: fio writes to the file itself.
    Disk,
}

impl Kind {
    /// All, in the order of the report.
    pub const ALL: [Kind; 7] = [
        Kind::TwinblkMirrored,
        Kind::QuorumPair,
        Kind::TwinblkBefore,
        Kind::TwinblkSingle,
        Kind::QemuNbd,
        Kind::Nbdkit,
        Kind::Disk,
    ];

    /// Its name in options and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::TwinblkMirrored => "twinblk-mirrored",
            Kind::QuorumPair => "quorum-pair",
            Kind::TwinblkBefore => "twinblk-before",
            Kind::TwinblkSingle => "twinblk-single",
            Kind::QemuNbd => "qemu-nbd",
            Kind::Nbdkit => "nbdkit",
            Kind::Disk => "disk",
        }
    }
}

/// How fio reaches a store.
#[derive(Clone, Debug)]
pub enum Target {
    /// Over NBD.
    Nbd(String),
    /// The file itself.
    File(PathBuf),
}

/// A server that runs. Dropping it ends it and removes its files.
pub struct Store {
    kind: Kind,
    target: Target,
    cluster: Option<Cluster>,
    servers: Vec<Running>,
    // Behind the servers, so that it is removed after they have ended.
    folder: TempDir,
}

impl Store {
    /// Starts it, with its files in a new folder below this one. `before`: the earlier build.
    ///
    /// # Panics
    /// If it does not start; `scripts/setup` installs what is needed.
    pub fn start(kind: Kind, parent: &Path, size_mib: u64, before: Option<&Path>) -> Store {
        let folder = tempfile::Builder::new()
            .prefix("twinblk-bench-")
            .tempdir_in(parent)
            .expect("a folder for the store");
        let mut store = Store {
            kind,
            target: Target::File(folder.path().join("file.img")),
            cluster: None,
            servers: Vec::new(),
            folder,
        };
        match kind {
            Kind::TwinblkMirrored => store.start_twinblk(&["alpha", "beta"], size_mib, None),
            Kind::TwinblkBefore => store.start_twinblk(&["alpha", "beta"], size_mib, before),
            Kind::TwinblkSingle => store.start_twinblk(&["alpha"], size_mib, None),
            Kind::QuorumPair => store.start_quorum(size_mib),
            Kind::QemuNbd => store.start_qemu_nbd(size_mib),
            Kind::Nbdkit => store.start_nbdkit(size_mib),
            Kind::Disk => store.file("file.img", size_mib),
        }
        store
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How fio reaches it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The processor time that its servers have used, on all nodes.
    pub fn processor_time(&self) -> Duration {
        let nodes = self.cluster.iter().flat_map(|cluster| &cluster.nodes);
        let daemons = nodes.filter_map(e2e::node::Node::process);
        daemons
            .chain(self.servers.iter().map(Running::id))
            .map(processor_time)
            .sum()
    }

    fn start_twinblk(&mut self, names: &[&str], size_mib: u64, build: Option<&Path>) {
        let mut cluster = Cluster::prepared_in(self.root(), names);
        if let Some(build) = build.and_then(Path::to_str) {
            // Starts that build with the options that the current one would get.
            let instead = "build=$0; shift; exec \"$build\" \"$@\"";
            let nodes = cluster.nodes.iter_mut();
            nodes.for_each(|node| node.wrap(&["sh", "-c", instead, build]));
        }
        cluster.start();
        cluster.create("bench", &format!("{size_mib}M"));
        self.target = Target::Nbd(cluster.nodes[0].uri("bench"));
        self.cluster = Some(cluster);
    }

    fn start_quorum(&mut self, size_mib: u64) {
        let (local, remote) = (self.path("local.img"), self.path("remote.img"));
        self.file("local.img", size_mib);
        self.file("remote.img", size_mib);
        let port = e2e::ports::free_ports(1)[0];
        let file = |node: &str, path: &Path| {
            format!(
                "driver=file,node-name={node},filename={},cache.direct=on,aio=io_uring",
                path.display()
            )
        };
        let mut second = Command::new("qemu-storage-daemon");
        second
            .args(["--blockdev", &file("disk", &remote)])
            .args([
                "--nbd-server",
                &format!("addr.type=inet,addr.host=127.0.0.1,addr.port={port}"),
            ])
            .args([
                "--export",
                "type=nbd,id=export,node-name=disk,name=second,writable=on",
            ]);
        self.serve(second);
        wait_for("the quorum's second node", e2e::PATIENCE, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let socket = self.path("quorum.sock");
        let mut first = Command::new("qemu-storage-daemon");
        first
            .args(["--blockdev", &file("disk", &local)])
            .args(["--blockdev", &format!("driver=nbd,node-name=peer,server.type=inet,server.host=127.0.0.1,server.port={port},export=second")])
            .args(["--blockdev", "driver=quorum,node-name=both,vote-threshold=1,children.0=disk,children.1=peer,read-pattern=fifo"])
            .args(["--nbd-server", &format!("addr.type=unix,addr.path={}", socket.display())])
            .args(["--export", "type=nbd,id=export,node-name=both,name=bench,writable=on"]);
        self.serve_on(first, &socket, "bench");
    }

    fn start_qemu_nbd(&mut self, size_mib: u64) {
        let (socket, file) = (self.path("qemu.sock"), self.path("file.img"));
        self.file("file.img", size_mib);
        let mut server = Command::new("qemu-nbd");
        server
            .args([
                "--format=raw",
                "--export-name=bench",
                "--persistent",
                "--shared=0",
            ])
            .args(["--cache=none", "--aio=io_uring", "--socket"])
            .arg(&socket)
            .arg(file);
        self.serve_on(server, &socket, "bench");
    }

    fn start_nbdkit(&mut self, size_mib: u64) {
        let (socket, file) = (self.path("nbdkit.sock"), self.path("file.img"));
        self.file("file.img", size_mib);
        let mut server = Command::new("nbdkit");
        server
            .args(["--foreground", "--unix"])
            .arg(&socket)
            .arg("file")
            .arg(file);
        self.serve_on(server, &socket, "");
    }

    fn serve(&mut self, command: Command) {
        let log = self.path("log");
        self.servers
            .push(Running::start(command, &log).expect("the server is installed"));
    }

    fn serve_on(&mut self, command: Command, socket: &Path, export: &str) {
        self.serve(command);
        wait_for("the server's socket", e2e::PATIENCE, || {
            std::os::unix::net::UnixStream::connect(socket).ok()
        });
        self.target = Target::Nbd(format!("nbd+unix:///{export}?socket={}", socket.display()));
    }

    fn file(&self, name: &str, size_mib: u64) {
        let file = File::create(self.path(name)).expect("the store's file");
        file.set_len(size_mib << 20)
            .expect("the store's file grows");
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }
}

/// The processor time of a process and its threads, as the kernel counts it.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold blanks; the times are the 14th and 15th field.
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// The versions of what is compared, for the report's head.
pub fn versions() -> Vec<String> {
    [
        ("qemu-nbd", "--version"),
        ("nbdkit", "--version"),
        ("fio", "--version"),
        ("uname", "-sr"),
    ]
    .into_iter()
    .map(|(name, option)| {
        let mut command = Command::new(name);
        command.arg(option);
        let output = program::run(command, e2e::PATIENCE);
        output.stdout.lines().next().unwrap_or(name).to_owned()
    })
    .collect()
}
