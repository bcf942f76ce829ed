//! make-leader beside a leader that is there, and with transactions that are received and not applied.

use agent::api::{Command, Role};
use serde_json::json;
use sqlx::Executor;

use super::{WAIT_S, executed, refused};
use crate::pair::{configured_with, in_step, run, until_received};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1)";

#[tokio::test]
async fn nothing_is_promoted_beside_a_leader_or_before_everything_is_applied() {
    let (first, second) = configured_with(&json!({"replication_wait_timeout_in_seconds": WAIT_S})).await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;

    let before = executed(&first).await;
    refused(&second, Command::MakeLeader)
        .await
        .begins("Leader VM is still accessible from the follower. Refusing to promote to avoid data divergence")
        .says("Run make-read-only on the leader and stop its VM first; or run switchover on the leader")
        .with_state([(&second, "read-only", &before), (&first, "writable", &before)]);

    run(&first, Command::MakeReadOnly).await.unwrap();
    // Beside a leader its agent would start it again.
    second.sql("STOP SLAVE SQL_THREAD").await;
    first.write_anyway("INSERT INTO d.t VALUES (2)").await;
    let received = until_received(&first, &second).await;
    refused(&second, Command::MakeLeader)
        .await
        .begins(
            "Replication settings exist on this instance and Slave SQL Thread is turned off. Fix replication settings and try again",
        )
        .says("run START REPLICA SQL_THREAD, then make-leader again")
        .with_state([(&second, "read-only", &before), (&first, "read-only", &received)]);
    refused(&first, Command::Switchover)
        .await
        .begins("Reason: there is no writable leader. Run configure-leader-follower first")
        .with_state([(&first, "read-only", &received), (&second, "read-only", &before)]);

    let mut blocker = second.admin().await;
    blocker.execute(sqlx::raw_sql("LOCK TABLES d.t READ")).await.unwrap();
    second.sql("START SLAVE SQL_THREAD").await;
    // The product waits for 300 s; so does an agent that is told nothing else.
    refused(&second, Command::MakeLeader)
        .await
        .begins(&format!(
            "Timed out after {WAIT_S} seconds. The follower is still applying MySQL transactions. Please re-run the make-leader errand."
        ))
        .with_state([(&second, "read-only", &before), (&first, "read-only", &received)]);
    blocker.execute(sqlx::raw_sql("UNLOCK TABLES")).await.unwrap();
    let lines = run(&second, Command::MakeLeader).await.unwrap();
    assert_eq!(lines.last().unwrap(), "Instance successfully configured as leader");
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 2);

    first.until("a follower", |status| status.role == Role::Follower).await;
    refused(&first, Command::Switchover).await.begins("Reason: this server is not the leader; mysql/id-1 is");
    for command in [Command::DegradeSync, Command::RestoreSync] {
        refused(&first, command)
            .await
            .begins("Reason: mysql/id-0 is not writable, so it is not the leader. Run ")
            .with_state([(&first, "read-only", &received), (&second, "writable", &received)]);
        refused(&second, command)
            .await
            .says("replication_mode is async")
            .says("Give the service instance the parameter replication_mode");
    }
}
