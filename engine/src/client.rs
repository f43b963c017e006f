//! The clients of a replica: everything between their sockets and the core's requests.

use crate::frontend::{Allocation, Session};
use crate::metrics::Metrics;
use crate::shell::Shell;
use crate::store::Holes;
use connection::{Connection, State};
use format::types::Span;
use replica::event::{Buffer, RequestError, Token};
use replica::limits::REQUESTS_MAX;
use ring::{Done, File};
use std::collections::{BTreeMap, VecDeque};

mod connection;
mod request;
#[cfg(test)]
mod tests;

/// One client's reads may occupy this part of what reads for all clients may.
const READ_SHARES: u64 = 4;

/// All clients.
pub(crate) struct Clients {
    connections: BTreeMap<u32, Connection>,
    /// Those that wait for what they share, first come first served.
    short: VecDeque<u32>,
    /// Those with something to send.
    talking: Vec<u32>,
    numbers: u32,
    hand: Hand,
}

/// What the clients share.
pub(crate) struct Hand {
    /// The volume's size.
    pub(crate) size_bytes: u64,
    /// What has been done for clients.
    pub(crate) metrics: Metrics,
    /// The data file's holes, and whether they tell where the volume is zero.
    pub(crate) holes: Holes,
    /// Parts that the core has.
    parts: usize,
    /// Slot bytes of reads, from their issue until the client has taken the data.
    read_bytes: u64,
    read_bytes_max: u64,
}

impl Hand {
    fn is_full(&self) -> bool {
        self.parts >= REQUESTS_MAX
    }

    /// Whether a client that holds so much of reads must first take some: none gets more than its
    /// share, so that one that takes nothing leaves room for the others.
    fn is_greedy(&self, held: u64, span: Span) -> bool {
        held > 0 && held + read_bytes(span) > self.read_bytes_max / READ_SHARES
    }

    fn take_read(&mut self, span: Span) -> bool {
        let bytes = read_bytes(span);
        let room = self.read_bytes == 0 || self.read_bytes + bytes <= self.read_bytes_max;
        if room {
            self.read_bytes += bytes;
        }
        room
    }

    fn allocations(&self, span: Span) -> Vec<Allocation> {
        self.holes.allocations(span)
    }
}

/// What a read of the span occupies in the arena.
fn read_bytes(span: Span) -> u64 {
    crate::memory::slot_bytes(span.widened().length)
}

impl Clients {
    /// No clients yet. Reads for clients occupy at most `read_bytes_max` of the arena, so that one
    /// that does not take its data leaves room for the engine's own.
    pub(crate) fn new(size_bytes: u64, holes: Holes, read_bytes_max: u64) -> Clients {
        Clients {
            connections: BTreeMap::new(),
            short: VecDeque::new(),
            talking: Vec::new(),
            numbers: 0,
            hand: Hand {
                size_bytes,
                metrics: Metrics::new(),
                holes,
                parts: 0,
                read_bytes: 0,
                read_bytes_max,
            },
        }
    }

    /// What the clients share.
    pub(crate) fn hand(&mut self) -> &mut Hand {
        &mut self.hand
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_quiet(&self) -> bool {
        self.connections.values().all(Connection::is_quiet)
    }

    /// Takes a client over, with what has been received.
    pub(crate) fn attach(
        &mut self,
        shell: &mut Shell,
        socket: File,
        received: Vec<u8>,
        session: Box<dyn Session>,
    ) {
        self.drop_ended(shell);
        self.numbers = self.numbers.wrapping_add(1);
        let number = self.numbers;
        let connection = Connection::new(number, socket, received, session);
        self.connections.insert(number, connection);
        self.apply(shell, number, |connection, shell, hand| {
            connection.advance(shell, hand)
        });
    }

    /// Ends the connections whose clients have hung up, with what has not been read of them. Whoever comes now may be one of
    /// them, and send again what had no answer: if that was begun only later, it would undo what is newer.
    fn drop_ended(&mut self, shell: &mut Shell) {
        let ended = self.connections.iter();
        let ended = ended.filter(|(_, connection)| connection.has_ended());
        for number in ended.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.apply(shell, number, |_, _, _| State::Over);
        }
    }

    /// An operation on a client's socket has ended. Of a client that has gone nothing is left to be
    /// done.
    pub(crate) fn completed(&mut self, shell: &mut Shell, number: u32, done: Done) {
        self.apply(shell, number, |connection, shell, hand| {
            connection.completed(shell, hand, done)
        });
    }

    /// The core has answered a request.
    pub(crate) fn answered(
        &mut self,
        shell: &mut Shell,
        token: Token,
        result: Result<Option<Buffer>, RequestError>,
    ) {
        if self.connections.contains_key(&token.client) {
            self.apply(shell, token.client, |connection, shell, hand| {
                connection.part_ended(shell, hand, token.request, result)
            });
        } else if let Ok(Some(buffer)) = result {
            shell.buffers.remove(buffer);
        }
    }

    /// Lets those go on that have waited for slots or places in hand, in the order in which they
    /// came.
    pub(crate) fn resume(&mut self, shell: &mut Shell) {
        for _ in 0..self.short.len() {
            let Some(number) = self.short.pop_front() else {
                return;
            };
            let waiting = self.short.len();
            self.apply(shell, number, |connection, shell, hand| {
                connection.advance(shell, hand)
            });
            if self.short.len() > waiting {
                // It is still short: those behind it must not take what it waits for.
                self.short.pop_back();
                self.short.push_front(number);
                return;
            }
        }
    }

    /// Sends what the turn has gathered.
    pub(crate) fn turn_ended(&mut self, shell: &mut Shell) {
        while let Some(number) = self.talking.pop() {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.send(shell);
            }
        }
    }

    /// Answers what is in hand and refuses the rest.
    pub(crate) fn shut_down(&mut self) {
        self.connections
            .values_mut()
            .for_each(Connection::shut_down);
    }

    /// Ends all connections at once. What has not been sent is not: a client that hears nothing
    /// asks again elsewhere, one that hears an error gives up.
    pub(crate) fn drop_all(&mut self, shell: &mut Shell) {
        for (_, connection) in std::mem::take(&mut self.connections) {
            connection.close(shell, &mut self.hand);
        }
        self.short.clear();
        self.talking.clear();
    }

    /// Ends the connections that have replies to be sent.
    pub(crate) fn drop_unsent(&mut self, shell: &mut Shell) {
        let unsent =
            |(number, connection): (&u32, &Connection)| (!connection.is_quiet()).then_some(*number);
        let unsent: Vec<u32> = self.connections.iter().filter_map(unsent).collect();
        for number in unsent {
            if let Some(connection) = self.connections.remove(&number) {
                connection.close(shell, &mut self.hand);
            }
        }
    }

    /// Does something with a connection and sees to what comes of it.
    fn apply(
        &mut self,
        shell: &mut Shell,
        number: u32,
        act: impl FnOnce(&mut Connection, &mut Shell, &mut Hand) -> State,
    ) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let state = act(connection, shell, &mut self.hand);
        if self.talking.last() != Some(&number) {
            self.talking.push(number);
        }
        match state {
            State::Waiting => {}
            State::Short => {
                if !self.short.contains(&number) {
                    self.short.push_back(number);
                }
            }
            State::Over => {
                if let Some(connection) = self.connections.remove(&number) {
                    connection.close(shell, &mut self.hand);
                }
                self.short.retain(|short| *short != number);
            }
        }
    }
}
