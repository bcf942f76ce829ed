//! A database server and its guard, a process that knows nothing but how long the server may live.

use std::time::Duration;

use rand::Rng;

use super::clock::{LEASE, LONGEST_KILL, Micros};
use super::rules::Rule;
use super::world::{Event, Input, Statement, World};

/// A server and its guard.
#[derive(Default)]
pub(super) struct Server {
    pub(super) is_writable: bool,
    pub(super) run: u32,
    lives_until: Option<Duration>,
    is_guard_awake: bool,
    busy_until: Micros,
}

impl World {
    /// Send a statement to that run of the server. It is done behind the earlier ones, whatever becomes of the agent.
    pub(super) fn tell_server(&mut self, node: usize, statement: Statement, server_run: u32) {
        let moment = self.moment(100, LEASE / 2);
        let at = self.servers[node].busy_until.max(self.now + moment);
        self.servers[node].busy_until = at;
        let runs = (self.processes[node].run, server_run);
        self.schedule(at, Event::Execute { node, runs, statement });
    }

    /// A server that died has taken its connections along: the statement fails, and the agent hears of the death.
    pub(super) fn execute(&mut self, node: usize, (agent_run, server_run): (u32, u32), statement: Statement) {
        let server = &mut self.servers[node];
        if server.run != server_run {
            return;
        }
        match statement {
            Statement::Look => {}
            Statement::Close => server.is_writable = false,
            Statement::Open { epoch } => {
                server.is_writable = true;
                self.opened(node, epoch);
            }
        }
        let is_writable = self.servers[node].is_writable;
        self.tell(|| format!("{} has done {statement:?}: writable {is_writable}", World::name(node)));
        self.schedule(self.now, Event::Input(node, agent_run, Input::Done { statement, is_writable }));
    }

    /// What must never happen: two are writable, or an epoch has two leaders.
    fn opened(&mut self, node: usize, epoch: u64) {
        if self.servers.iter().all(|server| server.is_writable) {
            self.broken.get_or_insert(format!("both servers are writable, {} in epoch {epoch}", World::name(node)));
        }
        if self.opened.iter().any(|opened| opened.0 == epoch && opened.1 != node) {
            self.broken.get_or_insert(format!("epoch {epoch} has two leaders"));
        }
        self.opened.push((epoch, node));
    }

    pub(super) fn server_dies(&mut self, node: usize) {
        let server = &mut self.servers[node];
        server.is_writable = false;
        server.lives_until = None;
        server.run += 1;
        server.busy_until = self.now;
        let died = Input::ServerDied { run: server.run };
        self.schedule(self.now, Event::Input(node, self.processes[node].run, died));
    }

    /// The guard looks at its clock.
    pub(super) fn guard(&mut self, node: usize) {
        let now = self.local(node);
        let server = &mut self.servers[node];
        server.is_guard_awake = false;
        let Some(deadline) = server.lives_until else { return };
        if now < deadline {
            return self.wake_guard(node);
        }
        let spares = !server.is_writable && !self.rules.keep(Rule::GuardBeforeOpening);
        if spares || !self.rules.keep(Rule::Guard) {
            server.lives_until = None;
            return;
        }
        self.tell(|| format!("the guard kills the server of {}", World::name(node)));
        let (run, moment) = (self.servers[node].run, self.random.random_range(0..LONGEST_KILL));
        self.schedule(self.now + moment, Event::Kill(node, run));
    }

    /// The agent tells the guard how long the server may live.
    pub(super) fn arm_guard(&mut self, node: usize, deadline: Option<Duration>) {
        self.servers[node].lives_until = deadline;
        self.wake_guard(node);
    }

    fn wake_guard(&mut self, node: usize) {
        let server = &mut self.servers[node];
        let Some(deadline) = server.lives_until.filter(|_| !server.is_guard_awake) else { return };
        server.is_guard_awake = true;
        let at = self.processes[node].clock.shows(deadline);
        self.schedule(at, Event::Guard(node));
    }
}
