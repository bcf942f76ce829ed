//! The rules that keep two servers from being writable at once, so that a schedule can be played without one of them.

use std::time::Duration;

use crate::quorum::{Release, Voter};

/// One rule. The simulation must find what goes wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A voter keeps its record over a crash.
    DurablePromise,
    /// A voter's record is written before anybody hears the answer.
    WriteBeforeAnswer,
    /// A voter that has just started waits out what it may have granted.
    WaitAfterStart,
    /// A writable leader gives no epoch away.
    Fence,
    /// A leader that has begun to open counts as writable.
    OpeningIsOpen,
    /// A candidate wins by votes, not by what a canvass said.
    RealVote,
    /// The candidate's own voter waits out the lease that it granted.
    OwnVoterWaits,
    /// A leader's lease ends before its voters' waits do.
    LeaseWithinWait,
    /// The clocks' rates differ no more than the lease allows for.
    ClockBound,
    /// A server opens only after its epoch was confirmed.
    RenewalBeforeOpening,
    /// A lease counts from when the question was sent.
    LeaseFromQuestion,
    /// A promotion needs the latest ticket, and its lease counts from that.
    Ticket,
    /// A leader numbers the withdrawals of its word that the follower has everything.
    NumberedWithdrawal,
    /// An agent whose server was opened again gives away nothing that it offered when the server was dead.
    GiftOfTheDead,
    /// A release ends the epoch that it names and none after it.
    ReleaseOfEpoch,
    /// An agent takes an epoch that another voter gave to its server for its own only by its own vote, which waits.
    LearnByVote,
    /// A separate process kills a server whose agent does not close it in time.
    Guard,
    /// It kills also a server that is not open yet.
    GuardBeforeOpening,
    /// The end of the lease that the guard was told of has not passed when the opening statement goes out.
    LookAfterGuard,
}

/// All of them.
pub(super) const ALL: [Rule; 19] = [
    Rule::DurablePromise,
    Rule::WriteBeforeAnswer,
    Rule::WaitAfterStart,
    Rule::Fence,
    Rule::OpeningIsOpen,
    Rule::RealVote,
    Rule::OwnVoterWaits,
    Rule::LeaseWithinWait,
    Rule::ClockBound,
    Rule::RenewalBeforeOpening,
    Rule::LeaseFromQuestion,
    Rule::Ticket,
    Rule::GiftOfTheDead,
    Rule::NumberedWithdrawal,
    Rule::ReleaseOfEpoch,
    Rule::LearnByVote,
    Rule::Guard,
    Rule::GuardBeforeOpening,
    Rule::LookAfterGuard,
];

/// Which rules hold in a schedule: all but at most one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) without: Option<Rule>,
}

impl Rules {
    pub(super) fn keep(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

impl Rules {
    pub(super) fn release(self, voter: &mut Voter, release: &Release, now: Duration) {
        let epoch = if self.keep(Rule::ReleaseOfEpoch) { release.epoch } else { voter.record().epoch };
        voter.release(&Release { epoch, ..release.clone() }, now);
    }
}
