//! make-read-only where the follower does not receive the rest: the server is read-only all the same, and says so.

use std::time::Duration;

use agent::api::{Command, Position};
use serde_json::json;

use super::{Refusal, WAIT_S, executed, refused};
use crate::pair::{configured_with, in_step, run};
use crate::vm::Vm;

async fn receive(vm: &Vm, gtid: &str) -> Refusal {
    let position = Position { gtid: gtid.into(), timeout_ms: 200 };
    let received = tokio::time::timeout(Duration::from_secs(10), vm.client.receive(&position, |_| {}));
    Refusal(received.await.unwrap().unwrap_err().to_string())
}

#[tokio::test]
async fn a_follower_that_does_not_receive_the_rest_is_named() {
    let (first, second) = configured_with(&json!({"replication_wait_timeout_in_seconds": WAIT_S})).await;
    in_step(&first, &second).await;

    let origin = first.text(crate::family::origin()).await;
    let future = format!("{origin}4000000000");
    receive(&first, &future).await.begins("replication is not configured on this instance");
    // What is received by then moves with every heartbeat.
    receive(&second, &future)
        .await
        .begins(&format!("timed out waiting for received transactions: {origin}"))
        .says(&format!(" of {future}"))
        .says("Run the command again when inspect says that mysql/id-1 receives");

    // The product waits for its 300 s here too; what cannot come is not waited for.
    second.sql("STOP SLAVE IO_THREAD").await;
    first.sql("CREATE DATABASE late").await;
    let late = executed(&first).await;
    // However often its agent starts it again.
    let keep_stopped = async {
        loop {
            second.sql("STOP SLAVE IO_THREAD").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let said = tokio::select! {
        said = refused(&first, Command::MakeReadOnly) => said,
        () = keep_stopped => unreachable!(),
    };
    said.begins("failed to sync transactions on peer: the receiver of mysql/id-1 is stopped, so it cannot receive ");
    assert!(first.until_up().await.read_only && crate::pair::reaches(&executed(&first).await, &late));
    second.sql("START SLAVE").await;
    let lines = run(&first, Command::MakeReadOnly).await.unwrap();
    assert_eq!(lines.last().unwrap(), "Instance successfully set read-only");
}
