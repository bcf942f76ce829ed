//! A server that hangs, under an agent that lives.

use super::*;
use crate::topology::step_of_hung;

#[test]
fn a_failover_takes_the_leadership_from_an_agent_whose_server_hangs_once() {
    let hung = || Peer::Silent { address: PEER.parse().unwrap(), why: String::new(), has_hung_server: true };
    let taken = |has_awaited_return| Run { has_taken: true, has_awaited_return, ..Run::default() };
    let in_sync = |mut server: Server| {
        server.record.in_sync = true;
        server
    };
    let follower = || healthy(server(0, "0-1-5"));
    let stopped = following(server(0, "0-1-5"), Receiver::Connected, false, "0-1-5");
    for (me, peer, run, expected) in [
        (follower(), hung(), Run::default(), "Yield"),
        (follower(), silent(), Run::default(), "StopReceiving"),
        (follower(), hung(), taken(false), "AwaitReturn"),
        // It starts again, and its agent has no state of it.
        (follower(), silent(), taken(false), "AwaitReturn"),
        (follower(), silent(), taken(true), "StopReceiving"),
        (in_sync(follower()), hung(), taken(false), "StopReceiving"),
        (writable(server(0, "0-1-5")), hung(), Run::default(), "Done"),
        (server(0, "0-1-5"), hung(), Run::default(), "mysql/0 is not ready to take over"),
        (stopped, hung(), Run::default(), "Replication settings exist on this instance and Slave SQL Thread"),
    ] {
        let next = next_in(Command::Failover, me, peer, run);
        assert!(next.contains(expected), "{expected}: {next}");
    }
}

#[test]
fn only_make_read_only_goes_on_without_an_answer_of_its_own_server() {
    for command in [Command::MakeLeader, Command::Failover, Command::Switchover, Command::ConfigureLeaderFollower] {
        assert_eq!(step_of_hung(command), None);
    }
    assert_eq!(step_of_hung(Command::MakeReadOnly), Some(Step::Demote));
}
