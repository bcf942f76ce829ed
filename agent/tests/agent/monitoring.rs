//! What an operator's monitoring reads: the heartbeat, the verdict.

use agent::api::{Command, Replication, Verdict};
use sqlx::Executor;

use crate::pair::{configured, in_step, run, started};
use crate::vm::{Vm, deployment};

const BEATS: &str =
    "SELECT CAST(VARIABLE_VALUE AS INT) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='COM_REPLACE_SELECT'";

async fn channel(vm: &Vm) -> Replication {
    vm.status().await.unwrap().replication.unwrap()
}

#[tokio::test]
async fn the_follower_knows_how_old_the_leaders_last_heartbeat_is() {
    let (mut first, second) = configured().await;
    let age = |channel: &Replication| channel.seconds_since_leader_heartbeat;

    second.until("a heartbeat", |status| status.replication.as_ref().and_then(age).is_some()).await;
    let rows = "SELECT COUNT(*) FROM replication_monitoring.heartbeat WHERE server_id=1 AND `timestamp`>0";
    assert_eq!(second.number(rows).await, 1);
    assert!(channel(&second).await.relay_log_space.unwrap() > 0);
    assert_eq!(first.status().await.unwrap().replication, None);

    first.kill_agent();
    second.until("an old heartbeat", |status| status.replication.as_ref().and_then(age) > Some(2.5)).await;
    first.start();
    second.until("a new heartbeat", |status| status.replication.as_ref().and_then(age) < Some(2.0)).await;

    // The new leader's counts, although the old one's row stays.
    in_step(&first, &second).await;
    run(&first, Command::Switchover).await.unwrap();
    first.until_number("SELECT COUNT(*) FROM replication_monitoring.heartbeat WHERE server_id=2", 1).await;
    first.until("a new heartbeat", |status| status.replication.as_ref().and_then(age) < Some(2.0)).await;
}

#[tokio::test]
async fn a_server_that_was_made_read_only_behind_the_agents_back_writes_no_heartbeat() {
    let (first, second) = configured().await;
    first
        .until_number("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='replication_monitoring'", 1)
        .await;
    first.sql("SET GLOBAL read_only=1").await;
    let (before, beats) = (first.status().await.unwrap().gtid_executed, first.number(BEATS).await);

    first.until_number(&format!("SELECT ({BEATS})>={}", beats + 2), 1).await;

    assert_eq!(first.status().await.unwrap().gtid_executed, before);
    in_step(&first, &second).await;
    assert_eq!(second.status().await.unwrap().gtid_executed, before);
}

#[tokio::test]
async fn a_heartbeat_that_is_missed_is_said_once() {
    let (first, _second) = configured().await;
    first
        .until_number("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='replication_monitoring'", 1)
        .await;
    let mut blocker = first.admin().await;

    blocker.execute(sqlx::raw_sql("FLUSH TABLES WITH READ LOCK")).await.unwrap();
    first.until_logged("the heartbeat is missed").await;
    let beats = first.number(BEATS).await;
    first.until_number(&format!("SELECT ({BEATS})>={}", beats + 2), 1).await;
    blocker.execute(sqlx::raw_sql("UNLOCK TABLES")).await.unwrap();
    first.until_logged("the heartbeat is written again").await;

    let log = std::fs::read_to_string(first.agent_log()).unwrap();
    assert_eq!(log.matches("the heartbeat is missed").count(), 1, "{log}");
}

#[tokio::test]
async fn a_single_node_has_no_heartbeat() {
    let mut vm = deployment(1).pop().unwrap();
    vm.start();
    vm.until("a writable server", |status| !status.read_only).await;

    // What a pair has written by its first beat.
    vm.until_number("SELECT VARIABLE_VALUE>=2 FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='UPTIME'", 1)
        .await;

    assert_eq!(vm.status().await.unwrap().gtid_executed, "");
}

async fn verdict(vm: &Vm) -> Verdict {
    vm.client.inspection().await.unwrap().verdict
}

fn is_about(verdict: &Verdict, sentence: &str, next: &str) {
    assert!(!verdict.healthy && verdict.sentence.contains(sentence), "{verdict:?}");
    assert!(verdict.next_action.as_deref().unwrap().contains(next), "{verdict:?}");
}

#[tokio::test]
async fn the_verdict_says_what_is_the_matter_with_the_pair_and_what_to_do() {
    let (first, mut second) = started().await;
    is_about(&verdict(&first).await, "none leads yet", "Run configure-leader-follower");

    run(&first, Command::ConfigureLeaderFollower).await.unwrap();
    for vm in [&first, &second] {
        let inspection = vm.client.inspection().await.unwrap();
        assert!(inspection.verdict.healthy && inspection.verdict.next_action.is_none(), "{inspection:?}");
        assert!(inspection.verdict.sentence.contains("mysql/id-0") && inspection.peer.is_some(), "{inspection:?}");
    }

    second.sql("STOP SLAVE SQL_THREAD").await;
    for vm in [&first, &second] {
        is_about(&verdict(vm).await, "its applier is stopped, so the leader is not redundant", "start replication");
    }
    second.sql("STOP SLAVE; RESET SLAVE ALL; CREATE DATABASE errant").await;
    is_about(&verdict(&first).await, "they have diverged", "Run configure-leader-follower");

    second.kill();
    is_about(&verdict(&first).await, "gives no status", "Start its VM");
}
