//! The machines, what happens on them in the order of true time, and what must never happen.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::agent::Agent;
use super::clock::{Clock, LEASE, Micros};
use super::faults::{Fault, Theme};
use super::network::{Envelope, Message, Network, chance};
use super::queue::Queue;
use super::renewal::Promise;
use super::rules::{Rule, Rules};
use super::server::Server;
use crate::quorum::{Answer, Record, Voter};

pub(super) const WITNESS: usize = 2;
const NAMES: [&str; 3] = ["mysql/0", "mysql/1", "witness"];

/// What an operator, or the agent itself, may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    MakeLeader,
    MakeReadOnly,
    HandOver,
}

/// What a process reacts to, one after the other.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Message(Envelope),
    Tick,
    /// The wait of this number is over.
    Timer(u64),
    /// To open was decided; the guard is told now, then the statement goes out to that run of the server.
    TellGuard {
        run: u32,
    },
    SendOpen {
        run: u32,
    },
    /// What was promised to this server is all applied.
    TakeOver {
        question: Envelope,
        epoch: u64,
        since: Duration,
    },
    Done {
        statement: Statement,
        is_writable: bool,
    },
    /// Its server died; this is the number of the next run.
    ServerDied {
        run: u32,
    },
    Command(Command),
}

/// What an agent tells its server; they are done in their order, also when the agent is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Look,
    Close,
    Open { epoch: u64 },
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver(Envelope),
    /// For that run of the process only.
    Input(usize, u32, Input),
    Written(usize, u32),
    Execute {
        node: usize,
        /// Of the agent, and of the server.
        runs: (u32, u32),
        statement: Statement,
    },
    Guard(usize),
    /// The guard's signal reaches that run of the server.
    Kill(usize, u32),
    Resume(usize),
    Start(usize),
    Fault(Fault),
    Command(usize, Command),
}

/// What a process does when its record is on the disk.
#[derive(Clone, Debug)]
pub(super) enum Then {
    Nothing,
    Answer(Envelope),
    /// It has won this epoch, and a lease with it if a ticket says since when.
    Lead {
        epoch: u64,
        since: Option<Duration>,
        answer: Option<Envelope>,
    },
    Promote {
        ticket: u64,
        epoch: u64,
    },
    LaidDown {
        epoch: u64,
    },
    /// It tries to win this epoch.
    Campaign {
        epoch: u64,
    },
}

/// An agent or the witness.
pub(super) struct Process {
    pub(super) is_up: bool,
    pub(super) is_paused: bool,
    pub(super) run: u32,
    pub(super) clock: Clock,
    pub(super) disk: Record,
    /// Of a leader, on its disk too.
    pub(super) promise: Promise,
    pub(super) voter: Voter,
    pub(super) agent: Agent,
    pub(super) inbox: VecDeque<Input>,
    /// What waits for the disk, and whether the record is there by now.
    pub(super) pending: Option<(Then, bool)>,
}

