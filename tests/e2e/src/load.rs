//! The recording client: connections that keep many requests in flight, and a journal of what was
//! issued and what was acknowledged.

use crate::BLOCK_BYTES;
use crate::journal::{Finding, Journal};
use crate::nbd::{Client, Endpoint, Reply, Request};
use crate::random::Random;
use crate::stamp::Content;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the connections do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each writes a range of its own.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: usize,
    /// Requests that each sends before it ends; it ends sooner when stopped.
    pub requests_max: u64,
    /// Blocks of one write, at most.
    pub blocks_max: u64,
    /// Of a hundred requests, so many are reads.
    pub reads_percent: u64,
    /// Of a hundred requests, so many discard or zero.
    pub zeroes_percent: u64,
    /// Of a hundred requests, so many are flushes.
    pub flushes_percent: u64,
    /// A connection waits this long between requests.
    pub pause: Duration,
    /// Repeats the choice of blocks.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            connections: 4,
            depth: 32,
            requests_max: u64::MAX,
            blocks_max: 4,
            reads_percent: 10,
            zeroes_percent: 2,
            flushes_percent: 1,
            pause: Duration::ZERO,
            seed: 1,
        }
    }
}

impl Plan {
    /// So many requests on each connection, of every kind.
    pub fn requests(requests_max: u64) -> Plan {
        Plan {
            requests_max,
            ..Plan::default()
        }
    }

    /// So many writes of one block each, spread over the volume, and nothing else.
    pub fn single_blocks(writes: u64, seed: u64) -> Plan {
        Plan {
            connections: 1,
            requests_max: writes,
            blocks_max: 1,
            reads_percent: 0,
            zeroes_percent: 0,
            flushes_percent: 0,
            seed,
            ..Plan::default()
        }
    }
}

/// What is known when all connections have ended.
#[derive(Debug)]
pub struct Report {
    /// What was issued and what acknowledged.
    pub journal: Journal,
    /// Writes and zeroes that were acknowledged.
    pub acknowledged: u64,
    /// Reads that returned what they must not.
    pub findings: Vec<Finding>,
    /// Requests that the server refused, with its error numbers.
    pub errors: Vec<u32>,
    /// Connections that broke, and why.
    pub broken: Vec<String>,
    /// The longest that any request took.
    pub latency_max: Duration,
}

/// Connections at work.
pub struct Load {
    workers: Vec<JoinHandle<Worker>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    abandon: AtomicBool,
    acknowledged: AtomicU64,
}

impl Load {
    /// Opens the connections and begins.
    pub fn start(
        endpoint: &Endpoint,
        export: &str,
        journal: Journal,
        plan: &Plan,
    ) -> io::Result<Load> {
        let shared = Arc::new(Shared::default());
        let mut opened = Vec::new();
        for piece in journal.split(plan.connections) {
            opened.push((Client::open(endpoint, export)?, piece));
        }
        let workers = opened
            .into_iter()
            .enumerate()
            .map(|(number, (client, journal))| {
                let random = Random::new(plan.seed ^ (number as u64) << 48);
                let worker = Worker::new(client, journal, random, Arc::clone(&shared));
                let plan = plan.clone();
                std::thread::spawn(move || worker.run(&plan))
            })
            .collect();
        Ok(Load { workers, shared })
    }

    /// Runs a plan to its end.
    ///
    /// # Panics
    /// If anything goes wrong.
    pub fn complete(endpoint: &Endpoint, export: &str, journal: Journal, plan: &Plan) -> Report {
        let load = Load::start(endpoint, export, journal, plan);
        let report = load.expect("it serves").wait();
        report.assert_clean();
        report
    }

    /// Writes that have been acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Whether every connection has ended, by itself or because it broke.
    pub fn has_ended(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Lets what is in flight end, and closes.
    pub fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Closes at once, whatever is in flight: what a server sees when its client is killed.
    pub fn abandon(self) -> Report {
        self.shared.abandon.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until so many writes have been acknowledged, or every connection has ended.
    pub fn wait_for_acknowledged(&self, count: u64) {
        while self.acknowledged() < count && !self.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until every connection has ended.
    ///
    /// # Panics
    /// If a connection's thread has.
    pub fn wait(self) -> Report {
        let ended: Vec<Worker> = self
            .workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .expect("the recording client itself does not fail")
            })
            .collect();
        let acknowledged = self.shared.acknowledged.load(Ordering::Relaxed);
        let mut findings = Vec::new();
        let mut errors = Vec::new();
        let mut broken = Vec::new();
        let mut latency_max = Duration::ZERO;
        let mut pieces = Vec::new();
        for worker in ended {
            findings.extend(worker.findings);
            errors.extend(worker.errors);
            broken.extend(worker.broken);
            latency_max = latency_max.max(worker.latency_max);
            pieces.push(worker.journal);
        }
        let journal = Journal::join(pieces);
        Report {
            journal,
            acknowledged,
            findings,
            errors,
            broken,
            latency_max,
        }
    }
}

impl Report {
    /// Fails unless every request was answered, and well.
    ///
    /// # Panics
    /// With what went wrong.
    pub fn assert_clean(&self) {
        assert!(
            self.broken.is_empty(),
            "connections broke: {:?}",
            self.broken
        );
        assert!(self.errors.is_empty(), "error replies: {:?}", self.errors);
        self.assert_reads();
    }

