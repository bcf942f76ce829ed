//! What an agent begins: to lay the leadership down, to hand it over, to win it.

use std::time::Duration;

use rand::Rng;

use super::agent::View;
use super::campaign::Campaign;
use super::clock::LEASE;
use super::network::{Envelope, Message};
use super::rules::Rule;
use super::world::{Command, Event, Input, Then, WITNESS, World};
use crate::quorum::{Answer, Ballot, Lease, Release, Renewal};

/// What an agent is in the middle of. It opens its server only while it is in the middle of nothing.
pub(super) enum Task {
    None,
    LayDown,
    HandOver(HandOver),
    Campaign(Campaign),
}

/// How far a hand-over is.
#[derive(Clone, Copy, Debug)]
pub(super) enum HandOver {
    AwaitTicket {
        number: u64,
    },
    /// As `AwaitTicket`, with the own server dead.
    Offer {
        number: u64,
    },
    Close {
        ticket: u64,
    },
    /// The epoch is the other's.
    Promote {
        number: u64,
        epoch: u64,
    },
}

impl World {
    pub(super) fn command(&mut self, node: usize, command: Command) {
        let agent = &self.processes[node].agent;
        if !matches!(agent.task, Task::None) {
            return;
        }
        match (command, agent.view) {
            (Command::MakeLeader, View::Closed) => self.campaign(node, 0),
            (Command::MakeReadOnly, View::Open) => {
                self.processes[node].agent.task = Task::LayDown;
                self.close(node);
            }
            (Command::MakeReadOnly, View::Closed) if self.leads(node) => {
                self.processes[node].agent.task = Task::LayDown;
                self.closed(node);
            }
            (Command::HandOver, View::Open) if self.leads(node) => {
                let number = self.send(node, 1 - node, Message::Prepare);
                self.processes[node].agent.task = Task::HandOver(HandOver::AwaitTicket { number });
                self.wait(node, Duration::from_micros(LEASE / 2));
            }
            (_, _) => {}
        }
    }

    /// Its server has died: the other one is asked to take over.
    pub(super) fn offer(&mut self, node: usize) {
        if matches!(self.processes[node].agent.task, Task::None) && self.leads(node) {
            let number = self.send(node, 1 - node, Message::Prepare);
            self.processes[node].agent.task = Task::HandOver(HandOver::Offer { number });
            self.wait(node, Duration::from_micros(LEASE / 2));
        }
    }

    pub(super) fn opens_what_it_offers(&self, node: usize) -> bool {
        let is_offered = matches!(self.processes[node].agent.task, Task::HandOver(HandOver::Offer { .. }));
        is_offered && !self.rules.keep(Rule::GiftOfTheDead)
    }

    /// The task goes on at the latest after this time. A later wait takes the place of an earlier one.
    pub(super) fn wait(&mut self, node: usize, wait: Duration) {
        self.processes[node].agent.timer += 1;
        let number = self.processes[node].agent.timer;
        self.input_after(node, wait, Input::Timer(number));
    }

    pub(super) fn timer(&mut self, node: usize) {
        match &mut self.processes[node].agent.task {
            Task::None | Task::LayDown | Task::HandOver(HandOver::Close { .. }) => {}
            Task::HandOver(HandOver::AwaitTicket { .. } | HandOver::Offer { .. }) => self.end_task(node),
            Task::HandOver(HandOver::Promote { epoch, .. }) => {
                let next = *epoch + 1;
                self.campaign(node, next);
            }
            Task::Campaign(_) => self.go_on(node),
        }
    }

    pub(super) fn end_task(&mut self, node: usize) {
        self.processes[node].agent.task = Task::None;
    }

    /// The server is read-only.
    pub(super) fn closed(&mut self, node: usize) {
        match self.processes[node].agent.task {
            Task::LayDown => self.lay_down(node),
            Task::HandOver(HandOver::Close { ticket }) => self.give_epoch_away(node, ticket),
            Task::HandOver(HandOver::AwaitTicket { .. }) => self.end_task(node),
            Task::None | Task::HandOver(HandOver::Offer { .. } | HandOver::Promote { .. }) | Task::Campaign(_) => {}
        }
    }

    fn lay_down(&mut self, node: usize) {
        self.end_task(node);
        if !self.leads(node) {
            return;
        }
        let now = self.local(node);
        let process = &mut self.processes[node];
        let epoch = process.agent.epoch;
        process.agent.lease.lost();
        process.voter.release(&Release { epoch, leader: World::name(node).into() }, now);
        self.write(node, Then::LaidDown { epoch });
    }

    /// The own vote for the other, and a renewal of the lease that it begins with.
    fn give_epoch_away(&mut self, node: usize, ticket: u64) {
        self.end_task(node);
        if !self.leads(node) {
            return;
        }
        let now = self.local(node);
        let process = &mut self.processes[node];
        let (epoch, leader) = (process.agent.epoch + 1, World::name(1 - node).to_owned());
        let ballot = Ballot { epoch, leader: leader.clone(), is_canvass: false };
        // Otherwise it leads on: the lease is still held.
        if let Answer::Granted(_) = process.voter.vote(&ballot, now) {
            let lease_ms = LEASE / 1000;
            process.voter.renew(&Renewal { epoch, leader, lease_ms, in_sync: false, withdrawals: 0 }, now);
            process.agent.lease.lost();
            process.agent.task = Task::HandOver(HandOver::Promote { number: 0, epoch });
            self.write(node, Then::Promote { ticket, epoch });
        }
    }

