//! What may happen next. Every step is one atomic change at one place: a frame that arrives, a commit, a crash.
//!
//! There are no links in a state: a link that is down is a message that does not arrive, which is a step that is
//! not taken. So every pattern of lost, late and one-way links is within the search.

use crate::protocol::Protocol;
use crate::state::State;
use crate::types::{NodeSet, Slot};
use std::fmt::{self, Display, Formatter};

/// A step. The fields are who does it, and with whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the sentences of Display say it")]
pub enum Step {
    Write { primary: Slot },
    Flush { primary: Slot },
    Read { primary: Slot },
    Apply { primary: Slot, member: Slot },
    Answer { primary: Slot, member: Slot },
    Complete { primary: Slot },
    Handshake { primary: Slot, member: Slot },
    Resync { primary: Slot, target: Slot },
    Ping { primary: Slot, member: Slot },
    Bytes { primary: Slot, member: Slot },
    LeaseEnds { primary: Slot, member: Slot },
    GraceEnds { member: Slot },
    ProposeDrop { primary: Slot, dropped: NodeSet },
    ProposePromotion { member: Slot, reached: NodeSet },
    ProposeAdmission { primary: Slot, target: Slot },
    ProposeLeave { primary: Slot },
    ProposeHandover { primary: Slot, to: Option<Slot> },
    RegisterTakes { proposer: Slot },
    LateRequest { proposer: Slot },
    HearRegister { slot: Slot },
    HearOldEpoch { proposer: Slot },
    Learn { slot: Slot, from: Slot },
    ConfirmedByRegister { primary: Slot },
    ConfirmedBy { primary: Slot, member: Slot },
    SuspectGoesOn { primary: Slot },
    DiskFails { slot: Slot },
    Crash { slot: Slot },
    PowerCut { slot: Slot, kept: bool },
    Restart { slot: Slot },
    OperatorPromotes { member: Slot, reached: NodeSet },
}

impl Protocol {
    /// What might be taken from a state; [`Protocol::take`] says whether it can be.
    pub(crate) fn candidates(&self, state: &State, steps: &mut Vec<Step>) {
        let all = self.replicas();
        for slot in all.iter() {
            steps.extend([
                Step::Write { primary: slot },
                Step::Flush { primary: slot },
                Step::Read { primary: slot },
                Step::Complete { primary: slot },
                Step::GraceEnds { member: slot },
                Step::RegisterTakes { proposer: slot },
                Step::LateRequest { proposer: slot },
                Step::HearRegister { slot },
                Step::HearOldEpoch { proposer: slot },
                Step::ConfirmedByRegister { primary: slot },
                Step::SuspectGoesOn { primary: slot },
                Step::ProposeHandover {
                    primary: slot,
                    to: None,
                },
                Step::ProposeLeave { primary: slot },
                Step::DiskFails { slot },
                Step::Crash { slot },
                Step::PowerCut { slot, kept: false },
                Step::PowerCut { slot, kept: true },
                Step::Restart { slot },
            ]);
            for other in all.without(slot).iter() {
                between(slot, other, steps);
            }
            if state.node(slot).proposal.is_none() {
                for set in all.without(slot).subsets() {
                    steps.extend([
                        Step::ProposeDrop {
                            primary: slot,
                            dropped: set,
                        },
                        Step::ProposePromotion {
                            member: slot,
                            reached: set,
                        },
                        Step::OperatorPromotes {
                            member: slot,
                            reached: set,
                        },
                    ]);
                }
            }
        }
    }
}

fn between(slot: Slot, other: Slot, steps: &mut Vec<Step>) {
    let (primary, member) = (slot, other);
    steps.extend([
        Step::Apply { primary, member },
        Step::Answer { primary, member },
        Step::Handshake { primary, member },
        Step::Resync {
            primary,
            target: member,
        },
        Step::Ping { primary, member },
        Step::Bytes { primary, member },
        Step::LeaseEnds { primary, member },
        Step::ProposeAdmission {
            primary,
            target: member,
        },
        Step::ProposeHandover {
            primary,
            to: Some(member),
        },
        Step::Learn { slot, from: other },
        Step::ConfirmedBy { primary, member },
    ]);
}

