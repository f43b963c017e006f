//! One life of a control link: requests and answers both ways until it breaks.

use super::{Message, Request, Response, receive, send};
use crate::failure::Failure;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Messages that wait to be sent; whoever wants to send more waits.
const QUEUE_MAX: usize = 64;
/// Requests of the peer that are worked on at once.
const REQUESTS_MAX: usize = 64;
/// The peer is told this often within its patience that this side lives.
const SIGNS_PER_PATIENCE: u32 = 4;

type Answer = Result<Response, Failure>;

/// The asking end of a control link. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    queue: mpsc::Sender<Message>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    next_id: u64,
    answers: BTreeMap<u64, oneshot::Sender<Answer>>,
    ended: bool,
}

/// The other end of a [`Session`], for [`serve`].
#[derive(Debug)]
pub(crate) struct SessionEnd {
    queue: mpsc::Receiver<Message>,
    own_queue: mpsc::Sender<Message>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Session {
    /// Both ends.
    pub(crate) fn new() -> (Session, SessionEnd) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let session = Session {
            queue: sender.clone(),
            waiting: waiting.clone(),
        };
        (
            session,
            SessionEnd {
                queue,
                own_queue: sender,
                waiting,
            },
        )
    }

    /// Asks, and waits for the answer or the link's end.
    pub(crate) async fn ask(&self, request: Request) -> Answer {
        let broken = || Failure::failed("the control link has broken");
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut waiting = lock(&self.waiting);
            if waiting.ended {
                return Err(broken());
            }
            waiting.next_id += 1;
            let id = waiting.next_id;
            waiting.answers.insert(id, sender);
            id
        };
        let queued = self.queue.send(Message::Request { id, request }).await;
        queued.map_err(|_| broken())?;
        answer.await.map_err(|_| broken())?
    }
}

/// Runs a control link until it breaks, and tells why. `patience` is how long the peer may be silent;
/// `handle` does what the peer asks.
pub(crate) async fn serve<S, H, F>(
    stream: S,
    end: SessionEnd,
    patience: Duration,
    handle: H,
) -> Failure
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request) -> F,
    F: Future<Output = Answer> + Send + 'static,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let SessionEnd {
        mut queue,
        own_queue,
        waiting,
    } = end;
    let sending = async {
        loop {
            let message = match timeout(patience / SIGNS_PER_PATIENCE, queue.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Failure::failed("this side has ended the link"),
                Err(_) => Message::Alive,
            };
            if let Err(failure) = send(&mut writer, &message).await {
                return failure;
            }
        }
    };
    let receiving = receive_all(
        BufReader::new(reader),
        &own_queue,
        &waiting,
        patience,
        handle,
    );
    let failure = tokio::select! {
        failure = sending => failure,
        failure = receiving => failure,
    };
    let mut waiting = lock(&waiting);
    waiting.ended = true;
    waiting.answers.clear();
    failure
}

async fn receive_all<H, F>(
    mut reader: impl AsyncRead + Unpin,
    queue: &mpsc::Sender<Message>,
    waiting: &Mutex<Waiting>,
    patience: Duration,
    handle: H,
) -> Failure
where
    H: Fn(Request) -> F,
    F: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    loop {
        match timeout(patience, receive(&mut reader)).await {
            Err(_) => return Failure::failed(format!("silent for {patience:?}")),
            Ok(Err(failure)) => return failure,
            Ok(Ok(Message::Alive)) => {}
            Ok(Ok(Message::Response { id, result })) => {
                if let Some(answer) = lock(waiting).answers.remove(&id) {
                    // Whoever asked may have given up.
                    let _ = answer.send(result);
                }
            }
            Ok(Ok(Message::Request { id, request })) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    return Failure::failed("the peer asks for too much at once");
                };
                let (queue, answer) = (queue.clone(), handle(request));
                tokio::spawn(async move {
                    let result = answer.await;
                    drop(place);
                    // A link that has broken meanwhile takes no answer.
                    let _ = queue.send(Message::Response { id, result }).await;
                });
            }
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Nothing panics while it is held.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
