//! A server whose other one is silent, without a witness that could say whether that one is writable.

use agent::api::{Command, Receiver};
use serde_json::json;

use super::{WAIT_S, executed, refused};
use crate::pair::{configured_with, in_step, run};

#[tokio::test]
async fn a_server_that_is_alone_says_what_would_be_safe() {
    let plan = json!({"replication_wait_timeout_in_seconds": WAIT_S, "witness": null});
    let (mut first, second) = configured_with(&plan).await;
    in_step(&first, &second).await;
    let before = executed(&second).await;
    first.kill();
    second.until("a lost leader", |status| status.replication.as_ref().unwrap().receiver == Receiver::Connecting).await;

    let alone = [(&second, "read-only", before.as_str())];
    refused(&second, Command::ConfigureLeaderFollower)
        .await
        .begins(&format!("Failed to get server status for {}: ", first.address))
        .says("start the other VM, or run make-leader on the one that is left")
        .with_state(alone)
        .with_silent(&first);
    refused(&second, Command::MakeReadOnly)
        .await
        .begins(&format!("failed to fetch status of peer ({})", first.address))
        .says("This server is read-only")
        .says("Run make-read-only again when the peer answers; or, where it is lost, make-leader")
        .with_state(alone)
        .with_silent(&first);
    refused(&second, Command::Switchover).await.says("is not the leader").with_state(alone).with_silent(&first);
    for command in [Command::MakeLeader, Command::Failover] {
        // The product promotes here, and both servers may be writable then.
        refused(&second, command)
            .await
            .begins("Refusing to promote to avoid data divergence.")
            .says("this pair has no witness")
            .says("bring the other VM back and run make-leader again; or make certain that it is dead")
            .with_state(alone)
            .with_silent(&first);
    }
    assert!(second.until_up().await.read_only);

    run(&second, Command::ForceMakeLeader).await.unwrap();
    let lines = run(&second, Command::Failover).await.unwrap();
    assert!(lines.last().unwrap().starts_with("It is not redundant"), "{lines:?}");
}
