//! A pair whose plan has commits wait for the follower: what it promises holds whatever fails.

use std::time::Duration;

use agent::api::{Command, ReplicationMode, Role, Status};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};

use crate::pair::{configured_with, go_on, in_step, received_only, run, until_advised};
use crate::vm::{Vm, signal};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1)";

/// A pair whose leader has promised that it acknowledges nothing alone.
pub(crate) async fn promised() -> (Vm, Vm) {
    let (first, second) = with_table(&json!({"replication_mode": "semi-sync"})).await;
    until_promised(&first).await;
    (first, second)
}

async fn with_table(plan: &serde_json::Value) -> (Vm, Vm) {
    let (first, second) = configured_with(plan).await;
    first.sql(TABLE).await;
    (first, second)
}

pub(crate) async fn until_promised(leader: &Vm) {
    leader.until("synchronous replication", |status| status.replication_mode == ReplicationMode::Semisync).await;
    let witness = leader.witness.clone().unwrap();
    leader.until("a promise", |_| witness.record().in_sync).await;
}

/// A commit that is under way; true when it was acknowledged within the time. The administrator passes `read_only`, and must
/// not here: a row that is written behind the hand-over is on one server only.
pub(crate) async fn is_acknowledged(leader: &Vm, row: u32, limit: Duration) -> bool {
    // On a busy machine a server that must turn read-only may be killed for it.
    let Ok(mut session) = leader.admin_if_up().await else { return false };
    let insert = format!("INSERT INTO d.t SELECT {row} FROM DUAL WHERE @@GLOBAL.read_only=0");
    let done = tokio::time::timeout(limit, session.execute(sqlx::raw_sql(AssertSqlSafe(insert)))).await;
    matches!(done, Ok(Ok(done)) if done.rows_affected() == 1)
}

pub(crate) async fn until_waiting(leader: &Vm) {
    let waits = |status: &Status| status.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.waiting_sessions > 0);
    leader.until("commits that wait", waits).await;
}

fn leads(status: &Status) -> bool {
    status.role == Role::Leader
}

#[tokio::test]
async fn commits_wait_for_a_lost_follower_and_go_on_when_it_is_back() {
    let (first, mut second) = promised().await;
    assert!(is_acknowledged(&first, 2, Duration::from_secs(10)).await);

    second.kill();
    // Two groups of commits that wait are what makes half of the server's own statements wait too.
    let waiting = [3, 4, 5].map(|row| is_acknowledged(&first, row, Duration::from_secs(60)));
    let back = async {
        until_waiting(&first).await;
        let status = first.until_up().await;
        assert!(leads(&status), "{status:?}");
        assert!(!is_acknowledged(&first, 6, Duration::from_millis(500)).await);
        second.start();
    };
    let ([third, fourth, fifth], ()) = {
        let [third, fourth, fifth] = waiting;
        let (third, fourth, fifth, ()) = tokio::join!(third, fourth, fifth, back);
        ([third, fourth, fifth], ())
    };

    assert!(third && fourth && fifth);
    in_step(&first, &second).await;
    assert!(first.witness.as_ref().unwrap().record().in_sync);
}

#[tokio::test]
async fn every_acknowledged_row_is_on_the_follower_that_takes_over() {
    let (mut first, second) = promised().await;
    let mut acknowledged = 1;
    let writes = async || {
        for row in 2..52 {
            acknowledged += i64::from(is_acknowledged(&first, row, Duration::from_secs(10)).await);
        }
    };
    received_only(&first, &second, writes).await;
    first.kill();
    second.sql("START REPLICA SQL_THREAD").await;
    go_on(&second);

    run(&second, Command::MakeLeader).await.unwrap();

    assert_eq!(acknowledged, 51);
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, acknowledged);
    // Alone it takes writes, and says that nothing waits for a follower.
    assert!(is_acknowledged(&second, 100, Duration::from_secs(10)).await);
    assert_eq!(second.status().await.unwrap().replication_mode, ReplicationMode::Async);
    assert!(!second.witness.as_ref().unwrap().record().in_sync);

    first.start();
    first.until("a follower", |status| status.role == Role::Follower).await;
    until_promised(&second).await;
}

