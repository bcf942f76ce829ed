//! The pretended servers, and what can happen to them.

use std::net::IpAddr;

use agent::api::{Activity, Command, Receiver};

use super::task::{Act, Kind, Request, Task, Went};
use crate::fence::{self, Marker};
use crate::gtid::History;
use crate::topology::{Channel, Peer, Server};

/// What can break.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    Server,
    Agent,
    /// Both; they come back with their run directory.
    Vm,
    /// Both; they come back on the same disk with everything else empty.
    VmForGood,
}

/// A VM: an agent and a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) agent_up: bool,
    pub(super) server_up: bool,
    pub(super) is_writable: bool,
    pub(super) executed: History,
    /// The sequence number of the last transaction.
    pub(super) last: u64,
    pub(super) channel: Option<Replica>,
    pub(super) marker: Option<Marker>,
    pub(super) demoted: bool,
    pub(super) flag: Option<Activity>,
    pub(super) ticket: u64,
    pub(super) needs_recovery: bool,
    pub(super) task: Option<Task>,
    /// What the agent does for its peer; it holds the flag.
    pub(super) foreign: Option<Task>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    pub(super) receives: bool,
    pub(super) applies: bool,
    pub(super) received: History,
    pub(super) received_last: u64,
}

/// Both VMs, and what happened.
#[derive(Default)]
pub(super) struct World {
    pub(super) nodes: [Node; 2],
    pub(super) promotions: usize,
    pub(super) next_ticket: u64,
    story: Vec<String>,
}

pub(super) fn address(node: usize) -> IpAddr {
    [[127, 0, 1, 1], [127, 0, 2, 1]][node].into()
}

impl World {
    pub(super) fn writable(&self) -> usize {
        self.nodes.iter().filter(|node| node.server_up && node.is_writable).count()
    }

    pub(super) fn is_one_history(&self) -> bool {
        let [first, second] = &self.nodes;
        first.executed.contains(&second.executed) || second.executed.contains(&first.executed)
    }

    pub(super) fn leader_has_everything(&self) -> bool {
        let leader = usize::from(self.nodes[1].is_writable);
        self.writable() == 0 || self.nodes[leader].executed.contains(&self.nodes[1 - leader].executed)
    }

    pub(super) fn is_healthy(&self) -> bool {
        let follows = |node: usize| self.server(node).follows(&self.server(1 - node));
        self.writable() == 1 && (follows(0) || follows(1))
    }

    pub(super) fn tell(&mut self, event: String) {
        self.story.push(event);
    }

    pub(super) fn story(&self) -> String {
        format!("{}\n{:#?}", self.story.join("\n"), self.nodes)
    }

    pub(super) fn crash(&mut self, node: usize, crash: Crash) {
        self.tell(format!("{node} crashes: {crash:?}"));
        let (agent, server) = match crash {
            Crash::Server => (false, true),
            Crash::Agent => (true, false),
            Crash::Vm | Crash::VmForGood => (true, true),
        };
        let vm = &mut self.nodes[node];
        if server {
            vm.server_up = false;
            vm.is_writable = false;
        }
        if agent {
            vm.agent_up = false;
            vm.flag = None;
            vm.task = None;
            vm.foreign = None;
            vm.ticket = 0;
        }
        if let Crash::VmForGood = crash {
            vm.marker = None;
        }
    }

    /// Start what is down. The server starts read-only with replication stopped.
    pub(super) fn start(&mut self, node: usize) {
        let vm = &mut self.nodes[node];
        vm.needs_recovery |= !vm.agent_up || !vm.server_up;
        vm.agent_up = true;
        if !vm.server_up {
            vm.server_up = true;
            vm.channel = vm.channel.take().map(|replica| Replica { receives: false, applies: false, ..replica });
        }
        if vm.needs_recovery && vm.flag.is_none() && vm.task.is_none() {
            vm.flag = Some(Activity::Recovery);
            vm.task = Some(Task::recovery());
        }
    }

