//! Clients: what they ask for, and what they make of the answers.

use crate::content::{BLOCK_SECTORS, SECTOR_BYTES, Tag, block_of, blocks, sectors, tag};
use crate::failure::Checker;
use crate::oracle::{Order, Wrong};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Happening, Phase, World};
use format::types::{BLOCK_BYTES, Span};
use replica::event::{Buffer, Event, Kind, Nanos, Request, RequestError, Token};
use replica::limits::{DATA_BYTES_MAX, ZERO_BYTES_MAX};
use std::collections::BTreeMap;

/// What a request was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// A read.
    Read,
    /// A write of data.
    Write,
    /// A write of zeroes.
    Zero,
    /// A flush.
    Flush,
}

/// A request that has not been answered.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// What.
    pub ask: Ask,
    /// Where.
    pub span: Span,
    /// Durable before the reply.
    pub fua: bool,
    /// Its place in the order of arrival.
    pub order: Order,
    /// Who has it.
    pub host: usize,
    /// The history that it belongs to.
    pub lineage: usize,
    /// Since when.
    pub since: Nanos,
    /// Its client has gone.
    pub gone: bool,
}

/// A client.
#[derive(Clone, Copy, Default, Debug)]
struct Client {
    /// Its name on its present connection.
    name: u32,
    /// Whom it is connected to.
    host: Option<usize>,
    in_flight: usize,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    all: Vec<Client>,
    pending: BTreeMap<Token, Pending>,
    order: Order,
    next_name: u32,
    next_request: u32,
    rng: Rng,
    hot: Span,
    /// The size that every replica is known to have.
    pub size_bytes: u64,
    /// Requests that were answered.
    pub completed: u64,
}

impl Clients {
    /// The clients of a plan.
    pub fn new(plan: &Plan, mut rng: Rng) -> Clients {
        let blocks = plan.size_bytes / BLOCK_BYTES;
        let hot = plan.hot_blocks.min(blocks);
        let start = rng.below(blocks - hot + 1);
        Clients {
            all: vec![Client::default(); plan.clients],
            pending: BTreeMap::new(),
            order: 1,
            next_name: 1,
            next_request: 1,
            rng,
            hot: Span::new(start * BLOCK_BYTES, hot * BLOCK_BYTES),
            size_bytes: plan.size_bytes,
            completed: 0,
        }
    }

    /// The place in the order that comes now.
    pub fn order(&self) -> Order {
        self.order
    }

    /// A new place in the order.
    fn next_order(&mut self) -> Order {
        self.order += 1;
        self.order
    }

    /// Requests that somebody waits for.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.values().filter(|pending| !pending.gone)
    }

    /// Whether the request that is pending is a write.
    pub fn is_write(&self, token: Token) -> bool {
        let pending = self.pending.get(&token);
        pending.is_some_and(|pending| matches!(pending.ask, Ask::Write | Ask::Zero))
    }

    /// A block that clients are likely to use.
    pub fn any_block(&self, blocks: u64, rng: &mut Rng) -> u32 {
        let hot = self.hot.offset / BLOCK_BYTES + rng.below(self.hot.length / BLOCK_BYTES);
        let number = if rng.permille(700) {
            hot
        } else {
            rng.below(blocks)
        };
        u32::try_from(number).expect("a volume has few blocks")
    }

    /// Where a request goes, in sectors when `ragged` and in blocks otherwise.
    fn span(&mut self, size_bytes: u64, bytes_max: u64, ragged: bool) -> Span {
        let unit = if ragged { SECTOR_BYTES } else { BLOCK_BYTES };
        let area = match self.rng.permille(650) {
            true => self.hot,
            false => Span::new(0, size_bytes),
        };
        let longest = match self.rng.below(20) {
            0 => bytes_max,
            1..4 => bytes_max.min(64 << 10),
            _ => bytes_max.min(3 * BLOCK_BYTES),
        };
        let length = (self.rng.below(longest.min(area.length) / unit) + 1) * unit;
        let start = self.rng.below((area.length - length) / unit + 1) * unit;
        Span::new(area.offset + start, length)
    }
}

