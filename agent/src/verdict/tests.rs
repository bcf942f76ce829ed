//! The verdict by table.

use agent::api::{Activity, Command, Receiver, Replication, ReplicationMode, Role, Saved, SemiSync, Status};
use agent::quorum::Record;

use super::{Peer, judge};
use crate::instance::Mode;

const HISTORY: &str = "0-1-9";

fn server(last: u8) -> Status {
    Status {
        instance: format!("mysql/{last}"),
        index: u32::from(last),
        ip_address: format!("10.0.0.{last}"),
        role: Role::Unknown,
        read_only: true,
        replication_configured: false,
        replication_mode: ReplicationMode::Async,
        has_data: true,
        gtid_executed: HISTORY.into(),
        replication: None,
        gtid_purged: String::new(),
        gtid_pending: String::new(),
        busy: None,
        version: String::new(),
        record: Record::default(),
        lease_ms: None,
        semi_sync: None,
        led: 0,
        saved: Vec::new(),
        trouble: None,
    }
}

fn leader() -> Status {
    Status { role: Role::Leader, read_only: false, ..server(1) }
}

fn channel() -> Replication {
    Replication {
        source: "10.0.0.1".into(),
        receiver: Receiver::Connected,
        applier_running: true,
        gtid_received: HISTORY.into(),
        seconds_behind: Some(0),
        seconds_since_leader_heartbeat: Some(0.4),
        relay_log_space: Some(1),
        receiver_error: String::new(),
        applier_error: String::new(),
    }
}

fn follower(channel: Replication) -> Status {
    Status { role: Role::Follower, replication_configured: true, replication: Some(channel), ..server(2) }
}

fn behind(seconds: Option<u64>) -> Status {
    follower(Replication { seconds_behind: seconds, ..channel() })
}

fn on(server: Status) -> Status {
    Status { replication_mode: ReplicationMode::Semisync, ..server }
}

/// Healthy or not, the words that the sentence must hold, and those of the next action.
type Expected = (bool, &'static str, &'static str);

fn check(me: &Status, peer: &Peer, wanted: Mode, (healthy, sentence, next): Expected) {
    let verdict = judge(me, peer, wanted);
    assert_eq!(verdict.healthy, healthy, "{verdict:?}");
    assert!(verdict.sentence.contains(sentence), "{verdict:?}");
    assert!(healthy || verdict.next_action.is_some(), "{verdict:?}");
    assert_eq!(next.is_empty(), verdict.next_action.is_none(), "{verdict:?}");
    assert!(verdict.next_action.as_deref().unwrap_or_default().contains(next), "{verdict:?}");
}

#[test]
fn a_pair_is_well_as_long_as_its_follower_could_take_over() {
    let with = |change: fn(&mut Replication)| {
        let mut channel = channel();
        change(&mut channel);
        follower(channel)
    };
    let diverged = Status { gtid_executed: "0-1-8,0-2-9".into(), ..behind(Some(0)) };
    let unread = Status { gtid_executed: "?".into(), ..behind(Some(0)) };
    let replicating = Status { read_only: false, ..behind(Some(0)) };
    let new = |last| Status { has_data: false, gtid_executed: String::new(), ..server(last) };
    for (one, other, expected) in [
        (leader(), behind(Some(0)), (true, "10.0.0.1 leads, mysql/2 at 10.0.0.2 follows and has caught up", "")),
        (leader(), behind(Some(3)), (true, "follows, 3 s behind", "")),
        (leader(), behind(Some(10)), (true, "10 s behind", "")),
        (leader(), behind(None), (true, "follows", "")),
        (leader(), unread, (true, "follows", "")),
        (leader(), behind(Some(11)), (false, "it is 11 s behind, so the leader is not redundant", "Let it catch up")),
        (leader(), with(|c| c.seconds_since_leader_heartbeat = Some(9.9)), (true, "caught up", "")),
        (leader(), with(|c| c.seconds_since_leader_heartbeat = None), (true, "caught up", "")),
        (
            leader(),
            with(|c| c.seconds_since_leader_heartbeat = Some(12.4)),
            (false, "the last heartbeat that came is 12 s old", "See the log of the leader's agent"),
        ),
        (
            leader(),
            with(|c| (c.applier_running, c.applier_error) = (false, "1062 Duplicate".into())),
            (false, "its applier is stopped (1062 Duplicate), so the leader is not redundant", "Mend the cause"),
        ),
        (leader(), with(|c| c.receiver = Receiver::Stopped), (false, "its receiver is stopped, so", "Run configure")),
        (
            leader(),
            with(|c| (c.receiver, c.receiver_error) = (Receiver::Connecting, "2003".into())),
            (false, "its receiver cannot connect (2003), so the leader is not redundant", "port 3306"),
        ),
        (leader(), with(|c| c.source = "10.0.0.7".into()), (false, "replicates from 10.0.0.7", "Run configure")),
        (leader(), server(2), (false, "it does not replicate, so the leader is not redundant", "Run configure")),
        (leader(), diverged, (false, "has transactions that the leader mysql/1 at 10.0.0.1 lacks", "Run configure")),
        (leader(), with(|c| c.gtid_received = "0-1-10".into()), (false, "they have diverged", "Run configure")),
        (replicating.clone(), server(1), (false, "is writable and set to replicate from 10.0.0.1", "make-read-only")),
        (leader(), replicating, (false, "are both writable", "Run make-read-only on the one")),
        (server(1), behind(Some(0)), (false, "are both read-only, so nobody can write", "Run configure")),
        (new(1), new(2), (false, "are new, and none leads yet", "Run configure")),
    ] {
        check(&one, &answers(&other), Mode::Async, expected);
        let from_the_other_side = judge(&other, &answers(&one), Mode::Async);
        assert_eq!(from_the_other_side.healthy, expected.0, "{from_the_other_side:?}");
    }
}

