//! PURE. What a command would do, step by step: the very decisions that it takes, on what each step is to lead to.

use agent::api::{Command, Receiver};

use super::{Channel, Observed, Peer, Refusal, Server, Side, Step, next_step};

/// More than any command needs.
const STEPS: usize = 16;

/// The steps of a command from here, or why it would not begin. What a step finds in its way is not known before.
pub(crate) fn plan(command: Command, observed: &Observed) -> Result<Vec<Step>, Refusal> {
    let mut seen = observed.clone();
    let mut steps = Vec::new();
    while steps.len() < STEPS {
        match next_step(command, &seen)? {
            Step::Done => break,
            Step::Await => {
                steps.push(Step::Await);
                break;
            }
            step => {
                foresee(&mut seen, &step);
                steps.push(step);
            }
        }
    }
    Ok(steps)
}

/// Step by step, for a human.
pub(crate) fn describe(step: &Step, observed: &Observed) -> String {
    let me = &observed.me.instance;
    let peer = match &observed.peer {
        Peer::Answers(peer) => peer.instance.as_str(),
        Peer::None | Peer::Silent { .. } => "the other server",
    };
    let named = |side: &Side| match side {
        Side::Me => me.as_str(),
        Side::Peer => peer,
    };
    match step {
        Step::Done => "Nothing is left to do".into(),
        Step::Await => format!("Wait until {peer} answers; what follows depends on what it says"),
        Step::Follow(side) => format!("Have {} replicate from the other server", named(side)),
        Step::Lead(side) => format!("Have {} chosen by the voters and make it writable", named(side)),
        Step::Demote => format!("Make {me} read-only, lay its leadership down and cut its sessions"),
        Step::Sync => format!("Wait until {peer} has received everything that {me} has"),
        Step::Yield => format!("Make {peer} read-only, lay its leadership down and cut its sessions"),
        Step::AwaitReturn => format!("Wait until {peer} has started again, for what {me} has not received"),
        Step::Campaign => {
            format!("Have {me} chosen by the voters, which wait until the old leader's lease has run out")
        }
        Step::ReceiveRest => format!("Wait until {me} has received everything that {peer} has"),
        Step::ReceiveAgain => format!("Have {me} receive from {peer} again"),
        Step::StopReceiving => format!("Stop receiving on {me}"),
        Step::ApplyRelayLog => format!("Apply what the relay log of {me} holds"),
        Step::ApplyReceived => format!("Wait until {me} has applied everything that it received"),
        Step::Promote => format!("Stop replication on {me} and make it writable"),
        Step::ForgetSource => format!("Have {me} forget its source"),
        Step::HandOver => format!("Make {me} read-only and {peer} writable, with everything that {me} has"),
        Step::ChangeSync => {
            format!("Change whether the commits of {me} wait for {peer}, which the witness hears of first")
        }
        Step::AwaitRejoin => format!("Wait until {peer} follows {me}"),
    }
}

/// What both servers would say behind a step that went well.
fn foresee(seen: &mut Observed, step: &Step) {
    let Observed { me, peer, is_elected, run } = seen;
    match step {
        Step::Done | Step::Await => {}
        Step::Follow(Side::Me) => {
            if let Peer::Answers(peer) = peer {
                follow(me, peer);
            }
        }
        Step::Follow(Side::Peer) => {
            if let Peer::Answers(peer) = peer {
                follow(peer, me);
            }
        }
        Step::Lead(Side::Me) => lead(me),
        Step::Lead(Side::Peer) => change(peer, lead),
        Step::Demote => {
            me.is_writable = false;
            run.has_demoted = true;
        }
        Step::Sync => run.has_synced = true,
        Step::Yield => {
            change(peer, |peer| peer.is_writable = false);
            run.has_taken = true;
        }
        Step::AwaitReturn => run.has_awaited_return = true,
        Step::Campaign => *is_elected = true,
        Step::ReceiveRest => {
            if let (Peer::Answers(peer), Some(channel)) = (peer, &mut me.channel) {
                channel.received = peer.known().unwrap_or_default();
            }
        }
        Step::ReceiveAgain => change_channel(me, |channel| {
            channel.receiver = Receiver::Connected;
            channel.is_applier_running = true;
        }),
        Step::StopReceiving => change_channel(me, |channel| channel.receiver = Receiver::Stopped),
        Step::ApplyRelayLog | Step::ApplyReceived => me.executed = me.known(),
        Step::Promote => {
            me.is_writable = true;
            me.channel = None;
        }
        Step::ForgetSource => me.channel = None,
        Step::HandOver => {
            me.is_writable = false;
            run.has_handed_over = true;
            let executed = me.executed.clone();
            change(peer, |peer| {
                peer.is_writable = true;
                peer.channel = None;
                peer.executed = executed;
            });
        }
        Step::ChangeSync => run.has_changed_sync = true,
        Step::AwaitRejoin => {
            run.has_awaited_rejoin = true;
            change(peer, |peer| follow(peer, me));
        }
    }
}

