//! PURE. Who may lead: the rules by which the three voters of a pair, its two agents and the witness, agree on one leader.
//!
//! An *epoch* numbers each leadership. Every voter keeps a durable [`Record`]: the highest epoch that it has agreed to, and
//! whose it is. An epoch belongs to the candidate that two of the three voters gave it to, itself among them; a voter gives
//! an epoch once, and never one below its own. So no epoch has two leaders.
//!
//! A leader is writable only while it holds a *lease*: the follower's agent or the witness has confirmed its epoch within
//! the lease. A voter that confirmed an epoch gives no higher one away before that lease has run out, unless its holder has
//! given it up or asks for itself. The candidate for the next epoch needs a voter beside itself: either the old leader, which
//! closes before it agrees, or the witness, which waits the lease out, as the candidate does. So of two leaders only the later
//! one is writable.
//!
//! Times are readings of each voter's own monotonic clock. A leader counts its lease from the moment it *sent* the question
//! and is dead after 9/10 of it; a voter counts the whole of it from the moment it answers. So the clocks of two voters may
//! run at rates of up to 10 to 9, each within 1/19 (5.2 %) of true time, less what it takes to kill a server. A voter that
//! has just started cannot know what it confirmed before, and waits a whole lease.
//!
//! What those who call this must keep to (`simulation` shows for each what happens otherwise):
//! - A record that changed is on the disk before the answer is sent.
//! - A voter whose own server is writable, or about to be, or of which it does not know, gives no epoch to another and
//!   confirms none; it closes first. To open and to vote exclude each other.
//! - A guard, told before the server is opened, kills it at [`Lease::ends_at`], open or not yet. The opening statement goes over
//!   a connection that was made before that, and only if that time has not come when the guard knows of it.
//! - A candidate goes by votes, not by a canvass, and its own vote comes last and waits like any other. The old leader's vote
//!   (not its answer to a canvass) is the release of the epoch that the own record had when the ballot was sent.
//! - A leadership is given away only in the moment in which the own server is closed, also where it was offered because that
//!   server was dead: it may have been started and opened since.
//! - An epoch that another voter gave to the own server is the own server's only with the own vote.
//! - A leader withdraws that its follower has everything, under a number that it does not forget, before that stops being true,
//!   and goes on only when the witness has confirmed that number.
//! - A leader opens only with a lease; an answer counts for the epoch that was asked about, and a ticket for one promotion.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a voter must not forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The highest epoch that this voter has agreed to; 0 before the first leader.
    pub epoch: u64,
    /// Whose epoch it is, as `group/id`; none before the first leader.
    pub leader: Option<String>,
    /// The longest lease that may run, in milliseconds.
    pub lease_ms: u64,
    /// The follower has every transaction that this leader acknowledges. Withdrawn before that stops being true.
    pub in_sync: bool,
    /// How often this leader has withdrawn that word. One that was said before the latest withdrawal and comes behind it counts
    /// for nothing.
    #[serde(default)]
    pub withdrawals: u64,
    /// The leader has laid the leadership down; to lead again it needs a new epoch.
    pub is_vacant: bool,
}

/// A leader's question: is this epoch still the latest?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewal {
    /// The leader's epoch.
    pub epoch: u64,
    /// The leader.
    pub leader: String,
    /// How long the confirmation is to hold, in milliseconds.
    pub lease_ms: u64,
    /// See [`Record::in_sync`].
    pub in_sync: bool,
    /// See [`Record::withdrawals`].
    #[serde(default)]
    pub withdrawals: u64,
}

impl Renewal {
    /// What a voter agrees to that confirms it.
    #[must_use]
    pub fn record(&self) -> Record {
        Record {
            epoch: self.epoch,
            leader: Some(self.leader.clone()),
            lease_ms: self.lease_ms,
            in_sync: self.in_sync,
            withdrawals: self.withdrawals,
            is_vacant: false,
        }
    }
}

/// A candidate's question: may this epoch be mine?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    /// The epoch that it wants.
    pub epoch: u64,
    /// The candidate.
    pub leader: String,
    /// Only ask what the answer would be.
    #[serde(default)]
    pub is_canvass: bool,
}

/// The word of a leader that has become read-only and does not write under this epoch again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The epoch that it lays down.
    pub epoch: u64,
    /// Who does.
    pub leader: String,
}

/// A voter's answer, each with what it has agreed to by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes.
    Granted(Record),
    /// Not before the lease has run out that the voter granted to the leader of its record.
    Leased {
        /// What the voter has agreed to.
        record: Record,
        /// How long that is, in milliseconds.
        wait_ms: u64,
    },
    /// No: the voter has agreed to another epoch, or it is the leader and writable.
    Refused(Record),
}

