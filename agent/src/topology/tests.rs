//! Every row of the product's decision table, and every precondition of the errands.

use super::*;
use crate::gtid::History;
use agent::api::Receiver;
use agent::quorum::Record;

mod hung;

const ME: &str = "127.1.0.1";
const PEER: &str = "127.2.0.1";

/// A read-only server with a history.
pub(crate) fn server(index: u32, history: &str) -> Server {
    Server {
        instance: format!("mysql/{index}"),
        address: [ME, PEER][index as usize].parse().unwrap(),
        index,
        is_writable: false,
        executed: history.parse(),
        purged: History::default(),
        pending: History::default(),
        channel: None,
        busy: None,
        record: Record::default(),
        led: 0,
    }
}

/// A leader, chosen in the first epoch where nothing else is said.
pub(crate) fn writable(server: Server) -> Server {
    let record = match server.record.epoch {
        0 => Record { epoch: 1, leader: Some(server.instance.clone()), ..Record::default() },
        _ => server.record.clone(),
    };
    Server { is_writable: true, record, ..server }
}

pub(crate) fn following(server: Server, receiver: Receiver, is_applier_running: bool, received: &str) -> Server {
    let source = if server.index == 0 { PEER } else { ME };
    let channel = Channel {
        source: source.into(),
        receiver,
        is_applier_running,
        received: received.parse().unwrap(),
        seconds_behind: Some(0),
        receiver_error: String::new(),
        applier_error: String::new(),
    };
    Server { channel: Some(channel), ..server }
}

fn healthy(server: Server) -> Server {
    following(server, Receiver::Connected, true, "")
}

fn silent() -> Peer {
    Peer::Silent { address: PEER.parse().unwrap(), why: "the agent does not answer".into(), has_hung_server: false }
}

fn next(command: Command, me: Server, peer: Peer) -> String {
    next_in(command, me, peer, Run::default())
}

