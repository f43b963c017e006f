//! Clients' requests, from their arrival to the point where a read has its data and a write sets out.
//!
//! A request passes these obstacles, in this order: requests before it that overlap; blocks that are
//! not equal on all members (equal before served); for a ragged write, the read of its edges; for a
//! write, the activity log.

use crate::activity_log::Entry;
use crate::event::{Buffer, DiskError, Effect, Kind, Request, RequestError, Token};
use crate::inflight::Access;
use crate::limits::{DATA_BYTES_MAX, ZERO_BYTES_MAX};
use crate::node::Node;
use crate::notice::Notice;
use crate::operation::{Content, OperationId, ReadWork, Work, WriteStage, WriteWork};
use crate::peer::Relation;
use crate::role::Role;
use format::frame::{Fault, Frame};
use format::types::{BLOCK_BYTES, CHUNK_BYTES, DiskState, Slot, Span};

impl Node {
    pub(crate) fn request(&mut self, request: Request) {
        if matches!(self.role, Role::HandingOver(_)) {
            self.postponed.push_back(request);
            return;
        }
        if let Err(error) = self.admissible(&request) {
            self.refuse(request, error);
            return;
        }
        let Request { token, kind, span } = request;
        let wide = span.widened();
        let work = match kind {
            Kind::Flush => return self.flush_requested(token),
            Kind::Read => Work::Read(ReadWork {
                token,
                repairing: None,
            }),
            Kind::Write { buffer, fua } => {
                Work::Write(write_work(token, span, Content::Data(buffer), fua))
            }
            Kind::Zero { unmap, fua } => {
                Work::Write(write_work(token, span, Content::Zero { unmap }, fua))
            }
        };
        let id = self.operations.insert(wide, work, self.now);
        self.enter_order(id, wide);
    }

    /// A request to blocks that are not equal on all members holds whole chunks, and alone, so that they can
    /// be made equal under its lock.
    fn lock_for(&self, id: OperationId, span: Span) -> (Span, Access) {
        let operation = self.operations.get(id);
        let request = matches!(operation.work, Work::Read(_) | Work::Write(_));
        let unequal = |member| self.marks_of(member).intersects(span);
        if !request || !self.other_members().iter().any(unequal) {
            return (span, operation.access());
        }
        let start = span.offset / CHUNK_BYTES * CHUNK_BYTES;
        let end = span.end().next_multiple_of(CHUNK_BYTES);
        (Span::new(start, end - start), Access::Write)
    }

    /// Gives an operation its place among those that overlap it.
    pub(crate) fn enter_order(&mut self, id: OperationId, span: Span) {
        self.operations.take_turn(id);
        let (lock, access) = self.lock_for(id, span);
        if self.inflight.enter(id, lock, access) {
            self.ready.push(id);
        }
    }

    fn admissible(&self, request: &Request) -> Result<(), RequestError> {
        match &self.role {
            Role::Primary | Role::HandingOver(_) => {}
            Role::Stopping(_) | Role::Stopped => return Err(RequestError::Stopping),
            _ => return Err(RequestError::NotPrimary),
        }
        if !self.disk_usable() && self.other_members().is_empty() {
            return Err(RequestError::Io);
        }
        let span = request.span;
        let (length_max, aligned) = match request.kind {
            Kind::Flush => return Ok(()),
            Kind::Read | Kind::Write { .. } => (DATA_BYTES_MAX, true),
            Kind::Zero { .. } => (ZERO_BYTES_MAX, span.is_aligned()),
        };
        let size = self.superblock.size_bytes;
        let inside = span.offset <= size && span.length <= size - span.offset;
        let sound = inside && span.length > 0 && span.length <= length_max && aligned;
        if sound {
            Ok(())
        } else {
            Err(RequestError::OutOfRange)
        }
    }

    pub(crate) fn refuse(&mut self, request: Request, error: RequestError) {
        if let Kind::Write { buffer, .. } = request.kind {
            self.release(Some(buffer));
        }
        self.complete(request.token, Err(error));
    }