    pub(super) fn give_ticket(&mut self, node: usize, question: &Envelope) {
        let (now, ticket) = (self.local(node), self.random.random());
        let agent = &mut self.processes[node].agent;
        if agent.view == View::Closed && matches!(agent.task, Task::None) {
            agent.ticket = Some((ticket, now));
            self.reply(node, question, Message::Ticket(ticket));
        }
    }

    pub(super) fn have_ticket(&mut self, node: usize, answer: u64, ticket: u64) {
        let agent = &mut self.processes[node].agent;
        match agent.task {
            Task::HandOver(HandOver::AwaitTicket { number }) if number == answer && agent.view == View::Open => {
                agent.task = Task::HandOver(HandOver::Close { ticket });
                self.close(node);
            }
            // Closed since then: in the middle of something an agent opens nothing.
            Task::HandOver(HandOver::Offer { number }) if number == answer => self.give_epoch_away(node, ticket),
            _ => {}
        }
    }

    /// The old leader, which is closed, gives its epoch's successor to this server.
    pub(super) fn promoted(&mut self, node: usize, question: &Envelope, ticket: u64, epoch: u64) {
        let now = self.local(node);
        let checks_ticket = self.rules.keep(Rule::Ticket);
        let agent = &mut self.processes[node].agent;
        let since = match agent.ticket.take() {
            _ if !checks_ticket => Some(now),
            Some((latest, since)) if latest == ticket => Some(since),
            _ => None,
        };
        let (Some(since), View::Closed) = (since, agent.view) else {
            return self.reply(node, question, Message::Promoted(false));
        };
        let moment = Duration::from_micros(self.moment(200, 3 * LEASE));
        self.input_after(node, moment, Input::TakeOver { question: question.clone(), epoch, since });
    }

    /// What the old leader had is applied. Meanwhile this server may have voted for it again.
    pub(super) fn take_over(&mut self, node: usize, question: &Envelope, epoch: u64, since: Duration) {
        let (now, rules) = (self.local(node), self.rules);
        let (me, other) = (World::name(node), World::name(1 - node));
        let process = &mut self.processes[node];
        rules.release(&mut process.voter, &Release { epoch: epoch - 1, leader: other.into() }, now);
        let answer = process.voter.vote(&Ballot { epoch, leader: me.into(), is_canvass: false }, now);
        let is_mine = matches!(answer, Answer::Granted(_));
        let message = Message::Promoted(is_mine);
        let answer = Envelope { from: node, to: question.from, number: question.number, message };
        let then = match is_mine {
            true => Then::Lead { epoch, since: Some(since), answer: Some(answer) },
            false => Then::Answer(answer),
        };
        self.write(node, then);
    }

    pub(super) fn handed_over(&mut self, node: usize, answer: u64, is_leader: bool) {
        match self.processes[node].agent.task {
            Task::HandOver(HandOver::Promote { number, .. }) if number == answer && is_leader => self.end_task(node),
            Task::HandOver(HandOver::Promote { number, epoch }) if number == answer => self.campaign(node, epoch + 1),
            _ => {}
        }
    }

    /// The record is on the disk.
    pub(super) fn then(&mut self, node: usize, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Answer(envelope) => self.post(envelope),
            Then::Lead { epoch, since, answer } => {
                self.lead(node, epoch, since);
                answer.into_iter().for_each(|envelope| self.post(envelope));
            }
            Then::Promote { ticket, epoch } => {
                let number = self.send(node, 1 - node, Message::Promote { ticket, epoch });
                self.processes[node].agent.task = Task::HandOver(HandOver::Promote { number, epoch });
                let patience = self.random.random_range(LEASE / 4..2 * LEASE);
                self.wait(node, Duration::from_micros(patience));
            }
            Then::Campaign { epoch } if self.leads(node) && self.processes[node].agent.epoch + 1 == epoch => {
                self.end_task(node);
            }
            Then::Campaign { epoch } => self.campaign(node, epoch),
            Then::LaidDown { epoch } => {
                let release = Release { epoch, leader: World::name(node).into() };
                for other in [1 - node, WITNESS, 1 - node, WITNESS] {
                    self.send(node, other, Message::Release(release.clone()));
                }
            }
        }
    }

    /// The epoch is won; the lease comes with the ticket or has to be asked for.
    fn lead(&mut self, node: usize, epoch: u64, since: Option<Duration>) {
        let (now, lease) = (self.local(node), self.lease());
        let needs_renewal = self.rules.keep(Rule::RenewalBeforeOpening);
        let agent = &mut self.processes[node].agent;
        agent.task = Task::None;
        agent.epoch = epoch;
        agent.lease = Lease::new(lease);
        since.or((!needs_renewal).then_some(now)).into_iter().for_each(|since| agent.lease.confirmed(since));
        if agent.lease.is_held(now) && agent.view == View::Closed {
            self.open(node);
        }
        self.renew(node);
    }

    /// Send a question; says its number.
    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) -> u64 {
        self.sent += 1;
        let number = self.sent;
        self.post(Envelope { from, to, number, message });
        number
    }

    pub(super) fn reply(&mut self, node: usize, question: &Envelope, message: Message) {
        self.post(Envelope { from: node, to: question.from, number: question.number, message });
    }

    fn post(&mut self, envelope: Envelope) {
        let delays = self.network.delays(envelope.from, envelope.to, &mut self.random);
        self.tell(|| format!("{envelope:?} {delays:?}"));
        for delay in delays.into_iter().flatten() {
            self.schedule(self.now + delay, Event::Deliver(envelope.clone()));
        }
    }
}