fn next_in(command: Command, me: Server, peer: Peer, run: Run) -> String {
    match next_step(command, &Observed { me, peer, is_elected: true, run }) {
        Ok(step) => format!("{step:?}"),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn configure_follows_the_decision_table() {
    let both =
        "Both mysql instances are writable. Please ensure no divergent data and set one instance to read-only mode.";
    let unexpected = "Both instances are in an unexpected state. Replication is configured on the leader.";
    let diverged = "Unable to determine leader and follower. Leader and follower data have diverged.";
    let unable = "Unable to determine leader and follower based on transaction history.";
    for (me, peer, expected) in [
        // Two are writable, one is and replicates, one is and lacks something.
        (writable(server(0, "")), writable(server(1, "")), both),
        (healthy(writable(server(0, "0-1-5"))), server(1, "0-1-5"), unexpected),
        (writable(server(0, "0-1-5")), server(1, "0-1-6"), diverged),
        (writable(server(0, "0-2-29,0-1-31")), server(1, "0-1-27,0-2-30"), diverged),
        (writable(server(0, "0-1-5")), following(server(1, "0-1-4"), Receiver::Connecting, true, "0-1-6"), diverged),
        // One is writable and leads.
        (writable(server(0, "0-1-5")), server(1, "0-1-4"), "Follow(Peer)"),
        (server(0, "0-1-5"), writable(server(1, "0-1-5,0-2-9")), "Follow(Me)"),
        (writable(server(0, "0-1-5")), healthy(server(1, "0-1-4")), "Done"),
        (writable(server(0, "0-1-5")), following(server(1, "0-1-4"), Receiver::Connecting, true, ""), "Follow(Peer)"),
        (writable(server(0, "0-1-5")), following(server(1, "0-1-4"), Receiver::Connected, false, ""), "Follow(Peer)"),
        // None is: the lower index of those that have everything and do not replicate.
        (server(0, ""), server(1, ""), "Follow(Peer)"),
        (server(0, ""), healthy(server(1, "")), "Lead(Me)"),
        (server(0, "0-1-5"), server(1, "0-1-6"), "Follow(Me)"),
        (server(0, "0-1-5"), server(1, "0-1-5"), "Follow(Peer)"),
        (healthy(server(0, "0-2-5")), server(1, "0-2-6"), "Lead(Peer)"),
        (server(0, "0-1-5"), following(server(1, "0-1-5"), Receiver::Connecting, true, "0-1-6"), unable),
        (server(0, "0-1-7,0-2-6"), server(1, "0-1-6,0-2-7"), unable),
        (healthy(server(0, "0-1-5")), healthy(server(1, "0-1-5")), unable),
    ] {
        let context = format!("{me:?} {peer:?}");
        let step = next(Command::ConfigureLeaderFollower, me, Peer::Answers(peer));
        assert!(step.starts_with(expected), "{step} for {context}");
    }
    assert_eq!(next(Command::ConfigureLeaderFollower, server(0, ""), silent()), "Await");
    let by_hand = Server { record: Record::default(), ..writable(server(0, "0-1-5")) };
    let step = next(Command::ConfigureLeaderFollower, by_hand, Peer::Answers(healthy(server(1, "0-1-4"))));
    assert_eq!(step, "Lead(Me)");
}

#[test]
fn configure_says_whose_history_cannot_be_read() {
    let strange = Server { executed: "uuid:1-18".parse(), ..server(1, "") };

    let refusal = next(Command::ConfigureLeaderFollower, writable(server(0, "0-1-5")), Peer::Answers(strange));

    assert!(
        refusal.starts_with("Unable to determine leader and follower. Error fetching GTIDs from follower: "),
        "{refusal}"
    );
}

#[test]
fn a_follower_is_copied_to_only_where_it_cannot_go_on() {
    let purged = |server: Server, purged: &str| Server { purged: purged.parse().unwrap(), ..server };
    for (follower, leader, expected) in [
        (server(1, ""), server(0, ""), Some(Catchup::Continue)),
        (server(1, ""), server(0, "0-1-5"), Some(Catchup::Copy)),
        (server(1, "0-1-4"), server(0, "0-1-5"), Some(Catchup::Continue)),
        (server(1, "0-1-4"), purged(server(0, "0-1-50"), "0-1-4"), Some(Catchup::Continue)),
        (server(1, "0-1-4"), purged(server(0, "0-1-50"), "0-1-40"), Some(Catchup::Copy)),
        (server(1, "0-1-4,0-2-1"), server(0, "0-1-5"), None),
        (server(1, "0-1-4"), server(0, ""), None),
    ] {
        assert_eq!(catchup(&follower, &leader).ok(), expected, "{follower:?} {leader:?}");
    }
}

#[test]
fn a_follower_that_cannot_read_the_leaders_binary_log_is_copied_to() {
    let stopped = |receiver, error: &str| {
        let mut follower = following(server(1, "0-1-4"), receiver, true, "");
        follower.channel.as_mut().unwrap().receiver_error = error.into();
        catchup(&follower, &server(0, "0-1-5")).unwrap()
    };
    let fatal = "Got fatal error 1236 from master when reading data from binary log: ";

    let damage = format!("{fatal}'event read from binlog did not pass crc check'");
    assert_eq!(stopped(Receiver::Stopped, &damage), Catchup::Copy);
    assert_eq!(stopped(Receiver::Connecting, &damage), Catchup::Continue);
    assert_eq!(stopped(Receiver::Stopped, &format!("{fatal}'could not find next log'")), Catchup::Continue);
}

#[test]
fn make_read_only_demotes_then_asks_the_peer_once() {
    let leader = || server(0, "0-1-5");
    let follower = || Peer::Answers(healthy(server(1, "0-1-5")));
    let demoted = Run { has_demoted: true, ..Run::default() };
    let synced = Run { has_synced: true, ..demoted };
    for (me, peer, run, expected) in [
        (writable(leader()), follower(), Run::default(), "Demote"),
        (writable(leader()), silent(), Run::default(), "Demote"),
        (leader(), follower(), Run::default(), "Demote"),
        (leader(), follower(), demoted, "Sync"),
        (leader(), follower(), synced, "Done"),
        (leader(), Peer::Answers(server(1, "")), demoted, "Done"),
        (leader(), silent(), demoted, "failed to fetch status of peer (127.2.0.1)"),
        (healthy(leader()), Peer::Answers(writable(server(1, "0-1-5"))), Run::default(), "Done"),
    ] {
        let step = next_in(Command::MakeReadOnly, me.clone(), peer.clone(), run);
        assert!(step.starts_with(expected), "{step} for {me:?} {peer:?} {run:?}");
    }
}

#[test]
fn make_leader_refuses_beside_a_leader_that_is_there() {
    let accessible = "Leader VM is still accessible from the follower. Refusing to promote to avoid data divergence";
    let follower = |receiver, applier| following(server(0, "0-2-5"), receiver, applier, "0-2-5");
    for me in [follower(Receiver::Connecting, true), follower(Receiver::Connected, true), server(0, "")] {
        let refusal = next(Command::MakeLeader, me, Peer::Answers(writable(server(1, "0-2-5"))));
        assert!(refusal.starts_with(accessible), "{refusal}");
    }
}

#[test]
fn make_leader_has_itself_chosen_before_it_stops_anything() {
    let follower = |receiver, applier| following(server(0, "0-2-5"), receiver, applier, "0-2-9");
    for (me, peer) in [
        (follower(Receiver::Connected, true), silent()),
        (follower(Receiver::Connecting, true), silent()),
        (follower(Receiver::Stopped, false), silent()),
        (follower(Receiver::Connected, true), Peer::Answers(server(1, "0-2-12"))),
        (server(0, "0-2-5"), silent()),
    ] {
        let observed = Observed { me, peer, is_elected: false, run: Run::default() };
        assert_eq!(next_step(Command::MakeLeader, &observed), Ok(Step::Campaign), "{observed:?}");
    }
}

#[test]
fn make_leader_applies_everything_that_was_received_before_it_promotes() {
    let stopped = "Replication settings exist on this instance and Slave SQL Thread is turned off.";
    let follower = |receiver, applier, received| following(server(0, "0-2-5"), receiver, applier, received);
    for (me, expected) in [
        (follower(Receiver::Connecting, true, "0-2-9"), "StopReceiving"),
        (follower(Receiver::Connected, true, "0-2-9"), "StopReceiving"),
        (follower(Receiver::Stopped, true, "0-2-9"), "ApplyReceived"),
        (follower(Receiver::Stopped, true, "0-2-5"), "Promote"),
        (follower(Receiver::Connecting, false, "0-2-9"), stopped),
        (follower(Receiver::Connecting, false, "0-2-5"), stopped),
        // After a restart of this server.
        (follower(Receiver::Stopped, false, "0-2-9"), "ApplyRelayLog"),
        (follower(Receiver::Stopped, false, "0-2-5"), "Promote"),
        (server(0, "0-2-5"), "Promote"),
        (writable(server(0, "0-2-5")), "Done"),
        (writable(follower(Receiver::Stopped, false, "0-2-5")), "ForgetSource"),
    ] {
        let step = next(Command::MakeLeader, me.clone(), silent());
        assert!(step.starts_with(expected), "{step} for {me:?}");
    }
    let mut broken = follower(Receiver::Stopped, false, "0-2-5");
    broken.channel.as_mut().unwrap().applier_error = "Duplicate entry".into();
    assert!(next(Command::MakeLeader, broken, silent()).starts_with(stopped));
}

#[test]
fn make_leader_never_leaves_reachable_transactions_behind() {
    let loss = "Refusing to promote to avoid data loss.";
    let me = || following(server(0, "0-2-5"), Receiver::Stopped, true, "0-2-5");

    assert!(next(Command::MakeLeader, server(0, "0-2-5"), Peer::Answers(server(1, "0-2-6"))).starts_with(loss));
    assert_eq!(next(Command::MakeLeader, me(), Peer::Answers(server(1, "0-2-5"))), "Promote");
    let receiving = following(server(0, "0-2-5"), Receiver::Connected, true, "0-2-5");
    assert_eq!(next(Command::MakeLeader, receiving, Peer::Answers(server(1, "0-2-6"))), "ReceiveRest");
    // The old leader comes back behind the election, read-only and with more.
    let connecting = following(server(0, "0-2-5"), Receiver::Connecting, true, "0-2-5");
    assert_eq!(next(Command::MakeLeader, connecting, Peer::Answers(server(1, "0-2-6"))), "ReceiveRest");
    assert_eq!(next(Command::MakeLeader, me(), Peer::Answers(server(1, "0-2-6"))), "ReceiveAgain");
    assert!(next(Command::MakeLeader, server(0, ""), silent()).starts_with(loss));
}

#[test]
fn switchover_hands_over_only_to_a_follower_that_is_ready() {
    let me = || writable(server(0, "0-1-5"));
    let lagging = |seconds_behind| {
        let mut follower = healthy(server(1, "0-1-5"));
        follower.channel.as_mut().unwrap().seconds_behind = seconds_behind;
        follower
    };
    for (me, peer, expected) in [
        (me(), healthy(server(1, "0-1-5")), "HandOver"),
        (me(), lagging(Some(11)), "Reason: the follower mysql/1 is not ready to take over: it is 11 s behind"),
        (me(), lagging(None), "Reason: the follower mysql/1 is not ready to take over: it does not know"),
        (me(), server(1, "0-1-5"), "Reason: the follower mysql/1 is not ready to take over: it does not replicate"),
        (me(), writable(server(1, "0-1-5")), "Both mysql instances are writable."),
        (
            healthy(server(0, "0-1-5")),
            writable(server(1, "0-1-5")),
            "Reason: this server is not the leader; mysql/1 is",
        ),
        (server(0, "0-1-5"), healthy(server(1, "0-1-5")), "Reason: there is no writable leader"),
        // What a crash behind the commit point left.
        (server(0, "0-1-5"), writable(server(1, "0-1-5,0-2-6")), "Follow(Me)"),
    ] {
        let step = next(Command::Switchover, me, Peer::Answers(peer));
        assert!(step.starts_with(expected), "{step}");
    }
    let handed_over = Run { has_handed_over: true, ..Run::default() };
    let peer = Peer::Answers(writable(server(1, "0-1-5")));
    assert_eq!(next_in(Command::Switchover, healthy(server(0, "0-1-5")), peer, handed_over), "Done");
}

#[test]
fn a_command_begins_on_a_pair_whose_peer_is_not_busy() {
    let admitted = |peer| {
        admit(Command::MakeLeader, &Observed { me: server(0, ""), peer, is_elected: false, run: Run::default() })
    };
    let busy = |activity| Peer::Answers(Server { busy: Some(activity), ..server(1, "") });

    assert_eq!(admitted(silent()), Ok(Admission::Now));
    assert_eq!(admitted(Peer::Answers(server(1, ""))), Ok(Admission::Now));
    assert_eq!(admitted(busy(Activity::Recovery)), Ok(Admission::Soon));
    for activity in [Activity::Command(Command::MakeLeader), Activity::PeerCommand] {
        assert!(matches!(admitted(busy(activity)), Err(Refusal::PeerBusy { .. })));
    }
    assert!(matches!(admitted(Peer::None), Err(Refusal::SingleNode { .. })));
}

#[test]
fn only_a_leader_changes_whether_its_commits_wait() {
    let leader = || writable(server(0, "0-1-5"));
    let follower = || Peer::Answers(healthy(server(1, "0-1-5")));
    let done = Run { has_changed_sync: true, ..Run::default() };
    for command in [Command::DegradeSync, Command::RestoreSync] {
        assert_eq!(next(command, leader(), follower()), "ChangeSync");
        assert_eq!(next_in(command, leader(), follower(), done), "Done");
        assert!(next(command, server(0, "0-1-5"), follower()).contains("is not the leader. Run"));
    }
    assert_eq!(next(Command::DegradeSync, leader(), silent()), "ChangeSync");
    for nobody in [silent(), Peer::Answers(server(1, "0-1-5"))] {
        let refusal = next(Command::RestoreSync, leader(), nobody);
        assert!(refusal.starts_with("Refusing to have commits wait for a follower that does not receive"), "{refusal}");
    }
}

#[test]
fn a_replaced_leader_is_copied_to_after_what_only_it_has_is_saved() {
    let record = |epoch, leader: &str| Record { epoch, leader: Some(leader.into()), ..Record::default() };
    let leader = || Server { record: record(3, "mysql/0"), ..writable(server(0, "0-1-5,0-2-7")) };
    let vacant = Record { is_vacant: true, ..record(3, "mysql/0") };
    let led = |led| Server { led, ..server(1, "0-2-6,0-2-9") };
    let diverged = "Unable to determine leader and follower. Leader and follower data have diverged.";
    let unable = "Unable to determine leader and follower based on transaction history.";
    for (leader, follower, expected) in [
        (leader(), led(2), "Follow(Peer)"),
        (leader(), following(led(2), Receiver::Connecting, true, ""), "Follow(Peer)"),
        // It never led, or under no earlier epoch; the other one was not chosen, or has not opened.
        (leader(), led(0), diverged),
        (leader(), led(3), diverged),
        (Server { record: record(3, "mysql/1"), ..leader() }, led(2), diverged),
        (Server { record: vacant, ..leader() }, led(2), diverged),
        (Server { is_writable: false, ..leader() }, led(2), unable),
    ] {
        let found = next(Command::ConfigureLeaderFollower, leader.clone(), Peer::Answers(follower.clone()));
        assert!(found.starts_with(expected), "{found} for {leader:?} {follower:?}");
        let saves = catchup(&follower, &leader) == Ok(Catchup::SaveAndCopy);
        assert_eq!(saves, expected == "Follow(Peer)", "{leader:?} {follower:?}");
    }
    assert_eq!(catchup(&Server { led: 2, ..server(1, "0-1-5") }, &leader()), Ok(Catchup::Continue));
}

#[test]
fn a_refusal_is_told_with_what_both_servers_said() {
    let (me, peer) = (writable(server(0, "0-1-5")), healthy(server(1, "")));
    for (peer, expected) in [
        (Peer::None, ""),
        (silent(), "; 127.2.0.1 gives no status (the agent does not answer)"),
        (
            Peer::Answers(peer),
            "; mysql/1 at 127.2.0.1 (read-only, GTID executed empty, replicates from 127.1.0.1: receiver connected, applier running)",
        ),
    ] {
        let told = Refusal::NoLeader.beside(&me, &peer).to_string();
        let state = "State: mysql/0 at 127.1.0.1 (writable, GTID executed 0-1-5)";
        assert_eq!(told, format!("{}. {state}{expected}", Refusal::NoLeader));
    }
}
