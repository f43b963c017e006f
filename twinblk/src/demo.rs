//! `twinblk demo`: the whole story on one machine, with nothing to configure.

mod blocks;
mod machine;
mod work;

use crate::api::{Action, CreateRequest, ReceiptView};
use crate::client::Client;
use crate::failure::{Context, Failure};
use crate::hexadecimal;
use crate::nbd::NbdClient;
use crate::units::Size;
use blocks::{BLOCK_BYTES, Model, Numbers};
use format::types::Name;
use machine::{Machine, two_machines};
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

const VOLUME: &str = "demo";
const VOLUME_BLOCKS: usize = (64 << 20) / BLOCK_BYTES;
/// Acknowledged writes before the primary is killed, unless the machine is too slow for so many.
const WRITES_BEFORE_THE_CRASH: u64 = 20_000;
const SECONDS_BEFORE_THE_CRASH: u64 = 10;
const WRITES_WHILE_ALONE: u64 = 2_000;
/// How long the client waits for more after its server has died.
const LAST_REPLIES: Duration = Duration::from_secs(1);
/// How much more than what had changed may be moved.
const TOLERANCE: f64 = 1.05;
/// No state takes longer to come on two processes of one machine.
const STATE_PATIENCE: Duration = Duration::from_secs(45);

/// Runs it. Whatever ends it, a Ctrl-C included, ends the nodes and removes the folder.
pub(crate) async fn run() -> Result<(), Failure> {
    let doing = || "cannot listen to signals".to_owned();
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    let folder = tempfile::Builder::new().prefix("twinblk-demo-").tempdir();
    let folder = folder.context(|| "cannot make a temporary folder".to_owned())?;
    let stopped = || {
        Err(Failure::failed(
            "stopped before its end; the nodes are stopped as well",
        ))
    };
    let ended = tokio::select! {
        ended = tell(folder.path()) => ended,
        _ = interrupt.recv() => stopped(),
        _ = terminate.recv() => stopped(),
    };
    folder
        .close()
        .context(|| "cannot remove the temporary folder".to_owned())?;
    ended
}

/// Says what is being done, numbered, with the time it took to come here.
struct Narrator {
    begun: Instant,
    step: u32,
}

impl Narrator {
    fn step(&mut self, text: &str) {
        self.step += 1;
        println!(
            "\n[{:5.1} s] {}. {text}",
            self.begun.elapsed().as_secs_f64(),
            self.step
        );
    }

    fn say(&self, text: impl AsRef<str>) {
        println!("          {}", text.as_ref());
    }
}

/// The client's side of the story.
struct Story {
    narrator: Narrator,
    model: Model,
    numbers: Numbers,
}

async fn tell(folder: &Path) -> Result<(), Failure> {
    let mut story = Story {
        narrator: Narrator {
            begun: Instant::now(),
            step: 0,
        },
        model: Model::new(VOLUME_BLOCKS),
        numbers: Numbers::new(u64::from_le_bytes(hexadecimal::random()?)),
    };
    let [mut alpha, mut beta] = two_machines(folder)?;
    story.create(&mut alpha, &mut beta, folder).await?;
    story.crash(&mut alpha).await?;
    let receipt = story.fail_over_and_back(&mut alpha, &mut beta).await?;
    story.go_home(&alpha).await?;
    story.compare(&mut alpha, &mut beta).await?;
    println!("\nThe receipt of the failback: {}.", receipt);
    println!("{ENDING}");
    Ok(())
}

