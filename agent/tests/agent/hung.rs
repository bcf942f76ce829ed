//! A leader whose server hangs while its agent lives, and goes on renewing the lease: it is failed over and demoted all the same.

use agent::api::{Command, Role};
use serde_json::json;

use crate::pair::{configured, configured_with, in_step, run};
use crate::vm::{Vm, signal};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1)";

#[tokio::test]
async fn a_failover_from_a_hung_server_loses_nothing_and_it_comes_back_as_the_follower() {
    fail_over(configured().await).await;
}

#[tokio::test]
async fn a_failover_from_a_hung_server_in_sync_needs_nothing_of_it() {
    let (first, second) = configured_with(&json!({"replication_mode": "semi-sync"})).await;
    first.until("sync", |status| status.semi_sync.as_ref().is_some_and(|sync| sync.in_sync)).await;
    fail_over((first, second)).await;
}

async fn fail_over((first, second): (Vm, Vm)) {
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    let before = first.server_pid().unwrap();
    first.sql("INSERT INTO d.t VALUES (2)").await;
    signal(before, "-STOP");

    let begun = std::time::Instant::now();
    let lines = run(&second, Command::Failover).await.unwrap();

    println!("failed over after {} ms: {lines:?}", begun.elapsed().as_millis());
    assert!(lines.iter().any(|line| line.starts_with("Killed the server, which starts again read-only")), "{lines:?}");
    second.sql("INSERT INTO d.t VALUES (3)").await;
    first.until("a follower", |status| status.role == Role::Follower).await;
    assert_ne!(first.server_pid(), Some(before));
    in_step(&second, &first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 3);
}

#[tokio::test]
async fn a_hung_leader_is_made_read_only_by_its_end() {
    let (first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    signal(first.server_pid().unwrap(), "-STOP");

    let lines = run(&first, Command::MakeReadOnly).await.unwrap();

    assert!(lines.iter().any(|line| line.starts_with("Killed the server, which starts again read-only")), "{lines:?}");
    assert!(first.until_up().await.read_only);
    run(&second, Command::MakeLeader).await.unwrap();
    in_step(&second, &first).await;
}
