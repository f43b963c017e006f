//! The two nodes of the demonstration: real processes of this same program, on loopback.

use crate::client::Client;
use crate::failure::{Context, Failure};
use crate::key::ClusterKey;
use nbd_server::listener::Address;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// A daemon that does not answer by then never will.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// A stop drains and flushes; there is not much to drain.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A node.
pub(super) struct Machine {
    pub(super) name: &'static str,
    folder: PathBuf,
    process: Option<Child>,
}

/// Writes the key and the configurations of two nodes into the folder.
pub(super) fn two_machines(folder: &Path) -> Result<[Machine; 2], Failure> {
    let key = folder.join("cluster.key");
    ClusterKey::create(&key)?;
    // Both are bound at once, so that they differ.
    let doing = || "cannot find free ports".to_owned();
    let sockets = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut addresses = Vec::new();
    for socket in &sockets {
        let socket = socket.as_ref().map_err(Failure::failed).context(doing)?;
        addresses.push(socket.local_addr().context(doing)?);
    }
    let names = ["alpha", "beta"];
    for (own, other) in [(0, 1), (1, 0)] {
        let home = folder.join(names[own]);
        std::fs::create_dir(&home).context(|| format!("cannot make {}", home.display()))?;
        let text = format!(
            "[node]\n\
             name      = \"{}\"\n\
             state_dir = \"{home}/state\"\n\
             listen    = \"{}\"\n\
             nbd       = \"unix:{home}/nbd.sock\"\n\
             admin     = \"{home}/admin.sock\"\n\n\
             [[peer]]\n\
             name    = \"{}\"\n\
             address = \"{}\"\n\n\
             [security]\n\
             key_file = \"{}\"\n\n\
             [failover]\n\
             lease_ms = 1000\n",
            names[own],
            addresses[own],
            names[other],
            addresses[other],
            key.display(),
            home = home.display(),
        );
        let file = home.join("twinblk.toml");
        std::fs::write(&file, text).context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(names.map(|name| Machine {
        name,
        folder: folder.join(name),
        process: None,
    }))
}

impl Machine {
    /// Starts the daemon and waits until it answers.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let doing = || format!("cannot start {}", self.name);
        let program = std::env::current_exe().context(doing)?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .context(doing)?;
        let process = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(self.folder.join("twinblk.toml"))
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C is for the demonstration, which ends its nodes itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context(doing)?;
        self.process = Some(process);
        let begun = Instant::now();
        while self.client().nodes().await.is_err() {
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_wait().context(|| "cannot wait".to_owned())?
            {
                return Err(self.blame(&format!("ended with {status}")));
            }
            if begun.elapsed() > START_PATIENCE {
                return Err(self.blame("does not answer"));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Kills it as a power button would kill its process.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        if let Some(mut process) = self.process.take() {
            process
                .kill()
                .await
                .context(|| format!("cannot kill {}", self.name))?;
        }
        Ok(())
    }

    /// Has it stop in an orderly way.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let doing = || format!("cannot stop {}", self.name);
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(id, rustix::process::Signal::TERM).context(doing)?;
        }
        let ended = tokio::time::timeout(STOP_PATIENCE, process.wait()).await;
        let status: ExitStatus = ended
            .map_err(|_| self.blame("does not stop"))?
            .context(doing)?;
        if status.success() {
            Ok(())
        } else {
            Err(self.blame(&format!("stopped with {status}")))
        }
    }

    /// Its admin API.
    pub(super) fn client(&self) -> Client {
        Client::new(self.folder.join("admin.sock"))
    }

    /// Where its NBD clients connect to.
    pub(super) fn nbd(&self) -> Address {
        Address::Unix(self.folder.join("nbd.sock"))
    }

    /// The data of a volume: a plain raw image.
    pub(super) fn data(&self, volume: &str) -> PathBuf {
        self.folder.join("state/volumes").join(volume).join("data")
    }

    /// What it did wrong, with the last it said of itself.
    fn blame(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let last = log.lines().last().unwrap_or("nothing");
        Failure::failed(format!("{} {what}; the last it said: {last}", self.name))
    }
}
