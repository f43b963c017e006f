//! The protocol's rules, each of which can be taken out.

/// Which rules hold. [`Rules::ALL`] is the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// R1: nothing is acknowledged while a member has not done its part.
    pub all_members_acknowledge: bool,
    /// R2: while a drop is not committed, the member to be dropped still binds.
    pub drop_before_acknowledging: bool,
    /// R2: what the dropped member may lack is marked before the drop is proposed.
    pub marks_before_drop: bool,
    /// R3: only a member of in_sync is promoted.
    pub members_promote: bool,
    /// R4: a primary that learns of a configuration with another primary stops.
    pub superseded_stops: bool,
    /// R5: a primary serves only with a lease from every member.
    pub lease: bool,
    /// R5: the lease counts from when the ping was sent, so that it ends before the member's grace does.
    pub lease_from_send: bool,
    /// R5: only answers to its own pings renew a primary's lease.
    pub answers_renew: bool,
    /// R5: a member restarts its grace at its own start.
    pub grace_from_start: bool,
    /// R5a: a read of the old epoch settles no proposal.
    pub open_until_epoch_moves: bool,
    /// R5a: a proposal is durable before it is sent, and open again after a restart.
    pub proposal_durable: bool,
    /// R5a: while a proposal is open those that it adds bind as well.
    pub both_bind: bool,
    /// R5a: who has a proposal open answers no ping and applies no frame.
    pub open_is_silent: bool,
    /// R5a: once the epoch has moved, the generation tells whose proposal it was.
    pub generation_tells: bool,
    /// R6: the block is in the activity log, durably, before it is written.
    pub log_before_data: bool,
    /// R8: no set mark is passed when a replica is admitted.
    pub marks_dealt_with: bool,
    /// R8: an admission goes by the target's marks and log as well as by the source's.
    pub union_of_marks: bool,
    /// A suspect replica proposes nothing.
    pub suspect_proposes_nothing: bool,
    /// A suspect primary waits to be made equal, unless it knows all members to be suspect.
    pub suspect_waits: bool,
    /// Members are made equal from one that is not suspect.
    pub equal_from_unsuspect: bool,
    /// Members that may differ are made equal before the block is served.
    pub equal_before_served: bool,
    /// Frames carry epoch and generation; one of another configuration is not applied.
    pub frames_fenced: bool,
    /// A restarted primary serves once a member or the register has confirmed it.
    pub restart_confirmed: bool,
    /// Without a register every other member has to confirm it: any of them may know of a promotion.
    pub confirmed_by_all: bool,
    /// R7: a copied block is marked, where it is copied to, for those that do not get it.
    pub copies_marked: bool,
    /// No commit leaves in_sync empty.
    pub never_empty: bool,
    /// A replica is admitted after a flush on source and target.
    pub admission_flushes: bool,
    /// While one is admitted, writes wait for it.
    pub joining_waited_for: bool,
}

impl Rules {
    /// The protocol.
    pub const ALL: Self = Self {
        all_members_acknowledge: true,
        drop_before_acknowledging: true,
        marks_before_drop: true,
        members_promote: true,
        superseded_stops: true,
        lease: true,
        lease_from_send: true,
        answers_renew: true,
        grace_from_start: true,
        open_until_epoch_moves: true,
        proposal_durable: true,
        both_bind: true,
        open_is_silent: true,
        generation_tells: true,
        log_before_data: true,
        marks_dealt_with: true,
        union_of_marks: true,
        suspect_proposes_nothing: true,
        suspect_waits: true,
        equal_from_unsuspect: true,
        equal_before_served: true,
        frames_fenced: true,
        restart_confirmed: true,
        confirmed_by_all: true,
        copies_marked: true,
        never_empty: true,
        admission_flushes: true,
        joining_waited_for: true,
    };
}