    /// Drops what a client that has gone had asked for and that has not been started.
    pub(crate) fn client_gone(&mut self, client: u32) {
        let unstarted: Vec<OperationId> = self
            .operations
            .iter()
            .filter(|(_, operation)| {
                let token = match &operation.work {
                    Work::Read(read) => read.token,
                    Work::Write(write) => write.token,
                    _ => return false,
                };
                token.client == client && !operation.started && operation.pending == 0
            })
            .map(|(id, _)| id)
            .collect();
        for id in unstarted {
            self.retire(id);
        }
        self.barrier.waiting.retain(|token| token.client != client);
        self.forget_withheld(client);
        let postponed = std::mem::take(&mut self.postponed);
        for request in postponed {
            if request.token.client != client {
                self.postponed.push_back(request);
            } else if let Kind::Write { buffer, .. } = request.kind {
                self.release(Some(buffer));
            }
        }
    }

    /// Takes a request on: its turn has come, or what it waited for may have happened.
    pub(crate) fn request_proceed(&mut self, id: OperationId) {
        let one_copy = !self.is_member() && self.other_members().len() == 1;
        if !self.unmet.is_empty() && !one_copy {
            // It has not begun: which blocks it will have to hold alone is not known yet.
            return self.blocked.push(id);
        }
        let operation = self.operations.get_mut(id);
        operation.started = true;
        if operation.pending > 0 || operation.logged || !self.blocks_are_equal(id) {
            return;
        }
        match &self.operations.get(id).work {
            Work::Read(_) => self.start_read(id),
            Work::Write(write) => {
                let WriteStage::Waiting = write.stage else {
                    return;
                };
                let ragged = matches!(write.content, Content::Data(_)) && !write.named.is_aligned();
                if ragged {
                    self.start_read(id);
                } else {
                    self.enter_log(id);
                }
            }
            _ => unreachable!("only requests come here"),
        }
    }

    /// Whether the request's blocks are equal on all members; if not, sees to it.
    fn blocks_are_equal(&mut self, id: OperationId) -> bool {
        let span = self.operations.get(id).span;
        if !self.is_member() && self.other_members().len() == 1 {
            // There is one copy that counts.
            return true;
        }
        let unequal = self.other_members().iter().find_map(|member| {
            let marks = self.marks_of(member);
            if !marks.intersects(span) {
                return None;
            }
            let chunk = span
                .chunks()
                .find(|chunk| marks.mask(*chunk) & span.mask_in(*chunk) != 0)?;
            Some((member, chunk))
        });
        let Some((member, chunk)) = unequal else {
            return true;
        };
        let held = self.inflight.holds_alone(id, Span::chunk(chunk));
        if held && !self.is_member() {
            self.blocked.push(id);
            return false;
        }
        let relation = self.peer(member).up().map(|session| session.relation);
        let reachable = relation.is_some_and(|relation| relation != Relation::Idle);
        match (held, reachable) {
            (true, true) => self.equalise_for(id, member, chunk),
            (true, false) => self.blocked.push(id),
            // The blocks were found unequal after the request took its place: it takes a new one, the
            // last, with a lock that is wide enough. It has not been answered, so it may.
            (false, _) => self.reorder(id),
        }
        false
    }

    /// Gives a request its place anew, with a wider lock; everything that came after it and has not started
    /// comes after it again.
    fn reorder(&mut self, id: OperationId) {
        self.operations.get_mut(id).started = false;
        let turn = self.operations.get(id).turn;
        let mut later: Vec<(u64, OperationId)> = self
            .operations
            .iter()
            .filter(|(_, other)| other.ordered && !other.started && other.turn >= turn)
            .map(|(other, operation)| (operation.turn, other))
            .collect();
        later.sort_unstable();
        // Who leaves last finds nobody behind, so that nothing is let through meanwhile.
        let mut let_through = Vec::new();
        for (_, other) in later.iter().rev() {
            self.inflight.leave(*other, &mut let_through);
        }
        self.ready
            .retain(|ready| !later.iter().any(|(_, other)| other == ready));
        for (_, other) in later {
            let span = self.operations.get(other).span;
            let (lock, access) = self.lock_for(other, span);
            if self.inflight.enter(other, lock, access) {
                self.ready.push(other);
            }
        }
    }

