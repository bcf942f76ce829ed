//! Replication that does not come up when configure-leader-follower sets it up.

use agent::api::Command;
use serde_json::json;

use super::{WAIT_S, executed, refused};
use crate::pair::{configured_with, in_step, run};

#[tokio::test]
async fn replication_that_does_not_come_up_is_described() {
    let (first, second) = configured_with(&json!({"replication_wait_timeout_in_seconds": WAIT_S})).await;
    in_step(&first, &second).await;
    let before = executed(&first).await;

    first.sql("ALTER USER replication@'%' ACCOUNT LOCK").await;
    second.sql("STOP SLAVE").await;
    refused(&first, Command::ConfigureLeaderFollower)
        .await
        .begins("Timeout waiting for healthy replication state.")
        .says("See whether its VM can reach port 3306 of the leader's, then run configure-leader-follower again")
        .says("receiver connecting")
        .says("locked")
        .with_state([(&second, "read-only", &before), (&first, "writable", &before)]);
    refused(&first, Command::Switchover)
        .await
        .begins("Reason: the follower mysql/id-1 is not ready to take over: ")
        .says("receiver connecting")
        .says("Wait until it has caught up, or run configure-leader-follower")
        .with_state([(&first, "writable", &before), (&second, "read-only", &before)]);
    first.sql("ALTER USER replication@'%' ACCOUNT UNLOCK").await;
    run(&first, Command::ConfigureLeaderFollower).await.unwrap();

    let own = second.number("SELECT CAST(@@server_id AS SIGNED)").await;
    let leaders = first.number("SELECT CAST(@@server_id AS SIGNED)").await;
    second.sql(&format!("STOP SLAVE; SET GLOBAL server_id={leaders}")).await;
    refused(&first, Command::ConfigureLeaderFollower)
        .await
        .begins("Bad replication state.")
        .says("Mend the cause, then run configure-leader-follower again")
        .says("receiver stopped")
        .says("server ids; these ids must be different")
        .with_state([(&second, "read-only", &before), (&first, "writable", &before)]);
    second.sql(&format!("STOP SLAVE; SET GLOBAL server_id={own}")).await;
    run(&first, Command::ConfigureLeaderFollower).await.unwrap();
    in_step(&first, &second).await;
}