/// Everything.
pub(super) struct World {
    pub(super) now: Micros,
    pub(super) random: StdRng,
    pub(super) rules: Rules,
    pub(super) theme: Theme,
    pub(super) processes: [Process; 3],
    pub(super) servers: [Server; 2],
    pub(super) network: Network,
    pub(super) opened: Vec<(u64, usize)>,
    /// The first thing that must never happen and did.
    pub(super) broken: Option<String>,
    /// Agents close a server that they find open, or keep it for as long as its guard lets it live.
    pub(super) keeps_adopted: bool,
    /// A follower that hears nothing asks for the leadership by itself.
    pub(super) is_automatic: bool,
    /// It asks again and again, also while it hears of a leader.
    pub(super) is_impatient: bool,
    /// Nothing breaks any more.
    pub(super) is_well: bool,
    slow_writes_per_mille: u32,
    crashes_writing_per_mille: u32,
    queue: Queue,
    /// Questions, which have numbers.
    pub(super) sent: u64,
    story: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules, tells: bool) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let theme = Theme::ALL[seed as usize % Theme::ALL.len()];
        let is_in_bound = rules.keep(Rule::ClockBound);
        let is_extreme = theme == Theme::Pauses;
        let processes = std::array::from_fn(|_| Process::new(Clock::random(&mut random, is_in_bound, is_extreme)));
        let is_late = matches!(theme, Theme::HandOvers | Theme::Releases);
        let network = Network::random(&mut random, is_late);
        World {
            now: 0,
            rules,
            theme,
            processes,
            servers: Default::default(),
            network,
            opened: Vec::new(),
            broken: None,
            keeps_adopted: random.random_bool(0.5),
            is_automatic: random.random_bool(0.7),
            is_impatient: random.random_bool(0.3),
            is_well: false,
            slow_writes_per_mille: if random.random_bool(0.3) { 500 } else { 50 },
            crashes_writing_per_mille: if random.random_bool(0.5) { 200 } else { 0 },
            queue: Queue::default(),
            sent: 0,
            story: tells.then(Vec::new),
            random,
        }
    }

    pub(super) fn name(node: usize) -> &'static str {
        NAMES[node]
    }

    pub(super) fn tell(&mut self, event: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.push(format!("{:.4} {}", now as f64 / LEASE as f64, event()));
        }
    }

    pub(super) fn story(&self) -> String {
        self.story.as_deref().unwrap_or_default().join("\n")
    }

    pub(super) fn schedule(&mut self, at: Micros, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    /// Play what happens until then, or until something that must not.
    pub(super) fn play_until(&mut self, end: Micros) {
        while self.broken.is_none()
            && let Some((at, event)) = self.queue.pop_until(end)
        {
            self.now = at;
            self.happen(event);
        }
        self.now = end.max(self.now);
    }

    pub(super) fn writable(&self) -> usize {
        self.servers.iter().filter(|server| server.is_writable).count()
    }

    pub(super) fn local(&self, node: usize) -> Duration {
        self.processes[node].clock.read(self.now)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(envelope) => self.input(envelope.to, Input::Message(envelope)),
            Event::Input(node, run, input) if self.processes[node].run == run => self.input(node, input),
            Event::Written(node, run) if self.processes[node].run == run => self.written(node),
            Event::Input(..) | Event::Written(..) => {}
            Event::Execute { node, runs, statement } => self.execute(node, runs, statement),
            Event::Guard(node) => self.guard(node),
            Event::Kill(node, run) if self.servers[node].run == run => self.server_dies(node),
            Event::Kill(..) => {}
            Event::Resume(node) => {
                self.processes[node].is_paused = false;
                self.work(node);
            }
            Event::Start(node) => self.start(node),
            Event::Fault(fault) => self.fault(fault),
            Event::Command(node, command) => self.input(node, Input::Command(command)),
        }
    }

    /// A process is given something to do; it does it when it can.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        if self.processes[node].is_up {
            self.processes[node].inbox.push_back(input);
            self.work(node);
        }
    }

    fn work(&mut self, node: usize) {
        while !self.processes[node].is_paused {
            let process = &mut self.processes[node];
            match &process.pending {
                Some((_, true)) => {
                    let Some((then, _)) = process.pending.take() else { return };
                    self.then(node, then);
                }
                Some((_, false)) => return,
                None => match process.inbox.pop_front() {
                    Some(input) if node == WITNESS => self.witness(input),
                    Some(input) => self.agent(node, input),
                    None => return,
                },
            }
        }
    }

    /// How long something takes on a machine: a moment, or now and then up to this.
    pub(super) fn moment(&mut self, long_per_mille: u32, longest: Micros) -> Micros {
        let is_long = !self.is_well && chance(&mut self.random, long_per_mille);
        let usual = if self.random.random_bool(0.5) { LEASE / 1000 } else { LEASE / 100 };
        self.random.random_range(0..if is_long { longest } else { usual })
    }

    fn witness(&mut self, input: Input) {
        let Input::Message(envelope) = input else { return };
        let now = self.local(WITNESS);
        let rules = self.rules;
        let voter = &mut self.processes[WITNESS].voter;
        let answer = match &envelope.message {
            Message::Renewal(renewal) => voter.renew(renewal, now),
            Message::Ballot(ballot) => voter.vote(ballot, now),
            Message::Release(release) => {
                rules.release(voter, release, now);
                return self.write(WITNESS, Then::Nothing);
            }
            _ => return,
        };
        self.check_trust();
        self.answer(WITNESS, &envelope, answer);
    }

    /// Write the record down, then answer.
    pub(super) fn answer(&mut self, node: usize, question: &Envelope, answer: Answer) {
        self.tell(|| format!("{} to {:?}: {answer:?}", World::name(node), question.message));
        let message = Message::Answer(answer);
        let envelope = Envelope { from: node, to: question.from, number: question.number, message };
        self.write(node, Then::Answer(envelope));
    }

    /// Write down what the voter has agreed to, if that is new; the process does nothing else meanwhile.
    pub(super) fn write(&mut self, node: usize, then: Then) {
        let process = &self.processes[node];
        if process.voter.record() == &process.disk {
            return self.then(node, then);
        }
        let at = self.now + self.moment(self.slow_writes_per_mille, LEASE / 2);
        self.schedule(at, Event::Written(node, self.processes[node].run));
        if !self.is_well && chance(&mut self.random, self.crashes_writing_per_mille) {
            self.schedule(at.saturating_sub(1), Event::Fault(Fault::Process(node)));
        }
        if self.rules.keep(Rule::WriteBeforeAnswer) {
            self.processes[node].pending = Some((then, false));
        } else {
            self.then(node, then);
        }
    }

    fn written(&mut self, node: usize) {
        self.keep(node);
        if let Some((_, is_written)) = &mut self.processes[node].pending {
            *is_written = true;
        }
        self.work(node);
    }

    /// The record reaches the disk.
    pub(super) fn keep(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let (before, after) = (&process.disk, process.voter.record());
        let is_same = before.epoch == after.epoch && before.leader == after.leader;
        let goes_on = after.epoch > before.epoch || (is_same && (after.is_vacant || !before.is_vacant));
        if !goes_on {
            self.broken.get_or_insert(format!("{} went back from {before:?} to {after:?}", NAMES[node]));
        }
        process.disk = after.clone();
    }
}
