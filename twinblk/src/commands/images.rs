//! Volumes that begin with an image, and images of volumes.

use super::waiting::Progress;
use crate::api::{Action, CreateRequest, Outcome};
use crate::client::{Client, Lines};
use crate::failure::{Context, Failure, FailureKind};
use crate::image::{self, Image, Piece};
use crate::nbd::NbdClient;
use crate::units::Size;
use format::types::BLOCK_BYTES;
use nbd_server::listener::Address;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Writes that are under way at once.
const WINDOW: u64 = 8;
/// How long a daemon may take to see that a client has gone.
const CLOSING: Duration = Duration::from_secs(10);
/// How often it is shown how far a copy is.
const PERIOD: Duration = Duration::from_millis(200);
/// What a file is called that is not whole yet.
const UNFINISHED: &str = ".unfinished";

/// `volume create --from`.
pub(super) async fn create_from(
    client: &Client,
    mut request: CreateRequest,
    size: Option<Size>,
    from: &Path,
) -> Result<(), Failure> {
    let image = Image::open(from)?;
    let needed = image
        .size_bytes()
        .next_multiple_of(BLOCK_BYTES)
        .max(BLOCK_BYTES);
    request.size_bytes = size.map_or(needed, |size| size.0);
    if request.size_bytes < needed {
        return Err(Failure::usage(format!(
            "{} has {}: a volume of {} is too small",
            from.display(),
            Size(image.size_bytes()),
            Size(request.size_bytes)
        )));
    }
    let created = client.create(&request).await?;
    let name = request.name.as_str();
    let filled = tokio::select! {
        filled = fill(client, name, image) => filled,
        _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
    };
    if let Err(failure) = filled {
        return Err(match remove(client, name).await {
            Ok(_) => Failure::failed(format!("{failure}; volume {name} is removed again")),
            Err(left) => Failure::failed(format!(
                "{failure}; volume {name} has part of the image and is still there ({left})"
            )),
        });
    }
    super::print(&created);
    super::print(&Outcome::line(format!("{name}: holds {}", from.display())));
    Ok(())
}

/// Takes a volume away again that was open a moment ago.
async fn remove(client: &Client, name: &str) -> Result<Outcome, Failure> {
    let action = Action::Remove { keep_data: false };
    let begun = Instant::now();
    loop {
        match client.act(name, &action).await {
            // The daemon has yet to see that whoever had it open has gone.
            Err(failure)
                if failure.kind == FailureKind::ProtectsData && begun.elapsed() < CLOSING =>
            {
                sleep(PERIOD).await;
            }
            done => return done,
        }
    }
}

/// Writes the image to a new volume, through the node that serves it and so to every copy.
async fn fill(client: &Client, name: &str, image: Image) -> Result<(), Failure> {
    let doing = || format!("filling volume {name}");
    let volume = client.volume(name).await?;
    let address = volume
        .nbd
        .first()
        .and_then(|text| text.parse::<Address>().ok());
    let address = address
        .ok_or_else(|| Failure::failed(format!("{}: the daemon serves no clients", doing())))?;
    let total = image.size_bytes();
    let mut progress = Progress::new();
    let what = format!("{name}: filled");
    let mut volume = NbdClient::open(&address, name).await.context(doing)?;
    let mut reading = read_ahead(image, 0);
    let (mut sent, mut answered) = (0, 0);
    loop {
        let (image, piece) = reading.await.context(doing)?.context(doing)?;
        let Some(Piece { offset, mut bytes }) = piece else {
            break;
        };
        let end = offset + bytes.len() as u64;
        reading = read_ahead(image, end);
        // What the image ends in the middle of is a block all the same.
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        volume
            .send_write(sent, offset, &bytes)
            .await
            .context(doing)?;
        volume.push().await.context(doing)?;
        sent += 1;
        while sent - answered >= WINDOW {
            volume.reply().await.context(doing)?;
            answered += 1;
        }
        progress.show_bytes(&what, end, total);
    }
    while answered < sent {
        volume.reply().await.context(doing)?;
        answered += 1;
    }
    volume.flush().await.context(doing)?;
    progress.end();
    volume.close().await.context(doing)
}

