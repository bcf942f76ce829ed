//! What an agent does, cut into acts between which anything can happen. The acts are those of `command/` and
//! `recovery.rs`, in their order.

use std::collections::VecDeque;

use agent::api::Command;

use super::world::{World, address};
use crate::fence::{self, Marker, Recovery};
use crate::gtid::History;
use crate::topology::{Admission, Observed, Peer, Run, Server, Side, Step, admit, next_step};

/// The smallest things that an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    ReadMe,
    ReadPeer,
    Decide,
    /// What a start leads to, from what the peer answered.
    Recover,
    /// Before becoming writable: the peer must not be; where its command asks for it, it may be busy.
    Look {
        may_be_busy: bool,
    },
    RemoveMarker,
    MarkLeader,
    Open,
    Close,
    StopReceiving,
    Apply,
    AwaitApplied,
    StopReplication,
    ForgetSource,
    Follow,
    Prepare,
    AskPeer(Request),
    AwaitPeer,
    /// Behind a promotion of the peer: was it one? If not, open again.
    Undo,
    AwaitSettled,
    GiveUp,
}

/// What is asked of a peer and takes it several acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Follow,
    Lead,
    Promote,
}

impl Request {
    fn acts(self) -> &'static [Act] {
        match self {
            Request::Follow => &[Act::Follow],
            Request::Lead => &[Act::Look { may_be_busy: true }, Act::MarkLeader, Act::Open],
            Request::Promote => {
                &[Act::AwaitApplied, Act::StopReplication, Act::MarkLeader, Act::Open, Act::ForgetSource]
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Command(Command),
    Recovery,
    Foreign(Request),
}

const OBSERVE: [Act; 4] = [Act::ReadMe, Act::ReadPeer, Act::ReadMe, Act::Decide];
const HAND_OVER: [Act; 6] =
    [Act::Prepare, Act::RemoveMarker, Act::Close, Act::AskPeer(Request::Promote), Act::AwaitPeer, Act::Undo];
const PATIENCE: usize = 20;

/// Something that an agent is in the middle of.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) kind: Kind,
    pub(super) acts: VecDeque<Act>,
    pub(super) ticket: u64,
    /// The position that a promotion waits for.
    wanted: History,
    /// What the peer answered to the last request.
    pub(super) answer: Option<bool>,
    run: Run,
    is_admitted: bool,
    me: Option<Server>,
    peer: Option<Peer>,
    view: Option<fence::Peer>,
    was_demoted: bool,
    waited: usize,
}

/// How an act went.
pub(super) enum Went {
    On,
    /// It must be done again.
    Again,
    Wrong(String),
}

impl Task {
    pub(super) fn new(kind: Kind, acts: &[Act]) -> Task {
        Task {
            kind,
            acts: acts.iter().copied().collect(),
            ticket: 0,
            wanted: History::default(),
            answer: None,
            run: Run::default(),
            is_admitted: false,
            me: None,
            peer: None,
            view: None,
            was_demoted: false,
            waited: 0,
        }
    }

    pub(super) fn command(command: Command) -> Task {
        Task::new(Kind::Command(command), &OBSERVE)
    }

    pub(super) fn recovery() -> Task {
        Task::new(Kind::Recovery, &[Act::ReadPeer, Act::Recover])
    }

    fn next(&mut self, acts: &[Act]) {
        acts.iter().rev().for_each(|act| self.acts.push_front(*act));
    }

    fn wait(&mut self, what: &str) -> Went {
        self.waited += 1;
        if self.waited < PATIENCE { Went::Again } else { Went::Wrong(format!("waited too long: {what}")) }
    }

    fn decide(&mut self) -> Went {
        let (Kind::Command(command), Some(me), Some(peer)) = (self.kind, self.me.take(), self.peer.take()) else {
            return Went::Wrong("nothing to decide".into());
        };
        self.acts.extend(OBSERVE);
        let has_answered = matches!(peer, Peer::Answers(_));
        let observed = Observed { me, peer, was_demoted: self.was_demoted, run: self.run };
        match admit(command, &observed) {
            _ if self.is_admitted => {}
            Ok(Admission::Now) => self.is_admitted = has_answered,
            Ok(Admission::Soon) => return self.wait_on("the peer's recovery"),
            Err(refusal) => return Went::Wrong(refusal.to_string()),
        }
        match next_step(command, &observed) {
            Ok(step) => self.begin(step),
            Err(refusal) => Went::Wrong(refusal.to_string()),
        }
    }