    pub(super) fn command(&mut self, node: usize, command: Command) {
        let vm = &mut self.nodes[node];
        if vm.agent_up && vm.flag.is_none() && vm.task.is_none() {
            vm.flag = Some(Activity::Command(command));
            vm.task = Some(Task::command(command));
            self.tell(format!("{node} begins {command:?}"));
        }
    }

    /// A client's transaction.
    pub(super) fn write(&mut self, node: usize) {
        let vm = &mut self.nodes[node];
        if vm.server_up && vm.is_writable {
            vm.last += 1;
            let gtid: History = format!("0-{}-{}", node + 1, vm.last).parse().unwrap();
            vm.executed = vm.executed.clone().united_with(&gtid);
        }
    }

    /// A follower receives, or applies.
    pub(super) fn replicate(&mut self, node: usize) {
        let source = self.nodes[1 - node].clone();
        let vm = &mut self.nodes[node];
        let Some(replica) = vm.channel.as_mut().filter(|_| vm.server_up) else { return };
        if replica.applies && !vm.executed.contains(&replica.received) {
            self.apply(node);
        } else if replica.receives && source.server_up && source.executed.contains(&vm.executed) {
            replica.received = source.executed;
            replica.received_last = source.last;
        }
    }

    /// Do the next act of what this agent does, for its peer or for itself.
    pub(super) fn advance(&mut self, node: usize) {
        if !self.nodes[node].agent_up {
            return;
        }
        if let Some(mut task) = self.nodes[node].foreign.take() {
            let went = self.act_in(node, &mut task);
            let is_done = !went || task.acts.is_empty();
            // The answer to a promotion goes out when the server is open; its source is forgotten behind it.
            let is_open = task.kind == Kind::Foreign(Request::Promote) && task.acts.front() == Some(&Act::ForgetSource);
            if is_done || is_open {
                self.answer(1 - node, went);
            }
            if is_done { self.nodes[node].flag = None } else { self.nodes[node].foreign = Some(task) }
        } else if let Some(mut task) = self.nodes[node].task.take() {
            let went = self.act_in(node, &mut task);
            if !went || task.acts.is_empty() {
                self.nodes[node].flag = None
            } else {
                self.nodes[node].task = Some(task)
            }
        }
    }

    fn act_in(&mut self, node: usize, task: &mut Task) -> bool {
        let Some(act) = task.acts.pop_front() else { return true };
        let went = self.act(node, act, task);
        self.tell(format!("{node} {:?}: {act:?}", task.kind));
        match went {
            Went::On => true,
            Went::Again => {
                task.acts.push_front(act);
                true
            }
            Went::Wrong(why) => {
                self.tell(format!("{node} {:?} ends: {why}", task.kind));
                false
            }
        }
    }

    fn answer(&mut self, node: usize, went: bool) {
        if let Some(task) = self.nodes[node].task.as_mut().filter(|task| task.answer.is_none()) {
            task.answer = Some(went);
        }
    }

    pub(super) fn open(&mut self, node: usize) {
        self.promotions += usize::from(!self.nodes[node].is_writable);
        self.nodes[node].is_writable = true;
        self.nodes[node].demoted = false;
    }

    pub(super) fn replica(&mut self, node: usize, change: impl FnOnce(&mut Replica)) {
        if let Some(replica) = &mut self.nodes[node].channel {
            change(replica);
        }
    }

    /// What a promotion waits for.
    pub(super) fn has(&self, node: usize, wanted: &History) -> bool {
        self.nodes[node].executed.contains(wanted)
    }

    pub(super) fn apply(&mut self, node: usize) {
        let vm = &mut self.nodes[node];
        if let Some(replica) = &vm.channel {
            vm.executed = vm.executed.clone().united_with(&replica.received);
            vm.last = vm.last.max(replica.received_last);
        }
    }