impl World {
    /// A client connects, asks for something, or goes.
    pub(crate) fn client_acts(&mut self, client: usize) {
        if self.phase != Phase::Turmoil {
            return self.client_leaves(client);
        }
        let next = self.now + self.clients.rng.interval(self.plan.think);
        self.schedule(next, Happening::Client { client });
        let Some(host) = self.clients.all[client].host else {
            return self.client_comes(client);
        };
        if self.clients.rng.permille(3) {
            self.coverage.fault("client vanishes");
            return self.client_leaves(client);
        }
        let life = self.hosts[host].life;
        for _ in 0..=self.clients.rng.below(8) {
            if self.clients.all[client].in_flight < self.plan.depth && self.lives(host, life) {
                self.client_asks(client, host);
            }
        }
    }

    fn client_comes(&mut self, client: usize) {
        let serving = (0..self.hosts.len()).filter(|host| self.hosts[*host].serves());
        let serving: Vec<usize> = serving.collect();
        if serving.is_empty() {
            return;
        }
        let host = serving[self.clients.rng.index(serving.len())];
        let name = self.clients.next_name;
        self.clients.next_name += 1;
        self.clients.all[client] = Client {
            name,
            host: Some(host),
            in_flight: 0,
        };
    }

    fn client_leaves(&mut self, client: usize) {
        let Client { name, host, .. } = self.clients.all[client];
        self.clients.all[client].host = None;
        let Some(host) = host else { return };
        for (token, pending) in &mut self.clients.pending {
            pending.gone |= token.client == name;
        }
        if self.hosts[host].node.is_some() {
            self.step(host, Event::ClientGone { client: name });
        }
    }

    /// All clients of a node lose their connections. Their names.
    pub(crate) fn forget_clients(&mut self, host: usize) -> Vec<u32> {
        let alive = self.hosts[host].node.is_some();
        self.clients
            .pending
            .retain(|_, pending| pending.host != host || alive);
        for pending in self
            .clients
            .pending
            .values_mut()
            .filter(|pending| pending.host == host)
        {
            pending.gone = true;
        }
        let mine = self
            .clients
            .all
            .iter_mut()
            .filter(|client| client.host == Some(host));
        mine.map(|client| std::mem::take(client).name).collect()
    }

    fn client_asks(&mut self, client: usize, host: usize) {
        let size = self.clients.size_bytes;
        let clients = &mut self.clients;
        let ragged = clients.rng.permille(300);
        let zeroes = u32::try_from(self.plan.zero_permille).unwrap_or(0);
        let (ask, span) = match clients.rng.weighted(&[500, 280, 50, zeroes]) {
            0 => (Ask::Write, clients.span(size, DATA_BYTES_MAX, ragged)),
            1 => (Ask::Read, clients.span(size, DATA_BYTES_MAX, ragged)),
            2 => (Ask::Flush, Span::new(0, 0)),
            _ => (Ask::Zero, clients.span(size, ZERO_BYTES_MAX, false)),
        };
        let fua = matches!(ask, Ask::Write | Ask::Zero) && clients.rng.permille(100);
        let token = Token {
            client: clients.all[client].name,
            request: clients.next_request,
        };
        clients.next_request = clients.next_request.wrapping_add(1);
        clients.all[client].in_flight += 1;
        let order = clients.next_order();
        let unmap = clients.rng.permille(500);
        let lineage = self.lineage_of(host);
        let gone = false;
        let pending = Pending {
            ask,
            span,
            fua,
            order,
            host,
            lineage,
            since: self.now,
            gone,
        };
        self.clients.pending.insert(token, pending);
        let kind = match ask {
            Ask::Read => Kind::Read,
            Ask::Flush => Kind::Flush,
            Ask::Zero => Kind::Zero { unmap, fua },
            Ask::Write => Kind::Write {
                buffer: self.give_tags(host, span, order),
                fua,
            },
        };
        let oracle = &mut self.lineages.get_mut(lineage).oracle;
        match ask {
            Ask::Write => oracle.write(order, span, Some(&tags(span, order))),
            Ask::Zero => oracle.write(order, span, None),
            Ask::Read | Ask::Flush => {}
        }
        self.step(host, Event::Request(Request { token, kind, span }));
    }

    fn give_tags(&mut self, host: usize, span: Span, order: Order) -> Buffer {
        self.hosts[host].arena.give(tags(span, order))
    }