impl Answer {
    /// What the voter has agreed to.
    #[must_use]
    pub fn record(&self) -> &Record {
        match self {
            Answer::Granted(record) | Answer::Refused(record) | Answer::Leased { record, .. } => record,
        }
    }
}

/// One of the three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    record: Record,
    /// Who may be writable because of this voter, and until when.
    leased_to: Option<String>,
    leased_until: Duration,
}

impl Voter {
    /// A voter that starts at `now` with what it kept.
    #[must_use]
    pub fn started(record: Record, now: Duration) -> Voter {
        let lease_ms = if record.is_vacant { 0 } else { record.lease_ms };
        Voter { leased_to: record.leader.clone(), leased_until: now + Duration::from_millis(lease_ms), record }
    }

    /// What it has agreed to. Whoever changes it writes it down before anybody hears the answer.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The leader may be writable because of this voter.
    #[must_use]
    pub fn is_leased(&self, now: Duration) -> bool {
        !self.record.is_vacant && now < self.leased_until
    }

    /// Confirm an epoch, also a later one than the voter knows: whoever leads it has won it from the other two.
    pub fn renew(&mut self, renewal: &Renewal, now: Duration) -> Answer {
        let is_same = renewal.epoch == self.record.epoch && self.record.leader.as_ref() == Some(&renewal.leader);
        if (renewal.epoch <= self.record.epoch && !is_same) || (is_same && self.record.is_vacant) {
            return Answer::Refused(self.record.clone());
        }
        // A lease that was granted for longer still runs as long.
        let lease_ms = if is_same { renewal.lease_ms.max(self.record.lease_ms) } else { renewal.lease_ms };
        let before = std::mem::replace(&mut self.record, Record { lease_ms, ..renewal.record() });
        if is_same && renewal.withdrawals < before.withdrawals {
            (self.record.in_sync, self.record.withdrawals) = (before.in_sync, before.withdrawals);
        }
        self.leased_to = self.record.leader.clone();
        self.leased_until = self.leased_until.max(now + Duration::from_millis(renewal.lease_ms));
        Answer::Granted(self.record.clone())
    }

    /// Give an epoch away, or say why not.
    pub fn vote(&mut self, ballot: &Ballot, now: Duration) -> Answer {
        let leader = Some(&ballot.leader);
        if ballot.epoch == self.record.epoch && self.record.leader.as_ref() == leader && !self.record.is_vacant {
            return Answer::Granted(self.record.clone());
        }
        if ballot.epoch <= self.record.epoch {
            return Answer::Refused(self.record.clone());
        }
        if self.leased_to.as_ref() != leader && now < self.leased_until {
            let wait_ms = u64::try_from((self.leased_until - now).as_millis()).unwrap_or(u64::MAX).max(1);
            return Answer::Leased { record: self.record.clone(), wait_ms };
        }
        if !ballot.is_canvass {
            let lease_ms = self.record.lease_ms;
            // Nobody follows a leader that has only just been chosen.
            self.record = Record {
                epoch: ballot.epoch,
                leader: leader.cloned(),
                lease_ms,
                in_sync: false,
                withdrawals: 0,
                is_vacant: false,
            };
        }
        Answer::Granted(self.record.clone())
    }

    /// The leader has closed, and so needs no lease any more. A word that comes late is about an epoch that is over.
    pub fn release(&mut self, release: &Release, now: Duration) {
        if release.epoch == self.record.epoch && self.record.leader.as_ref() == Some(&release.leader) {
            self.record.is_vacant = true;
            self.leased_until = now;
        }
    }
}

/// A leader's own count of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    lease: Duration,
    asked: Option<Duration>,
}

impl Lease {
    /// No voter has confirmed anything yet.
    #[must_use]
    pub fn new(lease: Duration) -> Lease {
        Lease { lease, asked: None }
    }

    /// A voter has confirmed the epoch; `asked` is when the question was sent.
    pub fn confirmed(&mut self, asked: Duration) {
        self.asked = self.asked.max(Some(asked));
    }

    /// The epoch is no longer this server's.
    pub fn lost(&mut self) {
        self.asked = None;
    }

    /// From here on the leader turns itself read-only, which may take a moment.
    #[must_use]
    pub fn closes_at(&self) -> Option<Duration> {
        self.asked.map(|asked| asked + self.lease * 7 / 10)
    }

    /// From here on a leader that is still writable must be dead.
    #[must_use]
    pub fn ends_at(&self) -> Option<Duration> {
        self.asked.map(|asked| asked + self.lease * 9 / 10)
    }

    /// May the leader become or stay writable?
    #[must_use]
    pub fn is_held(&self, now: Duration) -> bool {
        self.closes_at().is_some_and(|end| now < end)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