    /// Lets requests that wait for a peer or a configuration look again.
    pub(crate) fn unblock(&mut self) {
        self.ready.append(&mut self.blocked);
    }

    /// Reads the operation's span from the local disk, or from a member where that cannot be.
    pub(crate) fn start_read(&mut self, id: OperationId) {
        if self.disk_usable() && self.is_member() {
            let span = self.operations.get(id).span;
            self.read_local(id, span);
        } else {
            self.read_from_member(id);
        }
    }

    pub(crate) fn read_local(&mut self, id: OperationId, span: Span) {
        self.operations.get_mut(id).pending += 1;
        let io = self.operations.io(id);
        self.out.push(Effect::ReadLocal { io, span });
    }

    fn read_from_member(&mut self, id: OperationId) {
        let members = self.other_members();
        if members.is_empty() {
            return self.request_failed(id, RequestError::Io);
        }
        let span = self.operations.get(id).span;
        // What one may have lost with its power another has.
        let mut good = members
            .iter()
            .filter(|member| self.is_at_work(*member) && !self.heard_suspect(*member));
        let Some(member) = good.next() else {
            return self.blocked.push(id);
        };
        let length = u32::try_from(span.length).expect("a read fits a frame");
        let token = self.operations.io(id).0;
        self.send(
            member,
            Frame::Read {
                token,
                offset: span.offset,
                length,
            },
            None,
        );
    }

    /// The local disk has answered a request's read.
    pub(crate) fn request_read(&mut self, id: OperationId, result: Result<Buffer, DiskError>) {
        match result {
            Ok(buffer) => self.request_has_data(id, buffer),
            Err(_) if self.abandoned(id) => self.retire(id),
            Err(_) => self.read_from_member(id),
        }
    }

    /// A member has answered a request's read.
    pub(crate) fn member_read(
        &mut self,
        peer: Slot,
        token: u64,
        fault: Option<Fault>,
        payload: Option<Buffer>,
    ) {
        let waiting = match crate::operation::IoTarget::of(crate::event::IoId(token)) {
            crate::operation::IoTarget::Operation { id, serial }
                if self.operations.owns(id, serial) =>
            {
                Some(id).filter(|id| self.reads_from_member(*id))
            }
            _ => None,
        };
        match (waiting, fault, payload) {
            (Some(id), None, Some(buffer)) => {
                let repairs = matches!(self.operations.get(id).work, Work::Read(_))
                    && self.disk_usable()
                    && self.is_member();
                if repairs {
                    self.notice(Notice::ReadRepaired { peer });
                    self.repair(id, buffer);
                } else {
                    self.request_has_data(id, buffer);
                }
            }
            (Some(id), _, payload) => {
                self.release(payload);
                self.request_failed(id, RequestError::Io);
            }
            (None, _, payload) => self.release(payload),
        }
    }

    /// Whether the request has a read under way that no local I/O will answer.
    pub(crate) fn reads_from_member(&self, id: OperationId) -> bool {
        let operation = self.operations.get(id);
        let reading = match &operation.work {
            Work::Read(read) => read.repairing.is_none(),
            Work::Write(write) => {
                matches!(write.stage, WriteStage::Waiting) && !write.named.is_aligned()
            }
            _ => false,
        };
        reading && operation.started && operation.pending == 0 && !operation.logged
    }

    /// Answers a read, then writes back what the local disk could not give.
    fn repair(&mut self, id: OperationId, buffer: Buffer) {
        let Work::Read(read) = &mut self.operations.get_mut(id).work else {
            unreachable!("only reads are repaired")
        };
        read.repairing = Some(buffer);
        self.enter_log(id);
    }

    pub(crate) fn repair_logged(&mut self, id: OperationId) {
        let operation = self.operations.get_mut(id);
        let span = operation.span;
        let Work::Read(read) = &mut operation.work else {
            unreachable!("only reads are repaired")
        };
        let (token, buffer) = (
            read.token,
            read.repairing.expect("what was read from a member"),
        );
        operation.pending += 1;
        let io = self.operations.io(id);
        self.out.push(Effect::WriteLocal {
            io,
            span,
            buffer,
            start: 0,
            fua: true,
        });
        self.complete(token, Ok(Some(buffer)));
    }

