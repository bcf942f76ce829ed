//! What an operator's monitoring reads: the heartbeat, the metrics, the verdict.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::api::{Command, Receiver, Replication, Role, Verdict};
use axum::http::HeaderValue;
use sqlx::{Executor, Row};

use crate::authority::authority;
use crate::pair::{configured, in_step, run, started};
use crate::vm::{NAME, PATIENCE, Vm, deployment, signal};

const BEATS: &str = "Com_replace_select";

const HEARTBEATS: &str = "SELECT COUNT(*) FROM replication_monitoring.heartbeat";

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
    // A guard that was quicker than the new agent has killed the server; it leads again either way.
    first.until("the leader again", |status| status.role == Role::Leader && status.lease_ms > Some(1_000)).await;
    let is_connected = |channel: &Replication| channel.receiver == Receiver::Connected && age(channel) < Some(2.0);
    second.until("a new heartbeat", |status| status.replication.as_ref().is_some_and(is_connected)).await;

    // The new leader's counts, although the old one's row stays.
    in_step(&first, &second).await;
    run(&first, Command::Switchover).await.unwrap();
    first.until_number("SELECT COUNT(*) FROM replication_monitoring.heartbeat WHERE server_id=2", 1).await;
    first.until("a new heartbeat", |status| status.replication.as_ref().and_then(age) < Some(2.0)).await;
}

#[tokio::test]
async fn a_server_that_was_made_read_only_behind_the_agents_back_writes_no_heartbeat() {
    let (first, second) = configured().await;
    first.until_number(HEARTBEATS, 1).await;
    first.sql("SET GLOBAL read_only=1").await;
    let (before, beaten) = (first.status().await.unwrap().gtid_executed, first.counter(BEATS).await);

    first.until_counted(BEATS, beaten + 2).await;

    assert_eq!(first.status().await.unwrap().gtid_executed, before);
    in_step(&first, &second).await;
    assert_eq!(second.status().await.unwrap().gtid_executed, before);
}

#[tokio::test]
async fn a_heartbeat_that_is_missed_is_said_once() {
    let (first, _second) = configured().await;
    first.until_number(HEARTBEATS, 1).await;
    let mut blocker = first.admin().await;

    blocker.execute(sqlx::raw_sql("FLUSH TABLES WITH READ LOCK")).await.unwrap();
    first.until_logged("the heartbeat is missed").await;
    let beaten = first.counter(BEATS).await;
    first.until_counted(BEATS, beaten + 2).await;
    blocker.execute(sqlx::raw_sql("UNLOCK TABLES")).await.unwrap();
    first.until_logged("the heartbeat is written again").await;

    let log = std::fs::read_to_string(first.agent_log()).unwrap();
    assert_eq!(log.matches("the heartbeat is missed").count(), 1, "{log}");
}

#[tokio::test]
async fn heartbeats_that_wait_for_the_follower_do_not_pile_up() {
    let (first, second) = configured().await;
    first.until_number(HEARTBEATS, 1).await;
    in_step(&first, &second).await;
    first
        .sql("SET GLOBAL rpl_semi_sync_master_wait_point='AFTER_SYNC', GLOBAL rpl_semi_sync_master_timeout=3600000")
        .await;
    first.sql("SET GLOBAL rpl_semi_sync_master_wait_no_slave=1, GLOBAL rpl_semi_sync_master_enabled=1").await;
    second.sql("SET GLOBAL rpl_semi_sync_slave_enabled=0; STOP REPLICA; START REPLICA").await;
    let beaten = first.counter(BEATS).await;

    first.until_counted(BEATS, beaten + 6).await;

    let waiting =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'REPLACE INTO replication_monitoring%'";
    let waiting = first.number(waiting).await;
    assert!((1..=2).contains(&waiting), "{waiting}");
    assert_eq!(first.status().await.unwrap().role, Role::Leader);
    first.sql("SET GLOBAL rpl_semi_sync_master_enabled=0").await;
    first.until_logged("the heartbeat is written again").await;
    in_step(&first, &second).await;
}