    /// Look again, but not for ever.
    fn wait_on(&mut self, what: &str) -> Went {
        match self.wait(what) {
            Went::Again => Went::On,
            went => went,
        }
    }

    fn begin(&mut self, step: Step) -> Went {
        match step {
            Step::Done => self.acts.clear(),
            Step::Await => return self.wait_on("the peer"),
            Step::Follow(Side::Me) => self.next(&[Act::Follow]),
            Step::Follow(Side::Peer) => self.next(&[Act::AskPeer(Request::Follow), Act::AwaitPeer]),
            Step::Lead(Side::Me) => self.next(Request::Lead.acts()),
            Step::Lead(Side::Peer) => self.next(&[Act::AskPeer(Request::Lead), Act::AwaitPeer]),
            Step::Demote => {
                self.run.has_demoted = true;
                self.next(&[Act::RemoveMarker, Act::Close]);
            }
            Step::Sync => self.run.has_synced = true,
            Step::AwaitDisconnect => self.run.has_awaited_disconnect = true,
            Step::StopReceiving => self.next(&[Act::StopReceiving]),
            Step::ApplyRelayLog | Step::ApplyReceived => self.next(&[Act::Apply]),
            Step::Promote => self.next(&[
                Act::StopReplication,
                Act::Look { may_be_busy: false },
                Act::MarkLeader,
                Act::Open,
                Act::ForgetSource,
            ]),
            Step::ForgetSource => self.next(&[Act::ForgetSource]),
            Step::HandOver => self.next(&HAND_OVER),
        }
        Went::On
    }
}

impl World {
    pub(super) fn act(&mut self, node: usize, act: Act, task: &mut Task) -> Went {
        let needs_no_server = [
            Act::RemoveMarker,
            Act::MarkLeader,
            Act::ReadPeer,
            Act::AwaitPeer,
            Act::Undo,
            Act::AwaitSettled,
            Act::GiveUp,
        ];
        if !self.nodes[node].server_up && !needs_no_server.contains(&act) {
            return self.without_server(act, task);
        }
        let other = 1 - node;
        match act {
            Act::ReadMe => (task.me, task.was_demoted) = (Some(self.server(node)), self.nodes[node].demoted),
            Act::ReadPeer => (task.peer, task.view) = (Some(self.ask(other)), Some(self.fence_view(other))),
            Act::Decide => return task.decide(),
            Act::Recover => self.recover(node, task),
            Act::Look { may_be_busy } => {
                let view = self.fence_view(other);
                let is_busy = matches!(view, fence::Peer::Answers { busy: Some(_), .. });
                if fence::may_lead(&view).is_err() || (is_busy && !may_be_busy) {
                    return Went::Wrong("the fence".into());
                }
            }
            Act::RemoveMarker => (self.nodes[node].marker, self.nodes[node].demoted) = (None, true),
            Act::MarkLeader => self.nodes[node].marker = Some(Marker::Leader),
            Act::Open => self.open(node),
            Act::Close => self.nodes[node].is_writable = false,
            Act::Prepare => return self.prepare(other, task),
            Act::AskPeer(request) => return self.ask_for(other, request, task),
            Act::AwaitPeer => return self.await_peer(other, task),
            Act::Undo => return self.undo(other, task),
            Act::AwaitSettled if self.nodes[other].flag.is_some() => return task.wait("the new leader"),
            Act::AwaitSettled => {}
            Act::GiveUp => return Went::Wrong("the hand-over was given up".into()),
            Act::StopReceiving => self.replica(node, |replica| replica.receives = false),
            Act::Apply => self.apply(node),
            Act::AwaitApplied if self.has(node, &task.wanted) => {}
            Act::AwaitApplied => return task.wait("the leader's position"),
            Act::StopReplication => return self.stop_replication(node),
            Act::ForgetSource => self.nodes[node].channel = None,
            Act::Follow => return self.follow(node),
        }
        Went::On
    }