impl Story {
    async fn create(
        &mut self,
        alpha: &mut Machine,
        beta: &mut Machine,
        folder: &Path,
    ) -> Result<(), Failure> {
        self.narrator
            .step("Two nodes, alpha and beta, start as two processes.");
        self.narrator.say(format!(
            "in {}, on loopback, without any privilege",
            folder.display()
        ));
        alpha.start().await?;
        beta.start().await?;
        until_connected(&alpha.client(), "beta").await?;
        let size = Size((VOLUME_BLOCKS * BLOCK_BYTES) as u64);
        self.narrator.step(&format!(
            "A volume of {size} is created; alpha is its primary."
        ));
        let name = Name::new(VOLUME).ok_or_else(|| Failure::failed("the volume has no name"))?;
        let request = CreateRequest {
            name,
            size_bytes: size.0,
            replicas: Vec::new(),
            backing: Default::default(),
            thick: false,
            labels: Default::default(),
        };
        let outcome = alpha.client().create(&request).await?;
        outcome
            .lines
            .iter()
            .for_each(|line| self.narrator.say(line));
        let took = until_state(&alpha.client(), "Protected").await?;
        self.narrator.say(format!(
            "Protected after {:.2} s: a new volume needs no sync",
            took
        ));
        Ok(())
    }