fn lead(server: &mut Server) {
    server.is_writable = true;
    server.record.leader = Some(server.instance.clone());
    server.record.is_vacant = false;
}

fn follow(follower: &mut Server, leader: &Server) {
    follower.executed.clone_from(&leader.executed);
    follower.channel = Some(Channel {
        source: leader.address.to_string(),
        receiver: Receiver::Connected,
        is_applier_running: true,
        received: leader.executed.clone().unwrap_or_default(),
        seconds_behind: Some(0),
        receiver_error: String::new(),
        applier_error: String::new(),
    });
}

fn change(peer: &mut Peer, act: impl FnOnce(&mut Server)) {
    if let Peer::Answers(peer) = peer {
        act(peer);
    }
}

fn change_channel(server: &mut Server, act: impl FnOnce(&mut Channel)) {
    if let Some(channel) = &mut server.channel {
        act(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Run, following, server, writable};

    fn steps(command: Command, me: Server, peer: Peer) -> String {
        let observed = Observed { me, peer, is_elected: false, run: Run::default() };
        match plan(command, &observed) {
            Ok(steps) => steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join(" "),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn a_plan_is_what_the_command_decides_from_step_to_step() {
        let follower = |received: &str| following(server(0, "0-2-5"), Receiver::Connected, true, received);
        let of = |index: u32| following(server(index, "0-1-5"), Receiver::Connected, true, "0-1-5");
        let silent =
            || Peer::Silent { address: "127.2.0.1".parse().unwrap(), why: String::new(), has_hung_server: false };
        for (command, me, peer, expected) in [
            (Command::MakeLeader, follower("0-2-9"), silent(), "Campaign StopReceiving ApplyReceived Promote"),
            (
                Command::Failover,
                follower("0-2-5"),
                Peer::Answers(writable(server(1, "0-2-7"))),
                "Yield Campaign ReceiveRest StopReceiving ApplyReceived Promote AwaitRejoin",
            ),
            (Command::Failover, follower("0-2-5"), silent(), "Campaign StopReceiving Promote"),
            (Command::Switchover, writable(server(0, "0-1-5")), Peer::Answers(of(1)), "HandOver Follow(Me)"),
            (Command::MakeReadOnly, writable(server(0, "0-1-5")), Peer::Answers(of(1)), "Demote Sync"),
            (Command::ConfigureLeaderFollower, server(0, ""), Peer::Answers(server(1, "")), "Follow(Peer) Lead(Me)"),
            (Command::ConfigureLeaderFollower, server(0, ""), silent(), "Await"),
            (Command::MakeLeader, writable(server(0, "0-2-5")), silent(), ""),
        ] {
            assert_eq!(steps(command, me, peer), expected, "{command:?}");
        }
        let refused = steps(Command::MakeLeader, follower("0-2-5"), Peer::Answers(writable(server(1, "0-2-7"))));
        assert!(refused.starts_with("Leader VM is still accessible from the follower."), "{refused}");
    }
}
