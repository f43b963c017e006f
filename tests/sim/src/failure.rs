//! What a checker says when a promise is broken.

use std::fmt;

/// A promise that the simulator checks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Checker {
    /// No acknowledgement leaves while a member has not done its part.
    R1,
    /// Drops are marked first and committed before acknowledgements.
    R2,
    /// Only a member of the latest configuration becomes primary without force.
    R3,
    /// A superseded primary acknowledges nothing.
    R4,
    /// A link counts as alive only while pings are answered, and two primaries never acknowledge.
    R5,
    /// A proposal is durable before it is sent, and what the register does not hold binds nobody.
    R5a,
    /// The activity log comes before data.
    R6,
    /// Marks cover every difference.
    R7,
    /// Marks are dealt with at a handshake.
    R8,
    /// A resync copies only what is marked, to a target that is durably inconsistent.
    R9,
    /// Replicas converge when faults stop.
    R10,
    /// Members' blocks are equal before they are served.
    EqualBeforeServed,
    /// A read returns the latest write.
    ReadLatest,
    /// What was flushed survives the loss of all power.
    FlushedSurvives,
    /// Claims on buffers are neither lost nor used up twice.
    Buffers,
    /// The core keeps to the contract with its shell in all other ways.
    Contract,
    /// The core's own invariants: it has panicked.
    Invariant,
}

impl Checker {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Checker::R1 => "R1 acknowledged by all",
            Checker::R2 => "R2 marked before dropped",
            Checker::R3 => "R3 members promote",
            Checker::R4 => "R4 superseded primary",
            Checker::R5 => "R5 leases",
            Checker::R5a => "R5a open proposals",
            Checker::R6 => "R6 log before data",
            Checker::R7 => "R7 marks cover difference",
            Checker::R8 => "R8 marks dealt with",
            Checker::R9 => "R9 resync within marks",
            Checker::R10 => "R10 convergence",
            Checker::EqualBeforeServed => "equal before served",
            Checker::ReadLatest => "read latest",
            Checker::FlushedSurvives => "flushed survives power loss",
            Checker::Buffers => "buffers",
            Checker::Contract => "contract",
            Checker::Invariant => "invariant",
        }
    }
}

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Which.
    pub checker: Checker,
    /// How it was broken.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.checker.name(), self.message)
    }
}