#[tokio::test]
async fn a_single_node_has_no_heartbeat() {
    let mut vm = deployment(1).pop().unwrap();
    vm.start();
    vm.until("a writable server", |status| !status.read_only).await;

    // What a pair has written by its first beat.
    vm.until_counted("Uptime", 2).await;

    assert_eq!(vm.status().await.unwrap().gtid_executed, "");
}

impl Vm {
    /// One of the server's counters.
    async fn counter(&self, name: &str) -> u64 {
        let row = self.row(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).await;
        row.get::<String, _>(1).parse().unwrap()
    }

    async fn until_counted(&self, name: &str, least: u64) {
        let begun = Instant::now();
        while self.counter(name).await < least {
            assert!(begun.elapsed() < PATIENCE, "{name} does not reach {least}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn verdict(vm: &Vm) -> Verdict {
    vm.client.inspection().await.unwrap().verdict
}

/// The follower's agent starts its applier again, now and then before anybody has seen it.
async fn with_stopped_applier(follower: &Vm, vm: &Vm) -> Verdict {
    let begun = Instant::now();
    loop {
        follower.sql("STOP REPLICA SQL_THREAD").await;
        let verdict = verdict(vm).await;
        if verdict.sentence.contains("its applier is stopped") {
            return verdict;
        }
        assert!(begun.elapsed() < PATIENCE, "{verdict:?}");
    }
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

    for vm in [&first, &second] {
        let verdict = with_stopped_applier(&second, vm).await;
        is_about(&verdict, "its applier is stopped, so the leader is not redundant", "start replication");
    }
    second.sql("STOP REPLICA; RESET REPLICA ALL").await;
    second.write_anyway("CREATE DATABASE errant").await;
    is_about(&verdict(&first).await, "they have diverged", "Run configure-leader-follower");

    second.kill();
    is_about(&verdict(&first).await, "gives no status", "Start its VM");
}

async fn metrics(vm: &Vm) -> BTreeMap<String, f64> {
    let tls = authority().issue(NAME);
    let identity = reqwest::Identity::from_pem(format!("{}\n{}", tls.certificate, tls.private_key).as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).identity(identity).build().unwrap();
    let answer = http.get(format!("https://{}:8008/metrics", vm.address)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &TEXT));
    let text = answer.text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

#[tokio::test]
async fn the_metrics_are_the_references_and_go_on_without_the_server() {
    let (first, second) = configured().await;
    second
        .until("a heartbeat", |status| status.replication.as_ref().unwrap().seconds_since_leader_heartbeat.is_some())
        .await;
    let (leader, follower) = (metrics(&first).await, metrics(&second).await);

    for (page, is_follower) in [(&leader, 0.0), (&follower, 1.0)] {
        assert_eq!((page["p_mysql_available"], page["p_mysql_follower_is_follower"]), (1.0, is_follower), "{page:?}");
        assert_eq!(page["p_mysql_variables_read_only"], is_follower);
        assert!(page["p_mysql_performance_questions_total"] > 0.0 && page["p_mysql_net_connections_total"] > 0.0);
        assert!(page["p_mysql_system_persistent_disk_free_kilobytes"] > 0.0);
        assert!((0.0..=100.0).contains(&page["p_mysql_system_ephemeral_disk_used_percent"]));
    }
    assert!(!leader.contains_key("p_mysql_follower_seconds_behind_master"));
    assert!(follower["p_mysql_follower_seconds_since_leader_heartbeat"] < 30.0);
    assert!(follower["p_mysql_follower_relay_log_space_bytes"] > 0.0);
    let threads = ["slave_io_running", "slave_sql_running"].map(|name| follower[&format!("p_mysql_follower_{name}")]);
    assert_eq!((threads, follower["p_mysql_follower_seconds_behind_master"]), ([1.0, 1.0], 0.0));

    second.sql("STOP REPLICA").await;
    assert_eq!(metrics(&second).await["p_mysql_follower_seconds_behind_master"], -1.0);
    signal(second.server_pid().unwrap(), "-STOP");
    let frozen = metrics(&second).await;
    signal(second.server_pid().unwrap(), "-CONT");
    assert_eq!(frozen["p_mysql_available"], 0.0);
    assert!(!frozen.contains_key("p_mysql_follower_is_follower"));
    assert!(frozen.contains_key("p_mysql_system_persistent_disk_used_percent"));
}