const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == BLOCK_BYTES);

/// Reads the next piece while the one before is on its way.
fn read_ahead(mut image: Image, offset: u64) -> JoinHandle<io::Result<(Image, Option<Piece>)>> {
    tokio::task::spawn_blocking(move || {
        let piece = image.next_from(offset)?;
        Ok((image, piece))
    })
}

/// `volume export`.
pub(super) async fn export(
    client: &Client,
    name: &str,
    to: PathBuf,
    allow_one_copy: bool,
) -> Result<(), Failure> {
    let stream = to == Path::new("-");
    if stream && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "an image is nothing for a terminal: name a file",
        ));
    }
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", to.display()));
    if !stream && to.is_file() {
        return Err(Failure::failed(format!(
            "{} exists: move it away, or name another file",
            to.display()
        )));
    }
    let (view, mut lines) = client.export(name, allow_one_copy).await?;
    let open = || {
        let file = std::fs::File::open(&view.data);
        file.context(|| format!("cannot read {} (as root it can be)", view.data.display()))
    };
    let image = Image::of(open()?, view.size_bytes);
    let size_bytes = view.size_bytes;
    if stream {
        let copy = move |mut image: Image, told: &mut dyn FnMut(u64) -> bool| {
            image::copy_to_stream(&mut image, &mut io::stdout().lock(), told)
        };
        return watch(name, copying(image, copy), size_bytes, &mut lines).await;
    }
    let device = to.exists();
    let target = if device {
        to.clone()
    } else {
        unfinished.clone()
    };
    let file = image::create(&target, size_bytes)?;
    let copy = move |mut image: Image, told: &mut dyn FnMut(u64) -> bool| {
        image::copy_to_file(&mut image, &file, told)
    };
    let copied = watch(name, copying(image, copy), size_bytes, &mut lines).await;
    if device {
        return copied;
    }
    if copied.is_err() {
        // What is of no use; that it cannot be removed changes nothing about why.
        let _ = std::fs::remove_file(&unfinished);
        return copied;
    }
    std::fs::rename(&unfinished, &to).context(|| format!("cannot write {}", to.display()))
}

/// A copy under way.
struct Copying {
    work: JoinHandle<io::Result<()>>,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

fn copying(
    image: Image,
    copy: impl FnOnce(Image, &mut dyn FnMut(u64) -> bool) -> io::Result<()> + Send + 'static,
) -> Copying {
    let (done, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let (tells, asks) = (done.clone(), stop.clone());
    let work = tokio::task::spawn_blocking(move || {
        copy(image, &mut |done| {
            tells.store(done, Ordering::Relaxed);
            !asks.load(Ordering::Relaxed)
        })
    });
    Copying { work, done, stop }
}

/// Waits for a copy, which is good only if the daemon has kept the replica closed to its end.
async fn watch(
    name: &str,
    mut copying: Copying,
    size_bytes: u64,
    lines: &mut Lines<'_>,
) -> Result<(), Failure> {
    let mut progress = Progress::new();
    let what = format!("{name}: exported");
    let copied = loop {
        tokio::select! {
            copied = &mut copying.work => break copied,
            line = lines.next() => if !matches!(line, Ok(Some(_))) {
                copying.stop.store(true, Ordering::Relaxed);
                // Its end says nothing more.
                let _ = copying.work.await;
                return Err(broken(name));
            },
            () = sleep(PERIOD) => {
                progress.show_bytes(&what, copying.done.load(Ordering::Relaxed), size_bytes);
            }
        }
    };
    progress.end();
    copied
        .context(|| "the copy was cut short".to_owned())?
        .context(|| format!("copying volume {name}"))?;
    match lines.next().await {
        Ok(Some(_)) => Ok(()),
        _ => Err(broken(name)),
    }
}

fn broken(name: &str) -> Failure {
    Failure::failed(format!(
        "the daemon has ended, and volume {name} may have changed while it was read: export it again"
    ))
}
