//! The recording client of a volume that fails over: it goes on at whichever node serves, and keeps listening to the
//! one that it left.
//!
//! A node that is silent is left for another that serves, but its connection stays open: what it answers later, and
//! whether it answers what is asked of it after somebody else has taken over, is what the checks are about.

use crate::journal::{Finding, Journal};
use crate::line::{Heard, Line};
use crate::load::Plan;
use crate::nbd::{Client, Endpoint, Request};
use crate::random::Random;
use crate::stamp::Content;
use crate::timeline::{Answer, Handover, Stamp, handovers};
use crate::{BLOCK_BYTES, PATIENCE};
use rustix::event::{PollFd, poll};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A node that owes an answer for so long is looked past.
const SILENCE: Duration = Duration::from_millis(300);
/// A client looks for a node that serves this often, and gives up on one that says nothing for so long.
const SCOUT_PAUSE: Duration = Duration::from_millis(20);
const SCOUT_SILENCE: Duration = Duration::from_millis(500);
/// A worker looks at all its connections at least so often.
const TURN: Duration = Duration::from_millis(5);
/// Requests in vain that are sent on a connection that was left: in flight, and in all.
const VAIN_IN_FLIGHT_MAX: usize = 8;
const VAIN_MAX: u32 = 500;

/// What is known when all connections have ended.
#[derive(Debug)]
pub struct Trace {
    /// What was issued and what acknowledged.
    pub journal: Journal,
    /// Every request that was answered without an error.
    pub answers: Vec<Answer>,
    /// Reads that returned what they must not.
    pub findings: Vec<Finding>,
    /// Error replies: the node, and its error number.
    pub errors: Vec<(usize, u32)>,
    /// Why connections were lost or left.
    pub losses: Vec<String>,
    /// Requests that were not answered, neither well nor badly, long after the last was sent: the node, and how many.
    pub unanswered: Vec<(usize, usize)>,
    /// Requests that were sent to a node after another had taken over from it; none may succeed.
    pub in_vain: u64,
    /// Those of them that did.
    pub wrongly_answered: Vec<Answer>,
}

impl Trace {
    /// Fails if anything was answered that must not have been, or a read was wrong; returns the changes of primary.
    ///
    /// # Panics
    /// With what went wrong.
    pub fn assert_one_at_a_time(&self) -> Vec<Handover> {
        let wrong = self.wrongly_answered.first();
        assert_eq!(wrong, None, "answered after another node had taken over");
        assert_eq!(self.unanswered, [], "never answered; {:?}", self.losses);
        let first = self.findings.first().map(ToString::to_string);
        assert!(
            first.is_none(),
            "{} wrong reads: {first:?}",
            self.findings.len()
        );
        handovers(&self.answers).unwrap_or_else(|overlap| panic!("two primaries: {overlap}"))
    }

    /// When a node's first answer to a change arrived; its first answer to anything, if nothing was changed.
    pub fn first_of(&self, node: usize) -> Option<Stamp> {
        let of = |change: bool| {
            let answers = self.answers.iter().filter(|answer| answer.node == node);
            let answers = answers.filter(|answer| answer.change || !change);
            answers.map(|answer| answer.by).min()
        };
        of(true).or_else(|| of(false))
    }

    /// The longest time without any answer.
    pub fn longest_gap(&self) -> Duration {
        let mut times: Vec<Stamp> = self.answers.iter().map(|answer| answer.by).collect();
        times.sort();
        let gaps = times.windows(2).map(|pair| pair[1].since(pair[0]));
        gaps.max().unwrap_or_default()
    }
}

/// Connections at work.
pub struct Roving {
    workers: Vec<JoinHandle<Worker>>,
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    export: String,
    stop: AtomicBool,
    answered: Vec<AtomicU64>,
}

impl Roving {
    /// Begins at this node.
    pub fn start(
        endpoints: Vec<Endpoint>,
        first: usize,
        export: &str,
        journal: Journal,
        plan: &Plan,
    ) -> io::Result<Roving> {
        let shared = Arc::new(Shared {
            answered: endpoints.iter().map(|_| AtomicU64::new(0)).collect(),
            endpoints,
            export: export.to_owned(),
            stop: AtomicBool::new(false),
        });
        let mut workers = Vec::new();
        for (number, piece) in journal.split(plan.connections).into_iter().enumerate() {
            let client = Client::open(&shared.endpoints[first], export)?;
            let line = Line::new(first, client)?;
            let random = Random::new(plan.seed ^ (number as u64) << 48);
            let worker = Worker::new(line, piece, random, plan.clone(), Arc::clone(&shared));
            workers.push(std::thread::spawn(move || worker.run()));
        }
        Ok(Roving { workers, shared })
    }

