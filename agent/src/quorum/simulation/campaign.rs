//! How an agent wins an epoch: a canvass, the vote of the other agent or else of the witness, the own vote.

use std::time::Duration;

use rand::Rng;

use super::clock::LEASE;
use super::network::Message;
use super::rules::Rule;
use super::task::Task;
use super::world::{Then, WITNESS, World};
use crate::quorum::{Answer, Ballot, Record, Release};

/// How long an agent goes on before it gives up.
const PATIENCE: Duration = Duration::from_micros(6 * LEASE);

/// A try to win an epoch.
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    epoch: u64,
    phase: Phase,
    /// When it gives up.
    deadline: Duration,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The other agent's answer and the witness's, by the numbers of the questions.
    Canvass([(u64, Option<Answer>); 2]),
    /// One of them is asked for its vote. `own` is what the own voter had agreed to then.
    Ask { voter: usize, number: u64, own: Record, tries: u32 },
    /// The own vote is missing.
    Own { void: Option<Release> },
}

impl World {
    /// Begin, or begin again with a later epoch.
    pub(super) fn campaign(&mut self, node: usize, at_least: u64) {
        let now = self.local(node);
        let process = &mut self.processes[node];
        let deadline = match &process.agent.task {
            Task::Campaign(campaign) => campaign.deadline,
            Task::None | Task::LayDown | Task::HandOver(_) => now + PATIENCE,
        };
        if now >= deadline {
            return self.end_task(node);
        }
        let epoch = at_least.max(process.voter.record().epoch + 1);
        let canvass = Ballot { epoch, leader: World::name(node).into(), is_canvass: true };
        let asked = [1 - node, WITNESS].map(|other| (self.send(node, other, Message::Ballot(canvass.clone())), None));
        let campaign = Campaign { epoch, phase: Phase::Canvass(asked), deadline };
        self.processes[node].agent.task = Task::Campaign(campaign);
        self.wait(node, Duration::from_micros(LEASE / 4));
    }

    /// An answer to a ballot.
    pub(super) fn voted(&mut self, node: usize, number: u64, answer: &Answer) {
        let Task::Campaign(campaign) = &mut self.processes[node].agent.task else { return };
        match &mut campaign.phase {
            Phase::Canvass(asked) => {
                asked.iter_mut().filter(|asked| asked.0 == number).for_each(|asked| asked.1 = Some(answer.clone()));
                if asked.iter().all(|asked| asked.1.is_some()) {
                    self.go_on(node);
                }
            }
            Phase::Ask { voter, number: asked, own, .. } if *asked == number => {
                let (voter, own) = (*voter, own.clone());
                self.have_vote(node, voter, own, answer);
            }
            Phase::Ask { .. } | Phase::Own { .. } => {}
        }
    }

    /// There are all answers, or it has waited long enough.
    pub(super) fn go_on(&mut self, node: usize) {
        let now = self.local(node);
        let Task::Campaign(campaign) = &self.processes[node].agent.task else { return };
        if now >= campaign.deadline {
            return self.end_task(node);
        }
        match campaign.phase.clone() {
            Phase::Canvass([(_, peer), (_, witness)]) => self.judge(node, campaign.epoch, peer, witness),
            Phase::Ask { tries, .. } if tries >= 8 => self.campaign(node, 0),
            Phase::Ask { voter, tries, .. } => self.ask(node, voter, tries + 1),
            Phase::Own { void } => self.vote_for_myself(node, void),
        }
    }

