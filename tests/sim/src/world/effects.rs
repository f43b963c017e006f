//! What a core wants done.

use super::{Happening, World};
use crate::content::sectors;
use crate::failure::Checker;
use crate::meta::MetaWrite;
use replica::command::{Answer, Refusal};
use replica::event::{Buffer, Effect};
use replica::notice::Notice;

impl World {
    /// Carries an effect out.
    pub(super) fn carry_out(&mut self, host: usize, effect: Effect) {
        self.coverage.effect(&effect);
        self.trace.effect(self.now, host, &effect);
        match effect {
            Effect::Complete { token, result } => self.complete(host, token, result),
            Effect::ReadLocal { io, span } => self.read_local(host, io, span),
            Effect::WriteLocal {
                io,
                span,
                buffer,
                start,
                fua,
            } => {
                self.write_local(host, io, span, Some((buffer, start)), fua);
            }
            Effect::ZeroLocal {
                io,
                span,
                unmap: _,
                fua,
            } => {
                self.write_local(host, io, span, None, fua);
            }
            Effect::FlushLocal { io } => self.flush_local(host, io),
            Effect::Overlay {
                base,
                patch,
                at,
                length,
            } => {
                let (at, length) = (sectors(at.into()), sectors(length.into()));
                let overlaid = self.hosts[host].arena.overlay(base, patch, at, length);
                self.expect_sound(overlaid);
            }
            Effect::Hash { io, buffer, blocks } => self.hash(host, io, buffer, blocks),
            Effect::Release(buffer) => self.release(host, buffer),
            Effect::WriteSuperblock { io, superblock } => {
                self.write_meta(host, io, MetaWrite::Superblock(superblock));
            }
            Effect::WriteLog { io, block } => self.write_meta(host, io, MetaWrite::Log(block)),
            Effect::WritePage { io, page } => self.write_meta(host, io, MetaWrite::Page(page)),
            Effect::Send {
                peer,
                session,
                frame,
                epoch,
                payload,
            } => {
                self.check_send(host, peer, session, &frame);
                self.send(host, peer, session, &frame, epoch, payload);
            }
            Effect::Disconnect {
                peer,
                session,
                retry,
            } => {
                self.disconnect(host, peer, session, retry);
            }
            Effect::AskArbiter(question) => self.ask_register(host, question),
            Effect::DropClients => self.drop_clients(host),
            Effect::Notice(notice) => self.noticed(host, &notice),
            Effect::Answer { id, result } => self.answered(host, id, &result),
        }
    }

    fn expect_sound(&mut self, result: Result<(), String>) {
        if let Err(misuse) = result {
            self.fail(Checker::Buffers, || misuse);
        }
    }

    fn release(&mut self, host: usize, buffer: Buffer) {
        let released = self.hosts[host].arena.take(buffer).map(drop);
        self.expect_sound(released);
    }

    /// The node has stopped serving: its clients are disconnected, of which it hears in time.
    fn drop_clients(&mut self, host: usize) {
        let life = self.hosts[host].life;
        for client in self.forget_clients(host) {
            let at = self.now + self.chance.below(1_000_000);
            self.schedule(at, Happening::ClientGone { host, life, client });
        }
    }

    fn noticed(&mut self, host: usize, notice: &Notice) {
        self.coverage.notice(notice);
        self.look_at_states(host);
        self.check_notice(host, notice);
    }

    fn answered(&mut self, host: usize, id: u64, result: &Result<Answer, Refusal>) {
        self.coverage.answer(result);
        self.operator_answered(host, id, result);
    }
}