    /// Requests that a node has answered so far.
    pub fn answered_by(&self, node: usize) -> u64 {
        self.shared.answered[node].load(Ordering::Relaxed)
    }

    /// Requests that have been answered so far.
    pub fn answered(&self) -> u64 {
        (0..self.shared.answered.len())
            .map(|node| self.answered_by(node))
            .sum()
    }

    /// Waits until so many more requests were answered, by whichever node.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn wait_for_any_answers(&self, more: u64) {
        let begin = self.answered();
        let what = format!("{more} answers, after {begin}");
        crate::wait_for(&what, PATIENCE, || {
            (self.answered() >= begin + more).then_some(())
        });
    }

    /// Waits until a node has answered so many more requests.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn wait_for_answers(&self, node: usize, more: u64) {
        let begin = self.answered_by(node);
        let what = format!("{more} answers of node {node}, after {begin}");
        crate::wait_for(&what, PATIENCE, || {
            (self.answered_by(node) >= begin + more).then_some(())
        });
    }

    /// Lets what is in flight end, and closes.
    ///
    /// # Panics
    /// If a connection's thread has.
    pub fn stop(self) -> Trace {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.workers.into_iter().map(|worker| worker.join());
        let ended: Vec<Worker> = ended
            .map(|worker| worker.expect("the recording client itself does not fail"))
            .collect();
        let mut trace = Trace {
            journal: Journal::new(0, 0),
            answers: Vec::new(),
            findings: Vec::new(),
            errors: Vec::new(),
            losses: Vec::new(),
            unanswered: Vec::new(),
            in_vain: 0,
            wrongly_answered: Vec::new(),
        };
        let mut pieces = Vec::new();
        for worker in ended {
            pieces.push(worker.journal);
            trace.answers.extend(worker.answers);
            trace.findings.extend(worker.findings);
            trace.errors.extend(worker.errors);
            trace.losses.extend(worker.losses);
            let line = worker.line.filter(|line| line.in_flight() > 0);
            let unanswered = line.map(|line| (line.node(), line.in_flight()));
            trace.unanswered.extend(unanswered);
            trace.in_vain += worker.in_vain;
            trace.wrongly_answered.extend(worker.wrongly_answered);
        }
        trace.journal = Journal::join(pieces);
        trace
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a request in flight will have to be checked against.
enum Note {
    Change {
        first: u64,
        versions: Vec<u64>,
    },
    Read {
        first: u64,
        acknowledged: Vec<u64>,
    },
    Flush,
    /// Sent to a node that another had taken over from.
    Vain,
}

/// A connection that was left.
struct Left {
    line: Line<Note>,
    vain: u32,
}

/// Threads that look for a node that serves. They end when nobody wants to know any more.
struct Scouts {
    found: Receiver<(usize, Client)>,
    over: Arc<AtomicBool>,
}

impl Drop for Scouts {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    line: Option<Line<Note>>,
    left: Vec<Left>,
    scouts: Option<Scouts>,
    heard_at: Stamp,
    answered: u64,
    issued: u64,
    next_at: Stamp,
    plan: Plan,
    journal: Journal,
    random: Random,
    shared: Arc<Shared>,
    answers: Vec<Answer>,
    findings: Vec<Finding>,
    errors: Vec<(usize, u32)>,
    losses: Vec<String>,
    in_vain: u64,
    wrongly_answered: Vec<Answer>,
}

impl Worker {
    fn new(
        line: Line<Note>,
        journal: Journal,
        random: Random,
        plan: Plan,
        shared: Arc<Shared>,
    ) -> Worker {
        Worker {
            line: Some(line),
            left: Vec::new(),
            scouts: None,
            heard_at: Stamp::now(),
            answered: 0,
            issued: 0,
            next_at: Stamp::now(),
            plan,
            journal,
            random,
            shared,
            answers: Vec::new(),
            findings: Vec::new(),
            errors: Vec::new(),
            losses: Vec::new(),
            in_vain: 0,
            wrongly_answered: Vec::new(),
        }
    }

    fn run(mut self) -> Worker {
        let mut stopped_at = None;
        loop {
            let now = Stamp::now();
            if self.shared.stop.load(Ordering::Relaxed) {
                let waited = now.since(*stopped_at.get_or_insert(now));
                let in_flight = self.line.as_ref().map_or(0, Line::in_flight);
                if in_flight == 0 || waited > PATIENCE {
                    return self;
                }
            } else {
                self.issue_all();
                self.ask_in_vain();
            }
            self.wait();
            self.push();
            self.hear();
            self.hear_left();
            self.move_on();
        }
    }

    /// Fills the connection.
    fn issue_all(&mut self) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        let mut result = Ok(());
        if line.in_flight() == 0 {
            self.heard_at = Stamp::now();
        }
        while result.is_ok()
            && line.in_flight() < self.plan.depth
            && self.issued < self.plan.requests_max
            && Stamp::now() >= self.next_at
        {
            result = self.issue(&mut line);
            self.issued += 1;
            if !self.plan.pause.is_zero() {
                let pause = u64::try_from(self.plan.pause.as_nanos()).unwrap_or(u64::MAX);
                self.next_at = Stamp(Stamp::now().0.saturating_add(pause));
            }
        }
        self.keep_or_lose(line, result);
    }

    fn issue(&mut self, line: &mut Line<Note>) -> io::Result<()> {
        let (first, count) = self.choose();
        let offset = first * BLOCK_BYTES as u64;
        let length = u32::try_from(count * BLOCK_BYTES as u64).map_err(io::Error::other)?;
        let blocks = first..first + count;
        let dice = self.random.below(100);
        let reads = self.plan.reads_percent;
        let zeroes = reads + self.plan.zeroes_percent;
        if dice < reads {
            let acknowledged = blocks.map(|block| self.journal.acknowledged(block));
            let acknowledged = acknowledged.collect();
            let note = Note::Read {
                first,
                acknowledged,
            };
            line.send(Request::Read { offset, length }, note)
        } else if dice < zeroes {
            let versions = blocks.map(|block| self.journal.issue_zero(block)).collect();
            let no_hole = self.random.percent(50);
            let request = Request::Zeroes {
                offset,
                length,
                no_hole,
            };
            line.send(request, Note::Change { first, versions })
        } else if dice < zeroes + self.plan.flushes_percent {
            line.send(Request::Flush, Note::Flush)
        } else {
            let mut data = vec![0; length as usize];
            let versions = blocks
                .zip(data.chunks_exact_mut(BLOCK_BYTES))
                .map(|(block, bytes)| self.journal.issue_write(block, bytes))
                .collect();
            let fua = self.random.percent(3);
            let data = &data;
            line.send(
                Request::Write { offset, data, fua },
                Note::Change { first, versions },
            )
        }
    }

    /// As the recording client that stays: half of the requests go to a sixteenth of the range.
    fn choose(&mut self) -> (u64, u64) {
        let range = self.journal.range();
        let blocks = range.end - range.start;
        let count = (1 + self.random.below(self.plan.blocks_max)).min(blocks);
        let hot = self.plan.blocks_max > 1 && self.random.percent(50);
        let within = if hot {
            (blocks / 16).max(count)
        } else {
            blocks
        };
        (range.start + self.random.below(within - count + 1), count)
    }

    /// Once another node has answered, the one that was left is asked on: reads, and writes that must never appear.
    fn ask_in_vain(&mut self) {
        let current = self.line.as_ref().map(Line::node);
        if self.answered == 0 {
            return;
        }
        let range = self.journal.range();
        for left in &mut self.left {
            if Some(left.line.node()) == current
                || current.is_none()
                || left.line.in_flight() >= self.plan.depth + VAIN_IN_FLIGHT_MAX
                || left.vain >= VAIN_MAX
            {
                continue;
            }
            left.vain += 1;
            self.in_vain += 1;
            let block = range.start + self.random.below(range.end - range.start);
            let offset = block * BLOCK_BYTES as u64;
            let length = u32::try_from(BLOCK_BYTES).unwrap_or(u32::MAX);
            let mut data = vec![0; BLOCK_BYTES];
            let request = if self.plan.reads_percent >= 100 || self.random.percent(50) {
                Request::Read { offset, length }
            } else {
                self.journal.issue_in_vain(block, &mut data);
                let (data, fua) = (&data[..], false);
                Request::Write { offset, data, fua }
            };
            // That it is lost is heard.
            let _ = left.line.send(request, Note::Vain);
        }
    }

    fn wait(&self) {
        let lines = self.line.iter();
        let lines = lines.chain(self.left.iter().map(|left| &left.line));
        let mut sockets: Vec<PollFd<'_>> = lines
            .map(|line| {
                let (socket, flags) = line.interest();
                PollFd::from_borrowed_fd(socket, flags)
            })
            .collect();
        let turn = TURN.try_into().ok();
        // Whatever it says, all are looked at next.
        let _ = poll(&mut sockets, turn.as_ref());
    }

    /// Sends what did not fit before, also when nothing new is asked any more.
    fn push(&mut self) {
        if let Some(mut line) = self.line.take() {
            let result = line.push();
            self.keep_or_lose(line, result);
        }
    }

    fn hear(&mut self) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        let (heard, mut result) = line.hear();
        for reply in heard {
            self.heard_at = reply.by;
            if reply.error != 0 && result.is_ok() {
                let reason = format!("error {} in a reply", reply.error);
                result = Err(io::Error::other(reason));
            }
            self.answered += u64::from(reply.error == 0);
            self.take(line.node(), reply);
        }
        self.keep_or_lose(line, result);
    }

    fn hear_left(&mut self) {
        for mut left in std::mem::take(&mut self.left) {
            let pushed = left.line.push();
            let (heard, result) = left.line.hear();
            for reply in heard {
                self.take(left.line.node(), reply);
            }
            if pushed.is_ok() && result.is_ok() {
                self.left.push(left);
            }
        }
    }

    fn take(&mut self, node: usize, reply: Heard<Note>) {
        if reply.error != 0 {
            self.errors.push((node, reply.error));
            return;
        }
        let answer = Answer {
            node,
            issued: reply.issued,
            after: reply.after,
            by: reply.by,
            change: matches!(reply.note, Note::Change { .. }),
        };
        self.answers.push(answer);
        self.shared.answered[node].fetch_add(1, Ordering::Relaxed);
        match reply.note {
            Note::Change { first, versions } => {
                for (block, version) in (first..).zip(versions) {
                    self.journal.acknowledge(block, version);
                }
            }
            Note::Read {
                first,
                acknowledged,
            } => {
                let blocks = reply.data.chunks_exact(BLOCK_BYTES).zip(acknowledged);
                for (block, (bytes, since)) in (first..).zip(blocks) {
                    let read = Content::of(bytes);
                    let judged = self.journal.judge_since(block, since, read);
                    self.findings.extend(judged.err());
                    self.journal.observe(block, read);
                }
            }
            Note::Flush => {}
            Note::Vain => self.wrongly_answered.push(answer),
        }
    }

    /// A connection that fails is given up; what was in flight on it may have happened or not.
    fn keep_or_lose(&mut self, line: Line<Note>, result: io::Result<()>) {
        match result {
            Ok(()) => self.line = Some(line),
            Err(error) => {
                self.losses.push(format!("node {}: {error}", line.node()));
                // After an error reply it is still there.
                self.left.push(Left { line, vain: 0 });
                self.scouts = Some(self.look_around(None));
            }
        }
    }

    /// Goes where the volume is served, if the node is lost or silent.
    fn move_on(&mut self) {
        let silent = self
            .line
            .as_ref()
            .filter(|line| line.in_flight() > 0 && Stamp::now().since(self.heard_at) > SILENCE);
        match (silent.map(Line::node), &self.scouts) {
            (Some(node), None) => self.scouts = Some(self.look_around(Some(node))),
            (None, Some(_)) if self.line.is_some() => self.scouts = None,
            _ => {}
        }
        let found = self.scouts.as_ref().map(|scouts| scouts.found.try_recv());
        let Some(Ok((node, client))) = found else {
            return;
        };
        if let Ok(line) = Line::new(node, client) {
            if let Some(line) = self.line.replace(line) {
                self.losses.push(format!("node {} was silent", line.node()));
                self.left.push(Left { line, vain: 0 });
            }
            (self.scouts, self.answered, self.heard_at) = (None, 0, Stamp::now());
        }
    }

    fn look_around(&self, except: Option<usize>) -> Scouts {
        let (sender, found) = channel();
        let over = Arc::new(AtomicBool::new(false));
        for (node, endpoint) in self.shared.endpoints.iter().enumerate() {
            if Some(node) != except {
                let (endpoint, export) = (endpoint.clone(), self.shared.export.clone());
                let (sender, over) = (sender.clone(), Arc::clone(&over));
                std::thread::spawn(move || scout(node, &endpoint, &export, &sender, &over));
            }
        }
        Scouts { found, over }
    }
}

fn scout(
    node: usize,
    endpoint: &Endpoint,
    export: &str,
    sender: &Sender<(usize, Client)>,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        if let Ok(client) = Client::open_within(endpoint, export, SCOUT_SILENCE) {
            // Nobody may want it any more.
            let _ = sender.send((node, client));
            return;
        }
        std::thread::sleep(SCOUT_PAUSE);
    }
}