    /// A request has been answered.
    pub(crate) fn complete(
        &mut self,
        host: usize,
        token: Token,
        result: Result<Option<Buffer>, RequestError>,
    ) {
        let Some(pending) = self.clients.pending.remove(&token) else {
            return self.fail(Checker::Contract, || {
                format!("{token:?} is answered out of turn")
            });
        };
        if pending.host != host {
            return self.fail(Checker::Contract, || {
                format!("{token:?} is answered by {host}")
            });
        }
        let client = self
            .clients
            .all
            .iter_mut()
            .find(|client| client.name == token.client);
        if let Some(client) = client {
            client.in_flight -= 1;
        }
        match result {
            Ok(buffer) => {
                self.clients.completed += 1;
                self.check_acknowledging(host, &pending);
                self.check_one_primary(host);
                self.succeeded(host, &pending, buffer);
            }
            Err(error) => self.coverage.request_error(error),
        }
    }

    fn succeeded(&mut self, host: usize, pending: &Pending, buffer: Option<Buffer>) {
        let now = self.clients.next_order();
        if buffer.is_some() != (pending.ask == Ask::Read) {
            return self.fail(Checker::Contract, || {
                format!("{pending:?} came with {buffer:?}")
            });
        }
        match pending.ask {
            Ask::Read => {
                let content = buffer.map(|buffer| self.hosts[host].arena.take(buffer));
                match content {
                    Some(Ok(content)) => self.read_returned(host, pending, &content),
                    Some(Err(misuse)) => self.fail(Checker::Buffers, || misuse),
                    None => {}
                }
            }
            Ask::Write | Ask::Zero => {
                self.check_done_by_all(host, pending);
                if !pending.gone && self.is_kept(host, pending.order) {
                    let oracle = &mut self.lineages.get_mut(pending.lineage).oracle;
                    oracle.acknowledge(pending.order, pending.span, now, pending.fua);
                }
            }
            Ask::Flush => {
                self.check_flushed_by_all(host, pending);
                if !pending.gone && self.is_kept(host, pending.order) {
                    self.lineages
                        .get_mut(pending.lineage)
                        .oracle
                        .flushed(pending.order);
                }
            }
        }
    }

    fn read_returned(&mut self, host: usize, pending: &Pending, content: &[Tag]) {
        let wide = pending.span.widened();
        if content.len() != sectors(wide.length) {
            return self.fail(Checker::Contract, || format!("{pending:?} read too little"));
        }
        let skipped = sectors(pending.span.offset - wide.offset);
        let named = &content[skipped..skipped + sectors(pending.span.length)];
        let oracle = &mut self.lineages.get_mut(pending.lineage).oracle;
        if let Err(mismatch) = oracle.read(pending.order, pending.span, named) {
            let checker = match mismatch.wrong {
                Wrong::OlderThanFlushed => Checker::FlushedSurvives,
                Wrong::NotLatest => Checker::ReadLatest,
            };
            self.fail(checker, || {
                format!("{host} answered {pending:?} with {mismatch:x?}")
            });
        }
        self.check_equal(host, pending, content);
    }

    /// Nobody waits for anything, and has been told all.
    pub(crate) fn clients_are_quiet(&self) -> bool {
        self.clients.pending().next().is_none()
    }

    /// How long the oldest request has been waited for.
    pub(crate) fn oldest_request(&self) -> Nanos {
        let since = self.clients.pending().map(|pending| pending.since).min();
        since.map_or(0, |since| self.now - since)
    }

    /// What a write must have left in a block, sector by sector; `None` where it did not write.
    pub(crate) fn written(&self, pending: &Pending, number: u32) -> [Option<Tag>; BLOCK_SECTORS] {
        let span = pending.span;
        std::array::from_fn(|sector| {
            let at = u64::from(number) * BLOCK_BYTES + sector as u64 * SECTOR_BYTES;
            let inside = at >= span.offset && at < span.end();
            inside.then(|| match pending.ask {
                Ask::Zero => 0,
                _ => tag(pending.order, sectors(at - span.offset)),
            })
        })
    }

    /// Which blocks of a read's content differ from a member's.
    pub(crate) fn differing(&self, member: usize, span: Span, content: &[Tag]) -> Vec<u32> {
        let disk = &self.hosts[member].disk;
        let differs = |(nth, number): &(usize, u32)| disk.get(*number) != block_of(content, *nth);
        blocks(span)
            .enumerate()
            .filter(differs)
            .map(|(_, number)| number)
            .collect()
    }
}

/// The sectors of a write.
fn tags(span: Span, order: Order) -> Vec<Tag> {
    (0..sectors(span.length))
        .map(|nth| tag(order, nth))
        .collect()
}