#[test]
fn semi_synchronous_replication_that_is_off_is_not_well_where_it_is_wanted() {
    check(&leader(), &answers(&behind(Some(0))), Mode::SemiSync, (false, "is wanted and off", "it comes on by itself"));
    check(&on(leader()), &answers(&on(behind(Some(0)))), Mode::SemiSync, (true, "has caught up", ""));
    let waits = (false, "it does not replicate, so the leader is not redundant and its commits wait", "Run configure");
    check(&on(leader()), &answers(&server(2)), Mode::SemiSync, waits);
    let acknowledges = judge(&on(leader()), &answers(&behind(Some(99))), Mode::SemiSync);
    assert!(!acknowledges.healthy && !acknowledges.sentence.contains("wait"), "{acknowledges:?}");
}

#[test]
fn a_silent_peer_leaves_the_leader_alone_and_the_follower_in_doubt() {
    let silent = |last: u8| Peer::Silent { address: [10, 0, 0, last].into(), why: "no answer".into() };
    let lost = follower(Replication { receiver: Receiver::Connecting, ..channel() });
    for (me, peer, expected) in [
        (leader(), 2, (false, "10.0.0.2 gives no status (no answer), so the leader is not redundant", "recreate it")),
        (on(leader()), 2, (false, "and its commits wait unless that server still receives", "recreate it")),
        (behind(Some(0)), 1, (false, "its server still sends", "no failover is needed")),
        (
            lost,
            1,
            (false, "its receiver cannot connect", "make sure that it is stopped and run make-leader on mysql/2"),
        ),
        (server(2), 1, (false, "nobody is known to take writes", "Start its VM")),
    ] {
        check(&me, &silent(peer), Mode::Async, expected);
    }
}

#[test]
fn a_server_whose_agent_is_at_work_is_waited_for() {
    let busy = |last: u8| Peer::Busy { address: [10, 0, 0, last].into(), why: "the server is starting".into() };
    let lost = follower(Replication { receiver: Receiver::Connecting, ..channel() });
    let starts = (false, "10.0.0.2 gives no status (the server is starting), so the leader is not redundant", "Wait: ");
    check(&leader(), &busy(2), Mode::Async, starts);
    check(&lost, &busy(1), Mode::Async, (false, "its receiver cannot connect", "Wait: the agent of the other server"));
}

#[test]
fn a_leader_that_hangs_is_to_be_failed_over() {
    let hung = |last: u8| Peer::Hangs { address: [10, 0, 0, last].into(), why: "no answer".into() };
    let taken = (false, "10.0.0.1 hangs (no answer), so nobody can write", "Run failover on mysql/2");
    check(&behind(Some(0)), &hung(1), Mode::Async, taken);
    check(&leader(), &hung(2), Mode::Async, (false, "so the leader is not redundant", "Kill that server"));
}

#[test]
fn a_server_that_cannot_be_started_is_given_up_for_a_new_disk() {
    let stopped = |last: u8| Peer::Stopped { address: [10, 0, 0, last].into(), why: "its log says why".into() };
    let next = "run failover on mysql/2, and give its VM a new disk and keep the old one";
    let lost = (false, "10.0.0.1 does not run (its log says why), so nobody is known to take writes", next);
    let cannot_connect = follower(Replication { receiver: Receiver::Connecting, ..channel() });
    check(&cannot_connect, &stopped(1), Mode::Async, lost);
    check(&leader(), &stopped(2), Mode::Async, (false, "so the leader is not redundant", "give its VM a new disk"));
    // It says nothing for another reason.
    let sends = (false, "its server still sends", "no failover is needed");
    check(&behind(Some(0)), &stopped(1), Mode::Async, sends);
}

