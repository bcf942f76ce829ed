//! The lease is renewed, and with it goes the leader's word that its follower has everything.

use std::time::Duration;

use rand::Rng;

use super::agent::View;
use super::clock::LEASE;
use super::network::{Envelope, Message};
use super::rules::Rule;
use super::world::{WITNESS, World};
use crate::quorum::{Answer, Record, Renewal};

/// Questions whose answers still count.
const ASKED: usize = 60;

/// A renewal on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    number: u64,
    epoch: u64,
    at: Duration,
    withdrawals: u64,
}

/// What a leader has promised about its commits, on its disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promise {
    /// The epoch that all of this but the number is about.
    epoch: u64,
    is_given: bool,
    withdrawals: u64,
    /// It acknowledges what the follower has not received.
    goes_on_alone: bool,
}

impl Promise {
    fn is_given(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.is_given
    }

    /// It goes on alone when the witness knows that it may.
    fn witness_says(&mut self, asked: &Asked, record: &Record) {
        let is_of_this = asked.epoch == self.epoch && asked.withdrawals == self.withdrawals;
        self.goes_on_alone |= is_of_this && !self.is_given && !record.in_sync;
    }
}

impl World {
    /// The follower has everything, or an operator wants the leader to go on without it. A new leader begins alone.
    pub(super) fn change_promise(&mut self, node: usize) {
        let (epoch, changes) = (self.processes[node].agent.epoch, self.random.random_bool(0.2));
        let promise = &mut self.processes[node].promise;
        if promise.epoch != epoch {
            *promise = Promise { epoch, goes_on_alone: true, is_given: false, ..*promise };
        } else if changes && promise.is_given {
            promise.is_given = false;
            promise.withdrawals += 1;
        } else if changes {
            promise.goes_on_alone = false;
            promise.is_given = true;
        }
    }

    /// What must never happen: the witness would have a follower promoted that may lack something.
    pub(super) fn check_trust(&mut self) {
        let record = self.processes[WITNESS].voter.record();
        let is_alone = |node: usize| {
            let promise = &self.processes[node].promise;
            promise.goes_on_alone && promise.epoch == record.epoch
        };
        let leader = (0..2).find(|node| record.leader.as_deref() == Some(World::name(*node)));
        if record.in_sync && leader.is_some_and(is_alone) {
            self.broken.get_or_insert(format!("the witness trusts a leader that goes on alone: {record:?}"));
        }
    }

    /// Ask both others to confirm the epoch.
    pub(super) fn renew(&mut self, node: usize) {
        let now = self.local(node);
        let epoch = self.processes[node].agent.epoch;
        let Promise { withdrawals, .. } = self.processes[node].promise;
        let renewal = Renewal {
            epoch,
            leader: World::name(node).into(),
            lease_ms: LEASE / 1000,
            in_sync: self.processes[node].promise.is_given(epoch),
            withdrawals: if self.rules.keep(Rule::NumberedWithdrawal) { withdrawals } else { 0 },
        };
        for other in [1 - node, WITNESS] {
            let number = self.send(node, other, Message::Renewal(renewal.clone()));
            let asked = &mut self.processes[node].agent.asked;
            asked.push_back(Asked { number, epoch, at: now, withdrawals });
            if asked.len() > ASKED {
                asked.pop_front();
            }
        }
    }

    /// Confirm the other's epoch; an open server is closed first, and the other asks again.
    pub(super) fn confirm(&mut self, node: usize, question: &Envelope, renewal: &Renewal) {
        let now = self.local(node);
        let process = &mut self.processes[node];
        let is_later = renewal.epoch > process.voter.record().epoch;
        match process.agent.view {
            View::Unknown => return,
            View::Open if is_later => return self.close(node),
            View::Opening | View::Closing if is_later => return,
            View::Closed | View::Opening | View::Open | View::Closing => {}
        }
        let answer = process.voter.renew(renewal, now);
        if let Answer::Granted(_) = answer {
            process.agent.heard = now;
        }
        self.answer(node, question, answer);
    }

    /// An answer to a renewal. Says whether it was one.
    pub(super) fn confirmed(&mut self, node: usize, envelope: &Envelope, answer: &Answer) -> bool {
        let (now, leads, rules) = (self.local(node), self.leads(node), self.rules);
        let process = &mut self.processes[node];
        let agent = &mut process.agent;
        let Some(asked) = agent.asked.iter().find(|asked| asked.number == envelope.number).copied() else {
            return false;
        };
        let is_mine = leads && asked.epoch == agent.epoch;
        match answer {
            Answer::Granted(_) if is_mine => {
                agent.lease.confirmed(if rules.keep(Rule::LeaseFromQuestion) { asked.at } else { now });
                agent.is_adopted = false;
                if envelope.from == WITNESS {
                    process.promise.witness_says(&asked, answer.record());
                }
                if matches!(agent.view, View::Opening | View::Open) {
                    let deadline = agent.lease.ends_at();
                    self.arm_guard(node, deadline);
                }
            }
            Answer::Refused(record) if leads && record.epoch > agent.epoch => {
                // Perhaps its own: it was a candidate once and did not vote for itself.
                agent.lost = Some(record.clone());
            }
            Answer::Granted(_) | Answer::Refused(_) | Answer::Leased { .. } => {}
        }
        self.check_trust();
        true
    }
}
