//! What breaks: processes, machines, links. And what a schedule is made of.

use std::time::Duration;

use rand::Rng;

use super::agent::Agent;
use super::clock::{Clock, LEASE, Micros};
use super::network::Network;
use super::renewal::Promise;
use super::rules::Rule;
use super::world::{Command, Event, Process, WITNESS, World};
use crate::quorum::{Record, Voter};

/// Until then things break; then everything is well again.
pub(super) const FAULTS_END: Micros = 14 * LEASE;

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// An agent or the witness dies; what is in its memory is lost.
    Process(usize),
    /// A process dies and is back in a moment, but cut off from another.
    Outage(usize, usize),
    /// An agent and its server.
    Machine(usize),
    Server(usize),
    /// A process stands still; what it hears and its timers wait.
    Pause(usize),
    /// Nothing gets from one to the other.
    Cut(usize, usize),
    /// Nothing gets to it or from it.
    Isolate(usize),
    Mend,
    MendAll,
}

/// What a schedule has most of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    Anything,
    HandOvers,
    /// The leadership is laid down and taken up again.
    Releases,
    /// Processes that stand still, and clocks as unequal as may be.
    Pauses,
}

impl Theme {
    pub(super) const ALL: [Theme; 4] = [Theme::Anything, Theme::HandOvers, Theme::Releases, Theme::Pauses];

    fn commands(self) -> &'static [Command] {
        match self {
            Theme::Anything | Theme::Pauses => &[Command::MakeLeader, Command::MakeReadOnly, Command::HandOver],
            Theme::HandOvers => &[Command::HandOver],
            Theme::Releases => &[Command::MakeReadOnly],
        }
    }
}

impl World {
    /// Start the three, two of them in the middle of their life or quite new, and think up what will happen.
    pub(super) fn begin(&mut self) {
        if self.random.random_bool(0.8) {
            let leader = Some(World::name(self.random.random_range(0..2)).to_owned());
            let lease_ms = LEASE / 1000;
            let record = Record { epoch: 3, leader, lease_ms, ..Record::default() };
            self.processes.iter_mut().for_each(|process| process.disk = record.clone());
        }
        (0..3).for_each(|node| self.schedule(0, Event::Start(node)));
        let is_cut = self.theme == Theme::Releases;
        if is_cut || self.random.random_bool(0.5) {
            let (one, other) = if is_cut || self.random.random_bool(0.5) { (0, 1) } else { self.two() };
            self.network.cut(one, other);
            self.network.cut(other, one);
        }
        for _ in 0..self.random.random_range(4..12) {
            let at = self.random.random_range(0..FAULTS_END);
            let node = self.random.random_range(0..2);
            (0..self.random.random_range(1..6)).for_each(|_| self.incident(at, node));
        }
        self.schedule(FAULTS_END, Event::Fault(Fault::MendAll));
    }

    /// What goes wrong, goes wrong together, and somebody does something about it.
    fn incident(&mut self, at: Micros, node: usize) {
        let at = at + self.random.random_range(0..LEASE);
        let commands = self.theme.commands();
        let share = if self.theme == Theme::Releases { 0.8 } else { 0.5 };
        let event = match self.random.random_bool(share) {
            true if self.theme == Theme::Pauses => Event::Fault(Fault::Pause(node)),
            true => Event::Command(node, commands[self.random.random_range(0..commands.len())]),
            false => Event::Fault(self.random_fault()),
        };
        if let Event::Command(_, command) = event
            && self.random.random_bool(0.5)
        {
            let (limit, next) = match command {
                Command::MakeReadOnly => (LEASE / 5, Event::Command(node, Command::MakeLeader)),
                Command::HandOver => (LEASE / 20, Event::Fault(Fault::Pause(1 - node))),
                Command::MakeLeader => (LEASE / 10, Event::Fault(self.random_fault())),
            };
            let soon = at + self.random.random_range(0..limit);
            self.schedule(soon.min(FAULTS_END), next);
        }
        self.schedule(at.min(FAULTS_END), event);
    }