#[tokio::test]
async fn a_switchover_keeps_every_row_and_the_promise_comes_back() {
    let (first, second) = promised().await;

    run(&first, Command::Switchover).await.unwrap();
    assert!(is_acknowledged(&second, 2, Duration::from_secs(10)).await);
    until_promised(&second).await;
    assert!(!first.status().await.unwrap().semi_sync.unwrap().on);

    run(&second, Command::MakeReadOnly).await.unwrap();
    run(&second, Command::ConfigureLeaderFollower).await.unwrap();
    let (leader, follower) = match second.status().await.unwrap().role {
        Role::Leader => (&second, &first),
        Role::Follower | Role::Unknown => (&first, &second),
    };
    until_promised(leader).await;
    assert!(is_acknowledged(leader, 3, Duration::from_secs(10)).await);
    in_step(leader, follower).await;
    assert_eq!(follower.number("SELECT COUNT(*) FROM d.t").await, 3);
}

#[tokio::test]
async fn a_leader_that_starts_again_without_its_follower_acknowledges_nothing_alone() {
    let (mut first, mut second) = promised().await;
    second.kill();

    first.kill_server();
    first.until("the leader again", leads).await;
    assert!(!is_acknowledged(&first, 2, Duration::from_millis(1_500)).await);
    first.recreate();
    first.until("the leader again", leads).await;
    assert!(!is_acknowledged(&first, 3, Duration::from_millis(1_500)).await);

    second.start();
    in_step(&first, &second).await;
    assert!(is_acknowledged(&first, 4, Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_lost_follower_is_given_up_by_command_and_waited_for_again_by_command() {
    let (first, mut second) = promised().await;
    second.kill();
    let waits = is_acknowledged(&first, 2, Duration::from_secs(60));
    let degraded = async {
        until_waiting(&first).await;
        first.witness.as_ref().unwrap().fall_silent();
        let refusal = run(&first, Command::DegradeSync).await.unwrap_err();
        assert!(refusal.starts_with("Refusing to acknowledge commits that only this server has."), "{refusal}");
        until_waiting(&first).await;
        first.witness.as_ref().unwrap().answer();
        first.until("the leader", leads).await;
        run(&first, Command::DegradeSync).await.unwrap()
    };
    let (_cut_or_kept, lines) = tokio::join!(waits, degraded);

    assert!(lines[0].starts_with("Commits wait for the follower no longer"), "{lines:?}");
    assert!(!first.witness.as_ref().unwrap().record().in_sync);
    assert!(is_acknowledged(&first, 3, Duration::from_secs(10)).await);
    let again = run(&first, Command::DegradeSync).await.unwrap();
    assert_eq!(again, ["Commits do not wait for the follower already"]);
    let refusal = run(&first, Command::RestoreSync).await.unwrap_err();
    assert!(refusal.starts_with("Refusing to have commits wait for a follower that does not receive"), "{refusal}");

    second.start();
    in_step(&first, &second).await;
    let status = first.status().await.unwrap();
    let semi_sync = status.semi_sync.unwrap();
    assert!(semi_sync.wanted && semi_sync.degraded && !semi_sync.on && !semi_sync.in_sync, "{semi_sync:?}");
    let verdict = first.client.inspection().await.unwrap().verdict;
    assert!(verdict.next_action.unwrap().contains("run restore-sync on mysql/id-0"));

    let lines = run(&first, Command::RestoreSync).await.unwrap();
    assert_eq!(lines.last().unwrap(), "Commits wait for the follower again");
    let semi_sync = first.status().await.unwrap().semi_sync.unwrap();
    assert!(semi_sync.on && semi_sync.in_sync && !semi_sync.degraded, "{semi_sync:?}");
    let changes = "SELECT CAST(GROUP_CONCAT(what ORDER BY id)='degraded,restored' AS SIGNED) FROM replication_monitoring.sync_changes";
    first.until_number(changes, 1).await;
    second.until_number(changes, 1).await;
}

#[tokio::test]
async fn a_follower_that_may_lack_rows_is_promoted_by_force_only() {
    let (mut first, mut second) = promised().await;
    second.kill();
    until_waiting(&first).await;
    run(&first, Command::DegradeSync).await.unwrap();
    assert!(is_acknowledged(&first, 2, Duration::from_secs(10)).await);
    first.kill();
    second.start();
    second.until_up().await;

    let refusal = run(&second, Command::MakeLeader).await.unwrap_err();
    assert!(refusal.contains("this follower did not have every acknowledged transaction"), "{refusal}");

    run(&second, Command::ForceMakeLeader).await.unwrap();
    assert!(is_acknowledged(&second, 3, Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_wait_that_ends_by_itself_promises_nothing() {
    let plan = json!({"replication_mode": "semi-sync", "semi_sync_ack_timeout_in_ms": 300});
    let (mut first, mut second) = with_table(&plan).await;
    first.until("waiting commits", |status| status.replication_mode == ReplicationMode::Semisync).await;
    second.kill();

    assert!(is_acknowledged(&first, 2, Duration::from_secs(10)).await);
    assert!(!first.witness.as_ref().unwrap().record().in_sync);

    second.start();
    in_step(&first, &second).await;
    first.until("waiting commits", |status| status.replication_mode == ReplicationMode::Semisync).await;
    first.kill();
    run(&second, Command::MakeLeader).await.unwrap();
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 2);
}

#[tokio::test]
async fn a_hand_over_with_writers_in_the_middle_of_it_loses_no_acknowledged_row() {
    let (first, second) = promised().await;
    let writer = async {
        let mut acknowledged = Vec::new();
        for row in 10..10_000 {
            if !is_acknowledged(&first, row, Duration::from_secs(10)).await {
                return acknowledged;
            }
            acknowledged.push(row);
        }
        acknowledged
    };
    let (acknowledged, handed) = tokio::join!(writer, run(&first, Command::Switchover));

    handed.unwrap();
    assert!(!acknowledged.is_empty());
    let rows = acknowledged.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let found = second.number(&format!("SELECT COUNT(*) FROM d.t WHERE i IN ({rows})")).await;
    assert_eq!(usize::try_from(found).unwrap(), acknowledged.len());
}

#[tokio::test]
async fn a_follower_that_starts_again_applies_what_it_had_received_before_it_receives_anew() {
    let (first, second) = promised().await;
    let write = async || assert!(is_acknowledged(&first, 7, Duration::from_secs(10)).await);
    received_only(&first, &second, write).await;

    second.kill_server();
    go_on(&second);

    second.until_logged("Applying the transactions that were received before the last restart").await;
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t WHERE i=7").await, 1);
}

#[tokio::test]
async fn a_follower_whose_disk_is_lost_is_given_up_copied_to_and_waited_for_again() {
    let (first, mut second) = promised().await;
    second.replace_disk();
    let waits = is_acknowledged(&first, 2, Duration::from_secs(60));
    let given_up = async {
        until_waiting(&first).await;
        let lost = until_advised(&first, "recreate it if it is lost").await.next_action.unwrap();
        assert!(lost.ends_with("If commits must go on before that, run degrade-sync on mysql/id-0"), "{lost}");
        run(&first, Command::DegradeSync).await.unwrap();
    };
    let (_cut_or_kept, ()) = tokio::join!(waits, given_up);
    assert!(is_acknowledged(&first, 3, Duration::from_secs(10)).await);

    second.start();
    second.until_up().await;
    run(&first, Command::ConfigureLeaderFollower).await.unwrap();
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t WHERE i IN (1, 3)").await, 2);
    until_advised(&first, "run restore-sync on mysql/id-0").await;

    run(&first, Command::RestoreSync).await.unwrap();
    until_promised(&first).await;
}

#[tokio::test]
async fn a_leader_that_may_have_acknowledged_alone_is_not_replaced_while_its_server_is_away() {
    let (first, second) = promised().await;
    run(&first, Command::DegradeSync).await.unwrap();
    let before = first.server_pid().unwrap();
    signal(before, "-STOP");

    // However often its agent starts it again.
    let keep_away = async {
        loop {
            first.server_pid().filter(|pid| *pid != before).into_iter().for_each(|pid| signal(pid, "-STOP"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let refused: Result<Vec<String>, String> = tokio::select! {
        ended = run(&second, Command::Failover) => ended,
        () = keep_away => unreachable!(),
    };

    let refused = refused.unwrap_err();
    assert!(refused.contains("did not have every acknowledged transaction"), "{refused}");
    assert!(second.until_up().await.read_only);
    signal(first.server_pid().unwrap(), "-CONT");
    first.until("the leader again", leads).await;
}