    /// Whose vote, after the canvass?
    fn judge(&mut self, node: usize, epoch: u64, peer: Option<Answer>, witness: Option<Answer>) {
        let answers = [&peer, &witness].into_iter().flatten();
        let learns_by_vote = self.rules.keep(Rule::LearnByVote);
        let known =
            answers.filter(|answer| !learns_by_vote || !matches!(answer, Answer::Granted(_))).map(Answer::record);
        if let Some(later) = known.max_by_key(|record| record.epoch).filter(|record| record.epoch >= epoch).cloned() {
            return self.refused(node, &later);
        }
        let (voter, answer) = match (peer, witness) {
            (Some(answer), _) => (1 - node, answer),
            (None, Some(answer)) => (WITNESS, answer),
            (None, None) => return self.campaign(node, epoch),
        };
        match answer {
            Answer::Refused(_) => return self.end_task(node),
            Answer::Leased { wait_ms, .. } if voter != WITNESS => {
                return self.wait_at_most(node, wait_ms);
            }
            Answer::Granted(_) | Answer::Leased { .. } => {}
        }
        let record = self.processes[node].voter.record();
        let void = (voter != WITNESS).then(|| Release { epoch: record.epoch, leader: World::name(voter).into() });
        if self.rules.keep(Rule::RealVote) {
            self.ask(node, voter, 0);
        } else {
            self.vote_for_myself(node, void);
        }
    }

    fn ask(&mut self, node: usize, voter: usize, tries: u32) {
        let own = self.processes[node].voter.record().clone();
        let Task::Campaign(campaign) = &self.processes[node].agent.task else { return };
        let ballot = Ballot { epoch: campaign.epoch, leader: World::name(node).into(), is_canvass: false };
        let number = self.send(node, voter, Message::Ballot(ballot));
        self.phase(node, Phase::Ask { voter, number, own, tries });
        let patience = self.random.random_range(LEASE / 8..2 * LEASE);
        self.wait(node, Duration::from_micros(patience));
    }

    /// Ask again when the lease is over, or sooner.
    fn wait_at_most(&mut self, node: usize, wait_ms: u64) {
        let wait = Duration::from_millis(wait_ms);
        let sooner = Duration::from_micros(self.random.random_range(0..LEASE));
        self.wait(node, wait.min(sooner));
    }

    fn phase(&mut self, node: usize, phase: Phase) {
        if let Task::Campaign(campaign) = &mut self.processes[node].agent.task {
            campaign.phase = phase;
        }
    }

    fn have_vote(&mut self, node: usize, voter: usize, own: Record, answer: &Answer) {
        match answer {
            Answer::Granted(_) => {
                let is_of_old_leader = voter != WITNESS && own.leader.as_deref() == Some(World::name(voter));
                let void = is_of_old_leader.then(|| Release { epoch: own.epoch, leader: World::name(voter).into() });
                self.vote_for_myself(node, void);
            }
            Answer::Leased { wait_ms, .. } => self.wait_at_most(node, *wait_ms),
            Answer::Refused(record) => self.refused(node, record),
        }
    }

    /// The epoch is given away. Take that over, and try for the next one.
    fn refused(&mut self, node: usize, record: &Record) {
        self.learn(node, record, Then::Campaign { epoch: record.epoch + 1 });
    }

    /// The last vote. The own voter waits like any other, unless the old leader itself has closed and voted.
    fn vote_for_myself(&mut self, node: usize, void: Option<Release>) {
        let now = self.local(node);
        let rules = self.rules;
        let Task::Campaign(Campaign { epoch, .. }) = self.processes[node].agent.task else { return };
        let voter = &mut self.processes[node].voter;
        if let Some(void) = &void {
            rules.release(voter, void, now);
        }
        if !rules.keep(Rule::OwnVoterWaits) {
            let Record { epoch, leader, .. } = voter.record().clone();
            voter.release(&Release { epoch, leader: leader.unwrap_or_default() }, now);
        }
        match voter.vote(&Ballot { epoch, leader: World::name(node).into(), is_canvass: false }, now) {
            Answer::Granted(_) => self.write(node, Then::Lead { epoch, since: None, answer: None }),
            Answer::Leased { wait_ms, .. } => {
                self.phase(node, Phase::Own { void: None });
                self.wait_at_most(node, wait_ms);
            }
            Answer::Refused(record) => self.campaign(node, record.epoch + 1),
        }
    }
}