    async fn crash(&mut self, alpha: &mut Machine) -> Result<(), Failure> {
        self.narrator
            .step("A client writes to alpha over NBD; alpha is killed in the middle.");
        let mut client = open(alpha).await?;
        let acknowledged = Cell::new(0);
        let pause = Duration::from_millis(self.numbers.next() % 200);
        let begun = Instant::now();
        let killing = Cell::new(false);
        let crash = async {
            let latest = Duration::from_secs(SECONDS_BEFORE_THE_CRASH);
            while acknowledged.get() < WRITES_BEFORE_THE_CRASH && begun.elapsed() < latest {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(pause).await;
            killing.set(true);
            alpha.kill().await?;
            // What the kernel holds back of a killed process's sockets may come much later.
            sleep(LAST_REPLIES).await;
            Ok::<_, Failure>(())
        };
        let (model, numbers) = (&mut self.model, &mut self.numbers);
        let end = tokio::select! {
            biased;
            written = work::write(&mut client, model, numbers, &acknowledged, || false) => {
                let error = written.err().map_or_else(String::new, |error| error.to_string());
                if !killing.get() {
                    return Err(Failure::failed(format!("writing to alpha: {error}")));
                }
                error
            }
            crashed = crash => {
                crashed?;
                "no more replies".to_owned()
            }
        };
        alpha.kill().await?;
        self.narrator.say(format!(
            "SIGKILL after {} acknowledged writes, {} on their way; the client: {end}",
            acknowledged.get(),
            self.model.unacknowledged()
        ));
        if acknowledged.get() == 0 {
            return Err(Failure::failed("no write was acknowledged"));
        }
        Ok(())
    }

    async fn fail_over_and_back(
        &mut self,
        alpha: &mut Machine,
        beta: &mut Machine,
    ) -> Result<ReceiptView, Failure> {
        self.narrator
            .step("beta is promoted. A person has seen that alpha is dead: --force.");
        beta.client()
            .act(VOLUME, &Action::Promote { force: true })
            .await?;
        let mut client = open(beta).await?;
        // Of what was on its way when alpha died, either outcome is right, but only one, for ever.
        let doubtful = self.model.unacknowledged() as u64;
        work::check_all(&mut client, &mut self.model).await?;
        work::check_all(&mut client, &mut self.model).await?;
        self.narrator.say(format!(
            "every acknowledged write is there: {} blocks read back, twice the same",
            self.model.written().len()
        ));
        self.narrator
            .step("The client goes on writing, to beta alone.");
        let acknowledged = Cell::new(0);
        let (model, numbers) = (&mut self.model, &mut self.numbers);
        let enough = || acknowledged.get() >= WRITES_WHILE_ALONE;
        let written = work::write(&mut client, model, numbers, &acknowledged, enough).await;
        written.context(|| "writing to beta".to_owned())?;
        until_state(&beta.client(), "Alone").await?;
        self.narrator.say(format!(
            "{} writes acknowledged; the volume is Alone",
            acknowledged.get()
        ));
        self.narrator
            .step("alpha comes back, and fails back by itself while the client writes on.");
        alpha.start().await?;
        let protected = Cell::new(None);
        let enough = || protected.get().is_some();
        let (written, came) = tokio::join!(
            work::write_gently(
                &mut client,
                &mut self.model,
                &mut self.numbers,
                &acknowledged,
                enough
            ),
            async {
                let came = until_state(&beta.client(), "Protected").await;
                protected.set(Some(()));
                came
            }
        );
        written.context(|| "writing to beta".to_owned())?;
        self.narrator.say(format!("Protected after {:.2} s", came?));
        client.flush().await.context(|| "flushing".to_owned())?;
        client.close().await.context(|| "closing".to_owned())?;
        self.receipt(&beta.client(), doubtful + acknowledged.get())
            .await
    }

    /// The receipt, which must not be of more than what can have changed.
    async fn receipt(&self, beta: &Client, changed_max: u64) -> Result<ReceiptView, Failure> {
        let view = beta.volume(VOLUME).await?;
        let receipt = view.last_receipt;
        let receipt = receipt.ok_or_else(|| Failure::failed("beta tells of no resync"))?;
        self.narrator.say(receipt.to_string());
        let allowed = (changed_max * BLOCK_BYTES as u64) as f64 * TOLERANCE;
        if receipt.bytes_moved as f64 > allowed {
            return Err(Failure::failed(format!(
                "{} moved, though at most {changed_max} blocks can have changed",
                Size(receipt.bytes_moved)
            )));
        }
        Ok(receipt)
    }

    async fn go_home(&mut self, alpha: &Machine) -> Result<(), Failure> {
        self.narrator
            .step("alpha and beta change places again, as planned maintenance does.");
        alpha.client().act(VOLUME, &Action::Swap).await?;
        let mut client = open(alpha).await?;
        work::check_all(&mut client, &mut self.model).await?;
        self.narrator
            .say("alpha is the primary; every block read back from it is right");
        client.close().await.context(|| "closing".to_owned())
    }

    async fn compare(&mut self, alpha: &mut Machine, beta: &mut Machine) -> Result<(), Failure> {
        self.narrator
            .step("Both nodes stop, and their raw data files are compared.");
        beta.stop().await?;
        alpha.stop().await?;
        let (a, b) = (alpha.data(VOLUME), beta.data(VOLUME));
        work::compare_files(&a, &b, &mut self.model)?;
        self.narrator
            .say("byte-identical, and equal to what the client was promised");
        Ok(())
    }
}

async fn open(machine: &Machine) -> Result<NbdClient, Failure> {
    let opened = NbdClient::open(&machine.nbd(), VOLUME).await;
    opened.context(|| format!("opening the volume on {}", machine.name))
}

/// Waits until a node is connected.
async fn until_connected(client: &Client, node: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let nodes = client.nodes().await?;
        let found = nodes.iter().find(|view| view.name == node);
        if found.is_some_and(|view| view.state == "Connected") {
            return Ok(());
        }
        if begun.elapsed() > STATE_PATIENCE {
            let reason = found
                .and_then(|view| view.reason.clone())
                .unwrap_or_default();
            return Err(Failure::failed(format!(
                "{node} does not connect: {reason}"
            )));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the volume is in this state, and tells how many seconds that took.
async fn until_state(client: &Client, state: &str) -> Result<f64, Failure> {
    let begun = Instant::now();
    loop {
        let view = client.volume(VOLUME).await?;
        if view.state == state {
            return Ok(begun.elapsed().as_secs_f64());
        }
        if begun.elapsed() > STATE_PATIENCE {
            return Err(Failure::failed(format!(
                "the volume is {} and not {state}",
                view.state
            )));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

const ENDING: &str = "
Everything was as promised. The same by hand, on two machines:

  twinblk key new /etc/twinblk/cluster.key      once; copy it to the other machine, mode 0600
  twinblk serve                                 on both, with /etc/twinblk/twinblk.toml
  twinblk volume create demo --size 64M         on alpha
  twinblk volume wait demo --state Protected
  nbd-client -unix /run/twinblk/nbd.sock /dev/nbd0 -N demo    or any other NBD client
  twinblk volume promote demo --force           on beta, once alpha is known to be dead
  twinblk serve                                 on alpha, when it is back: it fails back by itself
  twinblk volume status demo                    the receipt
  twinblk volume swap demo                      on alpha, to have it as the primary again";