    pub(super) fn stop_replication(&mut self, node: usize) -> Went {
        let vm = &mut self.nodes[node];
        let Some(replica) = &mut vm.channel else { return Went::On };
        (replica.receives, replica.applies) = (false, false);
        if vm.executed.contains(&replica.received) { Went::On } else { Went::Wrong("not everything is applied".into()) }
    }

    pub(super) fn replicate_from(&mut self, node: usize, source: &Node) {
        let vm = &mut self.nodes[node];
        vm.channel = Some(Replica { receives: true, applies: true, ..Replica::default() });
        if vm.executed.is_empty() {
            vm.executed = source.executed.clone();
            vm.last = source.last;
        }
    }

    /// The agent stops waiting for its peer's answer; the peer goes on.
    pub(super) fn give_up_waiting(&mut self, node: usize) {
        let waits = self.nodes[node].task.as_mut().filter(|task| task.acts.front() == Some(&Act::AwaitPeer));
        if let Some(task) = waits {
            task.answer = Some(false);
        }
    }

    /// What the peer answers to a question about its status.
    pub(super) fn ask(&self, node: usize) -> Peer {
        match (self.nodes[node].agent_up, self.nodes[node].server_up) {
            (true, true) => Peer::Answers(self.server(node)),
            (_, _) => Peer::Silent {
                address: address(node),
                why: "down".into(),
                may_be_writable: fence::may_lead(&self.fence_view(node)).is_err(),
            },
        }
    }

    /// What the fence learns from the same question.
    pub(super) fn fence_view(&self, node: usize) -> fence::Peer {
        let vm = &self.nodes[node];
        let known = || self.server(node).known().ok();
        match (vm.agent_up, vm.server_up) {
            (true, true) => fence::Peer::Answers { is_writable: vm.is_writable, busy: vm.flag, known: known() },
            (true, false) if vm.flag.is_some() => {
                fence::Peer::Answers { is_writable: false, busy: vm.flag, known: None }
            }
            (true, false) if vm.marker == Some(Marker::Leader) => fence::Peer::Unclear,
            (true, false) => fence::Peer::Answers { is_writable: false, busy: None, known: None },
            // Its agent is gone; its server says what it is.
            (false, true) => fence::Peer::Answers { is_writable: vm.is_writable, busy: None, known: known() },
            (false, false) => fence::Peer::Gone,
        }
    }

    pub(super) fn server(&self, node: usize) -> Server {
        let vm = &self.nodes[node];
        let channel = vm.channel.as_ref().map(|replica| Channel {
            source: address(1 - node).to_string(),
            receiver: match (replica.receives, self.nodes[1 - node].server_up) {
                (true, true) => Receiver::Connected,
                (true, false) => Receiver::Connecting,
                (false, _) => Receiver::Stopped,
            },
            is_applier_running: replica.applies,
            received: replica.received.clone(),
            seconds_behind: Some(0),
            receiver_error: String::new(),
            applier_error: String::new(),
        });
        Server {
            instance: format!("mysql/{node}"),
            address: address(node),
            index: node as u32,
            is_writable: vm.is_writable,
            executed: Ok(vm.executed.clone()),
            purged: History::default(),
            channel,
            busy: vm.flag,
        }
    }

    /// Everything is up and nothing is going on.
    pub(super) fn settle(&mut self) {
        for turn in 0..200 {
            for node in 0..2 {
                // A recovery pauses between its looks.
                if turn % 7 == node {
                    self.start(node);
                }
                self.advance(node);
                self.replicate(node);
            }
        }
    }

    /// Run a command alone, to its end.
    pub(super) fn run(&mut self, node: usize, command: Command) -> Option<String> {
        // A command waits for a recovery, which lowers the flag again and again.
        while self.nodes[node].flag.is_some() {
            self.advance(node);
        }
        self.command(node, command);
        self.settle();
        self.story.last().cloned()
    }
}
