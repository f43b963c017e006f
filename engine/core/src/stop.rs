//! How a node ends: a planned stop that leaves nothing to be done at the next start, and the halt of one that
//! can promise nothing any more. The steps are in [`role`](crate::role).

use crate::change::Then;
use crate::command::{Answer, Refusal};
use crate::event::{DiskError, Effect, RequestError};
use crate::node::Node;
use crate::notice::Notice;
use crate::operation::IoTarget;
use crate::role::{Handover, Role, Stop, StopStep};
use crate::time::Nanos;
use format::frame::Frame;

impl Node {
    pub(crate) fn begin_stop(&mut self, answer: u64) {
        let serving = self.is_primary();
        match self.role {
            Role::Stopped => return self.answer(answer, Ok(Answer::Done)),
            Role::Stopping(_) => {
                let refusal = Refusal::NotNow("the replica is stopping already".into());
                return self.answer(answer, Err(refusal));
            }
            Role::Promoting(_) => self.promotion_failed("the replica is stopping"),
            Role::HandingOver(Handover {
                answer: Some(id), ..
            }) => {
                let refusal = Refusal::NotNow("the replica is stopping".into());
                self.answer(id, Err(refusal));
            }
            _ => {}
        }
        for request in std::mem::take(&mut self.postponed) {
            self.refuse(request, RequestError::Stopping);
        }
        if let Some((to, answer)) = self.arbitration.handover.take() {
            self.refuse_handover(to, answer, "the replica is stopping");
        }
        self.role = Role::Stopping(Stop {
            answer,
            step: StopStep::Requests,
            serving,
            patience_until: self.now + 2 * self.settings.peer_timeout,
        });
    }

    pub(crate) fn stop_advance(&mut self) {
        let primary = self.is_primary();
        if self.stop_deadline().is_some_and(|due| self.now >= due) {
            // A member that neither answers nor can be dropped keeps nobody from stopping.
            self.abandon_requests(RequestError::Stopping);
            self.barrier.active = None;
            self.barrier.wanted = false;
        }
        let requests = self.requests_in_hand() > 0 || !self.persistence.is_idle();
        let barrier_idle = self.barrier.is_idle();
        let drained = self.nothing_applying() && self.log_writing.is_none();
        let pages_clean = self.pages_clean();
        let Role::Stopping(stop) = &mut self.role else {
            return;
        };
        let before = stop.step;
        match stop.step {
            StopStep::Requests if requests => {}
            StopStep::Requests => {
                stop.step = StopStep::Barrier;
                self.barrier.wanted = primary;
            }
            StopStep::Barrier if !barrier_idle && primary => {}
            StopStep::Barrier => {
                stop.step = StopStep::Draining;
                self.fail_withheld(RequestError::Stopping);
                self.say_goodbye();
            }
            StopStep::Draining if drained => {
                stop.step = StopStep::Flushing;
                match self.disk_usable() {
                    true => self.flush_as(IoTarget::Stop),
                    false => self.stop_flushed(Ok(())),
                }
            }
            StopStep::Pages if pages_clean && self.persistence.is_idle() => {
                stop.step = StopStep::Marking;
                self.superblock.clean = self.disk_usable();
                self.persist(Then::Stopped);
            }
            _ => {}
        }
        self.again |= !matches!(&self.role, Role::Stopping(stop) if stop.step == before);
    }

    /// The last flush of a stop has ended: what is not known to be on every member is marked.
    pub(crate) fn stop_flushed(&mut self, result: Result<(), DiskError>) {
        if result.is_err() {
            self.fail_disk();
        }
        if let Role::Stopping(stop) = &mut self.role {
            stop.step = StopStep::Pages;
            for slot in self.others.iter() {
                self.mark_uncertain(slot);
            }
        }
    }

    /// When a stop gives up what members have not finished.
    pub(crate) fn stop_deadline(&self) -> Option<Nanos> {
        match &self.role {
            Role::Stopping(Stop {
                step: StopStep::Requests | StopStep::Barrier,
                patience_until,
                ..
            }) => Some(*patience_until),
            _ => None,
        }
    }

    fn say_goodbye(&mut self) {
        for peer in self.others.iter() {
            if self.is_up(peer) {
                self.ping(peer);
                self.send(peer, Frame::PlannedStop, None);
            }
            let Some(session) = self.session_id(peer) else {
                continue;
            };
            self.out.push(Effect::Disconnect {
                peer,
                session,
                retry: false,
            });
            self.session_ended(peer, "this node stops");
        }
    }

    pub(crate) fn stopped(&mut self) {
        if let Role::Stopping(stop) = std::mem::replace(&mut self.role, Role::Stopped) {
            self.answer(stop.answer, Ok(Answer::Done));
        }
    }

    /// Metadata cannot be written: nothing can be promised any more.
    pub(crate) fn halt(&mut self, reason: &str) {
        if matches!(self.role, Role::Stopped) {
            return;
        }
        let stopping = match &self.role {
            Role::Stopping(stop) => Some(stop.answer),
            _ => None,
        };
        self.notice(Notice::Metadata(format!(
            "{reason}: the replica has stopped"
        )));
        self.stop_serving("its metadata cannot be written", RequestError::Io);
        self.role = Role::Stopped;
        self.disconnect_all("its metadata cannot be written", false);
        if let Some(id) = stopping {
            self.answer(id, Err(Refusal::NotNow(reason.into())));
        }
    }
}
