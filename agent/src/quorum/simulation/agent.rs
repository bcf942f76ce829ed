//! What an agent does: it leads while it holds a lease, votes, and confirms the other's epoch.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng;

use super::clock::LEASE;
use super::faults::Fault;
use super::network::{Envelope, Message, chance};
use super::renewal::Asked;
use super::rules::Rule;
use super::task::Task;
use super::world::{Command, Event, Input, Statement, Then, World};
use crate::quorum::{Answer, Ballot, Lease, Record, Release, Renewal};

/// What the agent knows of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// It has not looked yet.
    Unknown,
    Closed,
    Opening,
    Open,
    Closing,
}

/// What an agent has in its memory.
pub(super) struct Agent {
    pub(super) view: View,
    /// The run of the server that it is connected to.
    server_run: u32,
    pub(super) lease: Lease,
    /// The epoch that the lease is for.
    pub(super) epoch: u64,
    pub(super) asked: VecDeque<Asked>,
    pub(super) task: Task,
    pub(super) timer: u64,
    /// The last ticket that it gave, and when.
    pub(super) ticket: Option<(u64, Duration)>,
    /// Another voter has agreed to a later epoch than this server's.
    pub(super) lost: Option<Record>,
    /// When it last confirmed the other's epoch.
    pub(super) heard: Duration,
    pub(super) is_adopted: bool,
}

impl Agent {
    pub(super) fn new(lease: Duration, now: Duration) -> Agent {
        Agent {
            view: View::Unknown,
            server_run: 0,
            lease: Lease::new(lease),
            epoch: 0,
            asked: VecDeque::new(),
            task: Task::None,
            timer: 0,
            ticket: None,
            lost: None,
            heard: now,
            is_adopted: false,
        }
    }
}

impl World {
    pub(super) fn start_agent(&mut self, node: usize) {
        let now = self.local(node);
        let mut agent = Agent::new(self.lease(), now);
        agent.epoch = self.processes[node].disk.epoch;
        agent.server_run = self.servers[node].run;
        self.processes[node].agent = agent;
        let statement = if self.keeps_adopted { Statement::Look } else { Statement::Close };
        self.tell_server(node, statement, self.servers[node].run);
        let phase = Duration::from_micros(self.random.random_range(0..LEASE / 10));
        self.input_after(node, phase, Input::Tick);
        if !self.rules.keep(Rule::RenewalBeforeOpening) {
            self.processes[node].agent.lease.confirmed(now);
        }
    }

    /// How long a leader believes that a lease is.
    pub(super) fn lease(&self) -> Duration {
        let lease = Duration::from_micros(LEASE);
        if self.rules.keep(Rule::LeaseWithinWait) { lease } else { lease * 3 / 2 }
    }

    pub(super) fn input_after(&mut self, node: usize, wait: Duration, input: Input) {
        let at = self.processes[node].clock.shows(self.local(node) + wait);
        self.schedule(at, Event::Input(node, self.processes[node].run, input));
    }

    pub(super) fn agent(&mut self, node: usize, input: Input) {
        match input {
            Input::Message(envelope) => self.hear(node, envelope),
            Input::Tick => self.tick(node),
            Input::Timer(number) if self.processes[node].agent.timer == number => self.timer(node),
            Input::Timer(_) => {}
            Input::TellGuard { run } => self.tell_guard(node, run),
            Input::SendOpen { run } => {
                let epoch = self.processes[node].agent.epoch;
                self.tell_server(node, Statement::Open { epoch }, run);
            }
            Input::TakeOver { question, epoch, since } => self.take_over(node, &question, epoch, since),
            Input::Done { statement, is_writable } => self.done(node, statement, is_writable),
            Input::ServerDied { run } => self.server_died(node, run),
            Input::Command(command) => self.command(node, command),
        }
    }

    pub(super) fn leads(&self, node: usize) -> bool {
        let (record, agent) = (self.processes[node].voter.record(), &self.processes[node].agent);
        record.leader.as_deref() == Some(World::name(node)) && !record.is_vacant && record.epoch == agent.epoch
    }

    fn tick(&mut self, node: usize) {
        self.input_after(node, Duration::from_micros(LEASE / 10), Input::Tick);
        let (now, leads) = (self.local(node), self.leads(node));
        let agent = &mut self.processes[node].agent;
        let is_held = agent.lease.is_held(now);
        match agent.view {
            View::Open if !leads || agent.lost.is_some() || !(is_held || agent.is_adopted) => self.close(node),
            View::Closed => {
                if let Some(later) = agent.lost.take() {
                    return self.learn(node, &later, Then::Nothing);
                }
                if leads && is_held && (matches!(agent.task, Task::None) || self.opens_what_it_offers(node)) {
                    self.open(node);
                }
            }
            View::Unknown | View::Opening | View::Open | View::Closing => {}
        }
        if leads {
            self.change_promise(node);
            self.renew(node);
        } else {
            self.consider_leading(node);
        }
    }

    /// An automatic failover: nobody has asked for a confirmation for a while.
    fn consider_leading(&mut self, node: usize) {
        let agent = &self.processes[node].agent;
        let is_silent = self.local(node) > agent.heard + Duration::from_micros(LEASE * 3 / 2);
        let is_impatient = self.is_impatient && !self.is_well;
        if self.is_automatic && (is_silent || is_impatient) && self.random.random_bool(0.2) {
            self.command(node, Command::MakeLeader);
        }
    }