impl Display for Step {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Write { primary } => {
                write!(out, "Write             a client writes at {primary:?}")
            }
            Self::Flush { primary } => {
                write!(out, "Flush             a client flushes at {primary:?}")
            }
            Self::Read { primary } => {
                write!(out, "Read              a client reads at {primary:?}")
            }
            Self::Apply { primary, member } => {
                write!(
                    out,
                    "Apply             {member:?} applies the frame of {primary:?}"
                )
            }
            Self::Answer { primary, member } => {
                write!(
                    out,
                    "Answer            the answer of {member:?} reaches {primary:?}"
                )
            }
            Self::Complete { primary } => write!(out, "Complete          {primary:?} acknowledges"),
            Self::Handshake { primary, member } => {
                write!(out, "Handshake         {primary:?} and {member:?} meet")
            }
            Self::Resync { primary, target } => {
                write!(
                    out,
                    "Resync            {primary:?} brings {target:?} up to date"
                )
            }
            Self::Ping { primary, member } => {
                write!(
                    out,
                    "Ping              {member:?} answers a ping of {primary:?}"
                )
            }
            Self::Bytes { primary, member } => {
                write!(
                    out,
                    "Bytes             {primary:?} gets some frame of {member:?}"
                )
            }
            Self::LeaseEnds { primary, member } => {
                write!(
                    out,
                    "LeaseEnds         {primary:?} holds no lease from {member:?} any more"
                )
            }
            Self::GraceEnds { member } => write!(out, "GraceEnds         for {member:?}"),
            _ => self.describe_configuration(out),
        }
    }
}

impl Step {
    fn describe_configuration(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ProposeDrop { primary, dropped } => {
                write!(
                    out,
                    "ProposeDrop       {primary:?} proposes to drop {dropped:?}"
                )
            }
            Self::ProposePromotion { member, reached } => {
                write!(
                    out,
                    "ProposePromotion  {member:?} proposes itself, with {reached:?}"
                )
            }
            Self::ProposeAdmission { primary, target } => {
                write!(
                    out,
                    "ProposeAdmission  {primary:?} proposes to admit {target:?}"
                )
            }
            Self::ProposeHandover { primary, to } => match to {
                Some(to) => write!(
                    out,
                    "ProposeHandover   {primary:?} proposes {to:?} in its place"
                ),
                None => write!(
                    out,
                    "ProposeHandover   {primary:?} proposes that nobody serves"
                ),
            },
            _ => self.describe_commit(out),
        }
    }

    fn describe_commit(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RegisterTakes { proposer } => {
                write!(
                    out,
                    "RegisterTakes     the register takes the proposal of {proposer:?}"
                )
            }
            Self::LateRequest { proposer } => write!(
                out,
                "LateRequest       a request that {proposer:?} has forgotten reaches the register"
            ),
            Self::HearRegister { slot } => {
                write!(
                    out,
                    "HearRegister      {slot:?} hears what the register holds"
                )
            }
            Self::HearOldEpoch { proposer } => write!(
                out,
                "HearOldEpoch      {proposer:?} hears the old epoch and takes its proposal to have failed"
            ),
            Self::Learn { slot, from } => {
                write!(
                    out,
                    "Learn             {slot:?} learns of the configuration from {from:?}"
                )
            }
            Self::ConfirmedByRegister { primary } => {
                write!(out, "ConfirmedBy       the register confirms {primary:?}")
            }
            Self::ConfirmedBy { primary, member } => {
                write!(out, "ConfirmedBy       {member:?} confirms {primary:?}")
            }
            Self::SuspectGoesOn { primary } => write!(
                out,
                "SuspectGoesOn     {primary:?} takes its own copy for as good as any member's"
            ),
            _ => self.describe_fault(out),
        }
    }

    fn describe_fault(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ProposeLeave { primary } => {
                write!(
                    out,
                    "ProposeLeave      {primary:?}, its disk gone, proposes to leave"
                )
            }
            Self::DiskFails { slot } => write!(out, "DiskFails         of {slot:?}"),
            Self::Crash { slot } => write!(out, "Crash             of {slot:?}"),
            Self::PowerCut { slot, kept: false } => {
                write!(
                    out,
                    "PowerCut          of {slot:?}; what was not flushed is lost"
                )
            }
            Self::PowerCut { slot, kept: true } => {
                write!(
                    out,
                    "PowerCut          of {slot:?}; what was not flushed happens to be kept"
                )
            }
            Self::Restart { slot } => write!(out, "Restart           of {slot:?}"),
            Self::OperatorPromotes { member, reached } => {
                write!(
                    out,
                    "OperatorPromotes  an operator promotes {member:?}, with {reached:?}"
                )
            }
            _ => Ok(()),
        }
    }
}