    pub(crate) fn repair_done(&mut self, id: OperationId, result: Result<(), DiskError>) {
        if result.is_err() {
            self.fail_disk();
        }
        self.retire(id);
    }

    fn request_has_data(&mut self, id: OperationId, buffer: Buffer) {
        if self.abandoned(id) {
            self.release(Some(buffer));
            return self.retire(id);
        }
        match &mut self.operations.get_mut(id).work {
            Work::Read(read) => {
                let token = read.token;
                let arrived = self.operations.get(id).arrived;
                self.request_ended(arrived);
                self.complete(token, Ok(Some(buffer)));
                self.retire(id);
            }
            Work::Write(write) => {
                let Content::Data(patch) = write.content else {
                    unreachable!("only data is ragged")
                };
                let at = u32::try_from(write.named.offset % BLOCK_BYTES).expect("below a block");
                let length = u32::try_from(write.named.length).expect("fits a frame");
                write.content = Content::Data(buffer);
                write.named = write.named.widened();
                self.out.push(Effect::Overlay {
                    base: buffer,
                    patch,
                    at,
                    length,
                });
                self.out.push(Effect::Release(patch));
                self.enter_log(id);
            }
            _ => unreachable!("only requests read for clients"),
        }
    }

    /// Fails a request that has not set out.
    pub(crate) fn request_failed(&mut self, id: OperationId, error: RequestError) {
        let token = match &self.operations.get(id).work {
            Work::Read(read) => read.token,
            Work::Write(write) => write.token,
            _ => unreachable!("only requests fail"),
        };
        self.complete(token, Err(error));
        self.retire(id);
    }

    /// Waits until the operation's extents are in the activity log, then lets it go on.
    pub(crate) fn enter_log(&mut self, id: OperationId) {
        if !self.disk_usable() {
            return self.logged(id);
        }
        let operation = self.operations.get_mut(id);
        operation.logged = true;
        let span = operation.span;
        if matches!(self.log.enter(id, span), Entry::Hot) {
            self.logged(id);
        }
    }

    /// The operation's extents are in the log.
    pub(crate) fn logged(&mut self, id: OperationId) {
        match &self.operations.get(id).work {
            Work::Read(_) => self.repair_logged(id),
            Work::Write(_) => self.submit(id),
            Work::Apply(_) => self.apply_logged(id),
            _ => unreachable!("only writes are logged"),
        }
    }

    /// Takes an operation out whose last I/O has ended.
    pub(crate) fn retire(&mut self, id: OperationId) {
        let operation = self.operations.remove(id);
        self.blocked.retain(|blocked| *blocked != id);
        if operation.ordered {
            self.inflight.leave(id, &mut self.ready);
        }
        if operation.logged {
            self.log.leave(id, operation.span);
        }
        match operation.work {
            Work::Write(write) => {
                if let Content::Data(buffer) = write.content {
                    self.release(Some(buffer));
                }
            }
            Work::Apply(apply) => {
                if let Content::Data(buffer) = apply.content {
                    self.release(Some(buffer));
                }
            }
            Work::Chunk(chunk) => self.release(chunk.buffer),
            Work::Compare(compare) => self.release(compare.buffer),
            Work::Read(_) | Work::Fetch { .. } => {}
        }
    }

    /// The disk has failed for good: it is used no more, and this replica leaves the in-sync set.
    pub(crate) fn fail_disk(&mut self) {
        if !self.disk_usable() {
            return;
        }
        self.superblock.disk_state = DiskState::Failed;
        self.notice(Notice::Disk {
            slot: self.slot,
            state: DiskState::Failed,
        });
        self.persist(crate::change::Then::Nothing);
        for slot in self
            .others
            .iter()
            .filter(|slot| self.is_up(*slot))
            .collect::<Vec<_>>()
        {
            self.send(slot, Frame::Disk(DiskState::Failed), None);
        }
        if matches!(self.role, Role::Primary) && self.is_member() {
            self.drop_member(self.slot);
        }
    }
}

fn write_work(token: Token, named: Span, content: Content, fua: bool) -> WriteWork {
    WriteWork {
        token,
        named,
        content,
        fua,
        stage: WriteStage::Waiting,
    }
}