#[test]
fn what_is_not_well_while_a_command_runs_is_waited_for() {
    let busy = |activity| Status { busy: Some(activity), ..server(2) };
    let command = Activity::Command(Command::ConfigureLeaderFollower);

    let wait = "Wait: the agent of mysql/2 at 10.0.0.2 is busy with configure-leader-follower";
    check(&leader(), &answers(&busy(command)), Mode::Async, (false, "does not replicate", wait));
    check(&leader(), &answers(&busy(Activity::Recovery)), Mode::Async, (false, "does not replicate", "Run configure"));
}

#[test]
fn what_was_saved_of_a_former_leader_is_named_until_it_is_removed() {
    let saved = |of_applications| Saved {
        file: "/s/a.sql".into(),
        epoch: 2,
        gtid_set: "0-2-9".into(),
        transactions: 3,
        of_applications,
    };
    let had = |of_applications| Status { saved: vec![saved(of_applications)], ..behind(Some(0)) };
    let named = "2 transactions of the former leader mysql/2 at 10.0.0.2 were saved to /s/a.sql there";
    check(&leader(), &answers(&had(2)), Mode::Async, (true, named, "Read the saved file"));
    check(&leader(), &answers(&had(0)), Mode::Async, (true, "and has caught up", ""));
    let broken = Status { read_only: true, ..had(1) };
    check(&broken, &Peer::None, Mode::Async, (false, "1 transaction of the former leader", "Wait a moment"));
}

#[test]
fn a_former_leader_returns_by_itself() {
    let record = Record { epoch: 3, leader: Some("mysql/1".into()), ..Record::default() };
    let leader = Status { record, ..leader() };
    let replaced = |led| Status { gtid_executed: "0-1-8,0-2-9".into(), led, ..server(2) };

    check(&leader, &answers(&replaced(2)), Mode::Async, (false, "it saves them to a file", "Wait"));
    check(&leader, &answers(&replaced(0)), Mode::Async, (false, "they have diverged", "Run configure"));
}

#[test]
fn a_single_node_is_well_when_it_is_writable() {
    check(&leader(), &Peer::None, Mode::Async, (true, "mysql/1 at 10.0.0.1 is writable", ""));
    check(&server(1), &Peer::None, Mode::Async, (false, "nobody can write", "its log says why"));
}

fn answers(server: &Status) -> Peer {
    Peer::Answers(Box::new(server.clone()))
}

#[test]
fn the_way_out_of_waiting_commits_and_the_way_back_are_named() {
    let lost = follower(Replication { receiver: Receiver::Connecting, ..channel() });
    let way_out = "run degrade-sync on mysql/1";
    check(&on(leader()), &answers(&lost), Mode::SemiSync, (false, "its commits wait for the follower", way_out));
    check(&on(leader()), &answers(&server(2)), Mode::SemiSync, (false, "its commits wait", way_out));

    let degraded = SemiSync {
        wanted: true,
        on: false,
        in_sync: false,
        waiting_sessions: 0,
        ack_timeout_ms: 9_223_372_036_854_775_807,
        degraded: true,
    };
    let leader = Status { semi_sync: Some(degraded), ..leader() };
    let way_back = "run restore-sync on mysql/1";
    check(&leader, &answers(&behind(Some(0))), Mode::SemiSync, (false, "wanted and off", way_back));
}

#[test]
fn what_an_agent_cannot_do_by_itself_is_named_while_the_pair_is_not_well() {
    let full = |server: Status| Status { trouble: Some("the disk is full".into()), ..server };
    let diverged = full(Status { gtid_executed: "0-1-9,0-2-10".into(), led: 1, ..server(2) });
    let leader = Status { record: Record { epoch: 2, ..Record::default() }, ..leader() };
    let verdict = judge(&leader, &Peer::Answers(Box::new(diverged)), Mode::Async);
    assert!(
        verdict.sentence.ends_with("; the agent of mysql/2 at 10.0.0.2 goes on trying: the disk is full"),
        "{verdict:?}"
    );
    assert!(verdict.next_action.unwrap().starts_with("Mend that on mysql/2"));

    let healthy = judge(&leader, &Peer::Answers(Box::new(full(behind(Some(0))))), Mode::Async);
    assert!(healthy.healthy && !healthy.sentence.contains("full"), "{healthy:?}");
}