    /// Fails if a read returned what it must not.
    ///
    /// # Panics
    /// With what was read.
    pub fn assert_reads(&self) {
        let first = self.findings.first().map(ToString::to_string);
        assert!(
            first.is_none(),
            "{} wrong reads: {first:?}",
            self.findings.len()
        );
    }
}

/// What a request in flight will have to be checked against.
struct Pending {
    first: u64,
    kind: Kind,
    sent_at: Instant,
}

enum Kind {
    Change { versions: Vec<u64> },
    Read { acknowledged: Vec<u64> },
    Flush,
}

struct Worker {
    client: Client,
    journal: Journal,
    random: Random,
    shared: Arc<Shared>,
    pending: HashMap<u64, Pending>,
    findings: Vec<Finding>,
    errors: Vec<u32>,
    broken: Option<String>,
    latency_max: Duration,
}

impl Worker {
    fn new(client: Client, journal: Journal, random: Random, shared: Arc<Shared>) -> Worker {
        Worker {
            client,
            journal,
            random,
            shared,
            pending: HashMap::new(),
            findings: Vec::new(),
            errors: Vec::new(),
            broken: None,
            latency_max: Duration::ZERO,
        }
    }

    fn run(mut self, plan: &Plan) -> Worker {
        if let Err(error) = self.drive(plan) {
            self.broken = Some(error.to_string());
        }
        self
    }

    fn drive(&mut self, plan: &Plan) -> io::Result<()> {
        let mut left = plan.requests_max;
        loop {
            let stopped = self.shared.stop.load(Ordering::Relaxed);
            while left > 0 && !stopped && self.pending.len() < plan.depth {
                self.issue(plan)?;
                left -= 1;
                if !plan.pause.is_zero() {
                    std::thread::sleep(plan.pause);
                    break;
                }
            }
            if self.pending.is_empty() && (left == 0 || stopped) {
                return Ok(());
            }
            if self.shared.abandon.load(Ordering::Relaxed) {
                return Ok(());
            }
            let reply = self.client.receive()?;
            self.take(&reply)?;
        }
    }

    fn issue(&mut self, plan: &Plan) -> io::Result<()> {
        let (first, count) = self.choose(plan);
        let offset = first * BLOCK_BYTES as u64;
        let length = u32::try_from(count * BLOCK_BYTES as u64).map_err(io::Error::other)?;
        let blocks = first..first + count;
        let dice = self.random.below(100);
        let (reads, zeroes) = (plan.reads_percent, plan.reads_percent + plan.zeroes_percent);
        let sent_at = Instant::now();
        let (cookie, kind) = if dice < reads {
            let acknowledged = blocks
                .map(|block| self.journal.acknowledged(block))
                .collect();
            (
                self.client.send(Request::Read { offset, length })?,
                Kind::Read { acknowledged },
            )
        } else if dice < zeroes {
            let versions = blocks.map(|block| self.journal.issue_zero(block)).collect();
            let request = match self.random.below(3) {
                0 => Request::Trim { offset, length },
                kind => Request::Zeroes {
                    offset,
                    length,
                    no_hole: kind == 1,
                },
            };
            (self.client.send(request)?, Kind::Change { versions })
        } else if dice < zeroes + plan.flushes_percent {
            (self.client.send(Request::Flush)?, Kind::Flush)
        } else {
            let mut data = vec![0; length as usize];
            let versions = blocks
                .zip(data.chunks_exact_mut(BLOCK_BYTES))
                .map(|(block, bytes)| self.journal.issue_write(block, bytes))
                .collect();
            let fua = self.random.percent(3);
            (
                self.client.send(Request::Write {
                    offset,
                    data: &data,
                    fua,
                })?,
                Kind::Change { versions },
            )
        };
        self.pending.insert(
            cookie,
            Pending {
                first,
                kind,
                sent_at,
            },
        );
        Ok(())
    }

    /// Half of the requests go to a sixteenth of the range, so that blocks are written again and again.
    fn choose(&mut self, plan: &Plan) -> (u64, u64) {
        let range = self.journal.range();
        let blocks = range.end - range.start;
        let count = (1 + self.random.below(plan.blocks_max)).min(blocks);
        let hot = plan.blocks_max > 1 && self.random.percent(50);
        let within = if hot {
            (blocks / 16).max(count)
        } else {
            blocks
        };
        (range.start + self.random.below(within - count + 1), count)
    }

    fn take(&mut self, reply: &Reply) -> io::Result<()> {
        let pending = self
            .pending
            .remove(&reply.cookie)
            .ok_or_else(|| io::Error::other(format!("a reply to no request: {}", reply.cookie)))?;
        self.latency_max = self.latency_max.max(pending.sent_at.elapsed());
        if reply.error != 0 {
            self.errors.push(reply.error);
            return Ok(());
        }
        match pending.kind {
            Kind::Change { versions } => {
                for (block, version) in (pending.first..).zip(versions) {
                    self.journal.acknowledge(block, version);
                }
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Kind::Read { acknowledged } => {
                let blocks = reply.data.chunks_exact(BLOCK_BYTES).zip(acknowledged);
                for (block, (bytes, since)) in (pending.first..).zip(blocks) {
                    self.findings.extend(
                        self.journal
                            .judge_since(block, since, Content::of(bytes))
                            .err(),
                    );
                }
            }
            Kind::Flush => {}
        }
        Ok(())
    }
}