    pub(super) fn learn(&mut self, node: usize, later: &Record, then: Then) {
        let (now, votes) = (self.local(node), self.rules.keep(Rule::LearnByVote));
        let Record { epoch, leader: Some(leader), lease_ms, in_sync, withdrawals, is_vacant } = later.clone() else {
            return;
        };
        let voter = &mut self.processes[node].voter;
        if leader == World::name(node) && votes {
            voter.vote(&Ballot { epoch, leader, is_canvass: false }, now);
        } else {
            voter.renew(&Renewal { epoch, leader: leader.clone(), lease_ms, in_sync, withdrawals }, now);
            if is_vacant {
                voter.release(&Release { epoch, leader }, now);
            }
        }
        let epoch = voter.record().epoch;
        let agent = &mut self.processes[node].agent;
        agent.lease.lost();
        agent.epoch = epoch;
        self.write(node, then);
    }

    /// Open: the lease is held. The agent may stand still after each step.
    pub(super) fn open(&mut self, node: usize) {
        let agent = &mut self.processes[node].agent;
        agent.view = View::Opening;
        let run = agent.server_run;
        self.later(node, Input::TellGuard { run });
    }

    /// The guard hears of the end before the server hears of the beginning. Had that end passed already, the statement could
    /// be faster than the guard.
    fn tell_guard(&mut self, node: usize, run: u32) {
        let now = self.local(node);
        let deadline = self.processes[node].agent.lease.ends_at();
        if self.servers[node].run == run {
            self.arm_guard(node, deadline);
        }
        if deadline.is_none_or(|deadline| now >= deadline) && self.rules.keep(Rule::LookAfterGuard) {
            self.processes[node].agent.view = View::Closed;
            return;
        }
        self.later(node, Input::SendOpen { run });
    }

    /// The next step, before which the agent may stand still.
    fn later(&mut self, node: usize, input: Input) {
        let moment = self.moment(0, 0);
        self.input_after(node, Duration::from_micros(moment), input);
        if !self.is_well && chance(&mut self.random, 50) {
            self.fault(Fault::Pause(node));
        }
    }

    pub(super) fn close(&mut self, node: usize) {
        let agent = &mut self.processes[node].agent;
        agent.view = View::Closing;
        let run = agent.server_run;
        self.tell_server(node, Statement::Close, run);
    }

    fn done(&mut self, node: usize, statement: Statement, is_writable: bool) {
        let agent = &mut self.processes[node].agent;
        agent.view = match (statement, agent.view) {
            (Statement::Open { .. }, View::Opening) if is_writable => View::Open,
            (Statement::Look, View::Unknown) if is_writable => View::Open,
            (Statement::Close | Statement::Look, View::Unknown) => View::Closed,
            (Statement::Open { .. }, View::Opening) | (Statement::Close, View::Closing) => View::Closed,
            (_, view) => view,
        };
        agent.is_adopted = statement == Statement::Look && is_writable;
        if agent.view == View::Closed {
            self.arm_guard(node, None);
            self.closed(node);
        }
    }

    /// Its server is closed for certain, so it may ask the other agent to take over.
    fn server_died(&mut self, node: usize, run: u32) {
        let agent = &mut self.processes[node].agent;
        let was_open = agent.view == View::Open;
        agent.view = View::Closed;
        agent.server_run = run;
        self.closed(node);
        if was_open && self.is_automatic {
            self.offer(node);
        }
    }

    fn hear(&mut self, node: usize, envelope: Envelope) {
        match &envelope.message {
            Message::Renewal(renewal) => self.confirm(node, &envelope, renewal),
            Message::Ballot(ballot) => self.vote(node, &envelope, ballot),
            Message::Release(release) => self.released(node, release),
            Message::Answer(answer) => {
                if !self.confirmed(node, &envelope, answer) {
                    self.voted(node, envelope.number, answer);
                }
            }
            Message::Prepare => self.give_ticket(node, &envelope),
            Message::Ticket(ticket) => self.have_ticket(node, envelope.number, *ticket),
            Message::Promote { ticket, epoch } => self.promoted(node, &envelope, *ticket, *epoch),
            Message::Promoted(is_leader) => self.handed_over(node, envelope.number, *is_leader),
        }
    }

    /// Vote, but not for another while the own server is open or about to be.
    fn vote(&mut self, node: usize, question: &Envelope, ballot: &Ballot) {
        let now = self.local(node);
        let (keeps_fence, opening_is_open) = (self.rules.keep(Rule::Fence), self.rules.keep(Rule::OpeningIsOpen));
        let process = &mut self.processes[node];
        let is_open = match process.agent.view {
            View::Unknown => return,
            View::Closed => false,
            View::Opening => keeps_fence && opening_is_open,
            View::Open | View::Closing => keeps_fence,
        };
        let answer = match is_open {
            true => Answer::Refused(process.voter.record().clone()),
            false => process.voter.vote(ballot, now),
        };
        self.answer(node, question, answer);
    }

    fn released(&mut self, node: usize, release: &Release) {
        let now = self.local(node);
        self.rules.release(&mut self.processes[node].voter, release, now);
        self.write(node, Then::Nothing);
    }
}