    fn two(&mut self) -> (usize, usize) {
        let one = self.random.random_range(0..3);
        (one, (one + self.random.random_range(1..3)) % 3)
    }

    fn random_fault(&mut self) -> Fault {
        let ((any, other), agent) = (self.two(), self.random.random_range(0..2));
        match self.random.random_range(0..15) {
            0 | 1 => Fault::Process(any),
            12..15 => Fault::Outage(any, other),
            2 => Fault::Machine(agent),
            3 => Fault::Server(agent),
            4 | 5 => Fault::Pause(any),
            6 | 7 => Fault::Cut(any, other),
            8 | 9 => Fault::Isolate(any),
            _ => Fault::Mend,
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.tell(|| format!("{fault:?}"));
        match fault {
            Fault::Process(node) => {
                let limit = if self.random.random_bool(0.5) { LEASE / 10 } else { 3 * LEASE };
                self.crash(node, limit);
            }
            Fault::Outage(node, other) => {
                self.crash(node, LEASE / 10);
                self.network.cut(node, other);
                self.network.cut(other, node);
            }
            Fault::Machine(node) => {
                self.crash(node, 3 * LEASE);
                self.server_dies(node);
                let process = &mut self.processes[node];
                process.clock = process.clock.restarted(&mut self.random);
            }
            Fault::Server(node) => self.server_dies(node),
            Fault::Pause(node) => {
                let pause = self.random.random_range(0..5 * LEASE);
                self.processes[node].is_paused = true;
                self.schedule(self.now + pause, Event::Resume(node));
            }
            Fault::Cut(from, to) => self.network.cut(from, to),
            Fault::Isolate(node) => (0..3).for_each(|other| {
                self.network.cut(node, other);
                self.network.cut(other, node);
            }),
            Fault::Mend => self.mend_links(),
            Fault::MendAll => {
                self.network = Network::default();
                self.is_well = true;
                for node in 0..3 {
                    self.schedule(self.now, Event::Resume(node));
                    self.schedule(self.now, Event::Start(node));
                }
            }
        }
    }

    fn mend_links(&mut self) {
        for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))) {
            self.network.mend(from, to);
        }
    }

    fn crash(&mut self, node: usize, longest: Micros) {
        let was_written = self.random.random_bool(0.5);
        if self.processes[node].is_writing() && was_written {
            self.keep(node);
        }
        let process = &mut self.processes[node];
        process.is_up = false;
        process.run += 1;
        process.forget();
        if !self.rules.keep(Rule::DurablePromise) {
            process.disk = Record::default();
        }
        let downtime = self.random.random_range(0..longest);
        self.schedule(self.now + downtime, Event::Start(node));
    }

    pub(super) fn start(&mut self, node: usize) {
        if self.processes[node].is_up {
            return;
        }
        self.tell(|| format!("{} starts", World::name(node)));
        let now = self.local(node);
        let waits_from = match self.rules.keep(Rule::WaitAfterStart) {
            true => now,
            false => now.saturating_sub(Duration::from_micros(LEASE)),
        };
        let process = &mut self.processes[node];
        process.is_up = true;
        process.is_paused = false;
        process.voter = Voter::started(process.disk.clone(), waits_from);
        if node != WITNESS {
            self.start_agent(node);
        }
    }
}

impl Process {
    fn is_writing(&self) -> bool {
        matches!(self.pending, Some((_, false)))
    }

    fn forget(&mut self) {
        self.inbox.clear();
        self.pending = None;
    }

    pub(super) fn new(clock: Clock) -> Process {
        Process {
            is_up: false,
            is_paused: false,
            run: 0,
            clock,
            disk: Record::default(),
            promise: Promise::default(),
            voter: Voter::started(Record::default(), Duration::ZERO),
            agent: Agent::new(Duration::ZERO, Duration::ZERO),
            inbox: Default::default(),
            pending: None,
        }
    }
}