    /// A hand-over whose server has gone asks what became of the follower, as after any other failure.
    fn without_server(&mut self, act: Act, task: &mut Task) -> Went {
        if !task.acts.contains(&Act::Undo) || act == Act::Prepare {
            return Went::Wrong("the server is down".into());
        }
        task.answer = Some(false);
        task.acts = [Act::Undo].into();
        Went::On
    }

    fn recover(&mut self, node: usize, task: &Task) {
        let view = task.view.clone().unwrap_or(fence::Peer::Gone);
        let own = self.server(node).known().unwrap_or_default();
        let verdict = fence::after_start(self.nodes[node].marker, &own, &view);
        self.nodes[node].needs_recovery = matches!(verdict, Recovery::Wait(_));
        if self.nodes[node].is_writable {
            self.nodes[node].needs_recovery = false;
            if self.nodes[node].marker.is_none() && fence::may_lead(&view).is_ok() {
                self.nodes[node].marker = Some(Marker::Leader);
            }
            return;
        }
        match verdict {
            Recovery::Open => {
                self.open(node);
                self.nodes[node].channel = None;
            }
            Recovery::Follow => self.replica(node, |replica| (replica.receives, replica.applies) = (true, true)),
            Recovery::Forget(_) => self.nodes[node].marker = None,
            Recovery::Wait(_) | Recovery::Stay(_) => {}
        }
    }

    fn prepare(&mut self, other: usize, task: &mut Task) -> Went {
        let peer = &mut self.nodes[other];
        if !peer.agent_up || !peer.server_up || peer.flag.is_some() {
            return task.wait("the peer's right to promote itself");
        }
        self.next_ticket += 1;
        peer.ticket = self.next_ticket;
        task.ticket = self.next_ticket;
        Went::On
    }

    fn ask_for(&mut self, other: usize, request: Request, task: &mut Task) -> Went {
        task.answer = None;
        let peer = &mut self.nodes[other];
        let is_void = request == Request::Promote && peer.ticket != task.ticket;
        if !peer.agent_up || is_void || peer.flag.is_some() {
            task.answer = Some(false);
            return Went::On;
        }
        peer.ticket = 0;
        peer.flag = Some(agent::api::Activity::PeerCommand);
        let wanted = self.nodes[1 - other].executed.clone();
        self.nodes[other].foreign = Some(Task { wanted, ..Task::new(Kind::Foreign(request), request.acts()) });
        Went::On
    }

    fn await_peer(&mut self, other: usize, task: &mut Task) -> Went {
        let is_promotion = task.acts.front() == Some(&Act::Undo);
        match task.answer {
            Some(true) => Went::On,
            Some(false) if is_promotion => Went::On,
            Some(false) => Went::Wrong("the peer did not do it".into()),
            None if self.nodes[other].agent_up => Went::Again,
            None => {
                task.answer = Some(false);
                Went::Again
            }
        }
    }

    fn undo(&mut self, other: usize, task: &mut Task) -> Went {
        let is_promoted = match task.answer {
            Some(true) => true,
            Some(false) | None => match self.prepare(other, task) {
                Went::On => self.nodes[other].is_writable,
                went => return went,
            },
        };
        if is_promoted {
            task.run.has_handed_over = true;
            task.waited = 0;
            task.next(&[Act::AwaitSettled]);
        } else {
            task.acts = [Act::MarkLeader, Act::Open, Act::GiveUp].into();
        }
        Went::On
    }

    fn follow(&mut self, node: usize) -> Went {
        let (me, leader, source) = (self.server(node), self.server(1 - node), self.nodes[1 - node].clone());
        if me.is_writable || !source.server_up || crate::topology::catchup(&me, &leader).is_err() {
            return Went::Wrong("it cannot follow".into());
        }
        self.nodes[node].marker = Some(Marker::Follower { source: address(1 - node) });
        self.nodes[node].demoted = false;
        self.replicate_from(node, &source);
        Went::On
    }
}
